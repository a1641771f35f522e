//! Where the clusters of a qcow2 disk lie: two levels of tables, of which the second is loaded when it is needed.

use std::sync::Arc;

use super::header::{Compression, Header, packed_offset_bits};
use crate::error::{Error, Result};
use crate::fields::{check_inside, past_end, read_table};
use crate::inflate::{self, read_packed};
use crate::mapped::{BlockMap, Packed, Place, Run};
use crate::source::Source;
use crate::tables::Tables;

/// Bits 9 to 55 of an L1 or L2 entry are the offset of a cluster.
pub(super) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// The refcount is exactly one.
pub(super) const COPIED: u64 = 1 << 63;
pub(super) const COMPRESSED: u64 = 1 << 62;
/// The cluster is zero, whatever lies under it.
pub(super) const ZERO: u64 = 1;

/// Where the clusters of the disk lie.
pub(super) struct Clusters {
    pub(super) file: Arc<dyn Source>,
    pub(super) header: Header,
    pub(super) l1: Vec<u64>,
    tables: Tables<u64>,
}

/// Where a cluster of the disk lies, and with extended L2 entries which of its subclusters lie there; the others are zero.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cluster {
    pub(super) place: Place,
    /// One bit for each subcluster, the lowest for the first. All are set where there are no subclusters.
    stored: u32,
}

impl Cluster {
    const ZERO: Self = Self { place: Place::Zero, stored: 0 };

    fn whole(place: Place) -> Self {
        Self { place, stored: u32::MAX }
    }

    /// Returns the place of subcluster `part` of `size` bytes, and how many subclusters from there on are of that kind.
    fn part(&self, part: u64, size: u64, parts: u64) -> (Place, u64) {
        let rest = parts - part;
        match self.place {
            Place::Plain(offset) => {
                let bits = self.stored >> part;
                let (stored, zeros) = (u64::from(bits.trailing_ones()), u64::from(bits.trailing_zeros()));
                if stored > 0 {
                    (Place::Plain(offset + part * size), stored.min(rest))
                } else {
                    (Place::Zero, zeros.min(rest))
                }
            }
            place => (place, rest),
        }
    }
}

impl Clusters {
    /// Makes the map of a file whose first table is `l1`.
    pub(super) fn new(file: Arc<dyn Source>, header: Header, l1: Vec<u64>) -> Self {
        let tables = Tables::new(header.l2_words() as usize);
        Self { file, header, l1, tables }
    }

    /// Returns where the L2 table that `entry`, number `number` of an L1 table, names lies, if it exists.
    pub(super) fn table_offset(&self, number: u64, entry: u64) -> Result<Option<u64>> {
        let offset = entry & OFFSET;
        if entry & !(OFFSET | COPIED) != 0 || !offset.is_multiple_of(self.header.cluster_size()) {
            return Err(Error::corrupt(format!(
                "entry {number} of the L1 table is {entry:#x}, which names no cluster"
            )));
        }
        Ok((offset != 0).then_some(offset))
    }

    /// Reads the L2 table at `offset`: one word for each entry, two in extended tables.
    pub(super) fn read_table(&self, offset: u64) -> Result<Vec<u64>> {
        read_table(&*self.file, offset, self.header.l2_words() as usize, "an L2 table", u64::from_be_bytes)
    }

    /// Returns L2 table `number`, if it exists.
    pub(super) fn table(&self, number: u64) -> Result<Option<Arc<[u64]>>> {
        let Some(offset) = self.table_offset(number, self.l1[number as usize])? else { return Ok(None) };
        self.tables.get(number, || self.read_table(offset)).map(Some)
    }

    /// Returns what `table` says of cluster `index` of the disk, checked against the end of the file.
    pub(super) fn cluster(&self, index: u64, table: &[u64]) -> Result<Cluster> {
        let at = (index % self.header.l2_entries()) as usize;
        if self.header.extended {
            self.extended(index, table[2 * at], table[2 * at + 1])
        } else {
            self.standard(index, table[at])
        }
    }

    fn standard(&self, index: u64, entry: u64) -> Result<Cluster> {
        if entry & COMPRESSED != 0 {
            return self.packed(index, entry).map(Cluster::whole);
        }
        self.check_entry(index, entry & !ZERO)?;
        if entry & ZERO != 0 {
            return match self.header.version {
                2 => Err(self.corrupt(index, entry, "version 2 does not have")),
                _ => Ok(Cluster::ZERO),
            };
        }
        match entry & OFFSET {
            0 => Ok(Cluster::ZERO),
            offset => {
                self.check_end(index, offset, self.header.cluster_size())?;
                Ok(Cluster::whole(Place::Plain(offset)))
            }
        }
    }

    /// An entry of an extended table: the lower half of `bitmap` tells which subclusters are stored, the upper half which
    /// are zero. Without a backing file, a subcluster that is neither is zero too.
    fn extended(&self, index: u64, entry: u64, bitmap: u64) -> Result<Cluster> {
        if entry & COMPRESSED != 0 {
            return match bitmap {
                0 => self.packed(index, entry).map(Cluster::whole),
                _ => Err(self.corrupt(index, bitmap, "a compressed cluster does not have as its subclusters")),
            };
        }
        self.check_entry(index, entry)?;
        let (stored, zero, offset) = (bitmap as u32, (bitmap >> 32) as u32, entry & OFFSET);
        if stored & zero != 0 {
            return Err(self.corrupt(index, bitmap, "has subclusters that are both stored and zero"));
        }
        if stored == 0 {
            return Ok(Cluster::ZERO);
        }
        if offset == 0 {
            return Err(self.corrupt(index, bitmap, "has stored subclusters of no cluster"));
        }
        // The last cluster of the file may end with its last stored subcluster.
        let last = u64::from(u32::BITS - stored.leading_zeros());
        self.check_end(index, offset, last * self.header.block_size())?;
        Ok(Cluster { place: Place::Plain(offset), stored })
    }

    fn corrupt(&self, index: u64, entry: u64, why: &str) -> Error {
        let guest = index * self.header.cluster_size();
        Error::corrupt(format!("the L2 entry of disk byte {guest} is {entry:#x}, which {why}"))
    }

    fn check_entry(&self, index: u64, entry: u64) -> Result<()> {
        if entry & !(OFFSET | COPIED) != 0 {
            return Err(self.corrupt(index, entry, "has reserved bits set"));
        }
        if !(entry & OFFSET).is_multiple_of(self.header.cluster_size()) {
            return Err(self.corrupt(index, entry, "begins no cluster"));
        }
        Ok(())
    }

    fn check_end(&self, index: u64, offset: u64, length: u64) -> Result<()> {
        let what = format_args!("the cluster of disk byte {}", index * self.header.cluster_size());
        check_inside(what, offset, length, self.file.len())
    }

    /// A compressed cluster: its offset to the byte, and its length in sectors counted from the one it begins in.
    fn packed(&self, index: u64, entry: u64) -> Result<Place> {
        if self.header.encryption != 0 {
            return Err(self.corrupt(
                index,
                entry,
                "is compressed, and the data are encrypted: one reader would decrypt it",
            ));
        }
        let offset_bits = packed_offset_bits(self.header.cluster_bits);
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

    /// Unpacks block `index` from `bytes`, which begin where it lies in the file.
    fn inflate(&self, bytes: &[u8], packed: Packed, index: u64, out: &mut [u8]) -> Result<()> {
        let filled = match self.header.compression {
            Compression::Zlib => inflate::deflate(bytes, out),
            Compression::Zstd => inflate::zstd(bytes, out),
        };
        if filled {
            return Ok(());
        }
        let guest = index * self.header.block_size();
        Err(Error::corrupt(format!(
            "the compressed cluster of disk byte {guest}, at byte {} of the file, does not unpack to one cluster",
            packed.offset
        )))
    }
}

impl BlockMap for Clusters {
    fn block_size(&self) -> u64 {
        self.header.block_size()
    }

    fn packed_blocks(&self) -> u64 {
        self.header.subclusters()
    }

    fn run_at(&self, index: u64, at_most: u64) -> Result<Run> {
        let (entries, parts, size) = (self.header.l2_entries(), self.header.subclusters(), self.header.block_size());
        let (mut cluster, part) = (index / parts, index % parts);
        let Some(table) = self.table(cluster / entries)? else {
            let clusters = self.without_table(cluster, (part + at_most).div_ceil(parts));
            return Ok(Run { place: Place::Zero, blocks: (clusters * parts - part).min(at_most) });
        };
        let (place, mut blocks) = self.cluster(cluster, &table)?.part(part, size, parts);
        let mut whole = part + blocks == parts && !matches!(place, Place::Packed(_));
        while whole && blocks < at_most && !(cluster + 1).is_multiple_of(entries) {
            cluster += 1;
            let expected = match place {
                Place::Plain(offset) => Place::Plain(offset + blocks * size),
                other => other,
            };
            let (next, follow) = self.cluster(cluster, &table)?.part(0, size, parts);
            if next != expected {
                break;
            }
            blocks += follow;
            whole = follow == parts;
        }
        Ok(Run { place, blocks: blocks.min(at_most) })
    }

    fn unpack(&self, packed: Packed, index: u64, _needed: usize, out: &mut [u8]) -> Result<()> {
        self.unpack_run(&[packed], index, out)
    }

    fn unpack_run(&self, run: &[Packed], index: u64, out: &mut [u8]) -> Result<()> {
        let (size, parts) = (self.header.cluster_size() as usize, self.header.subclusters());
        read_packed(&*self.file, run, |number, bytes| {
            let out = &mut out[number * size..][..size];
            self.inflate(bytes, run[number], index + number as u64 * parts, out)
        })
    }
}
