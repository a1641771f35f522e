//! Block groups: descriptors and bitmaps, with their checksums.
//!
//! A bitmap that was never written (`BLOCK_UNINIT`, `INODE_UNINIT`) is made when something is taken from its group.

use std::ops::Range;

use disk::error::Result;

use super::change::{Change, damaged, wide};
use super::checksum::{Sums, crc16, crc32c};
use super::layout::Layout;
use crate::fields::{le16, put_le16};

const INODES_UNINIT: u16 = 0x1;
const BLOCKS_UNINIT: u16 = 0x2;

/// What is counted in the descriptor of a group: where the halves of the number lie.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    FreeBlocks,
    FreeInodes,
    Folders,
    /// Inodes at the end of the table that were never used.
    UnusedInodes,
}

impl Count {
    fn places(self) -> (usize, usize) {
        match self {
            Self::FreeBlocks => (12, 44),
            Self::FreeInodes => (14, 46),
            Self::Folders => (16, 48),
            Self::UnusedInodes => (28, 50),
        }
    }
}

/// Which of the two bitmaps of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Blocks,
    Inodes,
}

/// A group that an operation looks at.
pub(super) struct Group {
    descriptor: Vec<u8>,
    is_changed: bool,
    blocks: Option<Bitmap>,
    inodes: Option<Bitmap>,
}

/// A set bit is in use.
pub(super) struct Bitmap {
    bytes: Vec<u8>,
    is_changed: bool,
}

impl Bitmap {
    pub(super) fn is_set(&self, bit: u32) -> bool {
        self.bytes.get(bit as usize / 8).is_none_or(|byte| byte & (1 << (bit % 8)) != 0)
    }

    /// Returns the first run of free bits in `range`.
    pub(super) fn free_run(&self, range: Range<u32>) -> Option<Range<u32>> {
        let mut start = range.start;
        while start < range.end && self.is_set(start) {
            let is_full = start.is_multiple_of(8) && self.bytes.get(start as usize / 8) == Some(&0xff);
            start += if is_full { 8 } else { 1 };
        }
        let length = (start..range.end).take_while(|bit| !self.is_set(*bit)).count() as u32;
        (length > 0).then(|| start..start + length)
    }

    fn fill(&mut self, range: Range<u32>, is_used: bool) {
        for bit in range {
            let byte = &mut self.bytes[bit as usize / 8];
            *byte = if is_used { *byte | 1 << (bit % 8) } else { *byte & !(1 << (bit % 8)) };
        }
    }
}

impl Group {
    fn bitmap_mut(&mut self, which: Which) -> &mut Option<Bitmap> {
        match which {
            Which::Blocks => &mut self.blocks,
            Which::Inodes => &mut self.inodes,
        }
    }

    fn bitmap_block(&self, which: Which) -> u64 {
        let (low, high) = if which == Which::Blocks { (0, 32) } else { (4, 36) };
        wide(&self.descriptor, low, high, self.descriptor.len() >= 64)
    }

    fn table(&self) -> u64 {
        wide(&self.descriptor, 8, 40, self.descriptor.len() >= 64)
    }

    fn flags(&self) -> u16 {
        le16(&self.descriptor, 18)
    }

    fn is_lazy(&self, which: Which) -> bool {
        self.flags() & if which == Which::Blocks { BLOCKS_UNINIT } else { INODES_UNINIT } != 0
    }

    fn count(&self, count: Count) -> u32 {
        let (low, high) = count.places();
        let upper = if self.descriptor.len() >= 64 { u32::from(le16(&self.descriptor, high)) << 16 } else { 0 };
        u32::from(le16(&self.descriptor, low)) | upper
    }

    fn set_count(&mut self, count: Count, value: u32) {
        let (low, high) = count.places();
        put_le16(&mut self.descriptor, low, value as u16);
        if self.descriptor.len() >= 64 {
            put_le16(&mut self.descriptor, high, (value >> 16) as u16);
        }
        self.is_changed = true;
    }
}

/// Returns the blocks of all descriptors, bitmaps and inode tables, sorted; a descriptor that cannot be right gives none.
pub(super) fn system_blocks(change: &mut Change<'_>) -> Result<Vec<Range<u64>>> {
    let layout = change.layout;
    let mut ranges = Vec::new();
    let mut block = (0, Vec::new());
    for group in 0..layout.groups {
        ranges.push(layout.head_of_group(group));
        let (number, at) = layout.descriptor_place(group);
        if block.0 != number {
            block = (number, change.read(number)?);
        }
        let descriptor = block.1.get(at..at + layout.descriptor_size).unwrap_or_default().to_vec();
        if sum_of(layout, group, &descriptor).is_some_and(|sum| sum != le16(&descriptor, 30)) {
            continue;
        }
        let group = Group { descriptor, is_changed: false, blocks: None, inodes: None };
        let table = group.table();
        let places = [(Which::Blocks, 1), (Which::Inodes, 1)].map(|(which, count)| (group.bitmap_block(which), count));
        for (start, count) in places.into_iter().chain([(table, layout.table_length())]) {
            if layout.holds(start, count) {
                ranges.push(start..start + count);
            }
        }
    }
    ranges.sort_by_key(|range| range.start);
    Ok(joined(ranges))
}

/// Joins ranges that touch or overlap; they come sorted by their start.
fn joined(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Computes the checksum of a descriptor; none where there are none.
fn sum_of(layout: &Layout, group: u32, descriptor: &[u8]) -> Option<u16> {
    let number = group.to_le_bytes();
    let rest = descriptor.get(32..).unwrap_or_default();
    match layout.sums {
        Sums::None => None,
        Sums::Groups(crc) => Some(crc16(crc16(crc16(crc, &number), &descriptor[..30]), rest)),
        Sums::All(seed) => {
            let crc = crc32c(crc32c(crc32c(seed, &number), &descriptor[..30]), &[0; 2]);
            Some(crc32c(crc, rest) as u16)
        }
    }
}

impl Layout {
    /// Returns how many blocks the inode table of a group has.
    fn table_length(&self) -> u64 {
        (u64::from(self.inodes_per_group) * self.inode_size as u64).div_ceil(self.block_size as u64)
    }

    fn bits_of(&self, which: Which) -> u32 {
        if which == Which::Blocks { self.blocks_per_group } else { self.inodes_per_group }
    }
}

impl Change<'_> {
    /// Returns `group`, whose descriptor is checked when it is first asked for.
    fn group(&mut self, group: u32) -> Result<&mut Group> {
        if !self.groups.contains_key(&group) {
            let layout = self.layout;
            if group >= layout.groups {
                return Err(damaged(format!("there is no group {group}")));
            }
            let (number, at) = layout.descriptor_place(group);
            let block = self.read(number)?;
            let descriptor = block.get(at..at + layout.descriptor_size).unwrap_or_default().to_vec();
            if sum_of(layout, group, &descriptor).is_some_and(|sum| sum != le16(&descriptor, 30)) {
                return Err(damaged(format!("the checksum of the descriptor of group {group} is wrong")));
            }
            let loaded = Group { descriptor, is_changed: false, blocks: None, inodes: None };
            let places = [loaded.bitmap_block(Which::Blocks), loaded.bitmap_block(Which::Inodes)];
            if places.iter().any(|place| !layout.holds(*place, 1))
                || !layout.holds(loaded.table(), layout.table_length())
            {
                return Err(damaged(format!("the descriptor of group {group} points outside")));
            }
            self.groups.insert(group, loaded);
        }
        self.groups.get_mut(&group).ok_or_else(|| damaged(format!("there is no group {group}")))
    }

    /// Returns the first block of the inode table of `group`.
    pub(super) fn inode_table(&mut self, group: u32) -> Result<u64> {
        Ok(self.group(group)?.table())
    }

    pub(super) fn group_count(&mut self, group: u32, count: Count) -> Result<u32> {
        Ok(self.group(group)?.count(count))
    }

    /// Adds `change` to a count of `group`.
    pub(super) fn add_to_group(&mut self, group: u32, count: Count, change: i64) -> Result<()> {
        let found = self.group(group)?;
        let value = u32::try_from(i64::from(found.count(count)) + change);
        found.set_count(count, value.map_err(|_| damaged(format!("group {group} counts too few")))?);
        Ok(())
    }

    /// Returns whether the bitmap of `group` was never written.
    pub(super) fn is_group_lazy(&mut self, group: u32, which: Which) -> Result<bool> {
        let has_lazy = self.layout.has_lazy_groups();
        Ok(has_lazy && self.group(group)?.is_lazy(which))
    }

    /// Returns a bitmap of `group`, which is checked, or made, when it is first asked for.
    pub(super) fn bitmap(&mut self, group: u32, which: Which) -> Result<&Bitmap> {
        if self.group(group)?.bitmap_mut(which).is_none() {
            let bitmap =
                if self.is_group_lazy(group, which)? { self.make(group, which)? } else { self.load(group, which)? };
            *self.group(group)?.bitmap_mut(which) = Some(bitmap);
        }
        self.group(group)?.bitmap_mut(which).as_ref().ok_or_else(|| damaged(format!("group {group} has no bitmap")))
    }

    fn load(&mut self, group: u32, which: Which) -> Result<Bitmap> {
        let layout = self.layout;
        let place = self.group(group)?.bitmap_block(which);
        let bytes = self.read(place)?;
        let stored = self.group(group)?.bitmap_sum(which);
        if bitmap_sum_of(layout, which, &bytes).is_some_and(|sum| !is_same(sum, stored, layout)) {
            let kind = if which == Which::Blocks { "block" } else { "inode" };
            return Err(damaged(format!("the checksum of the {kind} bitmap of group {group} is wrong")));
        }
        Ok(Bitmap { bytes, is_changed: false })
    }

    /// Makes a bitmap that was never written: only what the group needs for itself is in use.
    fn make(&mut self, group: u32, which: Which) -> Result<Bitmap> {
        let layout = self.layout;
        let mut bitmap = Bitmap { bytes: vec![0; layout.block_size], is_changed: false };
        let end = layout.block_size as u32 * 8;
        if which == Which::Inodes {
            bitmap.fill(layout.inodes_per_group..end, true);
            return Ok(bitmap);
        }
        let start = layout.group_start(group);
        let length = layout.group_length(group);
        bitmap.fill(length..end, true);
        let own = self.group(group)?;
        let table = own.table();
        let bitmaps = [own.bitmap_block(Which::Blocks), own.bitmap_block(Which::Inodes)];
        let free = own.count(Count::FreeBlocks);
        let places = [layout.head_of_group(group), table..table + layout.table_length()];
        for place in places.into_iter().chain(bitmaps.map(|block| block..block + 1)) {
            let bit = |block: u64| block.saturating_sub(start).min(length.into()) as u32;
            bitmap.fill(bit(place.start)..bit(place.end), true);
        }
        let unset = (0..length).filter(|bit| !bitmap.is_set(*bit)).count();
        if unset != free as usize {
            return Err(damaged(format!("group {group} counts {free} free blocks, and {unset} are")));
        }
        Ok(bitmap)
    }

    /// Sets or clears bits of `group`, all of which must be the other way before.
    pub(super) fn mark(&mut self, group: u32, which: Which, range: Range<u32>, is_used: bool) -> Result<()> {
        let length = if which == Which::Blocks { self.layout.group_length(group) } else { self.layout.bits_of(which) };
        let bitmap = self.bitmap(group, which)?;
        if range.end > length || range.clone().any(|bit| bitmap.is_set(bit) == is_used) {
            let was = if is_used { "in use" } else { "free" };
            return Err(damaged(format!("something of group {group} is {was} that should not be")));
        }
        let found = self.group(group)?;
        let flag = if which == Which::Blocks { BLOCKS_UNINIT } else { INODES_UNINIT };
        let flags = found.flags() & !flag;
        put_le16(&mut found.descriptor, 18, flags);
        found.is_changed = true;
        if let Some(bitmap) = found.bitmap_mut(which) {
            bitmap.fill(range, is_used);
            bitmap.is_changed = true;
        }
        Ok(())
    }

    /// Writes bitmaps and descriptors that changed, with their checksums.
    pub(super) fn write_groups(&mut self) -> Result<()> {
        let layout = self.layout;
        for (number, mut group) in std::mem::take(&mut self.groups) {
            for which in [Which::Blocks, Which::Inodes] {
                let place = group.bitmap_block(which);
                if let Some(bitmap) = group.bitmap_mut(which).take_if(|bitmap| bitmap.is_changed) {
                    if let Some(sum) = bitmap_sum_of(layout, which, &bitmap.bytes) {
                        group.set_bitmap_sum(which, sum);
                    }
                    self.write(place, bitmap.bytes)?;
                }
            }
            if group.is_changed {
                let (place, at) = layout.descriptor_place(number);
                if let Some(sum) = sum_of(layout, number, &group.descriptor) {
                    put_le16(&mut group.descriptor, 30, sum);
                }
                let mut block = self.read(place)?;
                block[at..at + group.descriptor.len()].copy_from_slice(&group.descriptor);
                self.write(place, block)?;
            }
        }
        Ok(())
    }
}

/// Computes the checksum of a bitmap; none where bitmaps have none.
fn bitmap_sum_of(layout: &Layout, which: Which, bytes: &[u8]) -> Option<u32> {
    let Sums::All(seed) = layout.sums else { return None };
    Some(crc32c(seed, &bytes[..layout.bits_of(which) as usize / 8]))
}

/// Compares sums of bitmaps, of which short descriptors keep the lower half.
fn is_same(sum: u32, stored: u32, layout: &Layout) -> bool {
    if layout.descriptor_size >= 64 { sum == stored } else { sum as u16 == stored as u16 }
}

impl Group {
    fn sum_places(which: Which) -> (usize, usize) {
        if which == Which::Blocks { (24, 56) } else { (26, 58) }
    }

    fn bitmap_sum(&self, which: Which) -> u32 {
        let (low, high) = Self::sum_places(which);
        u32::from(le16(&self.descriptor, low)) | u32::from(le16(&self.descriptor, high)) << 16
    }

    fn set_bitmap_sum(&mut self, which: Which, sum: u32) {
        let (low, high) = Self::sum_places(which);
        put_le16(&mut self.descriptor, low, sum as u16);
        if self.descriptor.len() >= 64 {
            put_le16(&mut self.descriptor, high, (sum >> 16) as u16);
        }
        self.is_changed = true;
    }
}
