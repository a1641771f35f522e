//! The superblock of a btrfs.

use disk::error::{Error, Result};
use sha2::{Digest as _, Sha256};

use super::node::Root;
use crate::fields::{le16, le32, le64, stands_at, uuid16};
use crate::window::Window;

/// Where it lies, of any device.
const AT: u64 = 64 << 10;
const LENGTH: usize = 4096;
/// The array of the chunks that hold the map of all chunks.
const CHUNKS_AT: usize = 811;
const CHUNKS_MAX: usize = 2048;
/// Lengths of nodes and sectors.
const LENGTHS: std::ops::RangeInclusive<u32> = 4096..=65536;
/// `metadata_uuid`: nodes have another UUID than the one that is shown.
const OTHER_UUID: u64 = 1 << 10;
/// Features of which a reader must know: all to `zoned`, and `simple_quota`. With `extent-tree-v2` and `raid-stripe-tree`
/// things lie elsewhere.
const KNOWN: u64 = ((1 << 13) - 1) | (1 << 16);

/// What is needed to read the rest.
#[derive(Debug)]
pub(super) struct Superblock {
    /// What each node bears.
    pub(super) uuid: [u8; 16],
    /// Number of this device.
    pub(super) device: u64,
    pub(super) sums: Sums,
    /// In bytes, a power of two.
    pub(super) node_size: usize,
    /// In bytes, a power of two.
    pub(super) sector_size: usize,
    /// The tree of all trees.
    pub(super) root: Root,
    /// The tree of chunks.
    pub(super) chunk_root: Root,
    /// Keys and chunks, one after the other: where the tree of chunks lies.
    pub(super) chunks: Vec<u8>,
    /// Whether there is a log that the next mount replays.
    pub(super) has_log: bool,
}

/// What the sums of nodes are made by.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sums {
    Crc32c,
    Sha256,
    /// xxHash and BLAKE2, which are not compared: all that is read is doubted anyway.
    Other,
}

impl Sums {
    /// Returns whether `block` begins with the sum of what follows behind 32 bytes.
    pub(super) fn is_right(self, block: &[u8]) -> bool {
        // A fuzzer would hardly ever hit one.
        if cfg!(fuzzing) {
            return true;
        }
        let Some((sum, rest)) = block.split_at_checked(32) else { return false };
        match self {
            Self::Crc32c => le32(sum, 0) == crc32c::crc32c(rest),
            Self::Sha256 => *sum == *Sha256::digest(rest),
            Self::Other => true,
        }
    }
}

impl Superblock {
    /// Reads that of the file system in `window`; its copies further on are not asked, as mount(8) does not.
    pub(super) fn read(window: &Window) -> Result<Self> {
        let bytes = window.bytes(AT, LENGTH)?.unwrap_or_default();
        let sums = match le16(&bytes, 196) {
            0 => Sums::Crc32c,
            2 => Sums::Sha256,
            _ => Sums::Other,
        };
        if !stands_at(&bytes, 64, b"_BHRfS_M") || le64(&bytes, 48) != AT || !sums.is_right(&bytes) {
            return Err(Error::corrupt("it has no sound superblock"));
        }
        // What the superblock says of its own device; all of them together may be larger.
        if le64(&bytes, 209) > window.len() {
            return Err(Error::corrupt("it is larger than the place it lies in"));
        }
        let features = le64(&bytes, 188);
        if features & !KNOWN != 0 {
            return Err(Error::corrupt(format!("it has features that are not known here ({:#x})", features & !KNOWN)));
        }
        let (sector_size, node_size) = (le32(&bytes, 144), le32(&bytes, 148));
        let is_length = |length: u32| LENGTHS.contains(&length) && length.is_power_of_two();
        let chunks = CHUNKS_AT..CHUNKS_AT + le32(&bytes, 160) as usize;
        if !is_length(sector_size) || !is_length(node_size) || chunks.len() > CHUNKS_MAX {
            return Err(Error::corrupt("its superblock is broken"));
        }
        Ok(Self {
            uuid: uuid16(&bytes, if features & OTHER_UUID == 0 { 32 } else { 571 }),
            device: le64(&bytes, 201),
            sums,
            node_size: node_size as usize,
            sector_size: sector_size as usize,
            root: Root { at: le64(&bytes, 80), level: bytes[198] },
            chunk_root: Root { at: le64(&bytes, 88), level: bytes[199] },
            chunks: bytes[chunks].to_vec(),
            has_log: le64(&bytes, 96) != 0,
        })
    }
}
