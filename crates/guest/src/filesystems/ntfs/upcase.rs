//! Capital letters as this volume knows them, by which its names are compared and sorted.

use std::cmp::Ordering;

use super::mft::Mft;
use super::{DATA, RECORD_UPCASE};

const UNITS: usize = 1 << 16;

/// The table of `$UpCase`.
pub(super) struct Upcase(Vec<u16>);

impl Upcase {
    /// Reads the table; where the volume has no sound one, only the letters of ASCII have capitals.
    pub(super) fn read(mft: &Mft) -> Self {
        let read = || mft.stream(&mft.file(RECORD_UPCASE).ok()??, DATA, "").ok()??.read(mft, 0, UNITS * 2).ok();
        let bytes = read().unwrap_or_default();
        let table: Vec<u16> = bytes.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
        let is_sound = table.len() == UNITS && (0..128).all(|unit| table[usize::from(unit)] == ascii(unit));
        Self(if is_sound { table } else { (0..=u16::MAX).map(ascii).collect() })
    }

    /// Compares names as the index of a folder sorts them ([MS-FSCC], collation of file names).
    pub(super) fn compare(&self, left: impl Iterator<Item = u16>, right: impl Iterator<Item = u16>) -> Ordering {
        let capital = |unit: u16| self.0[usize::from(unit)];
        left.map(capital).cmp(right.map(capital))
    }
}

fn ascii(unit: u16) -> u16 {
    u8::try_from(unit).map_or(unit, |letter| letter.to_ascii_uppercase().into())
}
