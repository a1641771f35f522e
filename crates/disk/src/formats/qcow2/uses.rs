//! Everything that uses clusters of a qcow2 file: the header, the tables, the disk, its snapshots and its bitmaps.

use super::clusters::{COMPRESSED, COPIED, Clusters, OFFSET};
use super::encryption::EXTENSION;
use super::header::{MAX_L1_ENTRIES, packed_offset_bits};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::{be16, be32, be64, check_inside, read_bytes, read_table};

const BITMAPS: u32 = 0x2385_2875;
/// The fixed parts of the entry of a snapshot, and of a bitmap.
const SNAPSHOT: usize = 40;
const BITMAP: usize = 24;
/// As in QEMU.
const MAX_EXTRA: u32 = 1024;
const MAX_BITMAPS: u32 = 65535;
/// Entries of L2 tables that are looked at in one go over the file: 256 TiB of clusters of 64 KiB, snapshots included.
const MAX_ENTRIES: u64 = 1 << 32;

/// What is met on the way.
pub(super) enum Met {
    /// These bytes of the file are used once.
    Use {
        offset: u64,
        length: u64,
        /// Whether the entry says that this is the only use; only those of the present state of the disk know that.
        copied: Option<bool>,
    },
    /// Something that names no cluster.
    Fault(String),
}

/// A way through all that a file uses.
pub(super) struct Walk<'a, V> {
    clusters: &'a Clusters,
    visit: V,
    entries: u64,
    /// Bytes of the tables of snapshots and bitmaps, each of which has its own.
    table_bytes: u64,
}

impl<'a, V: FnMut(Met)> Walk<'a, V> {
    /// Begins a walk; the first table of `clusters` is the whole one.
    pub(super) fn new(clusters: &'a Clusters, visit: V) -> Self {
        Self { clusters, visit, entries: 0, table_bytes: 0 }
    }

    /// Goes the whole way. Fails if the file cannot be read or would take too long.
    pub(super) fn all(mut self) -> Result<()> {
        let header = &self.clusters.header;
        self.region("the header", 0, header.cluster_size());
        self.region("the L1 table", header.l1_offset, u64::from(header.l1_size) * 8);
        self.region("the refcount table", header.refcount_table_offset, header.refcount_table_length);
        let count = (header.refcount_table_length / 8) as usize;
        for offset in self.words(header.refcount_table_offset, count, "the refcount table")? {
            if offset != 0 {
                self.region("a refcount block", offset, header.cluster_size());
            }
        }
        self.extensions()?;
        self.tables(&self.clusters.l1, None)?;
        self.snapshots()
    }

    fn words(&self, offset: u64, count: usize, what: &str) -> Result<Vec<u64>> {
        read_table(&*self.clusters.file, offset, count, what, u64::from_be_bytes)
    }

    fn fault(&mut self, message: String) {
        (self.visit)(Met::Fault(message));
    }

    /// Bytes that begin a cluster and are inside the file; returns whether they are.
    fn region(&mut self, what: &str, offset: u64, length: u64) -> bool {
        if !offset.is_multiple_of(self.clusters.header.cluster_size()) {
            self.fault(format!("{what} lies at byte {offset}, which begins no cluster"));
            return false;
        }
        if let Err(error) = check_inside(what, offset, length, self.clusters.file.len()) {
            self.fault(error.to_string());
            return false;
        }
        (self.visit)(Met::Use { offset, length, copied: None });
        true
    }

    /// The tables and clusters of the present state, or of a snapshot.
    fn tables(&mut self, l1: &[u64], snapshot: Option<u32>) -> Result<()> {
        let header = &self.clusters.header;
        let (size, entries) = (header.cluster_size(), header.l2_entries());
        let of = snapshot.map_or(String::new(), |number| format!("snapshot {number}: "));
        for (number, entry) in (0..).zip(l1) {
            let offset = match self.clusters.table_offset(number, *entry) {
                Ok(Some(offset)) => offset,
                Ok(None) => continue,
                Err(error) => {
                    self.fault(format!("{of}{error}"));
                    continue;
                }
            };
            if let Err(error) = check_inside("an L2 table", offset, size, self.clusters.file.len()) {
                self.fault(format!("{of}{error}"));
                continue;
            }
            let copied = snapshot.is_none().then_some(entry & COPIED != 0);
            (self.visit)(Met::Use { offset, length: size, copied });
            self.entries += entries;
            if self.entries > MAX_ENTRIES {
                return Err(Error::new(ErrorKind::TooLarge, format!("more than {MAX_ENTRIES} entries of L2 tables")));
            }
            let table = self.clusters.read_table(offset)?;
            for index in number * entries..(number + 1) * entries {
                self.cluster(index, &table, &of, snapshot.is_none());
            }
        }
        Ok(())
    }

    fn cluster(&mut self, index: u64, table: &[u64], of: &str, present: bool) {
        let header = &self.clusters.header;
        let width = (header.l2_words() / header.l2_entries()) as usize;
        let entry = table[(index % header.l2_entries()) as usize * width];
        if let Err(error) = self.clusters.cluster(index, table) {
            self.fault(format!("{of}{error}"));
            return;
        }
        if entry & COMPRESSED != 0 {
            let bits = packed_offset_bits(header.cluster_bits);
            let offset = entry & ((1 << bits) - 1) & !511;
            let length = (((entry & !(COPIED | COMPRESSED)) >> bits) + 1) * 512;
            if present && entry & COPIED != 0 {
                let guest = index * header.cluster_size();
                self.fault(format!("the compressed cluster of disk byte {guest} is marked as the only use of its own"));
            }
            (self.visit)(Met::Use { offset, length, copied: None });
        } else if entry & OFFSET != 0 {
            // Also of a cluster that reads as zeros: it may keep its place.
            let copied = present.then_some(entry & COPIED != 0);
            (self.visit)(Met::Use { offset: entry & OFFSET, length: header.cluster_size(), copied });
        }
    }

    /// Reads a table of `count` words that a snapshot or bitmap has for its own, if that can be.
    fn own_table(&mut self, what: &str, offset: u64, count: u32) -> Result<Option<Vec<u64>>> {
        let length = u64::from(count) * 8;
        self.table_bytes += length;
        if u64::from(count) > MAX_L1_ENTRIES || self.table_bytes > self.clusters.file.len() {
            self.fault(format!("{what} at byte {offset} has {count} entries, which is more than can be"));
            return Ok(None);
        }
        if !self.region(what, offset, length) {
            return Ok(None);
        }
        self.words(offset, count as usize, what).map(Some)
    }

    fn snapshots(&mut self) -> Result<()> {
        let header = &self.clusters.header;
        let (start, mut at) = (header.snapshots_offset, header.snapshots_offset);
        // The file may end before the padding of the last entry.
        let mut end = at;
        for number in 1..=header.snapshots {
            let entry = read_bytes(&*self.clusters.file, at, SNAPSHOT, "the snapshot table")?;
            let extra = be32(&entry, 36);
            if extra > MAX_EXTRA {
                self.fault(format!("snapshot {number} has {extra} bytes of extra data"));
                return Ok(());
            }
            let names = u64::from(be16(&entry, 12)) + u64::from(be16(&entry, 14));
            end = at + SNAPSHOT as u64 + u64::from(extra) + names;
            at = end.next_multiple_of(8);
            if let Some(l1) = self.own_table("the L1 table of a snapshot", be64(&entry, 0), be32(&entry, 8))? {
                self.tables(&l1, Some(number))?;
            }
        }
        if end > start {
            self.region("the snapshot table", start, end - start);
        }
        Ok(())
    }

    fn extensions(&mut self) -> Result<()> {
        let header = &self.clusters.header;
        let (mut at, end) = (u64::from(header.length), header.cluster_size());
        while header.version > 2 && at + 8 <= end {
            let extension = read_bytes(&*self.clusters.file, at, 8, "a header extension")?;
            let (kind, length) = (be32(&extension, 0), u64::from(be32(&extension, 4)));
            if kind == 0 {
                break;
            }
            if at + 8 + length > end {
                self.fault(format!("the header extension at byte {at} is {length} bytes long, past the first cluster"));
                break;
            }
            match kind {
                EXTENSION if length >= 16 => {
                    let bytes = read_bytes(&*self.clusters.file, at + 8, 16, "a header extension")?;
                    self.region("the encryption header", be64(&bytes, 0), be64(&bytes, 8));
                }
                BITMAPS if length >= 24 && header.bitmaps => {
                    let bytes = read_bytes(&*self.clusters.file, at + 8, 24, "a header extension")?;
                    self.bitmaps(be32(&bytes, 0), be64(&bytes, 16), be64(&bytes, 8))?;
                }
                _ => {}
            }
            at += 8 + length.next_multiple_of(8);
        }
        Ok(())
    }

    fn bitmaps(&mut self, count: u32, start: u64, length: u64) -> Result<()> {
        if !self.region("the bitmap directory", start, length) || count > MAX_BITMAPS {
            return Ok(());
        }
        let mut at = start;
        for _ in 0..count {
            let entry = read_bytes(&*self.clusters.file, at, BITMAP, "the bitmap directory")?;
            at += (BITMAP as u64 + u64::from(be16(&entry, 18)) + u64::from(be32(&entry, 20))).next_multiple_of(8);
            let table = self.own_table("a bitmap table", be64(&entry, 0), be32(&entry, 8))?;
            for entry in table.into_iter().flatten().filter(|entry| entry & OFFSET != 0) {
                self.region("a part of a bitmap", entry & OFFSET, self.clusters.header.cluster_size());
            }
        }
        Ok(())
    }
}
