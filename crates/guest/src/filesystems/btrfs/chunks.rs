//! Chunks of btrfs: where on the device what logical addresses name lies.

use disk::error::{Error, Result};

use super::node::Key;
use crate::fields::{le16, le64};

/// What the key of a chunk has as its kind.
pub(super) const CHUNK: u8 = 228;
const HEADER: usize = 48;
const STRIPE: usize = 32;
/// Bits of the profile.
const RAID0: u64 = 1 << 3;
const RAID10: u64 = 1 << 6;
const RAID56: u64 = 1 << 7 | 1 << 8;
/// Most stripes of all chunks together: a device of 16 TiB has some ten thousand, and each open subvolume its own map.
const STRIPES_MAX: usize = 1 << 16;

/// All chunks by address.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    chunks: Vec<Chunk>,
    stripes: usize,
}

#[derive(Debug)]
struct Chunk {
    start: u64,
    length: u64,
    /// Bytes in a column before the next one follows; at least one.
    stripe: u64,
    /// The places of the copies of each column on this device.
    columns: Vec<Vec<u64>>,
}

impl Chunks {
    /// Takes the chunks in the array of a superblock.
    pub(super) fn of_array(array: &[u8], device: u64) -> Result<Self> {
        let (mut chunks, mut rest) = (Self::default(), array);
        while !rest.is_empty() {
            let key = Key::read(rest, 0);
            let body = rest.get(Key::LENGTH..).unwrap_or_default();
            let length = chunks.add(key, body, device)?;
            rest = &body[length..];
        }
        Ok(chunks)
    }

    /// Adds the one that `bytes` begin with, whose key is behind that of the last; returns how long it is.
    pub(super) fn add(&mut self, key: Key, bytes: &[u8], device: u64) -> Result<usize> {
        let broken = || Error::corrupt("its map of chunks is broken");
        let (length, stripe, profile) = (le64(bytes, 0), le64(bytes, 16), le64(bytes, 24));
        let (count, copies) = (usize::from(le16(bytes, 44)), usize::from(le16(bytes, 46)));
        let end = HEADER + count * STRIPE;
        let is_after = self.chunks.last().is_none_or(|last| last.start + last.length <= key.offset);
        if key.kind != CHUNK || length == 0 || stripe == 0 || count == 0 || bytes.len() < end || !is_after {
            return Err(broken());
        }
        key.offset.checked_add(length).ok_or_else(broken)?;
        self.stripes += count;
        if self.stripes > STRIPES_MAX {
            return Err(Error::corrupt("its map of chunks is too large"));
        }
        let copies = match profile {
            _ if profile & RAID56 != 0 => 0,
            _ if profile & RAID10 != 0 => copies,
            _ if profile & RAID0 != 0 => 1,
            _ => count,
        };
        let places: Vec<(u64, u64)> =
            bytes[HEADER..end].chunks(STRIPE).map(|stripe| (le64(stripe, 0), le64(stripe, 8))).collect();
        let here = |copies: &[(u64, u64)]| {
            copies.iter().filter(|(of, _)| *of == device).map(|(_, place)| *place).collect::<Vec<u64>>()
        };
        let columns = if copies == 0 { Vec::new() } else { places.chunks(copies).map(here).collect() };
        self.chunks.push(Chunk { start: key.offset, length, stripe, columns });
        Ok(end)
    }

    /// Returns where the copies of the byte at address `at` lie on the device, at least one, and how many bytes follow there.
    pub(super) fn find(&self, at: u64) -> Result<(Vec<u64>, u64)> {
        let before = self.chunks.partition_point(|chunk| chunk.start <= at);
        let chunk = before.checked_sub(1).map(|index| &self.chunks[index]);
        let Some((chunk, skip)) =
            chunk.map(|chunk| (chunk, at - chunk.start)).filter(|(chunk, skip)| *skip < chunk.length)
        else {
            return Err(Error::corrupt(format!("address {at:#x} is in none of its chunks")));
        };
        let count = chunk.columns.len() as u64;
        let (turn, in_stripe) = (skip / chunk.stripe, skip % chunk.stripe);
        let copies = turn.checked_rem(count).map_or(&[][..], |column| &chunk.columns[column as usize]);
        let in_column = turn.checked_div(count).unwrap_or(0).saturating_mul(chunk.stripe).saturating_add(in_stripe);
        let copies: Vec<u64> = copies.iter().filter_map(|place| place.checked_add(in_column)).collect();
        if copies.is_empty() {
            return Err(Error::corrupt("a part of it lies on other devices, or on several at once"));
        }
        let left = chunk.length - skip;
        Ok((copies, if count == 1 { left } else { left.min(chunk.stripe - in_stripe) }))
    }
}
