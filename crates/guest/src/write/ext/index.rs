//! The index of a folder: a tree of hashes of names above its blocks.
//!
//! root (block 0, behind `.` and `..`) -> perhaps nodes -> blocks of entries. An entry of a node is the lowest hash of
//! what is below it; its lowest bit is set where names of the same hash begin in the block before.
//! Layout: the kernel's "ext4 Data Structures and Algorithms", Hash Tree Directories.

use disk::error::{Error, Result};

use super::change::{Change, damaged};
use super::checksum::crc32c;
use super::entries::{Entry, Leaf, length_of, length_to_disk};
use super::folder::Folder;
use super::hash::hash;
use crate::fields::{le16, le32, put, put_le16, put_le32};

/// Where the pairs of the root begin, and those of a node.
const ROOT_AT: usize = 32;
const NODE_AT: usize = 8;
const PAIR: usize = 8;

/// A block of the index, and the pair that was followed.
struct Node {
    logical: u32,
    bytes: Vec<u8>,
    base: usize,
    at: usize,
}

impl Node {
    fn limit(&self) -> usize {
        le16(&self.bytes, self.base).into()
    }

    fn count(&self) -> usize {
        le16(&self.bytes, self.base + 2).into()
    }

    fn hash(&self, pair: usize) -> u32 {
        if pair == 0 { 0 } else { le32(&self.bytes, self.base + pair * PAIR) }
    }

    /// Returns the block that a pair leads to; the upper bits of the field have another use.
    fn block(&self, pair: usize) -> u32 {
        le32(&self.bytes, self.base + pair * PAIR + 4) & 0x0fff_ffff
    }

    /// Follows the last pair whose hash is not above `hash`.
    fn follow(&mut self, hash: u32) {
        let above = (1..self.count()).find(|pair| self.hash(*pair) > hash);
        self.at = above.unwrap_or(self.count()) - 1;
    }

    fn set_count(&mut self, count: usize) {
        put_le16(&mut self.bytes, self.base + 2, count as u16);
    }

    fn is_full(&self) -> bool {
        self.count() >= self.limit()
    }

    /// Puts a pair behind the one that was followed; the caller saw that there is room.
    fn insert(&mut self, hash: u32, block: u32) {
        let count = self.count();
        let place = self.base + (self.at + 1) * PAIR;
        let end = self.base + count * PAIR;
        self.bytes.copy_within(place..end, place + PAIR);
        put_le32(&mut self.bytes, place, hash);
        put_le32(&mut self.bytes, place + 4, block);
        self.set_count(count + 1);
    }
}

/// The way through the index, root first, and the kind of its hashes.
struct Way {
    nodes: Vec<Node>,
    version: u8,
}

impl Way {
    fn leaf(&self) -> Option<u32> {
        self.nodes.last().map(|node| node.block(node.at))
    }
}

impl Change<'_> {
    /// Returns how many pairs a block of the index has room for.
    fn limit(&self, base: usize) -> usize {
        let has_tail = self.layout.sums.of_inode(0, 0).is_some();
        (self.layout.block_size - base) / PAIR - usize::from(has_tail)
    }

    fn node(&mut self, folder: &Folder, logical: u32, base: usize) -> Result<Node> {
        let place = self.folder_place(folder, logical)?;
        let bytes = self.read(place)?;
        let node = Node { logical, bytes, base, at: 0 };
        let size = self.layout.block_size;
        let first = length_of(le16(&node.bytes, 4), size);
        let is_placed = if base == ROOT_AT {
            first == 12 && node.bytes[29] == 8 && length_of(le16(&node.bytes, 16), size) == size - 12
        } else {
            first == size && le32(&node.bytes, 0) == 0
        };
        if !is_placed || node.limit() != self.limit(base) || !(1..=node.limit()).contains(&node.count()) {
            return Err(damaged(format!("the index of folder {} is broken", folder.inode.number)));
        }
        if let Some(seed) = self.seed(&folder.inode)
            && sum(&node, seed) != le32(&node.bytes, base + node.limit() * PAIR + 4)
        {
            return Err(damaged(format!("the checksum of an index of folder {} is wrong", folder.inode.number)));
        }
        Ok(node)
    }

    fn write_node(&mut self, folder: &Folder, node: &Node) -> Result<()> {
        let mut bytes = node.bytes.clone();
        if let Some(seed) = self.seed(&folder.inode) {
            put_le32(&mut bytes, node.base + node.limit() * PAIR + 4, sum(node, seed));
        }
        let place = self.folder_place(folder, node.logical)?;
        self.write(place, bytes)
    }

    /// Finds the way to the block where `name` belongs.
    fn way(&mut self, folder: &Folder, name: &[u8]) -> Result<(Way, u32)> {
        let mut root = self.node(folder, 0, ROOT_AT)?;
        let (version, levels) = (root.bytes[28], root.bytes[30]);
        if levels > 1 {
            let error = format!("the index of folder {} has more levels than are written offline", folder.inode.number);
            return Err(Error::unsupported(error));
        }
        let hash = hash(self.layout, version, name).ok_or_else(|| {
            Error::unsupported(format!("the index of folder {} has hashes of an unknown kind", folder.inode.number))
        })?;
        root.follow(hash);
        let mut way = Way { nodes: vec![root], version };
        if levels == 1 {
            let below = way.leaf().unwrap_or(0);
            let mut node = self.node(folder, below, NODE_AT)?;
            node.follow(hash);
            way.nodes.push(node);
        }
        Ok((way, hash))
    }

    /// Returns the block of a folder with an index where `name` belongs.
    pub(super) fn block_for(&mut self, folder: &Folder, name: &[u8]) -> Result<Option<u32>> {
        Ok(self.way(folder, name)?.0.leaf())
    }

    pub(super) fn find_by_index(&mut self, folder: &Folder, name: &[u8]) -> Result<Option<(u32, Entry)>> {
        let (mut way, hash) = self.way(folder, name)?;
        while let Some(logical) = way.leaf() {
            if let Some(entry) = self.leaf(folder, logical)?.find(name)? {
                return Ok(Some((logical, entry)));
            }
            if !self.go_on(folder, &mut way, hash)? {
                break;
            }
        }
        Ok(None)
    }

    /// Goes to the next block if names of `hash` go on there.
    fn go_on(&mut self, folder: &Folder, way: &mut Way, hash: u32) -> Result<bool> {
        let Some(level) = way.nodes.iter().rposition(|node| node.at + 1 < node.count()) else { return Ok(false) };
        let node = &mut way.nodes[level];
        node.at += 1;
        if node.hash(node.at) != hash | 1 {
            return Ok(false);
        }
        let below = node.block(node.at);
        if level == 0
            && let Some(lowest) = way.nodes.get_mut(1)
        {
            *lowest = self.node(folder, below, NODE_AT)?;
        }
        Ok(true)
    }

    pub(super) fn add_by_index(&mut self, folder: &mut Folder, entry: &Entry) -> Result<()> {
        let (mut way, hash) = self.way(folder, &entry.name)?;
        let logical = way.leaf().ok_or_else(|| damaged("an index leads nowhere"))?;
        let mut leaf = self.leaf(folder, logical)?;
        if leaf.insert(entry)? {
            return self.write_leaf(folder, logical, leaf);
        }
        self.make_room(folder, &mut way)?;
        let (left, right, boundary) = self.split(&leaf, folder, way.version)?;
        let added = self.add_folder_block(folder)?;
        let (mut left, mut right) = (left, right);
        // The boundary has its lowest bit set where its hash is on both sides.
        let target = if hash >= boundary & !1 { &mut right } else { &mut left };
        if !target.insert(entry)? {
            return Err(damaged("half a block of a folder has no room"));
        }
        self.write_leaf(folder, logical, left)?;
        self.write_leaf(folder, added, right)?;
        if let Some(node) = way.nodes.last_mut() {
            node.insert(boundary, added);
        }
        way.nodes.iter().try_for_each(|node| self.write_node(folder, node))
    }

    /// Sees that the lowest node of the way has room for one more pair.
    fn make_room(&mut self, folder: &mut Folder, way: &mut Way) -> Result<()> {
        if way.nodes.last().is_some_and(|node| !node.is_full()) {
            return Ok(());
        }
        if way.nodes.len() == 1 {
            return self.add_level(folder, way);
        }
        let [root, node] = &mut way.nodes[..] else { return Err(damaged("an index leads nowhere")) };
        if root.is_full() {
            let error = format!("the index of folder {} is full", folder.inode.number);
            return Err(
                Error::unsupported(error).with_hint("add the file in the running system, or remove others first")
            );
        }
        let logical = self.add_folder_block(folder)?;
        let (count, half) = (node.count(), node.count() / 2);
        let mut upper = self.empty_node(logical);
        let boundary = node.hash(half);
        let moved = node.bytes[NODE_AT + half * PAIR..NODE_AT + count * PAIR].to_vec();
        upper.fill(&moved);
        node.set_count(half);
        root.insert(boundary, logical);
        if node.at >= half {
            upper.at = node.at - half;
            root.at += 1;
            std::mem::swap(node, &mut upper);
        }
        self.write_node(folder, &upper)
    }

    /// Moves the pairs of the root into a node of their own.
    fn add_level(&mut self, folder: &mut Folder, way: &mut Way) -> Result<()> {
        let logical = self.add_folder_block(folder)?;
        let Some(root) = way.nodes.first_mut() else { return Err(damaged("an index leads nowhere")) };
        let mut node = self.empty_node(logical);
        node.fill(&root.bytes[ROOT_AT..ROOT_AT + root.count() * PAIR]);
        node.at = root.at;
        root.set_count(1);
        root.at = 0;
        put_le32(&mut root.bytes, ROOT_AT + 4, logical);
        root.bytes[30] = 1;
        way.nodes.push(node);
        Ok(())
    }

    /// Makes a node of the index without pairs: an entry that is not in use takes the whole block.
    fn empty_node(&self, logical: u32) -> Node {
        let mut bytes = vec![0; self.layout.block_size];
        put_le16(&mut bytes, 4, length_to_disk(self.layout.block_size));
        put_le16(&mut bytes, NODE_AT, self.limit(NODE_AT) as u16);
        Node { logical, bytes, base: NODE_AT, at: 0 }
    }

    /// Shares the entries of a full block out to two, by their hashes; returns where the second one begins.
    fn split(&self, leaf: &Leaf, folder: &Folder, version: u8) -> Result<(Leaf, Leaf, u32)> {
        let mut entries = Vec::new();
        for entry in leaf.entries()?.into_iter().filter(|entry| entry.inode != 0) {
            let hash =
                hash(self.layout, version, &entry.name).ok_or_else(|| damaged("a hash is of an unknown kind"))?;
            entries.push((hash, entry));
        }
        if entries.len() < 2 {
            return Err(damaged("a block of a folder is full of one entry"));
        }
        entries.sort_by_key(|(hash, _)| *hash);
        let total: usize = entries.iter().map(|(_, entry)| entry.needs()).sum();
        let mut before = 0;
        let mut best = (usize::MAX, 1);
        for (index, (_, entry)) in entries.iter().enumerate() {
            if index > 0 {
                best = best.min((before.max(total - before), index));
            }
            before += entry.needs();
        }
        let seed = self.seed(&folder.inode);
        let half = |entries: &[(u32, Entry)]| {
            Leaf::filled(self.layout.block_size, seed, entries.iter().map(|(_, entry)| entry))
                .ok_or_else(|| damaged("half a block of a folder has no room"))
        };
        let (left, right) = entries.split_at(best.1);
        let first = right[0].0;
        let is_shared = left.last().is_some_and(|(hash, _)| *hash == first);
        Ok((half(left)?, half(right)?, first | u32::from(is_shared)))
    }
}

impl Node {
    /// Takes over pairs of another node; the first one keeps its block alone.
    fn fill(&mut self, pairs: &[u8]) {
        let limit = self.limit();
        put(&mut self.bytes, self.base, pairs);
        put_le16(&mut self.bytes, self.base, limit as u16);
        self.set_count(pairs.len() / PAIR);
    }
}

/// Computes the checksum of a node: its pairs, and the tail behind all that would fit.
fn sum(node: &Node, seed: u32) -> u32 {
    let tail = node.base + node.limit() * PAIR;
    let crc = crc32c(seed, &node.bytes[..node.base + node.count() * PAIR]);
    let reserved = node.bytes.get(tail..tail + 4).unwrap_or_default();
    crc32c(crc32c(crc, reserved), &[0; 4])
}
