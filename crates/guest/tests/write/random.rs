//! Thousands of random operations against a model in memory, on disks that become full and empty again.

use disk::error::ErrorKind;
use guest::Attributes;

use crate::images::{Image, Node, Random, Tree, noise};

const OPERATIONS: usize = 1000;
/// Operations between two looks at the whole file system.
const BETWEEN: usize = 200;
const SEED: u64 = 0x6d6f_6c64_6500_0002;
const ROOT: Attributes = Attributes { mode: 0o644, uid: 0, gid: 0 };

/// One operation, with the paths that it names.
enum Operation {
    Create(String, Vec<u8>),
    Replace(String, Vec<u8>),
    Append(String, Vec<u8>),
    Link(String, String),
    MakeFolder(String),
    Remove(String),
    Rename(String, String),
}

impl Operation {
    fn random(random: &mut Random, tree: &Tree, number: usize) -> Self {
        let folders: Vec<&String> =
            tree.iter().filter(|(_, node)| **node == Node::Folder).map(|(path, _)| path).collect();
        let new = |random: &mut Random| {
            let folder = folders[random.next(folders.len())];
            let length = [3, 10, 40, 200][random.next(4)];
            format!("{folder}/{number} {}", "é".repeat(length / 2))
        };
        // Now and then a path that is not there, or is something else.
        let any = |random: &mut Random| match random.next(20) {
            0 => "/nothing/here".to_owned(),
            _ => tree.keys().nth(random.next(tree.len())).unwrap().clone(),
        };
        let content = |random: &mut Random| {
            let most = [1, 60, 5000, 5000, 70_000, 3 << 20][random.next(6)];
            noise(number as u64, random.next(most))
        };
        match random.next(16) {
            0..5 => Self::Create(new(random), content(random)),
            5..7 => Self::Replace(any(random), content(random)),
            7..10 => Self::Append(any(random), content(random)),
            10 => {
                let length = 1 + random.next(200);
                Self::Link(new(random), "t".repeat(length))
            }
            11 if tree.len() < 40 || random.next(4) == 0 => Self::MakeFolder(new(random)),
            12 => {
                let from = any(random);
                let folder = from.rsplit_once('/').unwrap().0;
                let to = format!("{folder}/{number} renamed");
                Self::Rename(from, to)
            }
            // An existing name must be refused.
            13 => Self::Create(any(random), content(random)),
            _ => Self::Remove(any(random)),
        }
    }

    fn run(&self, image: &mut Image) -> disk::error::Result<()> {
        let mut writer = image.writer();
        match self {
            Self::Create(path, content) => writer.create(path.as_bytes(), content, ROOT, None),
            Self::Replace(path, content) => writer.replace(path.as_bytes(), content),
            Self::Append(path, content) => writer.append(path.as_bytes(), content),
            Self::Link(path, target) => writer.symlink(path.as_bytes(), target.as_bytes()),
            Self::MakeFolder(path) => writer.make_folder(path.as_bytes(), ROOT, None),
            Self::Remove(path) => writer.remove(path.as_bytes()),
            Self::Rename(from, to) => writer.rename(from.as_bytes(), to.as_bytes()),
        }
    }

    /// Returns whether it can be done at all, if there is room.
    fn is_possible(&self, tree: &Tree) -> bool {
        match self {
            Self::Create(path, _) | Self::Link(path, _) | Self::MakeFolder(path) => is_new(tree, path),
            Self::Replace(path, _) | Self::Append(path, _) => matches!(tree.get(path), Some(Node::File(_))),
            Self::Remove(path) => !matches!(tree.get(path), None | Some(Node::Folder)),
            Self::Rename(from, to) => tree.contains_key(from) && !tree.contains_key(to),
        }
    }

    /// Does the same to the model.
    fn apply(self, tree: &mut Tree) {
        match self {
            Self::Create(path, content) | Self::Replace(path, content) => drop(tree.insert(path, Node::File(content))),
            Self::Link(path, target) => drop(tree.insert(path, Node::Link(target))),
            Self::MakeFolder(path) => drop(tree.insert(path, Node::Folder)),
            Self::Append(path, content) => {
                let Some(Node::File(old)) = tree.get_mut(&path) else { panic!("{path} is no file") };
                old.extend(content);
            }
            Self::Remove(path) => drop(tree.remove(&path)),
            Self::Rename(from, to) => rename(tree, &from, &to),
        }
    }
}

fn is_new(tree: &Tree, path: &str) -> bool {
    let parent = path.rsplit_once('/').unwrap().0;
    !tree.contains_key(path) && (parent.is_empty() || tree.get(parent) == Some(&Node::Folder))
}

fn rename(tree: &mut Tree, from: &str, to: &str) {
    let inside = format!("{from}/");
    let moved: Vec<String> = tree.keys().filter(|path| *path == from || path.starts_with(&inside)).cloned().collect();
    for path in moved {
        let node = tree.remove(&path).unwrap();
        tree.insert(format!("{to}{}", &path[from.len()..]), node);
    }
}

/// Runs random operations on a file system of `size` made with `options`.
fn check(options: &[&str], size: &str) {
    let mut tree = Tree::new();
    for folder in ["/etc", "/boot", "/many"] {
        tree.insert(folder.to_owned(), Node::Folder);
    }
    for number in 0..120 {
        tree.insert(format!("/many/{number:03} {}", "x".repeat(40)), Node::File(noise(number, 100)));
    }
    let mut image = Image::new(options, size, &tree, "");
    let mut random = Random(SEED);
    let (mut done, mut impossible, mut full) = (0, 0, 0);
    for number in 0..OPERATIONS {
        let operation = Operation::random(&mut random, &tree, number);
        let is_possible = operation.is_possible(&tree);
        let before = (number % 16 == 0).then(|| image.bytes());
        match operation.run(&mut image) {
            Ok(()) => {
                assert!(is_possible, "{options:?}, operation {number} was done and should not");
                operation.apply(&mut tree);
                done += 1;
            }
            Err(error) => {
                let is_full = error.kind() == ErrorKind::TooLarge && error.to_string().contains("is full");
                assert!(!is_possible || is_full, "{options:?}, operation {number}: {error}");
                assert!(before.is_none_or(|before| before == image.bytes()), "a failed operation left something");
                *(if is_possible { &mut full } else { &mut impossible }) += 1;
            }
        }
        if number % BETWEEN == BETWEEN - 1 {
            image.check(&format!("{options:?} after operation {number}"));
            let found = image.tree();
            let paths: Vec<_> =
                tree.keys().chain(found.keys()).filter(|path| tree.get(*path) != found.get(*path)).collect();
            assert!(paths.is_empty(), "{options:?} after operation {number}: {paths:?}");
        }
    }
    // Each end must have been met.
    assert!(done > OPERATIONS / 3 && impossible > 20 && full > 20, "{done} done, {impossible} impossible, {full} full");
}

#[test]
fn ext4_1k() {
    check(&["-t", "ext4", "-b", "1024", "-N", "512", "-J", "size=1"], "16M");
}

#[test]
fn ext4_small_groups() {
    check(&["-t", "ext4", "-b", "4096", "-g", "512", "-N", "512", "-O", "^has_journal,^resize_inode"], "16M");
}

#[test]
fn ext4_group_checksums() {
    check(&["-t", "ext4", "-b", "2048", "-N", "512", "-O", "^metadata_csum,uninit_bg,^has_journal"], "12M");
}

#[test]
fn ext3_block_maps() {
    check(&["-t", "ext3", "-b", "1024", "-N", "384", "-J", "size=1"], "12M");
}

#[test]
fn ext2_scattered() {
    check(&["-t", "ext2", "-b", "1024", "-g", "256", "-N", "2048", "-I", "128"], "8M");
}
