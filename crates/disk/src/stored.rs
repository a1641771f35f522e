//! Which units of a disk (clusters, blocks, grains) a layout stores, and where: those that hold any data, in order.

use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use crate::error::{Error, ErrorKind, Result};
use crate::source::{ExtentKind, Source};
use crate::zeros::is_zero;

/// The map of a disk has at most this many runs of stored units, which take 16 bytes each: 128 MiB in all.
const MAX_RUNS: usize = 8 << 20;

/// Neighbouring stored units.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// Number of the first one in the disk.
    unit: u64,
    /// How many are stored before it.
    before: u64,
}

/// Which units of the disk are stored, in order, and the disk that holds their bytes.
pub(crate) struct Stored {
    disk: Arc<dyn Source>,
    unit_size: u64,
    runs: Vec<Run>,
    total: u64,
}

impl Stored {
    /// Finds the units of `unit_size` bytes of `disk` that hold any data by its extents; the data are not looked at.
    pub(crate) fn new(disk: Arc<dyn Source>, unit_size: u64) -> Result<Self> {
        let len = disk.len();
        let mut map = Self { disk, unit_size, runs: Vec::new(), total: 0 };
        let mut offset = 0;
        while offset < len {
            let extent = map.disk.extent_at(offset)?;
            if extent.kind == ExtentKind::Data {
                map.touch(&(offset..extent.end()))?;
            }
            offset = extent.end();
        }
        Ok(map)
    }

    /// Takes the units of `disk` of which any byte lies in `ranges`, which are in order; zeros or not.
    pub(crate) fn touched(disk: Arc<dyn Source>, unit_size: u64, ranges: &[Range<u64>]) -> Result<Self> {
        let mut map = Self { disk, unit_size, runs: Vec::new(), total: 0 };
        ranges.iter().try_for_each(|range| map.touch(range))?;
        Ok(map)
    }

    /// Returns those of these units that hold anything but zeros; for that they are read.
    pub(crate) fn without_zeros(&self) -> Result<Self> {
        let disk = Arc::clone(&self.disk);
        let mut map = Self { disk, unit_size: self.unit_size, runs: Vec::new(), total: 0 };
        let mut bytes = vec![0; self.unit_size as usize];
        for number in 0..self.total {
            self.read(&mut bytes, number * self.unit_size)?;
            if !is_zero(&bytes) {
                map.push(self.locate(number).0, 1)?;
            }
        }
        Ok(map)
    }

    /// Takes all units of `disk`, with or without data.
    pub(crate) fn all(disk: Arc<dyn Source>, unit_size: u64) -> Self {
        let total = disk.len().div_ceil(unit_size);
        let runs = if total > 0 { vec![Run { unit: 0, before: 0 }] } else { Vec::new() };
        Self { disk, unit_size, runs, total }
    }

    /// Stores the units of which any byte lies in `range`, which does not begin before one that was stored already.
    fn touch(&mut self, range: &Range<u64>) -> Result<()> {
        let first = (range.start / self.unit_size).max(self.end());
        let end = range.end.div_ceil(self.unit_size);
        if first < end { self.push(first, end - first) } else { Ok(()) }
    }

    /// Returns the number of the unit after the last one that is stored.
    fn end(&self) -> u64 {
        self.runs.last().map_or(0, |last| last.unit + (self.total - last.before))
    }

    fn push(&mut self, unit: u64, count: u64) -> Result<()> {
        let adjoins = !self.runs.is_empty() && self.end() == unit;
        if !adjoins {
            if self.runs.len() == MAX_RUNS {
                return Err(Error::new(ErrorKind::TooLarge, format!("the disk has more than {MAX_RUNS} runs of data"))
                    .with_hint("choose larger clusters or blocks"));
            }
            self.runs.push(Run { unit, before: self.total });
        }
        self.total += count;
        Ok(())
    }

    /// Returns the disk.
    pub(crate) fn disk(&self) -> &Arc<dyn Source> {
        &self.disk
    }

    /// Returns how many units are stored.
    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    /// Returns the runs of stored units in order: the number of the first in the disk, and how many they are.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (u64, u64)> {
        (0..self.runs.len()).map(|run| (self.runs[run].unit, self.length(run)))
    }

    /// Returns a UUID (version 8) for a file of kind `what`, made of the size of the disk and of which units are stored.
    /// So the same disk always gets the same one, and its data need not be read for it.
    pub(crate) fn uuid(&self, what: &str) -> Uuid {
        let mut hash = Sha256::new();
        hash.update(what);
        hash.update([self.disk.len().to_le_bytes(), self.unit_size.to_le_bytes()].as_flattened());
        for (unit, count) in self.runs() {
            hash.update([unit.to_le_bytes(), count.to_le_bytes()].as_flattened());
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        Builder::from_custom_bytes(bytes).into_uuid()
    }

    fn length(&self, run: usize) -> u64 {
        self.runs.get(run + 1).map_or(self.total, |next| next.before) - self.runs[run].before
    }

    /// Returns how many stored units lie before unit `unit` of the disk, and whether it is stored itself.
    pub(crate) fn rank(&self, unit: u64) -> (u64, bool) {
        let Some(run) = self.runs.partition_point(|run| run.unit <= unit).checked_sub(1) else {
            return (0, false);
        };
        let (first, count) = (self.runs[run], self.length(run));
        let within = unit - first.unit;
        (first.before + within.min(count), within < count)
    }

    /// Returns the number in the disk of stored unit `number`, and how many units, itself included, lie one after the
    /// other both in the disk and among the stored ones from there on.
    pub(crate) fn locate(&self, number: u64) -> (u64, u64) {
        let run = self.runs.partition_point(|run| run.before <= number) - 1;
        let within = number - self.runs[run].before;
        (self.runs[run].unit + within, self.length(run) - within)
    }

    /// Returns the byte of the disk that lies at byte `within` of the stored units put one after the other, and how many
    /// bytes follow one another in both from there on.
    fn disk_range(&self, within: u64) -> (u64, u64) {
        let (unit, count) = self.locate(within / self.unit_size);
        let within = within % self.unit_size;
        (unit * self.unit_size + within, count * self.unit_size - within)
    }

    /// Fills the beginning of `buf` from byte `within` of the stored units put one after the other; returns how many
    /// bytes were filled. The last unit may reach past the end of the disk, with zeros.
    pub(crate) fn read(&self, buf: &mut [u8], within: u64) -> Result<usize> {
        let (start, follow) = self.disk_range(within);
        let length = follow.min(buf.len() as u64) as usize;
        let inside = self.disk.len().saturating_sub(start).min(length as u64) as usize;
        let (data, padding) = buf[..length].split_at_mut(inside);
        if !data.is_empty() {
            self.disk.read_at(data, start)?;
        }
        padding.fill(0);
        Ok(length)
    }

    /// Returns what lies from byte `within` of the stored units put one after the other: how many bytes, and of which kind.
    pub(crate) fn extent(&self, within: u64) -> Result<(u64, ExtentKind)> {
        let (start, follow) = self.disk_range(within);
        if start >= self.disk.len() {
            return Ok((follow, ExtentKind::Zero));
        }
        let extent = self.disk.extent_at(start)?;
        Ok((extent.length.min(follow), extent.kind))
    }
}
