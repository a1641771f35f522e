//! The guest as it will be: its tree with changes laid over it.
//!
//! Repairs read and write the draft, each seeing what those before it did, so that several may edit one file; what differs
//! from the tree at the end is the plan.

use std::collections::BTreeMap;

use crate::registry::ValueChange;
use crate::tree::{CONFIG_MAX, Tree};

/// What shall stand at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum After {
    /// A file; `like` names another that it takes owner, mode and label from if it is new.
    File { bytes: Vec<u8>, like: Option<String> },
    /// What stands there, with these bytes behind it.
    Appended(Vec<u8>),
    /// The registry hive that stands there, with these values changed.
    Values(Vec<ValueChange>),
    /// A symbolic link.
    Link(String),
    /// Nothing; of a folder, nothing below it either.
    Absent,
}

/// A tree and the changes to it. Paths are those of [`Tree::resolve`]: no link leads to them.
pub(crate) struct Draft<'t> {
    tree: &'t Tree,
    changes: BTreeMap<String, After>,
}

impl<'t> Draft<'t> {
    pub(crate) fn new(tree: &'t Tree) -> Self {
        Self { tree, changes: BTreeMap::new() }
    }

    /// Returns the changes by path.
    pub(crate) fn into_changes(self) -> BTreeMap<String, After> {
        self.changes
    }

    /// Returns whether something stands at `path`, links followed.
    pub(crate) fn exists(&self, path: &str) -> bool {
        match self.changed(path) {
            Some(after) => *after != After::Absent,
            None => self.tree.exists(path),
        }
    }

    /// Returns the text of the configuration file at `path`, links followed; none where it is no UTF-8, for such a file
    /// cannot be written back as it was.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        match self.changed(path) {
            Some(After::File { bytes, .. }) => String::from_utf8(bytes.clone()).ok(),
            Some(_) => None,
            None => String::from_utf8(self.tree.bytes(path, CONFIG_MAX)?).ok(),
        }
    }

    /// Gives the file at `path` a new content; one that is not there is made, with owner, mode and label of `like`.
    pub(crate) fn write(&mut self, path: &str, text: impl Into<Vec<u8>>, like: Option<&str>) {
        let (place, like) = (self.place(path), like.map(|like| self.place(like)));
        self.changes.insert(place, After::File { bytes: text.into(), like });
    }

    /// Puts bytes behind the file at `path`.
    pub(crate) fn append(&mut self, path: &str, bytes: Vec<u8>) {
        let place = self.place(path);
        self.changes.insert(place, After::Appended(bytes));
    }

    /// Changes a value of the registry hive at `path`; of two changes of one value the later one counts.
    pub(crate) fn set_value(&mut self, path: &str, change: ValueChange) {
        let place = self.tree.resolve(path).unwrap_or_else(|| path.to_owned());
        let After::Values(values) = self.changes.entry(place).or_insert_with(|| After::Values(Vec::new())) else {
            return;
        };
        match values.iter_mut().find(|own| own.key == change.key && own.name == change.name) {
            Some(own) => own.after = change.after,
            None => values.push(change),
        }
    }

    /// Takes away what stands at `path`, a link as itself.
    pub(crate) fn remove(&mut self, path: &str) {
        self.changes.insert(self.tree.resolve_parent(path), After::Absent);
    }

    /// Puts a link at `path`, in place of what stands there.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.changes.insert(self.tree.resolve_parent(path), After::Link(target.to_owned()));
    }

    /// Returns where what stands at `path` is, or would be.
    fn place(&self, path: &str) -> String {
        self.tree.resolve(path).unwrap_or_else(|| self.tree.resolve_parent(path))
    }

    /// Returns the change at `path`, or of a folder above it that is taken away.
    fn changed(&self, path: &str) -> Option<&After> {
        if self.changes.is_empty() {
            return None;
        }
        let place = self.place(path);
        let mut above = place.as_str();
        while let Some((parent, _)) = above.rsplit_once('/') {
            match self.changes.get(above) {
                Some(after) if above == place => return Some(after),
                Some(After::Absent) => return Some(&After::Absent),
                _ => above = parent,
            }
        }
        None
    }
}
