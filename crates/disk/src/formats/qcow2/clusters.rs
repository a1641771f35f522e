//! Where the clusters of a qcow2 disk lie: two levels of tables, of which the second is loaded when it is needed.

use std::sync::Arc;

use super::header::{Compression, Header};
use crate::error::{Error, Result};
use crate::fields::{past_end, read_table};
use crate::inflate::{self, with_buffer};
use crate::mapped::{BlockMap, Packed, Place, Run};
use crate::source::Source;
use crate::tables::Tables;

/// Bits 9 to 55 of an L1 or L2 entry are the offset of a cluster.
const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
const ZERO: u64 = 1;

/// Where the clusters of the disk lie.
pub(super) struct Clusters {
    pub(super) file: Arc<dyn Source>,
    pub(super) header: Header,
    pub(super) l1: Vec<u64>,
    tables: Tables<u64>,
}

impl Clusters {
    /// Makes the map of a file whose first table is `l1`.
    pub(super) fn new(file: Arc<dyn Source>, header: Header, l1: Vec<u64>) -> Self {
        let tables = Tables::new(header.l2_entries() as usize);
        Self { file, header, l1, tables }
    }

    /// Returns where L2 table `number` lies, if it exists.
    pub(super) fn table_offset(&self, number: u64) -> Result<Option<u64>> {
        let entry = self.l1[number as usize];
        let offset = entry & OFFSET;
        if entry & !(OFFSET | COPIED) != 0 || !offset.is_multiple_of(self.header.cluster_size()) {
            return Err(Error::corrupt(format!(
                "entry {number} of the L1 table is {entry:#x}, which names no cluster"
            )));
        }
        Ok((offset != 0).then_some(offset))
    }

    /// Returns L2 table `number`, if it exists.
    pub(super) fn table(&self, number: u64) -> Result<Option<Arc<[u64]>>> {
        let Some(offset) = self.table_offset(number)? else { return Ok(None) };
        let entries = self.header.l2_entries() as usize;
        let load = || read_table(&*self.file, offset, entries, "an L2 table", u64::from_be_bytes);
        self.tables.get(number, load).map(Some)
    }

    /// Returns what the L2 entry of cluster `index` says, checked against the end of the file.
    pub(super) fn place(&self, index: u64, entry: u64) -> Result<Place> {
        let cluster_size = self.header.cluster_size();
        let corrupt = |why: &str| {
            let guest = index * cluster_size;
            Error::corrupt(format!("the L2 entry of disk byte {guest} is {entry:#x}, which {why}"))
        };
        if entry & COMPRESSED != 0 {
            return self.packed(index, entry);
        }
        let offset = entry & OFFSET;
        if entry & !(OFFSET | COPIED | ZERO) != 0 {
            return Err(corrupt("has reserved bits set"));
        }
        if !offset.is_multiple_of(cluster_size) {
            return Err(corrupt("begins no cluster"));
        }
        if entry & ZERO != 0 {
            return if self.header.version >= 3 { Ok(Place::Zero) } else { Err(corrupt("version 2 does not have")) };
        }
        if offset == 0 {
            return Ok(Place::Zero);
        }
        let len = self.file.len();
        if offset.checked_add(cluster_size).is_none_or(|end| end > len) {
            return Err(past_end(
                format_args!("the cluster of disk byte {}", index * cluster_size),
                offset,
                cluster_size,
                len,
            ));
        }
        Ok(Place::Plain(offset))
    }

    /// A compressed cluster: its offset to the byte, and its length in sectors counted from the one it begins in.
    fn packed(&self, index: u64, entry: u64) -> Result<Place> {
        let offset_bits = 62 - (self.header.cluster_bits - 8);
        let offset = entry & ((1 << offset_bits) - 1);
        let sectors = ((entry & !(COPIED | COMPRESSED)) >> offset_bits) + 1;
        let (len, end) = (self.file.len(), (offset & !511) + sectors * 512);
        if offset >= len || end > len.next_multiple_of(512) {
            let what = format!("the compressed cluster of disk byte {}", index << self.header.cluster_bits);
            return Err(past_end(what, offset, end - offset, len));
        }
        // The last sector of a file need not be whole.
        Ok(Place::Packed(Packed { offset, length: (end.min(len) - offset) as usize }))
    }

    /// Counts the clusters from `index` on, up to `at_most`, for which there is no L2 table.
    fn without_table(&self, index: u64, at_most: u64) -> u64 {
        let entries = self.header.l2_entries();
        let (first, offset) = (index / entries, index % entries);
        let tables = self.l1[first as usize..].iter().take_while(|entry| **entry & OFFSET == 0);
        let mut clusters = 0;
        for _ in tables {
            clusters += entries;
            if clusters - offset >= at_most {
                break;
            }
        }
        (clusters - offset).min(at_most)
    }
}

impl BlockMap for Clusters {
    fn block_size(&self) -> u64 {
        self.header.cluster_size()
    }

    fn run_at(&self, index: u64, at_most: u64) -> Result<Run> {
        let entries = self.header.l2_entries();
        let Some(table) = self.table(index / entries)? else {
            return Ok(Run { place: Place::Zero, blocks: self.without_table(index, at_most) });
        };
        let place = self.place(index, table[(index % entries) as usize])?;
        let most = at_most.min(entries - index % entries);
        let mut blocks = 1;
        while blocks < most {
            let next = match place {
                Place::Zero => Place::Zero,
                Place::Plain(offset) => Place::Plain(offset + blocks * self.header.cluster_size()),
                Place::Packed(_) => break,
            };
            let at = index + blocks;
            if self.place(at, table[(at % entries) as usize])? != next {
                break;
            }
            blocks += 1;
        }
        Ok(Run { place, blocks })
    }

    fn unpack(&self, packed: Packed, index: u64, _needed: usize, out: &mut [u8]) -> Result<()> {
        let filled = with_buffer(packed.length, |bytes| {
            self.file.read_at(bytes, packed.offset)?;
            Ok(match self.header.compression {
                Compression::Zlib => inflate::deflate(bytes, out),
                Compression::Zstd => inflate::zstd(bytes, out),
            })
        })?;
        if filled {
            return Ok(());
        }
        let guest = index << self.header.cluster_bits;
        Err(Error::corrupt(format!(
            "the compressed cluster of disk byte {guest}, at byte {} of the file, does not unpack to one cluster",
            packed.offset
        )))
    }
}
