//! Files and groups of unusual shape: scattered, set aside, sparse, shared, never written, far in the future.

use std::sync::Arc;

use disk::source::Source;
use guest::{Attributes, ExtWriter, Overlay, inspect};

use crate::images::{Image, NOW, Node, OFFSET, Tree, noise};

const ROOT: Attributes = Attributes { mode: 0o644, uid: 0, gid: 0 };

fn tree() -> Tree {
    Tree::from([
        ("/etc".to_owned(), Node::Folder),
        ("/etc/hostname".to_owned(), Node::File(b"web-01\n".to_vec())),
        ("/etc/other".to_owned(), Node::File(b"other\n".to_vec())),
        ("/large".to_owned(), Node::File(noise(1, 5000))),
    ])
}

fn told(image: &Image, command: &str) -> String {
    String::from_utf8_lossy(&image.ask(command)).into_owned()
}

/// A file in hundreds of pieces needs two levels of extents above them, or as many blocks of numbers.
#[test]
fn scattered() {
    for kind in [&["-t", "ext4", "-O", "^has_journal"][..], &["-t", "ext2"], &["-t", "ext4", "-O", "^metadata_csum"]] {
        let options = [kind, &["-b", "1024", "-N", "1024", "-m", "0"]].concat();
        let mut image = Image::new(&options, "4M", &tree(), "");
        let mut writer = image.writer();
        let name = |number: usize| format!("/etc/{number}");
        for number in 0..900 {
            writer.create(name(number).as_bytes(), b"x", ROOT, None).unwrap();
        }
        // Whatever is left in one piece is taken too.
        let mut filling = 1 << 20;
        while filling > 0 {
            if writer.append(b"/large", &vec![1; filling]).is_err() {
                filling /= 2;
            }
        }
        for number in (0..900).step_by(2) {
            writer.remove(name(number).as_bytes()).unwrap();
        }
        let content = noise(2, 420 * 1024 + 1);
        writer.create(b"/scattered", &content, ROOT, None).unwrap();
        image.check("scattered");
        assert_eq!(image.ask("cat /scattered"), content);
        let extents = told(&image, "dump_extents /scattered");
        assert!(kind.contains(&"ext2") || extents.contains(" 2/ 2"), "{kind:?}: {extents}");
        image.writer().append(b"/scattered", &noise(3, 5000)).unwrap();
        image.check("longer");
        assert_eq!(image.ask("cat /scattered"), [content, noise(3, 5000)].concat());
        image.writer().replace(b"/scattered", b"short").unwrap();
        image.check("short");
        assert_eq!(image.ask("cat /scattered"), b"short");
        image.writer().remove(b"/scattered").unwrap();
        image.check("removed");
    }
}

/// What is written comes to lie together, out of old blocks: a store keeps a whole chunk anew for one block in it.
#[test]
fn what_is_written_lies_together() {
    for kind in ["ext2", "ext4"] {
        let mut image = Image::new(&["-t", kind, "-b", "1024"], "8M", &tree(), "");
        let mut writer = image.writer();
        writer.create(b"/first", &noise(2, 5000), ROOT, None).unwrap();
        writer.create(b"/second", b"behind it\n", ROOT, None).unwrap();
        let blocks = |image: &Image, path: &str| -> Vec<u64> {
            told(image, &format!("blocks {path}")).split_whitespace().map(|number| number.parse().unwrap()).collect()
        };
        let old = ["/first", "/second", "/etc/hostname", "/etc/other"].map(|path| blocks(&image, path));
        assert_eq!(old[0].last().unwrap() + 1, old[1][0]);

        let mut writer = image.writer();
        writer.replace(b"/etc/hostname", b"web-02\n").unwrap();
        writer.append(b"/first", &noise(3, 3000)).unwrap();
        writer.replace(b"/etc/other", b"another\n").unwrap();
        writer.create(b"/etc/new", b"new\n", ROOT, None).unwrap();
        // What fits into the last block stays in it, and what can go on behind it does.
        writer.append(b"/second", b"longer\n").unwrap();
        writer.append(b"/etc/new", &noise(4, 2000)).unwrap();
        image.check("together");
        assert_eq!(image.ask("cat /first"), [noise(2, 5000), noise(3, 3000)].concat());
        assert_eq!(image.ask("cat /etc/new"), [b"new\n".to_vec(), noise(4, 2000)].concat());
        assert_eq!(blocks(&image, "/second"), old[1]);
        let first = blocks(&image, "/first");
        assert_eq!(first[..4], old[0][..4]);
        let written = [
            blocks(&image, "/etc/hostname"),
            first[4..].to_vec(),
            blocks(&image, "/etc/other"),
            blocks(&image, "/etc/new"),
        ]
        .concat();
        assert!(written.windows(2).all(|pair| pair[1] == pair[0] + 1), "{kind}: {written:?}");
        assert!(old.concat().iter().all(|block| !written.contains(block)), "{kind}: {old:?}, {written:?}");
    }
}

/// Appends to files whose blocks do not end where they do.
#[test]
fn set_aside_and_sparse() {
    let length_set = |length: usize| format!("set_inode_field /large size {length}\n");
    for (commands, length) in [
        ("fallocate /large 5 40\n".to_owned(), 5000),
        ("fallocate /large 5 40\n".to_owned() + &length_set(7000), 7000),
        (length_set(9000), 9000),
        (length_set(9216), 9216),
        (length_set(4000), 4000),
    ] {
        let mut image = Image::new(&["-t", "ext4", "-b", "1024"], "8M", &tree(), &commands);
        let mut content = noise(1, 5000);
        content.resize(5120, 0);
        content.resize(length, 0);
        image.writer().append(b"/large", b"appended").unwrap();
        image.check(&commands);
        assert!(image.ask("cat /large") == [content, b"appended".to_vec()].concat(), "{commands}");
    }
}

/// Two files with one block of attributes: the first that goes leaves it to the other.
#[test]
fn shared_attributes() {
    let options = ["-t", "ext2", "-b", "1024", "-I", "128"];
    let label = "ea_set /etc/hostname security.selinux label\n";
    let field = |image: &Image, word: &str| -> usize {
        let told = told(image, "stat /etc/hostname");
        told.split_once(word).unwrap().1.split_whitespace().next().unwrap().parse().unwrap()
    };
    let block = field(&Image::new(&options, "4M", &tree(), label), "File ACL: ");
    let share = format!("{label}set_inode_field /etc/other file_acl {block}\nset_inode_field /etc/other blocks 4\n");
    let mut image = Image::new(&options, "4M", &tree(), &share);
    let users = OFFSET + block as u64 * 1024 + 4;
    image.overlay.write_at(&2_u32.to_le_bytes(), users).unwrap();
    image.check("shared");
    let count = |image: &Image| {
        let mut count = [0; 4];
        image.overlay.read_at(&mut count, users).unwrap();
        u32::from_le_bytes(count)
    };
    image.writer().remove(b"/etc/other").unwrap();
    image.check("left to one");
    assert_eq!((count(&image), field(&image, "File ACL: ")), (1, block));
    assert!(told(&image, "ea_list /etc/hostname").contains("label"));
    image.writer().remove(b"/etc/hostname").unwrap();
    image.check("left to none");
    assert!(told(&image, &format!("testb {block}")).contains("not in use"));
}

/// Most groups of a new file system have bitmaps that were never written.
#[test]
fn groups_that_were_never_written() {
    for features in ["^has_journal", "^has_journal,^metadata_csum,uninit_bg", "^has_journal,^flex_bg"] {
        let options = ["-t", "ext4", "-b", "1024", "-g", "1024", "-N", "512", "-O", features];
        let mut image = Image::new(&options, "24M", &tree(), "");
        let lazy = |image: &Image| told(image, "show_super_stats").matches("Block not init").count();
        let before = lazy(&image);
        assert!(before > 15, "{features}: {before} groups");
        let mut writer = image.writer();
        writer.append(b"/large", &noise(2, 12 << 20)).unwrap();
        for number in 0..300 {
            writer.create(format!("/etc/{number}").as_bytes(), b"x", ROOT, None).unwrap();
        }
        image.check(features);
        assert!(lazy(&image) + 10 < before, "{features}: {before}, then {}", lazy(&image));
        assert_eq!(image.ask("cat /large"), [noise(1, 5000), noise(2, 12 << 20)].concat());
    }
}

#[test]
fn times_past_2038() {
    for (size, year) in [("256", "2052"), ("128", "2038")] {
        let mut image = Image::new(&["-t", "ext4", "-b", "1024", "-I", size], "8M", &tree(), "");
        let range = OFFSET..OFFSET + (8 << 20);
        let mut writer = ExtWriter::open(&mut image.overlay, range, 2_600_000_000).unwrap();
        writer.replace(b"/etc/hostname", b"later\n").unwrap();
        writer.create(b"/etc/new", b"later\n", ROOT, None).unwrap();
        image.check(year);
        for path in ["/etc/hostname", "/etc/new"] {
            let told = told(&image, &format!("stat {path}"));
            let mtime = told.lines().find(|line| line.trim_start().starts_with("mtime")).unwrap();
            assert!(mtime.contains(year), "{mtime}");
        }
    }
}

/// The inspection of the overlay sees what was written, and little of the disk has changed.
#[test]
fn inspection_sees_the_change() {
    let mut tree = tree();
    tree.insert("/usr".to_owned(), Node::Folder);
    tree.insert("/usr/lib".to_owned(), Node::Folder);
    tree.insert("/usr/lib/os-release".to_owned(), Node::File(b"ID=debian\nVERSION_ID=12\nNAME=Debian\n".to_vec()));
    let bytes = Image::new(&["-t", "ext4", "-b", "4096"], "16M", &tree, "").bytes();
    let length = bytes.len() as u64;
    let mut overlay = Overlay::new(Arc::new(bytes));
    let mut writer = ExtWriter::open(&mut overlay, 0..length, NOW).unwrap();
    writer.replace(b"/etc/hostname", b"cloud-7\n").unwrap();
    // The content, the inode; counts and bitmaps are written again as well.
    assert!(overlay.changed_bytes() <= 5 * 4096, "{:?}", overlay.changes());
    let report = inspect(Arc::new(overlay)).unwrap();
    assert_eq!(report.os.and_then(|os| os.hostname).as_deref(), Some("cloud-7"), "{:?}", report.notes);
}
