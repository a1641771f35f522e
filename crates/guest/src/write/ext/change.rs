//! One operation in progress: blocks that were read, blocks that will be written, and what they may cost.
//!
//! Nothing reaches the overlay before [`Change::finish`], which writes all of it or nothing.

use std::collections::BTreeMap;
use std::ops::Range;

use disk::error::{Error, ErrorKind, Result};
use disk::source::Source;

use super::groups::Group;
use super::layout::{Layout, SUPERBLOCK_AT, SUPERBLOCK_SIZE};
use crate::fields::{le32, put_le32};
use crate::write::overlay::Overlay;

/// Most bytes that one operation reads: what bounds its time, whatever the disk says.
const READ_MAX: u64 = 128 << 20;
/// Most bytes that one operation writes.
const WRITTEN_MAX: u64 = 256 << 20;

/// What an operation does to the file system, until it is finished.
pub(super) struct Change<'a> {
    pub(super) layout: &'a Layout,
    /// Blocks that belong to the file system itself, sorted.
    system: &'a [Range<u64>],
    /// Seconds since 1970, for what is made and changed.
    pub(super) now: u64,
    /// The block behind the content that was written last, by this operation or one before it. A store keeps a whole chunk
    /// anew for one block in it: what is written comes to lie together.
    pub(super) beside: Option<u64>,
    overlay: &'a Overlay,
    offset: u64,
    read: u64,
    written: BTreeMap<u64, Vec<u8>>,
    pub(super) groups: BTreeMap<u32, Group>,
    pub(super) free_blocks: i64,
    pub(super) free_inodes: i64,
}

impl<'a> Change<'a> {
    pub(super) fn new(
        overlay: &'a Overlay,
        offset: u64,
        layout: &'a Layout,
        system: &'a [Range<u64>],
        now: u64,
    ) -> Self {
        Self {
            layout,
            system,
            now,
            beside: None,
            overlay,
            offset,
            read: 0,
            written: BTreeMap::new(),
            groups: BTreeMap::new(),
            free_blocks: 0,
            free_inodes: 0,
        }
    }

    /// Returns block `number` as it will be.
    pub(super) fn read(&mut self, number: u64) -> Result<Vec<u8>> {
        if let Some(block) = self.written.get(&number) {
            return Ok(block.clone());
        }
        if number >= self.layout.blocks {
            return Err(damaged(format!("block {number} is past the end")));
        }
        self.read += self.layout.block_size as u64;
        if self.read > READ_MAX {
            let told = format!("the change needs more than {} MiB of the file system to be read", READ_MAX >> 20);
            return Err(Error::new(ErrorKind::TooLarge, told));
        }
        let mut block = vec![0; self.layout.block_size];
        // No overflow: the file system lies in its place.
        self.overlay.read_at(&mut block, self.offset + number * self.layout.block_size as u64)?;
        Ok(block)
    }

    /// Replaces block `number`.
    pub(super) fn write(&mut self, number: u64, block: Vec<u8>) -> Result<()> {
        debug_assert_eq!(block.len(), self.layout.block_size);
        if self.written.len() as u64 * self.layout.block_size as u64 >= WRITTEN_MAX {
            return Err(Error::new(ErrorKind::TooLarge, "one change is larger than 256 MiB"));
        }
        self.written.insert(number, block);
        Ok(())
    }

    /// Forgets what was written to block `number`: it is free now.
    pub(super) fn forget(&mut self, blocks: Range<u64>) {
        let gone: Vec<u64> = self.written.range(blocks).map(|(number, _)| *number).collect();
        for number in gone {
            self.written.remove(&number);
        }
    }

    /// Refuses blocks that can belong to no file: past the end, or those of the file system itself.
    pub(super) fn check_data(&self, block: u64, count: u64) -> Result<()> {
        if !self.layout.holds(block, count) {
            return Err(damaged(format!("{count} blocks at {block} lie outside")));
        }
        let next = self.system.partition_point(|range| range.end <= block);
        if self.system.get(next).is_some_and(|range| range.start < block + count) {
            return Err(damaged(format!("{count} blocks at {block} are those of the file system itself")));
        }
        Ok(())
    }

    /// Returns how many blocks are free now.
    pub(super) fn count_free_blocks(&mut self) -> Result<u64> {
        let (number, at) = self.superblock_place();
        let block = self.read(number)?;
        let free = wide(&block, at + 12, at + 0x158, self.layout.descriptor_size >= 64);
        free.checked_add_signed(self.free_blocks).ok_or_else(|| damaged("the superblock counts too few free blocks"))
    }

    /// Returns the block that holds the superblock, and where in it.
    fn superblock_place(&self) -> (u64, usize) {
        let size = self.layout.block_size as u64;
        (SUPERBLOCK_AT / size, (SUPERBLOCK_AT % size) as usize)
    }

    fn write_superblock(&mut self) -> Result<()> {
        if self.free_blocks == 0 && self.free_inodes == 0 {
            return Ok(());
        }
        let blocks = self.count_free_blocks()?;
        let (number, at) = self.superblock_place();
        let mut block = self.read(number)?;
        let superblock = &mut block[at..at + SUPERBLOCK_SIZE];
        put_le32(superblock, 12, blocks as u32);
        if self.layout.descriptor_size >= 64 {
            put_le32(superblock, 0x158, (blocks >> 32) as u32);
        }
        let inodes = i64::from(le32(superblock, 16)) + self.free_inodes;
        let inodes = u32::try_from(inodes).map_err(|_| damaged("the superblock counts too few free inodes"))?;
        put_le32(superblock, 16, inodes);
        self.layout.sum_superblock(superblock);
        self.write(number, block)
    }

    /// Sums all that changed, and returns the places and bytes to be written.
    pub(super) fn finish(mut self) -> Result<Vec<(u64, Vec<u8>)>> {
        self.write_groups()?;
        self.write_superblock()?;
        let size = self.layout.block_size as u64;
        Ok(self.written.into_iter().map(|(number, block)| (self.offset + number * size, block)).collect())
    }
}

/// Joins the two halves of a number; the upper one counts where the file system `is_wide`.
pub(super) fn wide(bytes: &[u8], low: usize, high: usize, is_wide: bool) -> u64 {
    u64::from(le32(bytes, low)) | if is_wide { u64::from(le32(bytes, high)) << 32 } else { 0 }
}

/// Makes the error for a file system that breaks its own rules.
pub(super) fn damaged(what: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("the file system is damaged: {what}")).with_hint(super::layout::CHECK)
}
