//! A node of the trees of btrfs: keys, and either what they stand for or the nodes below.

use std::rc::Rc;

use disk::error::{Error, Result};

use super::superblock::Superblock;
use crate::fields::{le32, le64, uuid16};

const HEADER: usize = 101;
/// A key with a place and a length, in a leaf.
const ITEM: usize = 25;
/// A key with the address of a node, in any other.
const POINTER: usize = 33;
/// Levels of a tree.
const LEVELS_MAX: u8 = 8;

/// Names an item of a tree, and orders it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Number of an inode, a subvolume, or what else the tree is about.
    pub(super) object: u64,
    pub(super) kind: u8,
    /// What it means depends on the kind.
    pub(super) offset: u64,
}

impl Key {
    /// How long it is in a structure.
    pub(super) const LENGTH: usize = 17;

    pub(super) fn new(object: u64, kind: u8, offset: u64) -> Self {
        Self { object, kind, offset }
    }

    /// Reads the one at `at`.
    pub(super) fn read(bytes: &[u8], at: usize) -> Self {
        Self::new(le64(bytes, at), bytes.get(at + 8).copied().unwrap_or_default(), le64(bytes, at + 9))
    }

    /// Returns whether both are about the same thing, and of one kind.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        (self.object, self.kind) == (other.object, other.kind)
    }
}

/// Where a tree begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Root {
    /// Logical address in bytes.
    pub(super) at: u64,
    /// Of its topmost node; leaves have zero.
    pub(super) level: u8,
}

/// A node whose numbers lie inside it.
#[derive(Debug)]
pub(super) struct Node {
    bytes: Box<[u8]>,
    pub(super) level: u8,
    pub(super) count: usize,
}

impl Node {
    /// Takes `bytes` for the node that `root` leads to.
    pub(super) fn check(bytes: Vec<u8>, root: Root, superblock: &Superblock) -> Result<Self> {
        let broken = |what: &str| Error::corrupt(format!("a node of its trees at {:#x} {what}", root.at));
        if !superblock.sums.is_right(&bytes) {
            return Err(broken("has another checksum"));
        }
        if uuid16(&bytes, 32) != superblock.uuid || le64(&bytes, 48) != root.at {
            return Err(broken("is not what should be there"));
        }
        let node = Self { level: bytes[100], count: le32(&bytes, 96) as usize, bytes: bytes.into() };
        if node.level != root.level || node.level >= LEVELS_MAX {
            return Err(broken("has another level"));
        }
        let most = (node.bytes.len() - HEADER) / node.width();
        if node.count > most || (node.count == 0 && node.level > 0) {
            return Err(broken("counts wrong"));
        }
        if (1..node.count).any(|index| node.key(index - 1) >= node.key(index)) {
            return Err(broken("is out of order"));
        }
        if node.level == 0 && (0..node.count).any(|index| node.bytes.get(node.range(index)).is_none()) {
            return Err(broken("has an item outside of it"));
        }
        Ok(node)
    }

    fn width(&self) -> usize {
        if self.level == 0 { ITEM } else { POINTER }
    }

    /// Returns the key at `index`, which is less than the count.
    pub(super) fn key(&self, index: usize) -> Key {
        Key::read(&self.bytes, HEADER + index * self.width())
    }

    /// Returns how many keys come first of which `is_before` is true.
    pub(super) fn count_before(&self, is_before: impl Fn(Key) -> bool) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = low.midpoint(high);
            if is_before(self.key(middle)) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// Returns where the node lies that the key at `index` stands for, of one that is no leaf.
    pub(super) fn child(&self, index: usize) -> Root {
        Root { at: le64(&self.bytes, HEADER + index * POINTER + Key::LENGTH), level: self.level - 1 }
    }

    fn range(&self, index: usize) -> std::ops::Range<usize> {
        let at = HEADER + index * ITEM + Key::LENGTH;
        let start = HEADER.saturating_add(le32(&self.bytes, at) as usize);
        start..start.saturating_add(le32(&self.bytes, at + 4) as usize)
    }
}

/// An item of a leaf.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: Key,
    leaf: Rc<Node>,
    index: usize,
}

impl Item {
    /// Takes the item at `index` of `leaf`.
    pub(super) fn new(leaf: Rc<Node>, index: usize) -> Self {
        Self { key: leaf.key(index), leaf, index }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.leaf.bytes[self.leaf.range(self.index)]
    }
}
