//! Items of the trees of btrfs, by key.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use disk::error::{Error, Result};

use super::chunks::{CHUNK, Chunks};
use super::node::{Item, Key, Node, Root};
use super::superblock::Superblock;
use crate::window::Window;

/// What the nodes take that are kept, in bytes: a system may have 64 subvolumes open.
const KEPT: usize = 2 << 20;
/// The object of all chunks.
const CHUNK_TREE: u64 = 256;

/// The device, and the nodes that were read last: each was checked when it came.
pub(super) struct Trees {
    window: Window,
    pub(super) superblock: Superblock,
    chunks: Chunks,
    kept: RefCell<HashMap<u64, Rc<Node>>>,
}

impl Trees {
    /// Opens those of the file system in `window`.
    pub(super) fn open(window: &Window, superblock: Superblock) -> Result<Self> {
        let chunks = Chunks::of_array(&superblock.chunks, superblock.device)?;
        let mut trees = Self { window: window.clone(), superblock, chunks, kept: RefCell::default() };
        let mut all = Chunks::default();
        let mut next = Some(Key::new(CHUNK_TREE, CHUNK, 0));
        while let Some(from) = next {
            let Some(item) = trees.first(trees.superblock.chunk_root, from)?.filter(|item| item.key.is_like(&from))
            else {
                break;
            };
            all.add(item.key, item.bytes(), trees.superblock.device)?;
            next = item.key.offset.checked_add(1).map(|offset| Key { offset, ..from });
        }
        trees.chunks = all;
        Ok(trees)
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    /// Returns the item with `key`.
    pub(super) fn exactly(&self, root: Root, key: Key) -> Result<Option<Item>> {
        Ok(self.last(root, key)?.filter(|item| item.key == key))
    }

    /// Returns the last item whose key is not behind `until`.
    pub(super) fn last(&self, root: Root, until: Key) -> Result<Option<Item>> {
        let mut node = self.node(root)?;
        loop {
            let Some(index) = node.count_before(|key| key <= until).checked_sub(1) else { return Ok(None) };
            if node.level == 0 {
                return Ok(Some(Item::new(node, index)));
            }
            node = self.node(node.child(index))?;
        }
    }

    /// Returns the first item whose key is not before `from`.
    pub(super) fn first(&self, root: Root, mut from: Key) -> Result<Option<Item>> {
        loop {
            // Where the node after the one that was gone into begins: it may lie there.
            let mut next = None;
            let mut node = self.node(root)?;
            while node.level > 0 {
                let index = node.count_before(|key| key <= from).saturating_sub(1);
                if index + 1 < node.count {
                    next = Some(node.key(index + 1));
                }
                node = self.node(node.child(index))?;
            }
            let index = node.count_before(|key| key < from);
            if index < node.count {
                return Ok(Some(Item::new(node, index)));
            }
            let Some(key) = next else { return Ok(None) };
            from = key;
        }
    }

    /// Returns the node at `root`; the calls are counted, so that no search is without end.
    fn node(&self, root: Root) -> Result<Rc<Node>> {
        self.window.budget().count_read()?;
        if let Some(node) = self.kept.borrow().get(&root.at).filter(|node| node.level == root.level) {
            return Ok(Rc::clone(node));
        }
        let length = self.superblock.node_size;
        let (copies, run) = self.chunks.find(root.at)?;
        if run < length as u64 {
            return Err(Error::corrupt(format!("a node of its trees at {:#x} lies in two chunks", root.at)));
        }
        let read = |place: &u64| {
            let bytes = self.window.bytes(*place, length)?;
            Node::check(bytes.ok_or_else(|| Error::corrupt("it goes past the end"))?, root, &self.superblock)
        };
        let mut answer = Err(Error::corrupt("it lies nowhere"));
        for place in &copies {
            answer = read(place);
            if answer.is_ok() {
                break;
            }
        }
        let node = Rc::new(answer?);
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= KEPT / length {
            kept.clear();
        }
        kept.insert(root.at, Rc::clone(&node));
        Ok(node)
    }

    /// Fills `buf` with what lies at address `at`.
    pub(super) fn read_at(&self, mut buf: &mut [u8], mut at: u64) -> Result<()> {
        while !buf.is_empty() {
            let (copies, run) = self.chunks.find(at)?;
            let (now, rest) = buf.split_at_mut(buf.len().min(usize::try_from(run).unwrap_or(usize::MAX)));
            self.window.read_at(now, copies[0])?;
            at = at.saturating_add(now.len() as u64);
            buf = rest;
        }
        Ok(())
    }
}
