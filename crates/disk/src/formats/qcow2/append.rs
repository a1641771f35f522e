//! A new qcow2 file that only ever grows at its end: places for clusters, and the tables that name and count them.
//!
//! ```text
//! header | clusters of the disk, each L2 table after its clusters, each refcount block once it is complete |
//! L1 table | refcount table | the last refcount blocks
//! ```
//! So no more is kept in memory than the L1 table, one L2 table and the plain clusters that wait for a place.

use std::io::{BufWriter, Write};

use super::clusters::{COMPRESSED, COPIED};
use super::header::{Compression, MAX_REFCOUNT_TABLE, NewHeader, REFCOUNT_ORDER, packed_offset_bits, too_large};
use crate::error::{Error, Result};

/// Plain clusters wait until they are this many bytes, because before them the rest of a cluster is left empty.
const MAX_WAITING: usize = 8 << 20;
const BUFFER: usize = 1 << 20;
/// No offset in a table has more bits.
const MAX_OFFSET_BITS: u32 = 56;

/// How a cluster of the disk is appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Appended {
    /// As it is, at the beginning of a cluster of the file.
    Plain,
    /// Compressed, right after the one before it.
    Packed,
}

/// The file so far.
pub(super) struct NewFile<'a> {
    out: BufWriter<&'a mut dyn Write>,
    cluster_size: u64,
    compression: Compression,
    /// The length of the file so far.
    at: u64,
    l1: Vec<u64>,
    /// Number and entries of the L2 table in work.
    table: Option<(u64, Vec<u64>)>,
    /// Plain clusters that have no place yet: their indices in the table in work, and their bytes.
    waiting: (Vec<usize>, Vec<u8>),
    /// Places of the refcount blocks that are complete.
    blocks: Vec<u64>,
    /// Refcounts of the clusters after those that the complete blocks count.
    refcounts: Vec<u16>,
}

impl<'a> NewFile<'a> {
    /// Begins a file; `out` is given everything after the header's cluster.
    pub(super) fn new(out: &'a mut dyn Write, cluster_size: u64, l1_entries: u64, compression: Compression) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER, out),
            cluster_size,
            compression,
            at: cluster_size,
            l1: vec![0; l1_entries as usize],
            table: None,
            waiting: (Vec::new(), Vec::new()),
            blocks: Vec::new(),
            refcounts: vec![1],
        }
    }

    /// Adds cluster `index` of the disk, which comes after all that were added before.
    pub(super) fn append(&mut self, index: u64, kind: Appended, bytes: &[u8]) -> Result<()> {
        let entries = self.cluster_size / 8;
        let (number, within) = (index / entries, (index % entries) as usize);
        if self.table.as_ref().is_none_or(|(table, _)| *table != number) {
            self.finish_table()?;
            self.table = Some((number, vec![0; entries as usize]));
        }
        match kind {
            Appended::Plain => {
                self.waiting.0.push(within);
                self.waiting.1.extend_from_slice(bytes);
                if self.waiting.1.len() >= MAX_WAITING { self.place_waiting() } else { Ok(()) }
            }
            Appended::Packed => {
                let offset_bits = packed_offset_bits(self.cluster_size.trailing_zeros());
                if self.at >> offset_bits.min(MAX_OFFSET_BITS) != 0 {
                    return Err(too_large("compressed clusters past the last byte that their entries can name"));
                }
                let sectors = ((self.at % 512) + bytes.len() as u64 - 1) / 512;
                self.set(within, COMPRESSED | (sectors << offset_bits) | self.at);
                self.count(self.at, bytes.len() as u64);
                self.put(bytes)
            }
        }
    }

    fn set(&mut self, within: usize, entry: u64) {
        if let Some((_, table)) = &mut self.table {
            table[within] = entry;
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out
            .write_all(bytes)
            .map_err(|error| Error::io(format!("write at byte {} of the file", self.at), error))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Counts one use of each cluster of the file that the range touches. A cluster holds fewer than 65536 compressed ones:
    /// of the largest, 2 MiB of one byte, zstd makes more than 64 bytes, and deflate far more.
    fn count(&mut self, offset: u64, length: u64) {
        let first = offset / self.cluster_size - self.blocks.len() as u64 * self.refcounts_per_block();
        let last = first + (offset % self.cluster_size + length - 1) / self.cluster_size;
        if self.refcounts.len() as u64 <= last {
            self.refcounts.resize(last as usize + 1, 0);
        }
        for refcount in &mut self.refcounts[first as usize..=last as usize] {
            *refcount += 1;
        }
    }

    fn refcounts_per_block(&self) -> u64 {
        (self.cluster_size * 8) >> REFCOUNT_ORDER
    }

    /// Writes whole clusters at the beginning of one, with zeros at their end; returns where they begin.
    fn put_clusters(&mut self, bytes: &[u8]) -> Result<u64> {
        self.pad()?;
        let offset = self.at;
        if !bytes.is_empty() {
            self.count(offset, bytes.len() as u64);
            self.put(bytes)?;
            self.pad()?;
        }
        Ok(offset)
    }

    fn pad(&mut self) -> Result<()> {
        let rest = self.at.next_multiple_of(self.cluster_size) - self.at;
        self.put(&vec![0; rest as usize])
    }

    fn place_waiting(&mut self) -> Result<()> {
        let (indices, bytes) = std::mem::take(&mut self.waiting);
        if indices.is_empty() {
            return Ok(());
        }
        let mut offset = self.put_clusters(&bytes)?;
        for within in indices {
            self.set(within, offset | COPIED);
            offset += self.cluster_size;
        }
        Ok(())
    }

    /// Writes the L2 table in work, and the refcount blocks that cannot change any more.
    fn finish_table(&mut self) -> Result<()> {
        self.place_waiting()?;
        let Some((number, table)) = self.table.take() else { return Ok(()) };
        let bytes: Vec<u8> = table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        self.l1[number as usize] = self.put_clusters(&bytes)? | COPIED;
        let per_block = self.refcounts_per_block() as usize;
        while self.refcounts.len() > per_block {
            let offset = self.at;
            // Counted while those of the block are still there, so that its number is found from the same beginning.
            self.count(offset, self.cluster_size);
            let block: Vec<u8> = self.refcounts.drain(..per_block).flat_map(u16::to_be_bytes).collect();
            self.put(&block)?;
            self.blocks.push(offset);
        }
        Ok(())
    }

    /// Writes what is left, and returns the header of a disk of `size` bytes.
    pub(super) fn finish(mut self, size: u64) -> Result<Vec<u8>> {
        self.finish_table()?;
        let l1: Vec<u8> = self.l1.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        let l1_offset = self.put_clusters(&l1)?;
        let (table_clusters, new_blocks) = self.refcounts_to_come();
        let table_offset = self.at;
        let blocks_offset = table_offset + table_clusters * self.cluster_size;
        self.blocks.reserve(new_blocks as usize);
        self.count(table_offset, (table_clusters + new_blocks) * self.cluster_size);
        let blocks = (0..new_blocks).map(|block| blocks_offset + block * self.cluster_size);
        let mut table: Vec<u8> = self.blocks.iter().copied().chain(blocks).flat_map(u64::to_be_bytes).collect();
        if table.len() as u64 > MAX_REFCOUNT_TABLE {
            return Err(too_large("more refcounts than their table has room for"));
        }
        table.resize((table_clusters * self.cluster_size) as usize, 0);
        self.put(&table)?;
        let mut refcounts: Vec<u8> = self.refcounts.iter().flat_map(|refcount| refcount.to_be_bytes()).collect();
        refcounts.resize((new_blocks * self.cluster_size) as usize, 0);
        self.put(&refcounts)?;
        self.out.flush().map_err(|error| Error::io("write the end of the file", error))?;
        let header = NewHeader {
            cluster_size: self.cluster_size,
            size,
            l1_entries: self.l1.len() as u64,
            l1_offset,
            refcount_table_offset: table_offset,
            refcount_table_clusters: table_clusters,
            compression: self.compression,
        };
        let mut head = header.bytes();
        head.resize(self.cluster_size as usize, 0);
        Ok(head)
    }

    /// Returns how many clusters the refcount table and the blocks that are still to be written take; they count themselves.
    fn refcounts_to_come(&self) -> (u64, u64) {
        let (mut table, mut blocks) = (1, 1);
        loop {
            let needed = (self.refcounts.len() as u64 + table + blocks).div_ceil(self.refcounts_per_block());
            let entries = self.blocks.len() as u64 + needed.max(blocks);
            let clusters = (entries * 8).div_ceil(self.cluster_size);
            if needed <= blocks && clusters <= table {
                return (table, blocks);
            }
            (table, blocks) = (clusters.max(table), needed.max(blocks));
        }
    }
}
