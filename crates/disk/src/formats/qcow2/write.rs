//! The qcow2 file that would hold a disk, computed piece by piece from the extents of the disk.
//!
//! ```text
//! header | refcount table | refcount blocks | L1 table | L2 tables | LUKS header, if encrypted
//! | data clusters, in the order of the disk
//! ```
//! Each part begins at a cluster. A cluster of the disk is stored if any byte of it is data; a table exists if it has
//! a stored cluster. The same disk and cluster size give the same file, byte for byte. Version 3, refcounts of 16 bits.
//!
//! Of an overlay the clusters that changed are stored, or have the zero flag where they are zero; all others have no entry, so
//! that they are read from the backing file.

use std::ops::Range;
use std::sync::Arc;

use super::backing;
use super::clusters::{COPIED, ZERO};
use super::encryption::announce;
use super::header::{Compression, MAX_L1_ENTRIES, MAX_REFCOUNT_TABLE, NewHeader, REFCOUNT_ORDER, too_large};
use super::stream::Compressed;
use crate::backing::Backing;
use crate::error::{Error, Result};
use crate::fields::fill;
use crate::formats::luks::{self, Head, Sealed};
use crate::options::{Known, WriteOptions};
use crate::output::Output;
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};
use crate::stored::Stored;

/// The cluster sizes that the format allows, in bytes; powers of two only.
const CLUSTER_SIZES: std::ops::RangeInclusive<u64> = 512..=2 << 20;
const DEFAULT_CLUSTER_SIZE: u64 = 64 << 10;
const SECTOR: u64 = 512;
/// Files within 3 % of those of qemu-img, at the highest speed that gives that.
const ZLIB_LEVEL: u32 = 5;
const ZSTD_LEVEL: u32 = 2;

/// The options of the writer.
pub(crate) const OPTIONS: &[Known] = &[
    ("cluster_size", "bytes of a cluster, a power of two from 512 to 2M"),
    ("compression", "compress each cluster: none, zlib or zstd"),
    ("level", "how hard to compress: 1 to 9 for zlib, 1 to 19 for zstd"),
    ("encrypt", "encrypt the data: none or luks"),
    luks::ITER_TIME,
];

/// Returns the file that holds `disk`.
pub(crate) fn write(disk: Arc<dyn Source>, options: &WriteOptions) -> Result<Output> {
    let cluster_size = options.power_of_two("cluster_size", DEFAULT_CLUSTER_SIZE, CLUSTER_SIZES)?;
    let (compression, level) = match options.choice("compression", &["none", "zlib", "zstd"])? {
        "zlib" => (Some(Compression::Zlib), options.number("level", ZLIB_LEVEL, 1..=9)?),
        "zstd" => (Some(Compression::Zstd), options.number("level", ZSTD_LEVEL, 1..=19)?),
        _ => (None, 0),
    };
    let l1_entries = l1_entries(disk.len(), cluster_size)?;
    let stored = Stored::new(disk, cluster_size)?;
    let encrypted = options.choice("encrypt", &["none", "luks"])? == "luks";
    Ok(match compression {
        Some(_) if encrypted => return Err(both()),
        None if encrypted => {
            let volume = luks::new_volume(options)?;
            let layout = Layout::new(cluster_size, l1_entries, stored, Some(volume.head), None)?;
            let start = layout.parts.data.start * cluster_size;
            Output::Layout(Arc::new(Sealed::new(layout, start, 0, volume.cipher)))
        }
        None => Output::Layout(Arc::new(Layout::new(cluster_size, l1_entries, stored, None, None)?)),
        Some(compression) => {
            Output::Stream(Box::new(Compressed { stored, cluster_size, l1_entries, compression, level }))
        }
    })
}

/// Returns the file that holds what lies in `changes`, ranges of `disk` in order, over the file `backing`. The changes are
/// looked at, for clusters of zeros.
pub(crate) fn overlay(disk: Arc<dyn Source>, changes: &[Range<u64>], backing: Backing) -> Result<Arc<dyn Source>> {
    let cluster_size = DEFAULT_CLUSTER_SIZE;
    let l1_entries = l1_entries(disk.len(), cluster_size)?;
    let changed = Stored::touched(disk, cluster_size, changes)?;
    let stored = changed.without_zeros()?;
    Ok(Arc::new(Layout::new(cluster_size, l1_entries, stored, None, Some(Over { changed, backing }))?))
}

fn both() -> Error {
    Error::unsupported("a qcow2 file that is both compressed and encrypted, which no reader could rely on")
        .with_hint("leave out compression= or encrypt=")
}

/// Returns how many entries the L1 table has for a disk of `size` bytes.
fn l1_entries(size: u64, cluster_size: u64) -> Result<u64> {
    let entries = size.div_ceil(cluster_size * (cluster_size / 8));
    if entries <= MAX_L1_ENTRIES {
        return Ok(entries);
    }
    Err(too_large(&format!("a disk of {size} bytes in clusters of {cluster_size}")))
}

/// The clusters of the file that each part takes.
struct Parts {
    refcount_table: Range<u64>,
    refcount_blocks: Range<u64>,
    l1: Range<u64>,
    l2: Range<u64>,
    luks: Range<u64>,
    data: Range<u64>,
}

/// What an overlay lies over.
struct Over {
    /// The clusters that are not read from the backing file; those of them that are not stored are zero.
    changed: Stored,
    backing: Backing,
}

struct Layout {
    stored: Stored,
    /// Numbers of the L2 tables that exist, in order.
    tables: Vec<u64>,
    cluster_size: u64,
    l1_entries: u64,
    luks: Option<Head>,
    over: Option<Over>,
    parts: Parts,
}

impl Layout {
    fn new(cluster_size: u64, l1_entries: u64, stored: Stored, luks: Option<Head>, over: Option<Over>) -> Result<Self> {
        let l2_entries = cluster_size / 8;
        let mut tables = Vec::new();
        for (first, count) in over.as_ref().map_or(&stored, |over| &over.changed).runs() {
            let (from, to) = (first / l2_entries, (first + count - 1) / l2_entries);
            let from = tables.last().map_or(from, |last: &u64| from.max(last + 1));
            tables.extend(from..=to);
        }
        let clusters = |length: u64| length.div_ceil(cluster_size);
        let (l1, luks_clusters) = (clusters(l1_entries * 8), clusters(luks.as_ref().map_or(0, Head::length)));
        let parts = parts(cluster_size, l1, tables.len() as u64, luks_clusters, stored.count());
        if (parts.refcount_table.end - parts.refcount_table.start) * cluster_size > MAX_REFCOUNT_TABLE {
            return Err(too_large("more refcounts than their table has room for"));
        }
        Ok(Self { stored, tables, cluster_size, l1_entries, luks, over, parts })
    }

    fn header(&self) -> Vec<u8> {
        let offset = |part: &Range<u64>| part.start * self.cluster_size;
        let size = self.stored.disk().len();
        let header = NewHeader {
            cluster_size: self.cluster_size,
            // Over a file that ends inside a sector, as QEMU sees it: with zeros up to the end of that.
            size: if self.over.is_some() { size.next_multiple_of(SECTOR) } else { size },
            l1_entries: self.l1_entries,
            l1_offset: offset(&self.parts.l1),
            refcount_table_offset: offset(&self.parts.refcount_table),
            refcount_table_clusters: self.parts.refcount_table.end - self.parts.refcount_table.start,
            compression: Compression::Zlib,
        };
        let mut bytes = header.bytes();
        if let Some(luks) = &self.luks {
            let start = offset(&self.parts.luks);
            announce(&mut bytes, &(start..start + luks.length()));
        }
        if let Some(over) = &self.over {
            backing::announce(&mut bytes, &over.backing);
        }
        bytes
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
        match self.stored.rank(cluster) {
            (number, true) => ((self.parts.data.start + number) * self.cluster_size) | COPIED,
            (_, false) if self.over.as_ref().is_some_and(|over| over.changed.rank(cluster).1) => ZERO,
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
            return self.stored.read(buf, offset - parts.data.start * self.cluster_size);
        }
        let part = [&parts.refcount_table, &parts.refcount_blocks, &parts.l1, &parts.l2, &parts.luks]
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
        } else if let Some(luks) = self.luks.as_ref().filter(|_| part == parts.luks) {
            luks.fill(buf, within);
        } else {
            let header = self.header();
            fill(buf, within, |index| [header.get(index as usize).copied().unwrap_or(0)]);
        }
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
        let (length, kind) = self.stored.extent(offset - tables)?;
        Ok(Extent { offset, length, kind })
    }
}

/// Places the parts one after the other. The refcounts count themselves, so their number is found step by step.
fn parts(cluster_size: u64, l1: u64, l2: u64, luks: u64, data: u64) -> Parts {
    let (per_block, per_table) = ((cluster_size * 8) >> REFCOUNT_ORDER, cluster_size / 8);
    let (mut table, mut blocks) = (1, 1);
    loop {
        let total = 1 + table + blocks + l1 + l2 + luks + data;
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
    Parts {
        refcount_table: take(table),
        refcount_blocks: take(blocks),
        l1: take(l1),
        l2: take(l2),
        luks: take(luks),
        data: take(data),
    }
}
