//! Files that are no disk, or not the disk they are said to be, through both doors: import and upload.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use tests::{Molde, Random, disks, tool};

/// A file that has to be refused, and what the answer has to name.
struct Bad {
    file: PathBuf,
    /// The format that the user declares; none lets it be found out.
    declared: Option<&'static str>,
    named: &'static [&'static str],
}

fn bad_files(folder: &Path) -> Vec<Bad> {
    let raw = folder.join("disk.raw");
    disks::scattered(&raw, 16, 4 << 20, 30);
    let text = folder.join("text");
    fs::write(&text, "This is no disk.\n".repeat(100_000)).unwrap();
    let noise = folder.join("noise");
    fs::write(&noise, Random::new(31).bytes(1 << 20)).unwrap();
    let vmdk = disks::vmdk(&raw);
    let half = folder.join("half.vmdk");
    fs::copy(&vmdk, &half).unwrap();
    cut(&half, fs::metadata(&vmdk).unwrap().len() / 2);
    let head = folder.join("head.vmdk");
    fs::copy(&vmdk, &head).unwrap();
    cut(&head, 600);
    let backed = folder.join("backed.qcow2");
    let size = (16 << 20).to_string();
    tool(
        "qemu-img",
        ["create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/shadow", backed.to_str().unwrap(), &size],
    );
    let (outside, data) = (folder.join("outside.qcow2"), folder.join("secret.data"));
    let option = format!("data_file={},data_file_raw=on", data.display());
    tool("qemu-img", ["create", "-q", "-f", "qcow2", "-o", &option, outside.to_str().unwrap(), &size]);
    let flat = folder.join("flat.vmdk");
    tool("qemu-img", ["create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", flat.to_str().unwrap(), &size]);
    let qcow2 = disks::convert(&raw, "qcow2", "");
    let bad = |file, declared, named| Bad { file, declared, named };
    vec![
        bad(text.clone(), None, &["no known disk format"]),
        bad(noise, None, &["no known disk format"]),
        bad(text, Some("vmdk"), &["declared as vmdk"]),
        bad(half, None, &["the file ends at byte", "was cut"]),
        bad(head, None, &["the file ends at byte 600"]),
        bad(backed, None, &["backing file", "/etc/shadow"]),
        bad(outside, None, &["data file", "secret.data"]),
        bad(flat, None, &["flat-flat.vmdk"]),
        bad(qcow2, Some("raw"), &["declared as raw", "qcow2"]),
        bad(vmdk, Some("vhd"), &["declared as vhd", "vmdk"]),
    ]
}

fn cut(path: &Path, length: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

#[track_caller]
fn assert_named(told: &str, bad: &Bad) {
    for word in bad.named {
        assert!(
            told.to_lowercase().contains(&word.to_lowercase()),
            "`{word}` is not in the answer to {}: {told}",
            bad.file.display()
        );
    }
}

#[test]
fn an_import_of_no_disk_fails_with_the_reason() {
    let molde = Molde::start();
    molde.make_bucket("images");
    for (number, bad) in bad_files(&molde.file("")).iter().enumerate() {
        let (key, name) = (format!("images/{number}"), format!("bad-{number}"));
        molde.cli(["object", "put", &key, bad.file.to_str().unwrap()]).ok();
        let before = molde.traces();
        let mut words = vec!["image", "create", &name, "--from", &key, "--wait"];
        words.extend(bad.declared.into_iter().flat_map(|format| ["--format", format]));
        assert_named(&molde.cli(words).refused(), bad);
        // The record stays in Error, so that somebody who did not wait reads why; removing it leaves nothing.
        let image = molde.cli_json(["image", "show", &name]);
        assert_eq!(image["status"], "killed", "{image}");
        assert_eq!(molde.heads(), before["heads"], "{}: a content is left", bad.file.display());
        molde.cli(["image", "delete", &name]).ok();
        assert_eq!(molde.traces(), before, "{}", bad.file.display());
    }
}

#[test]
fn an_upload_of_no_disk_is_refused_and_gone() {
    let molde = Molde::start();
    let before = molde.traces();
    for bad in bad_files(&molde.file("")) {
        let mut words = vec!["image", "create", "bad", "--file", bad.file.to_str().unwrap()];
        words.extend(bad.declared.into_iter().flat_map(|format| ["--format", format]));
        assert_named(&molde.cli(words).refused(), &bad);
        assert_eq!(molde.traces(), before, "{}", bad.file.display());
    }
}

#[test]
fn an_import_of_what_is_not_there_is_refused_at_once() {
    let molde = Molde::start();
    molde.make_bucket("images");
    assert_eq!(molde.s3().put("images", "empty", b"").status, 200);
    let before = molde.traces();
    for (from, named) in [
        ("images/absent.vmdk", "absent.vmdk"),
        ("no-such-bucket/disk.vmdk", "no-such-bucket"),
        ("images/empty", "is empty"),
    ] {
        let told = molde.cli(["image", "create", "bad", "--from", from]).refused();
        assert!(told.contains(named), "{told}");
    }
    let told = molde.cli(["image", "create", "bad", "--from", "images/empty", "--format", "zvhd2"]).refused();
    assert!(told.contains("zvhd2"), "{told}");
    assert_eq!(molde.traces(), before);
}
