//! Files of a guest for people to look at: lists, contents, and what differs between two guests.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use disk::error::{Error, ErrorKind, Result};
use disk::source::Source;

use crate::budget::Budget;
use crate::filesystems::files::{Node, NodeKind};
use crate::inspect::open_within;
use crate::tree::Tree;

/// Most names in one folder.
const NAMES_MAX: usize = 1 << 20;
/// Deepest folder that is looked into.
const DEPTH_MAX: usize = 256;

/// The files of the system on a disk, as the system itself would see them.
pub struct Browser {
    tree: Tree,
    budget: Rc<Budget>,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path in the guest.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
    /// Length in bytes, as the file system claims.
    pub length: u64,
    /// Permissions, `0o7777` at most.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Where a link points.
    pub target: Option<String>,
}

/// Kinds of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// Regular file.
    File,
    /// Folder.
    Folder,
    /// Symbolic link.
    Link,
    /// Device, pipe or socket.
    Special,
}

impl EntryKind {
    /// Returns `file`, `folder`, `link` or `special`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Folder => "folder",
            Self::Link => "link",
            Self::Special => "special",
        }
    }
}

impl Browser {
    /// Opens the system on `disk`.
    ///
    /// # Errors
    /// As [`crate::inspect()`]; `Unsupported` when there is no system whose files can be read, with the reasons.
    pub fn open(disk: Arc<dyn Source>) -> Result<Self> {
        let (report, tree, budget) = open_within(disk, Budget::wide())?;
        match tree {
            Some(tree) => Ok(Self { tree, budget }),
            None => {
                let reasons =
                    if report.notes.is_empty() { String::new() } else { format!(" {}", report.notes.join(" ")) };
                Err(Error::new(
                    ErrorKind::Unsupported,
                    format!("no system whose files can be read is on this disk.{reasons}"),
                ))
            }
        }
    }

    /// Returns what stands at `path`, a link as itself unless `is_followed`; none where nothing does.
    #[must_use]
    pub fn entry(&self, path: &str, is_followed: bool) -> Option<Entry> {
        let path = if is_followed { self.tree.resolve(path)? } else { self.tree.resolve_parent(path) };
        self.tree.node(&path).map(|node| self.described(path, node))
    }

    /// Returns what is in the folder at `path`, links to it followed, by name; none where there is no folder.
    #[must_use]
    pub fn list(&self, path: &str) -> Option<Vec<Entry>> {
        let folder = self.tree.resolve(path).filter(|folder| self.tree.is_folder_itself(folder))?;
        let base = folder.trim_end_matches('/');
        let entries = self.tree.entries(&folder, NAMES_MAX).into_iter();
        Some(entries.map(|(name, node)| self.described(format!("{base}/{name}"), node)).collect())
    }

    /// Calls `see` with everything at and below `path`, folders before what is in them, links not followed.
    pub fn walk(&self, path: &str, see: &mut dyn FnMut(&Entry)) {
        let Some(top) = self.entry(path, true) else { return };
        let mut pending = vec![(top, 0)];
        while let Some((entry, depth)) = pending.pop() {
            see(&entry);
            if entry.kind == EntryKind::Folder && depth < DEPTH_MAX {
                let below = self.list(&entry.path).unwrap_or_default();
                pending.extend(below.into_iter().rev().map(|entry| (entry, depth + 1)));
            }
        }
    }

    /// Reads at most `most` bytes from `offset` on of the regular file at `path`, links followed; nothing past its end.
    ///
    /// # Errors
    /// `Unsupported` with a sentence when there is no such file or it cannot be read.
    pub fn read(&self, path: &str, offset: u64, most: usize) -> Result<Vec<u8>> {
        let refused = |why: String| Error::new(ErrorKind::Unsupported, format!("{path} {why}"));
        let entry = self.entry(path, true).ok_or_else(|| refused("is not there".to_owned()))?;
        if entry.kind != EntryKind::File {
            return Err(refused(format!("is a {} and no regular file", entry.kind.as_str())));
        }
        self.tree.read_range(&entry.path, offset, most).map_err(|why| refused(format!("cannot be read: {why}")))
    }

    /// Takes the notes of what could not be read until now.
    #[must_use]
    pub fn take_notes(&self) -> Vec<String> {
        self.budget.take_notes()
    }

    fn described(&self, path: String, node: Node) -> Entry {
        let kind = match node.kind {
            NodeKind::File => EntryKind::File,
            NodeKind::Folder => EntryKind::Folder,
            NodeKind::Link => EntryKind::Link,
            NodeKind::Special => EntryKind::Special,
        };
        let target = (kind == EntryKind::Link).then(|| self.tree.link_target(&path)).flatten();
        Entry { path, kind, length: node.length, mode: node.mode, uid: node.uid, gid: node.gid, target }
    }
}

/// A path that differs between two guests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What stands there in the first.
    pub before: Option<Entry>,
    /// What stands there in the second.
    pub after: Option<Entry>,
}

/// Compares the files of two guests: kind, length, mode, owner, target and content; those that differ, by path.
///
/// # Errors
/// When a file of either cannot be read.
pub fn compare(before: &Browser, after: &Browser) -> Result<Vec<Difference>> {
    let [old, new] = [before, after].map(|browser| {
        let mut all = BTreeMap::new();
        browser.walk("/", &mut |entry| drop(all.insert(entry.path.clone(), entry.clone())));
        all
    });
    let mut found = Vec::new();
    for (path, entry) in &old {
        match new.get(path) {
            Some(other) if !is_same(entry, other) || is_other_content(before, after, entry)? => {
                found.push(Difference { before: Some(entry.clone()), after: Some(other.clone()) });
            }
            Some(_) => {}
            None => found.push(Difference { before: Some(entry.clone()), after: None }),
        }
    }
    let added = new.iter().filter(|(path, _)| !old.contains_key(*path));
    found.extend(added.map(|(_, entry)| Difference { before: None, after: Some(entry.clone()) }));
    found.sort_by(|left, right| path_of(left).cmp(path_of(right)));
    Ok(found)
}

fn path_of(difference: &Difference) -> &str {
    difference.before.as_ref().or(difference.after.as_ref()).map_or("", |entry| &entry.path)
}

/// The length of a folder is how its file system keeps it.
fn is_same(one: &Entry, other: &Entry) -> bool {
    let length = |entry: &Entry| if entry.kind == EntryKind::Folder { 0 } else { entry.length };
    let facts = |entry: &Entry| (entry.kind, length(entry), entry.mode, entry.uid, entry.gid, entry.target.clone());
    facts(one) == facts(other)
}

fn is_other_content(before: &Browser, after: &Browser, entry: &Entry) -> Result<bool> {
    const PIECE: usize = 1 << 20;
    let mut at = 0;
    while entry.kind == EntryKind::File && at < entry.length {
        let (old, new) = (before.read(&entry.path, at, PIECE)?, after.read(&entry.path, at, PIECE)?);
        if old != new {
            return Ok(true);
        }
        if old.is_empty() {
            break;
        }
        at += old.len() as u64;
    }
    Ok(false)
}
