//! The bytes of an attribute: inside the record, in runs of clusters, or compressed in units of clusters.

use super::attribute::Attribute;
use super::compressed;
use super::mft::Mft;
use super::runs::{self, Run};

const FLAG_COMPRESSED: u16 = 0xff;
const FLAG_ENCRYPTED: u16 = 0x4000;
/// Largest unit that is compressed as one: Windows makes 64 KiB.
const UNIT_MAX: u64 = 1 << 20;

/// An attribute that was looked up.
pub(super) enum Stream {
    Inside(Vec<u8>),
    Outside(Outside),
}

/// A value in clusters of its own.
pub(super) struct Outside {
    runs: Vec<Run>,
    size: u64,
    initialized: u64,
    /// Clusters that are compressed together; none where the stream is plain.
    unit: Option<u64>,
    is_encrypted: bool,
}

impl Stream {
    pub(super) fn empty() -> Self {
        Self::Inside(Vec::new())
    }

    /// Makes a stream of the first piece of an attribute.
    pub(super) fn new(first: Attribute<'_>, mft: &Mft) -> Result<Self, String> {
        if let Some(value) = first.value() {
            return Ok(Self::Inside(value.to_vec()));
        }
        let is_compressed = first.flags() & FLAG_COMPRESSED != 0 && first.compression_power() != 0;
        let unit = is_compressed.then(|| 1_u64.checked_shl(first.compression_power().into()));
        if !first.is_outside() || unit.flatten().is_none() && is_compressed || first.size() > i64::MAX as u64 {
            return Err("one of its attributes is broken".to_owned());
        }
        let mut outside = Outside {
            runs: Vec::new(),
            size: first.size(),
            initialized: first.initialized(),
            unit: unit.flatten(),
            is_encrypted: first.flags() & FLAG_ENCRYPTED != 0,
        };
        outside.add(first, mft)?;
        Ok(Self::Outside(outside))
    }

    /// Adds the next piece.
    pub(super) fn add(&mut self, piece: Attribute<'_>, mft: &Mft) -> Result<(), String> {
        match self {
            Self::Outside(outside) if piece.is_outside() => outside.add(piece, mft),
            _ => Err("one of its attributes is there twice".to_owned()),
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Inside(value) => value.len() as u64,
            Self::Outside(outside) => outside.size,
        }
    }

    /// Reads from `offset` on: `most` bytes, or fewer where the stream ends.
    pub(super) fn read(&self, mft: &Mft, offset: u64, most: usize) -> Result<Vec<u8>, String> {
        match self {
            Self::Inside(value) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(value.len());
                Ok(value[start..start.saturating_add(most).min(value.len())].to_vec())
            }
            Self::Outside(outside) => outside.read(mft, offset, most),
        }
    }

    /// Returns where its bytes lie in the window; an error says why they lie nowhere as they are.
    pub(super) fn extents(&self, mft: &Mft) -> Result<Vec<(u64, u64)>, &'static str> {
        let Self::Outside(outside) = self else { return Err("it lies in its record of the table of files") };
        if outside.unit.is_some() {
            return Err("it is compressed");
        }
        if outside.is_encrypted {
            return Err("it is encrypted by Windows (EFS)");
        }
        // Bytes that were never written read as zero, whatever is put there.
        if outside.initialized < outside.size {
            return Err("its end was never written");
        }
        let cluster = mft.geometry().cluster;
        let mut left = outside.size;
        let mut extents = Vec::new();
        for run in &outside.runs {
            let length = (run.clusters * cluster).min(left);
            if length == 0 {
                break;
            }
            extents.push((run.lcn.ok_or("it has holes")? * cluster, length));
            left -= length;
        }
        if left == 0 { Ok(extents) } else { Err("it is longer than its clusters") }
    }
}

impl Outside {
    fn add(&mut self, piece: Attribute<'_>, mft: &Mft) -> Result<(), String> {
        runs::unpack(&mut self.runs, piece.runs(), piece.first_vcn(), mft.geometry().clusters)
    }

    fn read(&self, mft: &Mft, offset: u64, most: usize) -> Result<Vec<u8>, String> {
        if self.is_encrypted {
            return Err("it is encrypted by Windows (EFS)".to_owned());
        }
        let left = self.size.saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(most)];
        let written = usize::try_from(self.initialized.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = written.min(bytes.len());
        match self.unit {
            None => self.fill(mft, offset, &mut bytes[..length])?,
            Some(unit) => self.fill_units(mft, unit, offset, &mut bytes[..length])?,
        }
        Ok(bytes)
    }

    /// Returns the runs from the one that holds cluster `vcn` on.
    fn runs_from(&self, vcn: u64) -> &[Run] {
        &self.runs[self.runs.partition_point(|run| run.end() <= vcn)..]
    }

    /// Fills `buf` from clusters as they lie; a hole leaves it as it is.
    fn fill(&self, mft: &Mft, offset: u64, buf: &mut [u8]) -> Result<(), String> {
        let cluster = mft.geometry().cluster;
        let mut at = offset;
        let mut rest = buf;
        for run in self.runs_from(offset / cluster) {
            if rest.is_empty() {
                return Ok(());
            }
            // No overflow: runs::unpack keeps clusters below 2^43, and a cluster has at most 2^21 bytes.
            let skip = at - run.vcn * cluster;
            let count = usize::try_from(run.clusters * cluster - skip).unwrap_or(usize::MAX).min(rest.len());
            let (part, tail) = rest.split_at_mut(count);
            if let Some(lcn) = run.lcn {
                mft.read_at(part, lcn * cluster + skip)?;
            }
            at += count as u64;
            rest = tail;
        }
        if rest.is_empty() { Ok(()) } else { Err("it is longer than its clusters".to_owned()) }
    }

    fn fill_units(&self, mft: &Mft, clusters: u64, offset: u64, buf: &mut [u8]) -> Result<(), String> {
        let size = clusters.saturating_mul(mft.geometry().cluster);
        if size > UNIT_MAX {
            return Err(format!("it is compressed in units of {size} bytes, over the limit of {UNIT_MAX}"));
        }
        let mut filled = 0;
        while filled < buf.len() {
            let at = offset + filled as u64;
            let (unit, skip) = (at / size, (at % size) as usize);
            let count = (size as usize - skip).min(buf.len() - filled);
            let bytes = self.read_unit(mft, unit * clusters, clusters)?;
            buf[filled..filled + count].copy_from_slice(&bytes[skip..skip + count]);
            filled += count;
        }
        Ok(())
    }

    /// Reads one unit: all its clusters are there, or the first of them hold it compressed, or none is.
    fn read_unit(&self, mft: &Mft, vcn: u64, clusters: u64) -> Result<Vec<u8>, String> {
        let cluster = mft.geometry().cluster;
        let there = self.runs_from(vcn).iter().take_while(|run| run.lcn.is_some() && run.vcn < vcn + clusters);
        let end = there.last().map_or(vcn, |run| run.end().min(vcn + clusters));
        let mut bytes = vec![0; ((end - vcn) * cluster) as usize];
        self.fill(mft, vcn * cluster, &mut bytes)?;
        let size = (clusters * cluster) as usize;
        if bytes.len() == size || bytes.is_empty() {
            bytes.resize(size, 0);
            return Ok(bytes);
        }
        compressed::unpack(&bytes, size)
    }
}
