//! Makes file systems by mke2fs, and looks at what became of them with e2fsck, debugfs and ext4-view.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use disk::source::Source;
use ext4_view::{Ext4, Ext4Read, FileType};
use guest::{ExtWriter, Overlay};

/// Where the file system lies on its disk: not at a whole number of blocks.
pub(crate) const OFFSET: u64 = (1 << 20) + 63 * 512;
/// The time of all changes: before that of the machine, and past 2038 in no test.
pub(crate) const NOW: u64 = 1_700_000_000;

/// Runs `program` of e2fsprogs.
pub(crate) fn run(program: &str, arguments: &[&str], input: &str) -> Output {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| {
        panic!("cannot run {program} ({error}): install the Debian package e2fsprogs, for example with apt-get");
    });
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output
}

/// Does the same for what must succeed, and returns what it printed.
pub(crate) fn tool(program: &str, arguments: &[&str], input: &str) -> String {
    let output = run(program, arguments, input);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?} failed: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a path of the model stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    File(Vec<u8>),
    Link(String),
    Folder,
}

/// All paths below the top, with a `/` at their start.
pub(crate) type Tree = BTreeMap<String, Node>;

/// A file system in a partition of a disk in memory, with the changes to it.
pub(crate) struct Image {
    pub(crate) overlay: Overlay,
    length: u64,
    folder: tempfile::TempDir,
}

impl Image {
    /// Makes a file system of `size` with `tree`, and runs `commands` of debugfs on it.
    pub(crate) fn new(options: &[&str], size: &str, tree: &Tree, commands: &str) -> Self {
        Self::with_hash(options, size, tree, commands, None)
    }

    /// Does the same with indexes of another hash than the usual one.
    pub(crate) fn with_hash(options: &[&str], size: &str, tree: &Tree, commands: &str, hash: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        write_tree(&root, tree);
        let file = folder.path().join("image");
        let file = file.to_str().unwrap();
        let mut arguments = vec!["-q", "-F", "-d", root.to_str().unwrap()];
        arguments.extend(options);
        arguments.extend([file, size]);
        tool("mke2fs", &arguments, "");
        if let Some(hash) = hash {
            tool("debugfs", &["-w", "-R", &format!("set_super_value def_hash_version {hash}"), file], "");
        }
        // mke2fs makes no index; e2fsck makes one for folders of several blocks, where the file system knows that.
        let output = run("e2fsck", &["-fyD", file], "");
        assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stdout));
        if !commands.is_empty() {
            tool("debugfs", &["-w", "-f", "-", file], commands);
        }
        Self::of(fs::read(file).unwrap(), folder)
    }

    fn of(content: Vec<u8>, folder: tempfile::TempDir) -> Self {
        let length = content.len() as u64;
        let mut disk = vec![0x5a; OFFSET as usize];
        disk.extend(content);
        disk.resize(disk.len() + 512, 0x5a);
        Self { overlay: Overlay::new(Arc::new(disk)), length, folder }
    }

    /// Opens the writer for one or more operations.
    pub(crate) fn writer(&mut self) -> ExtWriter<'_> {
        ExtWriter::open(&mut self.overlay, OFFSET..OFFSET + self.length, NOW).unwrap()
    }

    /// Returns the bytes of the file system as they are now.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.length as usize];
        self.overlay.read_at(&mut bytes, OFFSET).unwrap();
        bytes
    }

    /// Puts the file system into a file for the tools.
    pub(crate) fn file(&self) -> String {
        let path = self.folder.path().join("image");
        fs::write(&path, self.bytes()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Asserts that e2fsck has nothing to say against it.
    pub(crate) fn check(&self, what: &str) {
        let output = run("e2fsck", &["-fn", &self.file()], "");
        let told = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        let is_usual = |line: &str| line.starts_with("Pass ") || line.contains(" files (");
        assert!(
            output.status.code() == Some(0) && told.lines().all(is_usual) && errors.lines().count() == 1,
            "{what}: e2fsck says {told}{errors}"
        );
        assert!(self.overlay.changes().iter().all(|range| range.start + 4096 > OFFSET), "{what}: before the partition");
    }

    /// Reads the whole tree by debugfs; `lost+found` is left out.
    pub(crate) fn tree(&self) -> Tree {
        let dump = tempfile::tempdir().unwrap();
        tool("debugfs", &["-R", &format!("rdump / {}", dump.path().display()), &self.file()], "");
        let mut tree = Tree::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(format!("{}{folder}", dump.path().display())).unwrap() {
                let (path, entry) = (entry.as_ref().unwrap().path(), entry.unwrap());
                let name = format!("{folder}/{}", entry.file_name().to_str().unwrap());
                if name == "/lost+found" {
                    continue;
                }
                let kind = entry.file_type().unwrap();
                let node = if kind.is_dir() {
                    folders.push(name.clone());
                    Node::Folder
                } else if kind.is_symlink() {
                    Node::Link(fs::read_link(path).unwrap().to_str().unwrap().to_owned())
                } else {
                    Node::File(fs::read(path).unwrap())
                };
                tree.insert(name, node);
            }
        }
        tree
    }

    /// Reads the whole tree by ext4-view, which finds names by the index; `lost+found` is left out.
    pub(crate) fn tree_by_view(&self) -> Tree {
        let view = Ext4::load(Box::new(View(self.bytes()))).unwrap();
        let mut tree = Tree::new();
        let mut folders = vec![String::from("/")];
        while let Some(folder) = folders.pop() {
            for entry in view.read_dir(folder.as_str()).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().as_str().unwrap().to_owned();
                let path = format!("{}/{name}", folder.trim_end_matches('/'));
                if name == "." || name == ".." || path == "/lost+found" {
                    continue;
                }
                // By name, so that the index of a folder is used.
                let found = view.symlink_metadata(path.as_str()).unwrap_or_else(|error| panic!("{path}: {error}"));
                let node = match found.file_type() {
                    FileType::Directory => {
                        folders.push(path.clone());
                        Node::Folder
                    }
                    FileType::Symlink => {
                        Node::Link(view.read_link(path.as_str()).unwrap().to_str().unwrap().to_owned())
                    }
                    _ => Node::File(view.read(path.as_str()).unwrap()),
                };
                assert!(tree.insert(path.clone(), node).is_none(), "{path} is there twice");
            }
        }
        tree
    }

    /// Returns what debugfs says of each of `paths`: inode, owner, rights, times, attributes, blocks.
    pub(crate) fn told<'p>(&self, paths: impl Iterator<Item = &'p String>) -> BTreeMap<String, String> {
        let paths: Vec<&String> = paths.collect();
        let commands: String = paths.iter().map(|path| format!("stat \"{path}\"\n")).collect();
        let told = tool("debugfs", &["-f", "-", &self.file()], &commands);
        let parts: Vec<&str> = told.split("debugfs: stat ").skip(1).collect();
        assert_eq!(parts.len(), paths.len());
        paths.into_iter().cloned().zip(parts.into_iter().map(str::to_owned)).collect()
    }

    /// Returns what debugfs answers to one command.
    pub(crate) fn ask(&self, command: &str) -> Vec<u8> {
        run("debugfs", &["-R", command, &self.file()], "").stdout
    }
}

fn write_tree(root: &Path, tree: &Tree) {
    fs::create_dir_all(root).unwrap();
    for (path, node) in tree {
        let path = root.join(&path[1..]);
        match node {
            Node::File(content) => fs::write(path, content).unwrap(),
            Node::Link(target) => symlink(target, path).unwrap(),
            Node::Folder => fs::create_dir_all(path).unwrap(),
        }
    }
}

struct View(Vec<u8>);

impl Ext4Read for View {
    fn read(&mut self, start: u64, buf: &mut [u8]) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.0.read_at(buf, start)?)
    }
}

/// Bytes that look like nothing else, and differ by `seed`.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    (0..length.div_ceil(4)).flat_map(|_| (random.next(1 << 31) as u32).to_le_bytes()).take(length).collect()
}

/// xorshift64*: the same numbers at each run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % below
    }
}
