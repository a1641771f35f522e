//! Disk files as fuzzers like them: short, without the zeros that make up most of a real one.
//!
//! ```text
//! record: 3 bytes  sector, little-endian | 1 byte  length in units of 16 bytes, 1 to 32 | the bytes
//! end:    3 bytes  sector                | 1 byte  0: the file is this many sectors long
//! ```
//! A record puts its bytes at its sector; without an end the file ends where its last record does.

use disk::source::{Source, check_range};

const SECTOR: u64 = 512;
const UNIT: usize = 16;
const MOST_UNITS: u8 = 32;

/// A file whose other bytes are zero.
pub struct SparseFile {
    length: u64,
    /// In order of their places; later records stand over earlier ones.
    records: Vec<(u64, Vec<u8>)>,
}

impl SparseFile {
    /// Decodes a file; any bytes make one.
    pub fn decode(mut data: &[u8]) -> Self {
        let mut file = Self { length: 0, records: Vec::new() };
        while let Some((head, rest)) = data.split_at_checked(4) {
            let offset = u64::from(u32::from_le_bytes([head[0], head[1], head[2], 0])) * SECTOR;
            let units = head[3];
            if units == 0 {
                file.length = offset;
                break;
            }
            let length = (usize::from(units.min(MOST_UNITS)) * UNIT).min(rest.len());
            let (bytes, rest) = rest.split_at(length);
            file.length = file.length.max(offset + length as u64);
            file.records.push((offset, bytes.to_vec()));
            data = rest;
        }
        file.records.sort_by_key(|(offset, _)| *offset);
        file
    }

    /// Encodes a file of at most 8 GiB; its length is rounded up to a sector.
    pub fn encode(bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, sector) in bytes.chunks(SECTOR as usize).enumerate() {
            let used = sector.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            if used == 0 {
                continue;
            }
            let units = used.div_ceil(UNIT);
            out.extend(&(number as u32).to_le_bytes()[..3]);
            out.push(units as u8);
            out.extend(&sector[..(units * UNIT).min(sector.len())]);
        }
        let sectors = (bytes.len() as u64).div_ceil(SECTOR);
        out.extend(&(sectors as u32).to_le_bytes()[..3]);
        out.push(0);
        out
    }
}

impl Source for SparseFile {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        check_range(self.length, offset, buf.len())?;
        buf.fill(0);
        let end = offset + buf.len() as u64;
        // A record is at most one sector long, so what begins earlier than that does not reach here.
        let first = self.records.partition_point(|(at, _)| at + SECTOR <= offset);
        for (at, bytes) in self.records[first..].iter().take_while(|(at, _)| *at < end) {
            let (from, to) = (offset.max(*at), end.min(at + bytes.len() as u64));
            if from < to {
                let part = &bytes[(from - at) as usize..(to - at) as usize];
                buf[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
            }
        }
        Ok(())
    }
}
