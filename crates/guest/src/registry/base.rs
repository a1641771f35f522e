//! The base block: version, sequence numbers, and where the root key lies.

use disk::error::{Error, Result};

use super::BASE;
use crate::fields::{le32, stands_at};

const SEQUENCE_FIRST: usize = 4;
const SEQUENCE_SECOND: usize = 8;
const TIME: usize = 12;
pub(super) const BINS: usize = 40;
const CHECKSUM: usize = 508;

/// What the base block says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Base {
    pub(super) minor: u32,
    pub(super) root: u32,
    /// Bytes of all bins, as far as they are there.
    pub(super) bins: usize,
    /// Whether the bins that it counts are cut off.
    pub(super) is_cut: bool,
    pub(super) sequences: (u32, u32),
    pub(super) is_checksum_right: bool,
}

impl Base {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < BASE || !stands_at(bytes, 0, b"regf") {
            return Err(Error::corrupt("it is no registry hive"));
        }
        let (major, minor) = (le32(bytes, 20), le32(bytes, 24));
        if major != 1 || !(3..=6).contains(&minor) {
            return Err(Error::unsupported(format!("its registry format is {major}.{minor}; 1.3 to 1.6 are read")));
        }
        let claimed = usize::try_from(le32(bytes, BINS)).unwrap_or(usize::MAX);
        let bins = claimed.min(bytes.len() - BASE);
        Ok(Self {
            minor,
            root: le32(bytes, 36),
            bins,
            is_cut: bins < claimed,
            sequences: (le32(bytes, SEQUENCE_FIRST), le32(bytes, SEQUENCE_SECOND)),
            is_checksum_right: cfg!(fuzzing) || checksum(bytes) == le32(bytes, CHECKSUM),
        })
    }

    /// Returns whether a write to it was begun and not ended: what is missing is in its logs.
    pub(super) fn is_dirty(&self) -> bool {
        self.sequences.0 != self.sequences.1 || !self.is_checksum_right
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let sum = bytes[..CHECKSUM].chunks_exact(4).fold(0, |sum, word| sum ^ le32(word, 0));
    match sum {
        0 => 1,
        u32::MAX => u32::MAX - 1,
        _ => sum,
    }
}

/// Writes the base block anew after a whole and finished change at `time`.
pub(super) fn stamp(bytes: &mut [u8], time: u64) {
    let sequence = le32(bytes, SEQUENCE_FIRST).wrapping_add(1).to_le_bytes();
    bytes[SEQUENCE_FIRST..SEQUENCE_FIRST + 4].copy_from_slice(&sequence);
    bytes[SEQUENCE_SECOND..SEQUENCE_SECOND + 4].copy_from_slice(&sequence);
    bytes[TIME..TIME + 8].copy_from_slice(&time.to_le_bytes());
    let sum = checksum(bytes).to_le_bytes();
    bytes[CHECKSUM..CHECKSUM + 4].copy_from_slice(&sum);
}
