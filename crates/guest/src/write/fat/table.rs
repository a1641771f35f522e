//! The table: which cluster follows which.

use std::collections::BTreeSet;

use disk::error::{Error, ErrorKind, Result};
use disk::source::Source;

use super::layout::{Layout, Width, dirty};
use crate::fields::{le16, le32, put_le16, put_le32};

/// An entry of a cluster that nothing uses.
const FREE: u32 = 0;

/// The table of a volume, as it is in all its copies.
#[derive(Debug)]
pub(super) struct Table {
    width: Width,
    /// The first number that is no cluster's.
    end: u32,
    raw: Vec<u8>,
    /// Sectors that differ from the disk.
    changed: BTreeSet<usize>,
    sector_size: usize,
    /// Where the search for the next free cluster begins.
    hint: u32,
}

impl Table {
    /// Reads the table of the volume at `offset`.
    ///
    /// # Errors
    ///
    /// Where its copies differ, it is marked as dirty, or the disk cannot be read.
    pub(super) fn load(disk: &dyn Source, offset: u64, layout: &Layout) -> Result<Self> {
        let read = |at: u64| -> Result<Vec<u8>> {
            let mut raw = vec![0; layout.table_size()];
            disk.read_at(&mut raw, offset + at)?;
            Ok(raw)
        };
        let raw = read(layout.tables[0])?;
        for copy in &layout.tables[1..] {
            if read(*copy)? != raw {
                return Err(Error::refused("the two tables of the FAT differ")
                    .with_hint("check it with fsck.fat in the running guest, and shut that down"));
            }
        }
        let end = layout.clusters + 2;
        let (width, sector_size) = (layout.width, layout.sector_size);
        let table = Self { width, end, raw, changed: BTreeSet::new(), sector_size, hint: 2 };
        // The entry of cluster 1, which there is not, says whether the volume was unmounted.
        let clean = match width {
            Width::Twelve => 0,
            Width::Sixteen => 0x8000,
            Width::ThirtyTwo => 0x0800_0000,
        };
        if table.entry(1) & clean != clean { Err(dirty()) } else { Ok(table) }
    }

    fn entry(&self, cluster: u32) -> u32 {
        let at = cluster as usize;
        match self.width {
            Width::Twelve => u32::from(le16(&self.raw, at * 3 / 2) >> (at % 2 * 4) & 0xfff),
            Width::Sixteen => le16(&self.raw, at * 2).into(),
            Width::ThirtyTwo => le32(&self.raw, at * 4) & 0x0fff_ffff,
        }
    }

    fn set(&mut self, cluster: u32, value: u32) {
        let at = cluster as usize;
        let place = match self.width {
            Width::Twelve => {
                let (place, shift) = (at * 3 / 2, at % 2 * 4);
                let others = le16(&self.raw, place) & !(0xfff << shift);
                put_le16(&mut self.raw, place, others | (value as u16 & 0xfff) << shift);
                place
            }
            Width::Sixteen => {
                put_le16(&mut self.raw, at * 2, value as u16);
                at * 2
            }
            Width::ThirtyTwo => {
                // The highest four bits are nobody's, and stay.
                let others = le32(&self.raw, at * 4) & 0xf000_0000;
                put_le32(&mut self.raw, at * 4, others | value & 0x0fff_ffff);
                at * 4
            }
        };
        // An entry of twelve bits may lie in two sectors.
        self.changed.extend([place / self.sector_size, (place + 1) / self.sector_size]);
    }

    /// Returns the cluster after `cluster`; none where that is the last one.
    ///
    /// # Errors
    ///
    /// Where `cluster` is not one of the volume, or not part of a chain.
    pub(super) fn next(&self, cluster: u32) -> Result<Option<u32>> {
        let last = match self.width {
            Width::Twelve => 0xff8,
            Width::Sixteen => 0xfff8,
            Width::ThirtyTwo => 0x0fff_fff8,
        };
        if !(2..self.end).contains(&cluster) {
            return Err(Error::corrupt(format!("cluster {cluster} of the FAT is not there")));
        }
        match self.entry(cluster) {
            next if next >= last => Ok(None),
            next if (2..self.end).contains(&next) => Ok(Some(next)),
            _ => Err(Error::corrupt(format!("cluster {cluster} of the FAT is in use and not in the table"))),
        }
    }

    /// Returns the clusters from `first` on; none for zero, as an empty file has it.
    ///
    /// # Errors
    ///
    /// Where the chain is broken or has no end.
    pub(super) fn chain(&self, first: u32) -> Result<Vec<u32>> {
        let mut chain = Vec::new();
        let mut next = (first != 0).then_some(first);
        while let Some(cluster) = next {
            next = self.next(cluster)?;
            chain.push(cluster);
            if chain.len() as u64 > u64::from(self.end) {
                return Err(Error::corrupt("a chain of clusters of the FAT has no end"));
            }
        }
        Ok(chain)
    }

    /// Takes `count` clusters, and makes them follow `last`, if there is one, and each other.
    ///
    /// # Errors
    ///
    /// Where there are not so many.
    pub(super) fn take(&mut self, count: usize, last: Option<u32>) -> Result<Vec<u32>> {
        let free = |cluster: &u32| self.entry(*cluster) == FREE;
        let taken: Vec<u32> = (self.hint..self.end).chain(2..self.hint).filter(free).take(count).collect();
        if taken.len() < count {
            let told = format!("the FAT is full: {count} clusters are needed, and {} are free", taken.len());
            return Err(Error::new(ErrorKind::TooLarge, told)
                .with_hint("delete what is not needed on that file system in the running guest, such as old kernels"));
        }
        let mut before = last;
        for cluster in &taken {
            if let Some(before) = before {
                self.set(before, *cluster);
            }
            self.set(*cluster, 0x0fff_ffff);
            before = Some(*cluster);
        }
        self.hint = taken.last().map_or(self.hint, |last| last + 1);
        Ok(taken)
    }

    /// Lets the next search begin at the first of `places` from which on `count` clusters are free, if there is one.
    pub(super) fn begin_at(&mut self, places: impl Iterator<Item = u32>, count: usize) {
        let is_free = |first: &u32| {
            let end = (*first as usize).saturating_add(count);
            end <= self.end as usize && (*first..end as u32).all(|cluster| self.entry(cluster) == FREE)
        };
        if let Some(first) = { places }.find(is_free) {
            self.hint = first;
        }
    }

    /// Gives clusters back.
    pub(super) fn free(&mut self, chain: &[u32]) {
        chain.iter().for_each(|cluster| self.set(*cluster, FREE));
    }

    /// Returns how many clusters are free, and the last one that was taken.
    pub(super) fn counts(&self) -> (u32, u32) {
        ((2..self.end).filter(|cluster| self.entry(*cluster) == FREE).count() as u32, self.hint - 1)
    }

    /// Returns the sectors that were changed, by their place in the table, and takes them as written.
    pub(super) fn take_changes(&mut self) -> Vec<(usize, Vec<u8>)> {
        let size = self.sector_size;
        let sector = |number: usize| (number * size, self.raw[number * size..(number + 1) * size].to_vec());
        std::mem::take(&mut self.changed).into_iter().map(sector).collect()
    }
}
