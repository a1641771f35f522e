//! Folders: B+ trees of names, whose root lies in the record and whose other nodes in `$INDEX_ALLOCATION`.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::mft::{File, Mft};
use super::record::restore;
use super::stream::Stream;
use super::upcase::Upcase;
use super::{INDEX_ALLOCATION, INDEX_ROOT};
use crate::fields::{le16, le32, le64};

const NAME: &str = "$I30";
/// Sorted by file name ([MS-FSCC]).
const COLLATION_NAME: u32 = 1;
const BLOCK_MAX: usize = 64 << 10;
/// Most levels of a tree: with ten names in a node this is more than all files there can be.
const DEPTH_MAX: usize = 24;
const ENTRY_HAS_NODE: u16 = 1;
const ENTRY_IS_LAST: u16 = 2;
/// Names of this kind are the short ones (8.3) that stand beside a long name.
const NAMESPACE_DOS: u8 = 2;

/// The index of a folder.
pub(super) struct Index {
    root: Vec<u8>,
    nodes: Option<Stream>,
    block: usize,
}

/// One entry of a node.
struct Entry<'a> {
    bytes: &'a [u8],
}

impl Entry<'_> {
    fn has_node(&self) -> bool {
        le16(self.bytes, 12) & ENTRY_HAS_NODE != 0
    }

    fn is_last(&self) -> bool {
        le16(self.bytes, 12) & ENTRY_IS_LAST != 0
    }

    /// Returns the node of the names before this one.
    fn node(&self) -> Option<u64> {
        self.has_node().then(|| le64(self.bytes, self.bytes.len() - 8))
    }

    fn reference(&self) -> u64 {
        le64(self.bytes, 0)
    }

    /// The key is a copy of the attribute `$FILE_NAME`, from byte 16 on.
    fn is_short_name(&self) -> bool {
        self.bytes.get(16 + 65) == Some(&NAMESPACE_DOS)
    }

    fn name(&self) -> impl Iterator<Item = u16> + Clone {
        let length = self.bytes.get(16 + 64).map_or(0, |length| 2 * usize::from(*length));
        let name = self.bytes.get(16 + 66..16 + 66 + length).unwrap_or_default();
        name.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
    }
}

/// Iterates over the entries of a node, given from its header on, the last of which has no name.
fn entries(node: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let end = usize::try_from(le32(node, 4)).unwrap_or(usize::MAX).min(node.len());
    let mut at = usize::try_from(le32(node, 0)).ok();
    std::iter::from_fn(move || {
        let start = at?;
        let length = usize::from(le16(node, start.checked_add(8)?));
        let next = start.checked_add(length).filter(|next| length >= 16 && *next <= end)?;
        let entry = Entry { bytes: &node[start..next] };
        at = (!entry.is_last()).then_some(next);
        Some(entry)
    })
}

impl Index {
    pub(super) fn open(mft: &Mft, folder: &File) -> Result<Self, String> {
        let root = mft.stream(folder, INDEX_ROOT, NAME)?.ok_or("it has no index of names")?;
        let root = root.read(mft, 0, BLOCK_MAX)?;
        let block = usize::try_from(le32(&root, 8)).unwrap_or(usize::MAX);
        if root.len() < 32
            || le32(&root, 4) != COLLATION_NAME
            || !(512..=BLOCK_MAX).contains(&block)
            || block % 512 != 0
        {
            return Err("its index of names is broken".to_owned());
        }
        Ok(Self { nodes: mft.stream(folder, INDEX_ALLOCATION, NAME)?, root, block })
    }

    /// Returns how many bytes the nodes have.
    pub(super) fn len(&self) -> u64 {
        self.nodes.as_ref().map_or(self.root.len() as u64, Stream::len)
    }

    /// Reads the node `vcn`, from its header on.
    fn node(&self, mft: &Mft, vcn: u64) -> Result<Vec<u8>, String> {
        let cluster = mft.geometry().cluster;
        // Nodes that are smaller than a cluster are counted in sectors.
        let unit = if cluster <= self.block as u64 { cluster } else { 512 };
        let at = vcn.checked_mul(unit).ok_or("its index of names is broken")?;
        let nodes = self.nodes.as_ref().ok_or("its index of names is cut")?;
        let mut node = nodes.read(mft, at, self.block)?;
        if node.len() < self.block {
            return Err("its index of names is cut".to_owned());
        }
        restore(&mut node, *b"INDX")?;
        if le64(&node, 16) != vcn {
            return Err("its index of names has a node at a wrong place".to_owned());
        }
        Ok(node.split_off(24))
    }

    /// Returns the reference to the file called `name`, and how its name is written; none where there is none.
    pub(super) fn find(&self, mft: &Mft, upcase: &Upcase, name: &[u16]) -> Result<Option<(u64, Vec<u16>)>, String> {
        let mut node = self.root[16..].to_vec();
        for _ in 0..DEPTH_MAX {
            let mut below = None;
            for entry in entries(&node) {
                let order =
                    if entry.is_last() { Ordering::Less } else { upcase.compare(name.iter().copied(), entry.name()) };
                match order {
                    Ordering::Equal => return Ok(Some((entry.reference(), entry.name().collect()))),
                    Ordering::Less => {
                        below = entry.node();
                        break;
                    }
                    Ordering::Greater => {}
                }
            }
            let Some(vcn) = below else { return Ok(None) };
            node = self.node(mft, vcn)?;
        }
        Err("its index of names is too deep".to_owned())
    }

    /// Returns at most `most` names, without the short ones and those that are no Unicode.
    pub(super) fn names(&self, mft: &Mft, most: usize) -> Result<Vec<String>, String> {
        let mut names = Vec::new();
        let mut pending = Vec::new();
        let mut seen = HashSet::new();
        let mut node = self.root[16..].to_vec();
        loop {
            for entry in entries(&node) {
                if let Some(below) = entry.node() {
                    if !seen.insert(below) {
                        return Err("its index of names runs in a circle".to_owned());
                    }
                    pending.push(below);
                }
                if names.len() == most {
                    return Ok(names);
                }
                // The root folder names itself.
                let name = char::decode_utf16(entry.name()).collect::<Result<String, _>>().unwrap_or_default();
                if !entry.is_last() && !entry.is_short_name() && !name.is_empty() && name != "." {
                    names.push(name);
                }
            }
            let Some(next) = pending.pop() else { return Ok(names) };
            node = self.node(mft, next)?;
        }
    }
}
