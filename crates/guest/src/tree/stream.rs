//! A file of the tree that is too large to be loaded: read in pieces, in any order.

use super::{NodeKind, Place, Tree};
use crate::pieces::Pieces;

/// A regular file, found once.
pub(crate) struct Stream<'a> {
    tree: &'a Tree,
    place: Place,
}

impl Tree {
    /// Returns the regular file at `path`, links followed.
    pub(crate) fn stream(&self, path: &str) -> Option<Stream<'_>> {
        let place = self.find(path, true).filter(|place| place.node.kind == NodeKind::File)?;
        Some(Stream { tree: self, place })
    }
}

impl Pieces for Stream<'_> {
    fn len(&self) -> u64 {
        self.place.node.length
    }

    fn piece(&self, offset: u64, most: usize) -> Result<Vec<u8>, String> {
        self.check()?;
        let (filesystem, inner) = self.tree.locate(&self.place.components);
        filesystem.read(&inner, offset, most)
    }

    fn check(&self) -> Result<(), String> {
        self.tree.budget.check_time().map_err(|error| error.to_string())
    }
}
