//! The qcow2 file that would hold a disk, computed piece by piece from the extents of the disk.
//!
//! ```text
//! header | refcount table | refcount blocks | L1 table | L2 tables | data clusters, in the order of the disk
//! ```
//! Each part begins at a cluster. A cluster of the disk is stored if any byte of it is data; a table exists if it has
//! a stored cluster. The same disk and cluster size give the same file, byte for byte. Version 3, refcounts of 16 bits.

use std::ops::Range;
use std::sync::Arc;

use super::header::{MAGIC, MAX_L1_ENTRIES};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};

/// The cluster sizes that the format allows, in bytes; powers of two only.
pub(crate) const CLUSTER_SIZES: std::ops::RangeInclusive<u64> = 512..=2 << 20;
pub(crate) const DEFAULT_CLUSTER_SIZE: u64 = 64 << 10;

/// The map of a disk has at most this many runs of stored clusters, which take 16 bytes each.
const MAX_RUNS: usize = 16 << 20;
/// Set in an entry of L1 and L2 where the refcount is exactly one, as it is everywhere in a new file.
const COPIED: u64 = 1 << 63;
const HEADER_LENGTH: u32 = 104;
const REFCOUNT_ORDER: u32 = 4;

/// Returns the file that holds `disk` in clusters of `cluster_size` bytes.
pub(crate) fn layout(disk: Arc<dyn Source>, cluster_size: u64) -> Result<Arc<dyn Source>> {
    if !CLUSTER_SIZES.contains(&cluster_size) || !cluster_size.is_power_of_two() {
        return Err(Error::unsupported(format!(
            "qcow2 clusters of {cluster_size} bytes; a power of two from 512 to 2097152 is allowed"
        )));
    }
    let runs = Runs::new(&*disk, cluster_size)?;
    Ok(Arc::new(Layout::new(disk, cluster_size, runs)?))
}

/// Neighbouring stored clusters.
#[derive(Debug, Clone, Copy)]
struct Stored {
    /// Number of the first one in the disk.
    cluster: u64,
    /// How many are stored before it.
    before: u64,
}

/// Which clusters of the disk are stored, in order.
struct Runs {
    runs: Vec<Stored>,
    total: u64,
}

impl Runs {
    fn new(disk: &dyn Source, cluster_size: u64) -> Result<Self> {
        let mut map = Self { runs: Vec::new(), total: 0 };
        let (mut offset, mut next) = (0, 0);
        while offset < disk.len() {
            let extent = disk.extent_at(offset)?;
            if extent.kind == ExtentKind::Data {
                let first = (offset / cluster_size).max(next);
                let end = extent.end().div_ceil(cluster_size);
                if first < end {
                    map.push(first, end - first)?;
                    next = end;
                }
            }
            offset = extent.end();
        }
        Ok(map)
    }

    fn push(&mut self, cluster: u64, count: u64) -> Result<()> {
        let adjoins = self.runs.last().is_some_and(|last| last.cluster + (self.total - last.before) == cluster);
        if !adjoins {
            if self.runs.len() == MAX_RUNS {
                return Err(Error::new(ErrorKind::TooLarge, format!("the disk has more than {MAX_RUNS} runs of data"))
                    .with_hint("choose a larger cluster size"));
            }
            self.runs.push(Stored { cluster, before: self.total });
        }
        self.total += count;
        Ok(())
    }

    fn count(&self, run: usize) -> u64 {
        self.runs.get(run + 1).map_or(self.total, |next| next.before) - self.runs[run].before
    }

    /// Returns how many stored clusters lie before cluster `cluster` of the disk, and whether it is stored itself.
    fn rank(&self, cluster: u64) -> (u64, bool) {
        let Some(run) = self.runs.partition_point(|run| run.cluster <= cluster).checked_sub(1) else {
            return (0, false);
        };
        let (first, count) = (self.runs[run], self.count(run));
        let within = cluster - first.cluster;
        (first.before + within.min(count), within < count)
    }

    /// Returns the number in the disk of stored cluster `number`, and how many follow it in both file and disk.
    fn locate(&self, number: u64) -> (u64, u64) {
        let run = self.runs.partition_point(|run| run.before <= number) - 1;
        let within = number - self.runs[run].before;
        (self.runs[run].cluster + within, self.count(run) - within)
    }
}

/// The clusters of the file that each part takes.
struct Parts {
    refcount_table: Range<u64>,
    refcount_blocks: Range<u64>,
    l1: Range<u64>,
    l2: Range<u64>,
    data: Range<u64>,
}

struct Layout {
    disk: Arc<dyn Source>,
    runs: Runs,
    /// Numbers of the L2 tables that exist, in order.
    tables: Vec<u64>,
    cluster_size: u64,
    l1_entries: u64,
    parts: Parts,
}

impl Layout {
    fn new(disk: Arc<dyn Source>, cluster_size: u64, runs: Runs) -> Result<Self> {
        let l2_entries = cluster_size / 8;
        let l1_entries = disk.len().div_ceil(cluster_size * l2_entries);
        if l1_entries > MAX_L1_ENTRIES {
            let size = disk.len();
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a disk of {size} bytes in clusters of {cluster_size}"),
            )
            .with_hint("choose a larger cluster size"));
        }
        let mut tables = Vec::new();
        for run in 0..runs.runs.len() {
            let first = runs.runs[run].cluster;
            let (from, to) = (first / l2_entries, (first + runs.count(run) - 1) / l2_entries);
            let from = tables.last().map_or(from, |last: &u64| from.max(last + 1));
            tables.extend(from..=to);
        }
        let parts = parts(cluster_size, (l1_entries * 8).div_ceil(cluster_size), tables.len() as u64, runs.total);
        Ok(Self { disk, runs, tables, cluster_size, l1_entries, parts })
    }

    fn header(&self) -> Vec<u8> {
        let mut header = Vec::with_capacity(HEADER_LENGTH as usize + 8);
        let offset = |part: &Range<u64>| part.start * self.cluster_size;
        header.extend(MAGIC.to_be_bytes());
        header.extend(3_u32.to_be_bytes());
        header.extend([0; 12]); // No backing file.
        header.extend(self.cluster_size.trailing_zeros().to_be_bytes());
        header.extend(self.disk.len().to_be_bytes());
        header.extend(0_u32.to_be_bytes()); // No encryption.
        header.extend((self.l1_entries as u32).to_be_bytes());
        header.extend(offset(&self.parts.l1).to_be_bytes());
        header.extend(offset(&self.parts.refcount_table).to_be_bytes());
        let clusters = self.parts.refcount_table.end - self.parts.refcount_table.start;
        header.extend((clusters as u32).to_be_bytes());
        header.extend([0; 12]); // No snapshots.
        header.extend([0; 24]); // No features.
        header.extend(REFCOUNT_ORDER.to_be_bytes());
        header.extend(HEADER_LENGTH.to_be_bytes());
        header
    }

    /// Returns entry `index` of the L1 table.
    fn l1_entry(&self, index: u64) -> u64 {
        match self.tables.binary_search(&index) {
            Ok(position) => ((self.parts.l2.start + position as u64) * self.cluster_size) | COPIED,
            Err(_) => 0,
        }
    }

    /// Returns entry `index` of the L2 tables that exist, counted through all of them.
    fn l2_entry(&self, index: u64) -> u64 {
        let entries = self.cluster_size / 8;
        let cluster = self.tables[(index / entries) as usize] * entries + index % entries;
        match self.runs.rank(cluster) {
            (number, true) => ((self.parts.data.start + number) * self.cluster_size) | COPIED,
            (_, false) => 0,
        }
    }

    /// Returns entry `index` of the refcount table.
    fn refcount_entry(&self, index: u64) -> u64 {
        let block = self.parts.refcount_blocks.start + index;
        if self.parts.refcount_blocks.contains(&block) { block * self.cluster_size } else { 0 }
    }

    /// Fills `buf` from `offset`, all inside one part; returns how many bytes were filled.
    fn read_part(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let cluster = offset / self.cluster_size;
        let parts = &self.parts;
        if parts.data.contains(&cluster) {
            return self.read_data(buf, offset - parts.data.start * self.cluster_size);
        }
        let part = [&parts.refcount_table, &parts.refcount_blocks, &parts.l1, &parts.l2]
            .into_iter()
            .find(|part| part.contains(&cluster))
            .map_or(0..1, Clone::clone);
        let length = (part.end * self.cluster_size - offset).min(buf.len() as u64) as usize;
        let (buf, within) = (&mut buf[..length], offset - part.start * self.cluster_size);
        if part == parts.refcount_table {
            fill(buf, within, |index| self.refcount_entry(index).to_be_bytes());
        } else if part == parts.refcount_blocks {
            fill(buf, within, |index| u16::from(index < parts.data.end).to_be_bytes());
        } else if part == parts.l1 {
            fill(buf, within, |index| self.l1_entry(index).to_be_bytes());
        } else if part == parts.l2 {
            fill(buf, within, |index| self.l2_entry(index).to_be_bytes());
        } else {
            let header = self.header();
            fill(buf, within, |index| [header.get(index as usize).copied().unwrap_or(0)]);
        }
        Ok(length)
    }

    /// Returns the byte of the disk that lies at byte `within` of the data clusters, and the bytes that follow it in both.
    fn disk_range(&self, within: u64) -> (u64, u64) {
        let (cluster, count) = self.runs.locate(within / self.cluster_size);
        let within = within % self.cluster_size;
        (cluster * self.cluster_size + within, count * self.cluster_size - within)
    }

    fn read_data(&self, buf: &mut [u8], within: u64) -> Result<usize> {
        let (start, follow) = self.disk_range(within);
        let length = follow.min(buf.len() as u64) as usize;
        // The last cluster may reach past the end of the disk; that part is zeros.
        let inside = self.disk.len().saturating_sub(start).min(length as u64) as usize;
        let (data, padding) = buf[..length].split_at_mut(inside);
        if !data.is_empty() {
            self.disk.read_at(data, start)?;
        }
        padding.fill(0);
        Ok(length)
    }
}

impl Source for Layout {
    fn len(&self) -> u64 {
        self.parts.data.end * self.cluster_size
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.len(), offset, buf.len())?;
        let mut done = 0;
        while done < buf.len() {
            done += self.read_part(&mut buf[done..], offset + done as u64)?;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.len(), offset)?;
        let tables = self.parts.data.start * self.cluster_size;
        if offset < tables {
            return Ok(Extent { offset, length: tables - offset, kind: ExtentKind::Data });
        }
        let (start, follow) = self.disk_range(offset - tables);
        if start >= self.disk.len() {
            return Ok(Extent { offset, length: follow, kind: ExtentKind::Zero });
        }
        let extent = self.disk.extent_at(start)?;
        Ok(Extent { offset, length: extent.length.min(follow), kind: extent.kind })
    }
}

/// Places the parts one after the other. The refcounts count themselves, so their number is found step by step.
fn parts(cluster_size: u64, l1: u64, l2: u64, data: u64) -> Parts {
    let (per_block, per_table) = ((cluster_size * 8) >> REFCOUNT_ORDER, cluster_size / 8);
    let (mut table, mut blocks) = (1, 1);
    loop {
        let total = 1 + table + blocks + l1 + l2 + data;
        let needed = total.div_ceil(per_block);
        if needed <= blocks && needed.div_ceil(per_table) <= table {
            break;
        }
        blocks = needed.max(blocks);
        table = blocks.div_ceil(per_table).max(table);
    }
    let mut start = 1;
    let mut take = |clusters: u64| {
        let part = start..start + clusters;
        start += clusters;
        part
    };
    Parts { refcount_table: take(table), refcount_blocks: take(blocks), l1: take(l1), l2: take(l2), data: take(data) }
}

/// Fills `buf` from byte `within` of a table whose entries `entry` makes.
fn fill<const N: usize>(buf: &mut [u8], within: u64, entry: impl Fn(u64) -> [u8; N]) {
    let size = N as u64;
    let (mut index, mut skip, mut done) = (within / size, (within % size) as usize, 0);
    while done < buf.len() {
        let bytes = &entry(index)[skip..];
        let length = bytes.len().min(buf.len() - done);
        buf[done..done + length].copy_from_slice(&bytes[..length]);
        (index, skip, done) = (index + 1, 0, done + length);
    }
}
