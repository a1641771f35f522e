//! Makes disks: folders with files, file systems from them, partition tables around those.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use disk::error::{Error, Result};
use disk::source::Source;
use guest::{Extras, Report, inspect, inspect_with};

pub(crate) const MIB: usize = 1 << 20;

/// A disk in memory.
pub(crate) struct Memory(pub(crate) Vec<u8>);

impl Source for Memory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let offset = usize::try_from(offset).unwrap();
        let end = offset.checked_add(buf.len()).unwrap();
        buf.copy_from_slice(self.0.get(offset..end).ok_or_else(|| Error::corrupt("past the end"))?);
        Ok(())
    }
}

/// A disk in a file, for those that are large and mostly holes.
pub(crate) struct OnFile(pub(crate) fs::File);

impl Source for OnFile {
    fn len(&self) -> u64 {
        self.0.metadata().unwrap().len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_exact_at(buf, offset).map_err(|error| Error::io("read the test disk", error))
    }
}

/// Inspects a disk that must be readable.
pub(crate) fn report(disk: Vec<u8>) -> Report {
    inspect(Arc::new(Memory(disk))).unwrap()
}

/// Inspects a disk that must be readable, with all that can be asked for.
pub(crate) fn full_report(disk: Vec<u8>) -> Report {
    inspect_with(Arc::new(Memory(disk)), Extras { boot_kernels: true, packages: true }).unwrap()
}

/// Asserts that one note has `part` in it.
pub(crate) fn assert_note(report: &Report, part: &str) {
    assert!(report.notes.iter().any(|note| note.contains(part)), "no note with {part:?}: {:#?}", report.notes);
}

/// Runs `program` of the Debian package `package` and returns what it printed.
pub(crate) fn tool(package: &str, program: &str, arguments: &[&str], input: &str) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", path).env("MTOOLS_SKIP_CHECK", "1");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("cannot run {program} ({error}): install the Debian package {package}, for example with apt-get");
    });
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} failed: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What stands at a path of a tree.
pub(crate) enum Node<'a> {
    File(&'a [u8]),
    Link(&'a str),
    Folder,
    Fifo,
    /// A file of this length with nothing in it.
    Hole(u64),
}

/// Shorthand for a text file.
pub(crate) fn text(content: &str) -> Node<'_> {
    Node::File(content.as_bytes())
}

/// The first bytes of a program for `machine` (`e_machine` of a little-endian 64-bit ELF).
pub(crate) fn elf(machine: u8) -> Vec<u8> {
    [b"\x7fELF\x02\x01\x01\x00", &[0; 8][..], &[3, 0, machine, 0, 1, 0, 0, 0], &[0; 40]].concat()
}

pub(crate) type Nodes<'a> = [(&'a str, Node<'a>)];

fn write_tree(root: &Path, nodes: &Nodes<'_>) {
    for (path, node) in nodes {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Node::File(content) => fs::write(path, content).unwrap(),
            Node::Link(target) => symlink(target, path).unwrap(),
            Node::Folder => fs::create_dir_all(path).unwrap(),
            Node::Fifo => drop(tool("coreutils", "mkfifo", &[path.to_str().unwrap()], "")),
            Node::Hole(length) => fs::File::create(path).unwrap().set_len(*length).unwrap(),
        }
    }
}

/// Makes a file system of `mib` MiB with `nodes` by mke2fs; `options` come before the file name.
pub(crate) fn ext(mib: usize, options: &[&str], nodes: &Nodes<'_>) -> Vec<u8> {
    ext_edited(mib, options, nodes, "")
}

/// Does the same and runs `commands` of debugfs on it.
pub(crate) fn ext_edited(mib: usize, options: &[&str], nodes: &Nodes<'_>, commands: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    write_tree(&tree, nodes);
    let image = folder.path().join("image");
    let (size, image) = (format!("{mib}M"), image.to_str().unwrap());
    let mut arguments = vec!["-q", "-F", "-E", "lazy_itable_init=0", "-d", tree.to_str().unwrap()];
    arguments.extend(options);
    arguments.extend([image, size.as_str()]);
    tool("e2fsprogs", "mke2fs", &arguments, "");
    if !commands.is_empty() {
        tool("e2fsprogs", "debugfs", &["-w", "-f", "-", image], commands);
    }
    fs::read(image).unwrap()
}

/// Makes an XFS of `mib` MiB with `nodes` by mkfs.xfs, which copies no special files; `options` come before the file name.
pub(crate) fn xfs(mib: usize, options: &[&str], nodes: &Nodes<'_>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    write_tree(&tree, nodes);
    let mut prototype = "/\n0 0\nd--755 0 0\n".to_owned();
    list_prototype(&tree, &mut prototype);
    let (list, image) = (folder.path().join("list"), folder.path().join("image"));
    fs::write(&list, prototype).unwrap();
    fs::write(&image, vec![0; mib * MIB]).unwrap();
    // Smaller than 300 MiB is for tests only.
    let own = ["--unsupported", "-q", "-f", "-p", list.to_str().unwrap()];
    tool("xfsprogs", "mkfs.xfs", &[&own, options, &[image.to_str().unwrap()]].concat(), "");
    fs::read(image).unwrap()
}

/// Writes the form of mkfs.xfs(8) for what is in `folder`.
fn list_prototype(folder: &Path, list: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        if kind.is_dir() {
            list.push_str(&format!("{name} d--755 0 0\n"));
            list_prototype(&path, list);
        } else if kind.is_symlink() {
            list.push_str(&format!("{name} l--777 0 0 {}\n", fs::read_link(&path).unwrap().display()));
        } else {
            list.push_str(&format!("{name} ---640 7 8 {}\n", path.display()));
        }
    }
    list.push_str("$\n");
}

/// Makes a btrfs of `mib` MiB with `nodes` by mkfs.btrfs.
pub(crate) fn btrfs(mib: usize, options: &[&str], nodes: &Nodes<'_>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (tree, image) = (folder.path().join("tree"), folder.path().join("image"));
    fs::create_dir(&tree).unwrap();
    write_tree(&tree, nodes);
    fs::write(&image, vec![0; mib * MIB]).unwrap();
    let own = ["-q", "-n", "4096", "--rootdir", tree.to_str().unwrap()];
    tool("btrfs-progs", "mkfs.btrfs", &[&own, options, &[image.to_str().unwrap()]].concat(), "");
    fs::read(image).unwrap()
}

/// Makes a disc with `nodes` by xorriso.
pub(crate) fn iso(options: &[&str], nodes: &Nodes<'_>) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (tree, image) = (folder.path().join("tree"), folder.path().join("image"));
    fs::create_dir(&tree).unwrap();
    write_tree(&tree, nodes);
    let own = ["-as", "mkisofs", "-quiet", "-o", image.to_str().unwrap()];
    tool("xorriso", "xorriso", &[&own, options, &[tree.to_str().unwrap()]].concat(), "");
    fs::read(image).unwrap()
}

/// Unpacks a file system that a kernel made; `fixtures/README.md` tells how.
pub(crate) fn fixture(name: &str) -> Vec<u8> {
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inspect/fixtures").join(name);
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    tool("zstd", "zstd", &["-q", "-d", packed.to_str().unwrap(), "-o", image.to_str().unwrap()], "");
    fs::read(image).unwrap()
}

/// Makes a FAT file system of `mib` MiB with files by mkfs.vfat and mtools.
pub(crate) fn fat(mib: usize, options: &[&str], files: &[(&str, &str)]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let (image, kib) = (image.to_str().unwrap(), (mib * 1024).to_string());
    tool("dosfstools", "mkfs.vfat", &[options, &["-C", image, &kib]].concat(), "");
    let mut made: Vec<String> = Vec::new();
    for (path, content) in files {
        let parents: Vec<_> = path.match_indices('/').map(|(at, _)| format!("::{}", &path[..at])).collect();
        for parent in parents {
            if !made.contains(&parent) {
                tool("mtools", "mmd", &["-i", image, &parent], "");
                made.push(parent);
            }
        }
        tool("mtools", "mcopy", &["-i", image, "-", &format!("::{path}")], content);
    }
    fs::read(image).unwrap()
}

/// Makes an empty disk of `mib` MiB with a table that sfdisk writes from `script`.
pub(crate) fn table(mib: usize, script: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    fs::write(&image, vec![0; mib * MIB]).unwrap();
    tool("fdisk", "sfdisk", &["-q", "--no-reread", "--no-tell-kernel", image.to_str().unwrap()], script);
    fs::read(image).unwrap()
}

/// Puts `content` on `disk` at `mib` MiB.
pub(crate) fn put(disk: &mut [u8], mib: usize, content: &[u8]) {
    disk[mib * MIB..mib * MIB + content.len()].copy_from_slice(content);
}

/// The files of a small Debian, without those below `/boot`.
pub(crate) fn debian<'a>(fstab: &'a str, program: &'a [u8]) -> Vec<(&'a str, Node<'a>)> {
    vec![
        (
            "usr/lib/os-release",
            text(
                "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n",
            ),
        ),
        ("etc/os-release", Node::Link("../usr/lib/os-release")),
        ("bin", Node::Link("usr/bin")),
        ("lib", Node::Link("usr/lib")),
        ("usr/bin/dash", Node::File(program)),
        ("usr/bin/sh", Node::Link("dash")),
        ("usr/bin/apt-get", Node::File(program)),
        ("usr/bin/cloud-init", text("#!/usr/bin/python3\n")),
        ("usr/lib/modules/6.1.0-9-amd64/modules.dep", text("")),
        ("usr/lib/modules/6.1.0-18-amd64/modules.dep", text("")),
        (
            "var/lib/dpkg/status",
            text(
                "Package: cloud-init\nStatus: install ok installed\nVersion: 22.4.2-1+deb12u3\n\nPackage: dash\nVersion: 1\n",
            ),
        ),
        ("etc/cloud/cloud.cfg", text("datasource_list: [ None ]\n")),
        ("etc/cloud/cloud.cfg.d/90_dpkg.cfg", text("datasource_list: [ NoCloud, OpenStack, None ]\n")),
        ("etc/hostname", text("web-01\n")),
        ("etc/fstab", text(fstab)),
    ]
}

/// Makes a Debian on ext4 that was pulled out: its host name is `web-01`, and `newer` in the journal.
///
/// debugfs writes the journal as a kernel would.
pub(crate) fn dirty() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let newer = folder.path().join("block");
    let mut content = b"newer\n".to_vec();
    content.resize(1024, 0);
    fs::write(&newer, content).unwrap();
    let nodes = debian("/dev/sda1 / ext4\n", b"");
    let options = ["-t", "ext4", "-b", "1024", "-N", "128", "-J", "size=1"];
    // The same tree makes the same blocks at each run.
    let place = |disk: &[u8]| disk.chunks(1024).position(|block| block.starts_with(b"web-01\n")).unwrap();
    let block = place(&ext(6, &options, &nodes));
    let commands = format!("journal_open -c -v 3\njournal_write -b {block} {}\njournal_close\n", newer.display());
    let disk = ext_edited(6, &options, &nodes, &commands);
    assert_eq!(place(&disk), block);
    disk
}
