//! What the kernel makes of a changed file system; only root can mount one.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use guest::{Attributes, ExtWriter, Overlay};

use crate::images::{Image, NOW, Node, OFFSET, Tree, noise, tool, write_tree};

const ROOT: Attributes = Attributes { mode: 0o644, uid: 0, gid: 0 };

/// A mounted file system, until it is dropped.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(file: &str, offset: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("loop,offset={offset}");
        let status = Command::new("mount").args(["-o", &options, file]).arg(folder.path()).status();
        assert!(status.unwrap().success(), "cannot mount {file}");
        Self(folder)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.0.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot unmount {}", self.0.path().display());
    }
}

fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(format!("{}{folder}", root.display())).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            let kind = entry.file_type().unwrap();
            let node = if kind.is_dir() {
                folders.push(name.clone());
                Node::Folder
            } else if kind.is_symlink() {
                Node::Link(fs::read_link(entry.path()).unwrap().to_str().unwrap().to_owned())
            } else {
                Node::File(fs::read(entry.path()).unwrap())
            };
            tree.insert(name, node);
        }
    }
    tree.remove("/lost+found");
    tree
}

fn check(options: &[&str]) {
    let mut tree = Tree::new();
    for folder in ["/etc", "/many"] {
        tree.insert(folder.to_owned(), Node::Folder);
    }
    for number in 0..150 {
        tree.insert(format!("/many/{number:03} {}", "x".repeat(40)), Node::File(noise(number, 100)));
    }
    let mut image = Image::new(options, "24M", &tree, "");
    let mut writer = image.writer();
    for number in 0..150 {
        let (path, content) = (format!("/many/{number:03} für {}", "y".repeat(60)), noise(number, 3000));
        writer.create(path.as_bytes(), &content, ROOT, None).unwrap();
        tree.insert(path, Node::File(content));
    }
    let large = noise(7, 5 << 20);
    writer.create(b"/etc/large", &large, ROOT, None).unwrap();
    writer.append(b"/etc/large", &large).unwrap();
    writer.symlink(b"/etc/link", b"large").unwrap();
    writer.make_folder(b"/etc/made", ROOT, None).unwrap();
    tree.insert("/etc/large".to_owned(), Node::File([&large[..], &large].concat()));
    tree.insert("/etc/link".to_owned(), Node::Link("large".to_owned()));
    tree.insert("/etc/made".to_owned(), Node::Folder);

    // The disk as a whole goes into a file, so that the file system lies at its odd place.
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::write(&disk, [vec![0; OFFSET as usize], image.bytes()].concat()).unwrap();
    {
        let mounted = Mounted::new(disk.to_str().unwrap(), OFFSET);
        let found = read(mounted.0.path());
        let wrong: Vec<_> =
            tree.keys().chain(found.keys()).filter(|path| tree.get(*path) != found.get(*path)).collect();
        assert!(wrong.is_empty(), "{options:?}: {wrong:?}");
        // The kernel goes on with it.
        fs::write(mounted.0.path().join("etc/made/by the kernel"), &large).unwrap();
        fs::remove_file(mounted.0.path().join("etc/large")).unwrap();
        for number in 0..150 {
            fs::write(mounted.0.path().join(format!("many/{number} by the kernel")), "x").unwrap();
        }
    }
    let bytes = fs::read(&disk).unwrap().split_off(OFFSET as usize);
    fs::write(&disk, bytes).unwrap();
    tool("e2fsck", &["-fn", disk.to_str().unwrap()], "");
}

#[test]
#[expect(clippy::print_stdout, reason = "a test that leaves something out says so")]
fn the_kernel_reads_and_goes_on() {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("not root: left out that the kernel mounts changed ext2, ext3 and ext4, reads them and writes on");
        return;
    }
    check(&["-t", "ext4", "-b", "4096"]);
    check(&["-t", "ext4", "-b", "1024", "-g", "1024"]);
    check(&["-t", "ext3", "-b", "1024"]);
    check(&["-t", "ext2", "-b", "2048"]);
}

/// Ten files of a disk of 1.5 GB: what it costs in time and in changed bytes.
#[test]
#[expect(clippy::print_stdout, reason = "it is there to be read")]
fn ten_files_of_a_large_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (root, file) = (folder.path().join("tree"), folder.path().join("image"));
    let mut tree = Tree::from([("/etc".to_owned(), Node::Folder)]);
    for number in 0..1000 {
        tree.insert(format!("/etc/{number}.conf"), Node::File(noise(number, 2000)));
    }
    write_tree(&root, &tree);
    tool("mke2fs", &["-q", "-F", "-t", "ext4", "-d", root.to_str().unwrap(), file.to_str().unwrap(), "1536M"], "");
    let source = disk::file::FileSource::open(&file).unwrap();
    let mut overlay = Overlay::new(std::sync::Arc::new(source));
    let start = Instant::now();
    let mut writer = ExtWriter::open(&mut overlay, 0..1536 << 20, NOW).unwrap();
    for number in 0..10 {
        writer.replace(format!("/etc/{}.conf", number * 100).as_bytes(), &noise(9, 3000)).unwrap();
    }
    let time = start.elapsed();
    println!("10 files of 1.5 GB: {time:?}, {} bytes in {} ranges", overlay.changed_bytes(), overlay.changes().len());
    assert!(overlay.changed_bytes() < 1 << 20);
}
