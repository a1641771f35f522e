//! Maps of files as trees of extents.
//!
//! Layout: the kernel's "ext4 Data Structures and Algorithms", Extent Tree.

use disk::error::Result;

use super::change::{Change, damaged};
use super::checksum::crc32c;
use super::inode::Inode;
use super::map::{Map, Run};
use crate::fields::{le16, le32, put, put_le16, put_le32};

const MAGIC: u16 = 0xf30a;
/// Bytes of the header, and of each entry after it.
const ENTRY: usize = 12;
/// Deepest tree that the kernel makes.
const DEPTH_MAX: u16 = 5;
/// Entries in the inode itself.
const IN_INODE: usize = 4;
/// Longest extent; a length above it is that of one that was set aside.
const LENGTH_MAX: u32 = 0x8000;

/// One entry of a node as it is written: the first block of the file in it, and its other eight bytes.
type Entry = (u32, [u8; 8]);

impl Change<'_> {
    pub(super) fn extents(&mut self, inode: &Inode) -> Result<Map> {
        let mut map = Map::default();
        let node = inode.map().to_vec();
        if le16(&node, 6) > DEPTH_MAX {
            return Err(broken(inode));
        }
        self.walk(inode, &node, le16(&node, 6), &mut map)?;
        Ok(map)
    }

    fn walk(&mut self, inode: &Inode, node: &[u8], depth: u16, map: &mut Map) -> Result<()> {
        let (entries, most) = (usize::from(le16(node, 2)), usize::from(le16(node, 4)));
        let is_sound = le16(node, 0) == MAGIC && le16(node, 6) == depth && entries <= most;
        if !is_sound || most > node.len() / ENTRY - 1 {
            return Err(broken(inode));
        }
        for entry in node[ENTRY..].chunks_exact(ENTRY).take(entries) {
            if depth == 0 {
                map.push(run_of(entry).ok_or_else(|| broken(inode))?)?;
                continue;
            }
            let child = u64::from(le32(entry, 4)) | u64::from(le16(entry, 8)) << 32;
            self.check_data(child, 1)?;
            map.add_node(child)?;
            let block = self.read(child)?;
            let tail = ENTRY * (usize::from(le16(&block, 4)) + 1);
            if let Some(seed) = self.layout.sums.of_inode(inode.number, inode.generation()) {
                let covered = block.get(..tail).ok_or_else(|| broken(inode))?;
                if crc32c(seed, covered) != le32(&block, tail) {
                    return Err(damaged(format!("the checksum of a map of inode {} is wrong", inode.number)));
                }
            }
            self.walk(inode, &block, depth - 1, map)?;
        }
        Ok(())
    }

    /// Writes the runs of `map` as a tree that is as low as possible.
    pub(super) fn write_extents(&mut self, inode: &mut Inode, map: &mut Map) -> Result<()> {
        let per_node = self.layout.block_size / ENTRY - 1;
        let mut entries: Vec<Entry> = map.runs.iter().flat_map(entries_of).collect();
        let mut depth = 0;
        while entries.len() > IN_INODE {
            let groups: Vec<&[Entry]> = entries.chunks(per_node).collect();
            let places = self.take_nodes(map, groups.len())?;
            let mut upper = Vec::new();
            for (group, place) in groups.iter().zip(&places) {
                let mut block = node(group, per_node, depth, self.layout.block_size);
                if let Some(seed) = self.layout.sums.of_inode(inode.number, inode.generation()) {
                    let tail = ENTRY * (per_node + 1);
                    let sum = crc32c(seed, &block[..tail]);
                    put_le32(&mut block, tail, sum);
                }
                self.write(*place, block)?;
                let mut pointer = [0; 8];
                put_le32(&mut pointer, 0, *place as u32);
                put_le16(&mut pointer, 4, (place >> 32) as u16);
                upper.push((group[0].0, pointer));
            }
            entries = upper;
            depth += 1;
        }
        inode.set_map(&node(&entries, IN_INODE, depth, ENTRY * (IN_INODE + 1)));
        Ok(())
    }
}

fn run_of(entry: &[u8]) -> Option<Run> {
    let length = u32::from(le16(entry, 4));
    let is_unwritten = length > LENGTH_MAX;
    let length = if is_unwritten { length - LENGTH_MAX } else { length };
    let logical = le32(entry, 0);
    let start = u64::from(le32(entry, 8)) | u64::from(le16(entry, 6)) << 32;
    logical.checked_add(length).filter(|_| length > 0)?;
    Some(Run { logical, start, length, is_unwritten })
}

/// Cuts a run into extents that are short enough.
fn entries_of(run: &Run) -> Vec<Entry> {
    let most = if run.is_unwritten { LENGTH_MAX - 1 } else { LENGTH_MAX };
    let mut entries = Vec::new();
    let mut done = 0;
    while done < run.length {
        let length = (run.length - done).min(most);
        let start = run.start + u64::from(done);
        let mut rest = [0; 8];
        put_le16(&mut rest, 0, (length + if run.is_unwritten { LENGTH_MAX } else { 0 }) as u16);
        put_le16(&mut rest, 2, (start >> 32) as u16);
        put_le32(&mut rest, 4, start as u32);
        entries.push((run.logical + done, rest));
        done += length;
    }
    entries
}

fn node(entries: &[Entry], most: usize, depth: u16, size: usize) -> Vec<u8> {
    let mut node = vec![0; size];
    put_le16(&mut node, 0, MAGIC);
    put_le16(&mut node, 2, entries.len() as u16);
    put_le16(&mut node, 4, most as u16);
    put_le16(&mut node, 6, depth);
    for (place, (logical, rest)) in node[ENTRY..].chunks_exact_mut(ENTRY).zip(entries) {
        put_le32(place, 0, *logical);
        put(place, 4, rest);
    }
    node
}

fn broken(inode: &Inode) -> disk::error::Error {
    damaged(format!("the map of inode {} is broken", inode.number))
}
