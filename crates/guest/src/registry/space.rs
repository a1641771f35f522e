//! The cells of a hive that is changed: which are in use, and where new ones go.

use std::collections::{BTreeMap, HashSet};

use disk::error::{Error, ErrorKind, Result};

use super::BASE;
use super::base::{self, Base};
use crate::fields::{le16, le32, stands_at};

const BIN_HEADER: usize = 32;
const BIN_UNIT: usize = 4096;
/// Largest hive that is changed.
const HIVE_MAX: usize = 512 << 20;

/// A hive whose bins and cells were all found sound.
pub(super) struct Space {
    bytes: Vec<u8>,
    bins: usize,
    used: HashSet<u32>,
    /// Free cells with their sizes.
    free: BTreeMap<u32, u32>,
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

impl Space {
    /// Walks all cells; an error tells the first that is not sound.
    pub(super) fn new(bytes: Vec<u8>) -> Result<Self> {
        let base = Base::parse(&bytes)?;
        if base.is_cut || !base.bins.is_multiple_of(BIN_UNIT) || bytes.len() > HIVE_MAX {
            return Err(Error::corrupt("its bins are cut, or not whole pages"));
        }
        let mut space = Self { bytes, bins: base.bins, used: HashSet::new(), free: BTreeMap::new() };
        let mut bin = 0;
        while bin < space.bins {
            let head = &space.bytes[BASE + bin..];
            let size = usize::try_from(le32(head, 8)).unwrap_or(usize::MAX);
            let is_sound = stands_at(head, 0, b"hbin") && le32(head, 4) as usize == bin;
            if !is_sound || size == 0 || !size.is_multiple_of(BIN_UNIT) || size > space.bins - bin {
                return Err(Error::corrupt(format!("its bin at {bin:#x} is broken")));
            }
            space.walk_bin(bin + BIN_HEADER, bin + size)?;
            bin += size;
        }
        Ok(space)
    }

    fn walk_bin(&mut self, start: usize, end: usize) -> Result<()> {
        let mut at = start;
        while at < end {
            let size = le32(&self.bytes, BASE + at).cast_signed();
            let length = size.unsigned_abs() as usize;
            if length == 0 || !length.is_multiple_of(8) || length > end - at {
                return Err(Error::corrupt(format!("its cell at {at:#x} is broken")));
            }
            // No loss: a hive that is changed has less than 4 GiB.
            if size < 0 {
                self.used.insert(at as u32);
            } else {
                self.free.insert(at as u32, length as u32);
            }
            at += length;
        }
        Ok(())
    }

    /// Returns how many cells are in use.
    pub(super) fn count(&self) -> usize {
        self.used.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Returns the content of a cell in use.
    pub(super) fn cell(&self, at: u32) -> Result<&[u8]> {
        let (start, end) = self.place(at)?;
        Ok(&self.bytes[start..end])
    }

    fn cell_mut(&mut self, at: u32) -> Result<&mut [u8]> {
        let (start, end) = self.place(at)?;
        Ok(&mut self.bytes[start..end])
    }

    fn place(&self, at: u32) -> Result<(usize, usize)> {
        if !self.used.contains(&at) {
            return Err(Error::corrupt(format!("no cell in use begins at {at:#x}")));
        }
        let start = BASE + at as usize;
        let length = le32(&self.bytes, start).cast_signed().unsigned_abs() as usize;
        Ok((start + 4, start + length))
    }

    pub(super) fn get32(&self, at: u32, field: usize) -> Result<u32> {
        Ok(le32(self.cell(at)?, field))
    }

    pub(super) fn put32(&mut self, at: u32, field: usize, value: u32) -> Result<()> {
        self.put_bytes(at, field, &value.to_le_bytes())
    }

    /// Raises a field of two bytes to `value`, unless it is that high.
    pub(super) fn raise16(&mut self, at: u32, field: usize, value: usize) -> Result<()> {
        let value = u16::try_from(value).unwrap_or(u16::MAX).max(le16(self.cell(at)?, field));
        self.put_bytes(at, field, &value.to_le_bytes())
    }

    /// Raises a field of four bytes to `value`, unless it is that high.
    pub(super) fn raise32(&mut self, at: u32, field: usize, value: usize) -> Result<()> {
        let value = u32::try_from(value).unwrap_or(u32::MAX).max(self.get32(at, field)?);
        self.put32(at, field, value)
    }

    pub(super) fn put_bytes(&mut self, at: u32, field: usize, value: &[u8]) -> Result<()> {
        let cell = self.cell_mut(at)?;
        let place = cell.get_mut(field..field + value.len());
        place.ok_or_else(|| Error::corrupt(format!("the cell at {at:#x} is too short")))?.copy_from_slice(value);
        Ok(())
    }

    /// Replaces the content of a cell, whose rest becomes zero.
    pub(super) fn fill(&mut self, at: u32, content: &[u8]) -> Result<()> {
        self.cell_mut(at)?.fill(0);
        self.put_bytes(at, 0, content)
    }

    /// Makes a cell with `content`, in a free one where there is room.
    pub(super) fn allocate(&mut self, content: &[u8]) -> Result<u32> {
        let wanted = (content.len() + 4).next_multiple_of(8);
        let fit = self.free.iter().find(|(_, size)| **size as usize >= wanted).map(|(at, _)| *at);
        let at = match fit {
            Some(at) => at,
            None => self.append_bin(wanted)?,
        };
        let size = self.free.remove(&at).unwrap_or(0) as usize;
        // The least that can be left over is a cell of eight bytes.
        let rest = size - wanted;
        if rest > 0 {
            self.set_free(at + wanted as u32, rest);
        }
        put(&mut self.bytes, BASE + at as usize, (wanted as u32).wrapping_neg());
        self.used.insert(at);
        self.fill(at, content)?;
        Ok(at)
    }

    /// Appends a bin with room for a cell of `wanted` bytes; returns that cell, which is free.
    fn append_bin(&mut self, wanted: usize) -> Result<u32> {
        let size = (wanted + BIN_HEADER).next_multiple_of(BIN_UNIT);
        if self.bins + size > HIVE_MAX {
            return Err(Error::new(ErrorKind::TooLarge, format!("it would grow over {HIVE_MAX} bytes")));
        }
        let (bin, start) = (self.bins, BASE + self.bins);
        // Bytes past the bins belong to nobody.
        self.bytes.resize(self.bytes.len().max(start + size), 0);
        self.bytes[start..start + size].fill(0);
        self.bytes[start..start + 4].copy_from_slice(b"hbin");
        put(&mut self.bytes, start + 4, bin as u32);
        put(&mut self.bytes, start + 8, size as u32);
        self.bins += size;
        put(&mut self.bytes, base::BINS, self.bins as u32);
        self.set_free((bin + BIN_HEADER) as u32, size - BIN_HEADER);
        Ok((bin + BIN_HEADER) as u32)
    }

    fn set_free(&mut self, at: u32, size: usize) {
        put(&mut self.bytes, BASE + at as usize, size as u32);
        self.free.insert(at, size as u32);
    }

    /// Frees a cell, and joins it with the free one behind it.
    pub(super) fn release(&mut self, at: u32) -> Result<()> {
        let (start, end) = self.place(at)?;
        let size = (end - start + 4) as u32;
        self.used.remove(&at);
        // A bin has its header in between, so that cells of different bins never touch.
        let next = self.free.remove(&(at + size)).unwrap_or(0);
        self.set_free(at, (size + next) as usize);
        Ok(())
    }
}
