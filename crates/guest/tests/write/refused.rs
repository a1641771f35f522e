//! What is not written: the reason is told, with the way out, and nothing is changed.

use std::sync::Arc;

use disk::error::{Error, ErrorKind};
use disk::source::Source;
use guest::{Attributes, ExtWriter, Overlay};

use crate::images::{Image, NOW, Node, OFFSET, Tree, noise, run, tool};

const ROOT: Attributes = Attributes { mode: 0o644, uid: 0, gid: 0 };
const EXT4: [&str; 4] = ["-t", "ext4", "-b", "1024"];

fn tree() -> Tree {
    Tree::from([
        ("/etc".to_owned(), Node::Folder),
        ("/etc/hostname".to_owned(), Node::File(b"web-01\n".to_vec())),
        ("/etc/link".to_owned(), Node::Link("hostname".to_owned())),
        ("/linked".to_owned(), Node::Link("etc".to_owned())),
        ("/large".to_owned(), Node::File(noise(1, 5000))),
    ])
}

/// Opens `bytes` as a disk and returns why that was refused.
fn refusal(bytes: Vec<u8>) -> Error {
    let mut overlay = Overlay::new(Arc::new(bytes));
    let length = overlay.len();
    ExtWriter::open(&mut overlay, 0..length, NOW).expect_err("the file system must be refused")
}

#[track_caller]
fn assert_told(error: &Error, kind: ErrorKind, part: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(part), "`{error}` does not say `{part}`");
    assert!(error.hint().is_some(), "{error}: no hint");
}

#[test]
fn states_that_need_the_kernel_or_e2fsck() {
    for (command, kind, part) in [
        ("feature needs_recovery", ErrorKind::Refused, "its journal holds changes"),
        ("set_super_value state 3", ErrorKind::Refused, "marked as having errors"),
        ("set_super_value state 0", ErrorKind::Refused, "not unmounted cleanly"),
        ("set_super_value last_orphan 12", ErrorKind::Refused, "wait to be deleted"),
    ] {
        assert_told(&refusal(Image::new(&EXT4, "8M", &tree(), command).bytes()), kind, part);
    }
    let mut bytes = Image::new(&EXT4, "8M", &tree(), "").bytes();
    bytes[1024 + 0x78] ^= 1;
    assert_told(&refusal(bytes), ErrorKind::Corrupt, "checksum of the superblock");
}

#[test]
fn features_that_are_not_known() {
    for feature in ["bigalloc", "encrypt", "verity", "casefold", "quota", "mmp"] {
        let options = ["-t", "ext4", "-b", "4096", "-O", feature];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image");
        let file = file.to_str().unwrap();
        tool("mke2fs", &[&["-q", "-F"], &options[..], &[file, "16M"]].concat(), "");
        assert_told(&refusal(std::fs::read(file).unwrap()), ErrorKind::Unsupported, feature);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image");
    let file = file.to_str().unwrap();
    tool("mke2fs", &["-q", "-F", "-O", "journal_dev", "-b", "1024", file, "4M"], "");
    assert_told(&refusal(std::fs::read(file).unwrap()), ErrorKind::Unsupported, "journal_dev");
    assert_eq!(refusal(vec![0; 1 << 20]).kind(), ErrorKind::WrongFormat);
    assert_eq!(refusal(vec![0; 100]).kind(), ErrorKind::Corrupt);
}

#[test]
fn paths_that_lead_elsewhere_or_nowhere() {
    let mut image = Image::new(&EXT4, "8M", &tree(), "");
    let mut writer = image.writer();
    for (error, part) in [
        (writer.replace(b"/linked/hostname", b""), "leads over the link linked"),
        (writer.replace(b"/etc/link", b""), "is not a file"),
        (writer.replace(b"/etc", b""), "is not a file"),
        (writer.replace(b"/etc/nothing", b""), "there is no nothing"),
        (writer.replace(b"/etc/hostname/x", b""), "is not a folder"),
        (writer.replace(b"etc/hostname", b""), "not the absolute path"),
        (writer.replace(b"/etc/../etc/hostname", b""), "not the absolute path"),
        (writer.create(b"/etc/hostname", b"", ROOT, None), "is there already"),
        (writer.create(b"/etc/new", b"", ROOT, Some(b"/etc/nothing")), "there is no nothing"),
        (writer.symlink(b"/etc/new", b""), "target of the link"),
        (writer.symlink(b"/etc/new", &[b'x'; 1024]), "target of the link"),
        (writer.remove(b"/etc"), "neither a file nor a link"),
        (writer.rename(b"/etc/hostname", b"/hostname"), "different folders"),
        (writer.rename(b"/etc/hostname", b"/etc/link"), "is there already"),
        (writer.chmod(b"/etc/link", 0o600), "no permissions"),
        (writer.append(b"/large", &vec![0; 20 << 20]), "is full"),
    ] {
        let error = error.expect_err(part);
        assert!(error.to_string().contains(part), "`{error}` does not say `{part}`");
    }
    assert!(image.overlay.changes().is_empty());
}

/// Changes one byte of each kind of metadata that a change reads.
#[test]
fn checksums_that_are_wrong() {
    let image = Image::new(&EXT4, "8M", &tree(), "");
    let field = |told: &str, word: &str| -> usize {
        let rest = told.split_once(word).unwrap_or_else(|| panic!("no {word}: {told}")).1.trim_start();
        rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    let groups = String::from_utf8(image.ask("show_super_stats")).unwrap();
    let inode = field(&String::from_utf8(image.ask("imap /etc/hostname")).unwrap(), "located at block ");
    let folder = field(&String::from_utf8(image.ask("blocks /etc")).unwrap(), "");
    let sound = image.bytes();
    for (block, at, part) in [
        (inode, 0, "the checksum of inode"),
        (folder, 30, "the checksum of a block of a folder"),
        (field(&groups, "block bitmap at "), 0, "the checksum of the block bitmap"),
        (field(&groups, "inode bitmap at "), 100, "the checksum of the inode bitmap"),
        (2, 8, "the checksum of the descriptor"),
    ] {
        let mut bytes = sound.clone();
        if part.contains("of inode") {
            // Every inode of the block: one of them is that of the file.
            (0..4).for_each(|inode| bytes[block * 1024 + inode * 256 + 20] ^= 1);
        } else {
            bytes[block * 1024 + at] ^= 1;
        }
        let mut overlay = Overlay::new(Arc::new(bytes));
        let length = overlay.len();
        let mut writer = ExtWriter::open(&mut overlay, 0..length, NOW).unwrap();
        let error = writer.create(b"/etc/new", b"x", ROOT, Some(b"/etc/hostname")).expect_err(part);
        assert_told(&error, ErrorKind::Corrupt, part);
        assert!(overlay.changes().is_empty());
    }
}

#[test]
fn files_that_mean_more_than_their_bytes() {
    let options = ["-t", "ext4", "-b", "1024", "-I", "256", "-O", "inline_data,ea_inode"];
    let folder = tempfile::tempdir().unwrap();
    let value = folder.path().join("value");
    std::fs::write(&value, noise(1, 3000)).unwrap();
    let label = "system_u:object_r:etc_t:s0";
    let commands =
        format!("ea_set -f {} /large user.large\nea_set /etc/hostname security.selinux {label}\n", value.display());
    let mut image = Image::new(&options, "8M", &tree(), &commands);
    // debugfs does not count the blocks of the attribute, as the kernel and e2fsck do.
    image.repair();
    let told = String::from_utf8(image.ask("stat /etc/hostname")).unwrap();
    assert!(told.contains("Flags: 0x10000000"), "{told}");
    let mut writer = image.writer();
    let error = writer.replace(b"/etc/hostname", b"x").unwrap_err();
    assert_told(&error, ErrorKind::Unsupported, "stored in its inode");
    let error = writer.remove(b"/large").unwrap_err();
    assert_told(&error, ErrorKind::Unsupported, "attributes in inodes of their own");
    // Its content can be changed: the attribute stays where it is.
    writer.replace(b"/large", &noise(2, 9000)).unwrap();
    image.check("ea_inode");
    assert_eq!(image.ask("cat /large"), noise(2, 9000));
}

#[test]
fn rights_that_are_a_list() {
    // Version 2, then tag, rights and id of the owner, one more user, the group, the mask and others.
    let entries = [(1_u16, 6_u16, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 4, u32::MAX)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        list.extend([&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    let folder = tempfile::tempdir().unwrap();
    let value = folder.path().join("value");
    std::fs::write(&value, list).unwrap();
    let commands = format!("ea_set -f {} /etc/hostname system.posix_acl_access\n", value.display());
    let mut image = Image::new(&EXT4, "8M", &tree(), &commands);
    assert!(String::from_utf8_lossy(&image.ask("ea_list /etc/hostname")).contains("posix_acl_access"));
    assert_told(&image.writer().chmod(b"/etc/hostname", 0o600).unwrap_err(), ErrorKind::Unsupported, "access list");
}

#[test]
fn the_partition_ends_before_the_file_system() {
    let mut image = Image::new(&EXT4, "8M", &tree(), "");
    let error = ExtWriter::open(&mut image.overlay, OFFSET..OFFSET + (4 << 20), NOW).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(run("e2fsck", &["-fn", &image.file()], "").status.success());
}
