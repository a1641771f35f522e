//! Every other command against a server: objects, images, jobs, who may do what, and how they answer.

use std::fs;

use serde_json::{Value, json};
use tests::{Molde, Options, Random, disks};

#[test]
fn objects_are_listed_and_removed() {
    let molde = Molde::start();
    molde.make_bucket("files");
    let file = molde.file("a b.bin");
    fs::write(&file, Random::new(4).bytes(100_000)).unwrap();
    for key in ["files/", "files/folder/ü.bin", "files/folder/z"] {
        molde.cli(["object", "put", key, file.to_str().unwrap()]).ok();
    }
    let keys = |at: &str| {
        let listed = molde.cli_json(["object", "list", at]);
        listed.as_array().unwrap().iter().map(|object| object["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys("files"), ["a b.bin", "folder/z", "folder/ü.bin"]);
    assert_eq!(keys("files/folder/"), ["folder/z", "folder/ü.bin"]);
    let table = molde.cli(["object", "list", "files"]).ok();
    assert!(table.starts_with("KEY") && table.contains("100000"), "{table}");
    let told = molde.cli(["bucket", "delete", "files"]).refused();
    assert!(told.contains("files"), "{told}");
    molde.cli(["object", "rm", "files/a b.bin", "files/folder/z", "files/folder/ü.bin"]).ok();
    assert_eq!(keys("files"), [""; 0]);
    molde.cli(["bucket", "delete", "files"]).ok();
    assert_eq!(molde.cli_json(["bucket", "list"]), json!([]));
    assert_eq!(molde.heads(), 0, "removed objects leave their contents behind");
}

#[test]
fn a_file_that_is_there_is_replaced_on_request_only() {
    let molde = Molde::start();
    molde.make_bucket("files");
    let (file, there) = (molde.file("new"), molde.file("there"));
    fs::write(&file, "new").unwrap();
    fs::write(&there, "old").unwrap();
    molde.cli(["object", "put", "files/new", file.to_str().unwrap()]).ok();
    let told = molde.cli(["object", "get", "files/new", there.to_str().unwrap()]).refused();
    assert!(told.contains("there already") && told.contains("hint: "), "{told}");
    assert_eq!(fs::read_to_string(&there).unwrap(), "old");
    molde.cli(["object", "get", "files/new", there.to_str().unwrap(), "--force"]).ok();
    assert_eq!(fs::read_to_string(&there).unwrap(), "new");
}

#[test]
fn images_are_changed_listed_and_removed() {
    let molde = Molde::start();
    let raw = molde.file("disk.raw");
    disks::linux(&raw, 16, 5);
    let path = raw.to_str().unwrap();
    let words =
        ["image", "create", "first", "--file", path, "--tag", "blue", "--property", "team=web", "--min-ram", "64"];
    let made = molde.cli_json(words);
    assert_eq!(
        (&made["tags"], &made["team"], &made["min_ram"]),
        (&json!(["blue"]), &"web".into(), &64.into()),
        "{made}"
    );
    let words = ["image", "set", "first", "--name", "second", "--property", "rack=7", "--remove-property", "team"];
    let changed = molde.cli_json(words.into_iter().chain(["--tag", "red", "--min-disk", "3", "--protected"]));
    assert_eq!((&changed["name"], &changed["rack"]), (&"second".into(), &"7".into()), "{changed}");
    assert_eq!((&changed["team"], &changed["min_disk"]), (&Value::Null, &3.into()), "{changed}");
    assert_eq!(changed["tags"], json!(["blue", "red"]));
    let told = molde.cli(["image", "delete", "second"]).refused();
    assert!(told.contains("protected"), "{told}");
    molde.cli(["image", "set", "second", "--unprotected"]).ok();
    assert_eq!(molde.cli_json(["image", "list", "--name", "second"]).as_array().unwrap().len(), 1);
    let table = molde.cli(["image", "list"]).ok();
    assert!(table.starts_with("ID") && table.contains("second") && table.contains("active"), "{table}");
    molde.cli(["image", "delete", "second"]).ok();
    assert_eq!(molde.cli_json(["image", "list"]), json!([]));
    assert_eq!(molde.heads(), 0, "a deleted image leaves its content behind");
}

#[test]
fn jobs_tell_what_they_did() {
    let molde = Molde::start();
    let raw = molde.file("disk.raw");
    disks::linux(&raw, 16, 6);
    molde.make_bucket("images");
    molde.cli(["object", "put", "images/disk.vmdk", disks::vmdk(&raw).to_str().unwrap()]).ok();
    let begun = molde.cli_json(["image", "create", "web", "--from", "images/disk.vmdk"]);
    let (job, image) = (begun["job"]["id"].as_str().unwrap(), begun["image"]["id"].as_str().unwrap());
    assert_eq!(begun["image"]["word"], "Creating", "{begun}");
    let watched = molde.cli_json(["job", "watch", job]);
    assert_eq!((&watched["state"], &watched["percent"]), (&"done".into(), &100.into()), "{watched}");
    assert_eq!(molde.cli_json(["image", "watch", image])["status"], "active");
    let shown = molde.cli_json(["job", "show", job]);
    assert_eq!((&shown["kind"], &shown["image"]), (&"create_image".into(), &image.into()), "{shown}");
    for time in ["created_at", "started_at", "ended_at"] {
        assert!(shown[time].as_str().is_some_and(|time| time.ends_with('Z')), "{time}: {shown}");
    }
    let lines = molde.cli_json(["job", "log", job]);
    let text = lines.to_string();
    assert!(text.contains("vmdk") && text.contains("Debian"), "the log tells the format and the system: {text}");
    assert_eq!(molde.cli_json(["job", "list", "--state", "done"]).as_array().unwrap().len(), 1);
    assert_eq!(molde.cli_json(["job", "list", "--state", "failed"]), json!([]));
    molde.cli(["job", "cancel", job]).refused();
}

#[test]
fn a_cancelled_job_ends_and_leaves_no_bytes() {
    let molde = Molde::start_with(Options { config: Some("[jobs]\nworkers = 1\n".into()), ..Options::default() });
    let raw = molde.file("disk.raw");
    disks::linux(&raw, 96, 7);
    molde.make_bucket("images");
    molde.cli(["object", "put", "images/disk.vmdk", disks::vmdk(&raw).to_str().unwrap()]).ok();
    let import = |name: &str| {
        molde.post("/molde/v1/images", &json!({"name": name, "from": {"bucket": "images", "key": "disk.vmdk"}}))
    };
    // The only worker is busy with the first while the second waits.
    let (first, second) = (import("first"), import("second"));
    molde.cli(["job", "cancel", second["job"]["id"].as_str().unwrap()]).ok();
    let ended = molde.ended_job(second["job"]["id"].as_str().unwrap());
    assert_eq!(ended["state"], "cancelled", "{ended}");
    assert_eq!(molde.cli_json(["image", "show", "second"])["status"], "killed");
    assert_eq!(molde.ended_job(first["job"]["id"].as_str().unwrap())["state"], "done");
    molde.cli(["image", "delete", "second"]).ok();
    assert_eq!(molde.heads(), 2, "the object and the first image");
}

#[test]
fn projects_users_and_keys() {
    let molde = Molde::start();
    let project = molde.cli_json(["project", "create", "team"]);
    assert_eq!(project["name"], "team");
    let password = molde.file("password");
    fs::write(&password, "a long password\n").unwrap();
    let user = molde.cli_json(["user", "create", "ann", "--password-file", password.to_str().unwrap()]);
    assert!(!user.to_string().contains("long password"), "{user}");
    molde.cli(["user", "grant", "ann", "team", "member"]).ok();
    let ann = as_user(&molde, "ann", "a long password", &project);
    let run = |words: &[&str]| tests::run(molde.command(words).args(["--output", "json", "--credentials"]).arg(&ann));
    assert_eq!(run(&["image", "list"]).json(), json!([]));
    let told = run(&["project", "create", "other"]).refused();
    assert!(told.contains("admin"), "{told}");

    // Who has a role there as well needs no other credentials to look.
    let told = molde.cli(["--project", "team", "image", "list"]).refused();
    assert!(told.contains("has a role"), "{told}");
    molde.cli(["user", "grant", "admin", "team", "reader"]).ok();
    assert_eq!(molde.cli_json(["--project", "team", "image", "list"]), json!([]));
    let told = molde.cli(["--project", "team", "bucket", "list"]).refused();
    assert!(told.contains("for project `admin`, not for `team`") && told.contains("key create"), "{told}");

    let key = run(&["key", "create", "--description", "laptop"]).json();
    let (public, secret) = (key["access_key"].as_str().unwrap(), key["secret_key"].as_str().unwrap());
    let listed = run(&["key", "list"]).json();
    assert!(listed.to_string().contains("laptop") && !listed.to_string().contains(secret), "{listed}");
    let s3 = tests::S3 { access_key: public.into(), secret_key: secret.into(), ..molde.s3() };
    let make = tests::Request { method: "PUT", bucket: "anns", ..tests::Request::default() };
    assert_eq!(s3.send(make, b"").status, 200);
    assert_eq!(molde.cli_json(["bucket", "list"]), json!([]), "a bucket belongs to the project of the key");
    run(&["key", "delete", public]).ok();
    assert_eq!(s3.put("anns", "x", b"x").status, 403, "a removed key opens nothing");

    let told = molde.cli(["project", "delete", "team"]).refused();
    assert!(told.contains("still owns"), "{told}");
    molde.cli(["user", "revoke", "ann", "team", "member"]).ok();
    run(&["image", "list"]).refused();
    molde.cli(["user", "delete", "ann"]).ok();
    let users = molde.cli(["user", "list"]).ok();
    assert!(users.contains("admin") && !users.contains("ann"), "{users}");
}

#[test]
fn a_project_is_held_to_its_quota() {
    let config = "[quota]\nstored = \"20 MiB\"\nimages = 3\n".to_owned();
    let molde = Molde::start_with(Options { config: Some(config), ..Options::default() });
    molde.make_bucket("files");
    let (file, large) = (molde.file("file"), molde.file("large"));
    fs::write(&file, Random::new(1).bytes(1_000_000)).unwrap();
    fs::write(&large, Random::new(2).bytes(60_000_000)).unwrap();
    molde.cli(["object", "put", "files/one", file.to_str().unwrap()]).ok();
    let quota = molde.cli_json(["quota", "show"]);
    let stored = &quota["stored_bytes"];
    assert_eq!((&stored["limit"], &quota["images"]["limit"]), (&json!(20 << 20), &json!(3)), "{quota}");
    assert!(stored["used"].as_u64().unwrap() > 1_000_000, "{quota}");
    assert_eq!(quota["objects"], json!({"limit": null, "used": 1, "left": null}));

    let told = molde.cli(["object", "put", "files/large", large.to_str().unwrap()]).refused();
    assert!(told.contains("may store 20 MiB") && told.contains("are left"), "{told}");
    molde.cli(["quota", "set", "admin", "--objects", "1", "--stored", "unlimited"]).ok();
    let told = molde.cli(["object", "put", "files/two", file.to_str().unwrap()]).refused();
    assert!(told.contains("1 objects") && told.contains("0 are left"), "{told}");
    let table = molde.cli(["quota", "show", "admin"]).ok();
    let lines: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["RESOURCE", "LIMIT", "USED", "LEFT"]);
    assert_eq!(lines[2], ["objects", "1", "1", "0"]);
    assert_eq!(
        (lines[1][1], lines[1].last(), &lines[3][..]),
        ("unlimited", Some(&"unlimited"), &["images", "3", "0", "3"][..])
    );

    // A member sees what its project has, and sets nothing.
    let project = molde.cli_json(["project", "create", "team"]);
    let password = molde.file("password");
    fs::write(&password, "a long password\n").unwrap();
    molde.cli(["user", "create", "ann", "--password-file", password.to_str().unwrap()]).ok();
    molde.cli(["user", "grant", "ann", "team", "member"]).ok();
    let ann = as_user(&molde, "ann", "a long password", &project);
    let run = |words: &[&str]| tests::run(molde.command(words).args(["--output", "json", "--credentials"]).arg(&ann));
    assert_eq!(run(&["quota", "show"]).json()["stored_bytes"], json!({"limit": 20 << 20, "used": 0, "left": 20 << 20}));
    assert!(run(&["quota", "set", "team", "--images", "9"]).refused().contains("admin"));
    assert!(run(&["quota", "show", "admin"]).refused().contains("no project"));
    assert_eq!(molde.cli(["quota", "set", "team"]).code, Some(2), "it names no limit");
}

/// Writes a credentials file for another user and returns its path.
fn as_user(molde: &Molde, name: &str, password: &str, project: &Value) -> std::path::PathBuf {
    let mut credentials = molde.credentials();
    let changes = [
        ("username", json!(name)),
        ("password", json!(password)),
        ("project_name", project["name"].clone()),
        ("project_id", project["id"].clone()),
    ];
    for (field, value) in changes {
        credentials[field] = value;
    }
    let path = molde.file("user.json");
    fs::write(&path, credentials.to_string()).unwrap();
    path
}

#[test]
fn answers_have_one_form() {
    let molde = Molde::start();
    let told = molde.cli(["image", "show", "absent"]).refused();
    assert!(told.starts_with("no image `absent`\n\nhint: "), "{told}");
    molde.cli(["image", "show", "00000000-0000-0000-0000-000000000000"]).refused();
    molde.cli(["image", "delete", "absent"]).refused();
    molde.cli(["object", "put", "nokey", "/etc/hostname"]).refused();
    molde.cli(["object", "put", "bucket/key", "/does/not/exist"]).refused();
    molde.cli(["object", "get", "absent/key", "x"]).refused();
    molde.cli(["bucket", "create", "Not A Bucket"]).refused();
    molde.cli(["job", "show", "absent"]).refused();
    molde.cli(["server", "show", "absent"]).refused();
    for wrong in [&["image", "create"][..], &["no-such-command"], &["image", "list", "--output", "xml"], &[]] {
        let done = molde.cli(wrong);
        assert_eq!(done.code, Some(2), "{done}");
        assert!(done.stdout.is_empty() && !done.stderr.is_empty(), "{done}");
    }
    for list in [["image", "list"], ["bucket", "list"], ["job", "list"], ["server", "list"], ["key", "list"]] {
        assert!(molde.cli_json(list).is_array(), "{list:?}");
        let table = molde.cli(list).ok();
        assert!(table.lines().next().is_some_and(|heading| heading.to_uppercase() == heading), "{table}");
    }
    assert!(molde.cli_json(["server", "flavors"]).to_string().contains("m1.small"));
}

#[test]
fn a_server_that_is_not_there_is_named_with_a_way_out() {
    let mut molde = Molde::start();
    assert_eq!(molde.terminate(), Some(0));
    let told = molde.cli(["image", "list"]).refused();
    assert!(told.contains(molde.api()) && told.contains("molde serve"), "{told}");
    let told = tests::run(&mut molde.command(["image", "list"])).refused();
    assert!(told.contains("--credentials") && told.contains("MOLDE_CREDENTIALS"), "{told}");
}

#[test]
fn what_was_removed_gives_its_room_back() {
    let mut molde = Molde::start();
    molde.make_bucket("files");
    let (kept, gone) = (molde.file("kept"), molde.file("gone"));
    fs::write(&kept, Random::new(1).bytes(5_000_000)).unwrap();
    fs::write(&gone, Random::new(2).bytes(20_000_000)).unwrap();
    for (key, file) in [("files/kept", &kept), ("files/gone", &gone)] {
        molde.cli(["object", "put", key, file.to_str().unwrap()]).ok();
    }
    molde.cli(["object", "rm", "files/gone"]).ok();
    let before = molde.pack_bytes();
    let dry = molde.cli_json(["store", "gc", "--dry-run"]);
    assert_eq!((&dry["dry_run"], &dry["contents"]), (&json!(true), &json!(1)));
    let told = molde.cli(["store", "gc", "--dry-run"]).ok();
    assert!(told.contains("condemned") && told.contains("nothing was changed"), "{told}");
    assert_eq!(molde.pack_bytes(), before);
    molde.cli(["store", "gc"]).ok();
    let second = molde.cli_json(["store", "gc"]);
    assert!(second["removed"]["bytes"].as_u64().unwrap() > 20_000_000, "{second}");
    let after = molde.pack_bytes();
    assert!(after < before - 20_000_000, "{after} of {before} bytes are left");
    assert_eq!(molde.cli_json(["store", "show"])["alarm"], Value::Null);

    // What the server found out about its store is not only in its memory.
    molde.kill9();
    molde.restart();
    let back = molde.file("back");
    molde.cli(["object", "get", "files/kept", back.to_str().unwrap()]).ok();
    assert!(fs::read(&back).unwrap() == fs::read(&kept).unwrap());
    molde.cli(["store", "clear-alarm"]).ok();
}
