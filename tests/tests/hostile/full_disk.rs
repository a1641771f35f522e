//! A data directory whose disk is full: uploads are refused with a sentence, and go on when there is room again.

use serde_json::json;
use tests::{Molde, Options, Random, Tmpfs, disks};

#[test]
fn a_full_disk_is_told_and_nothing_is_stuck() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Tmpfs::mount(&folder.path().join("small"), 48);
    let molde = Molde::start_with(Options { data: Some(disk.0.join("data")), ..Options::default() });
    molde.make_bucket("files");
    let raw = molde.file("disk.raw");
    disks::scattered(&raw, 64, 24 << 20, 40);
    let vmdk = disks::vmdk(&raw);
    molde.cli(["object", "put", "files/disk.vmdk", vmdk.to_str().unwrap()]).ok();
    let kept = Random::new(41).bytes(4 << 20);
    assert_eq!(molde.s3().put("files", "kept", &kept).status, 200);

    let large = Random::new(42).bytes(40 << 20);
    let answer = molde.s3().put("files", "large", &large);
    assert_eq!(
        (answer.status, answer.element("Code").as_deref()),
        (507, Some("InsufficientStorage")),
        "{}",
        answer.text()
    );
    assert!(
        answer.element("Message").is_some_and(|told| told.contains("full") || told.contains("space")),
        "{}",
        answer.text()
    );
    let file = molde.file("large.bin");
    std::fs::write(&file, &large).unwrap();
    let told = molde.cli(["image", "create", "large", "--format", "raw", "--file", file.to_str().unwrap()]).refused();
    assert!(told.contains("full") || told.contains("space"), "{told}");
    assert_eq!(molde.images().len(), 0);
    // The import reads what is there and has no room for what it makes: it says so, now or after it has tried again.
    let begun =
        molde.post("/molde/v1/images", &json!({"name": "web", "from": {"bucket": "files", "key": "disk.vmdk"}}));
    let job = begun["job"]["id"].as_str().unwrap();
    tests::wait_for("the import tells that the disk is full", || {
        let log = molde.get(&format!("/molde/v1/jobs/{job}/log"));
        let job = molde.get(&format!("/molde/v1/jobs/{job}"));
        let told = format!("{log} {}", job["job"]["error"]);
        (told.contains("full") || told.contains("space")).then_some(())
    });
    assert!(molde.s3().get("files", "kept") == kept, "what was acknowledged is intact");

    disk.enlarge(256);
    let answer = molde.s3().put("files", "large", &large);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(molde.s3().get("files", "large") == large);
    let ended = molde.ended_job(job);
    let image = &molde.images()[0];
    match ended["state"].as_str() {
        Some("done") => assert_eq!(image["status"], "active", "{image}"),
        _ => assert_eq!(image["status"], "killed", "{ended} {image}"),
    }
    molde.cli(["image", "create", "again", "--from", "files/disk.vmdk", "--wait"]).ok();
    let saved = molde.file("saved.raw");
    molde.cli(["image", "save", "again", saved.to_str().unwrap()]).ok();
    assert_eq!(disks::md5_of(&saved), disks::md5_of(&raw));
}
