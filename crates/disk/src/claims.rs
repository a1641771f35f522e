//! Which bytes of a file are already in use, so that none is used for two places of a disk.
//!
//! A few kilobytes of tables that all name one cluster would otherwise unfold to terabytes.

use std::fmt::Display;

use crate::error::{Error, Result};
use crate::mapped::Packed;

/// At most this many bits (8 MiB); a larger file is watched in larger units.
const MAX_BITS: u64 = 1 << 26;

/// A bitmap over the units of a file.
pub(crate) struct Claims {
    unit: u64,
    bits: Vec<u64>,
}

impl Claims {
    /// Watches a file of `len` bytes in units of `unit` bytes (a power of two), or larger ones if the file is large.
    pub(crate) fn new(len: u64, unit: u64) -> Self {
        let mut unit = unit.max(1);
        while len / unit >= MAX_BITS {
            unit *= 2;
        }
        let words = usize::try_from(len / unit / 64 + 1).unwrap_or(0);
        Self { unit, bits: vec![0; words] }
    }

    /// Returns the bytes of a unit.
    pub(crate) fn unit(&self) -> u64 {
        self.unit
    }

    /// Takes the units that lie wholly inside the range; returns whether all of them were free.
    /// Units that the range only touches are left alone, so a sound file is never refused.
    #[must_use]
    pub(crate) fn take(&mut self, offset: u64, length: u64) -> bool {
        let last = self.bits.len() as u64 * 64;
        let (mut unit, end) = (offset.div_ceil(self.unit), (offset.saturating_add(length) / self.unit).min(last));
        let mut free = true;
        while unit < end {
            let (word, bit) = (&mut self.bits[(unit / 64) as usize], unit % 64);
            let count = (64 - bit).min(end - unit);
            let mask = (u64::MAX >> (64 - count)) << bit;
            free &= *word & mask == 0;
            *word |= mask;
            unit += count;
        }
        free
    }

    /// Returns whether the unit that holds `offset` was taken.
    pub(crate) fn is_taken(&self, offset: u64) -> bool {
        let unit = offset / self.unit;
        self.bits.get((unit / 64) as usize).is_some_and(|word| word & (1 << (unit % 64)) != 0)
    }

    /// Marks the unit that holds `offset`, taken or not.
    pub(crate) fn mark(&mut self, offset: u64) {
        let unit = offset / self.unit;
        if let Some(word) = self.bits.get_mut((unit / 64) as usize) {
            *word |= 1 << (unit % 64);
        }
    }
}

/// What the parts of a file are used for: whole clusters and tables, and compressed clusters between them.
pub(crate) struct Uses {
    whole: Claims,
    /// Units in which compressed clusters begin.
    shared: Claims,
    packed: Claims,
}

impl Uses {
    /// Watches a file of `len` bytes whose tables and whole clusters lie at multiples of `unit` bytes.
    pub(crate) fn new(len: u64, unit: u64) -> Self {
        Self { whole: Claims::new(len, unit), shared: Claims::new(len, unit), packed: Claims::new(len, 1) }
    }

    /// Takes `length` bytes at `offset` for `what`, which has them alone.
    pub(crate) fn whole(&mut self, offset: u64, length: u64, what: impl Display) -> Result<()> {
        let unit = self.shared.unit();
        let end = offset.saturating_add(length / unit * unit);
        let shared =
            (offset..end).step_by(usize::try_from(unit).unwrap_or(usize::MAX)).any(|at| self.shared.is_taken(at));
        if self.whole.take(offset, length) && !shared {
            return Ok(());
        }
        Err(in_use(what, offset))
    }

    /// Takes a compressed cluster, which may share a unit with others but no bytes.
    pub(crate) fn packed(&mut self, packed: Packed) -> Result<()> {
        self.stream(packed.offset, packed.length as u64)
    }

    /// Takes the beginning of a compressed cluster whose length is in sectors and may be too long, as some writers state it.
    pub(crate) fn beginning(&mut self, packed: Packed) -> Result<()> {
        let least = packed.length.saturating_sub(511).max(1) as u64;
        self.stream(packed.offset, least.min(2 * self.packed.unit()))
    }

    fn stream(&mut self, offset: u64, length: u64) -> Result<()> {
        let whole = self.whole.is_taken(offset);
        self.shared.mark(offset);
        if self.packed.take(offset, length) && !whole {
            return Ok(());
        }
        Err(in_use("a compressed cluster", offset))
    }
}

fn in_use(what: impl Display, offset: u64) -> Error {
    Error::corrupt(format!("{what} lies at byte {offset} of the file, which is already in use"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_taken_once() {
        let mut claims = Claims::new(1 << 20, 512);
        assert!(claims.take(512, 1024));
        assert!(claims.take(1536, 512));
        assert!(!claims.take(1024, 512));
        assert!(claims.is_taken(1100));
        assert!(!claims.is_taken(100));
    }

    #[test]
    fn a_large_file_is_watched_in_large_units_without_false_alarm() {
        let mut claims = Claims::new(1 << 46, 512);
        assert_eq!(claims.unit(), 1 << 21);
        assert!(claims.take(512, 512));
        assert!(claims.take(512, 512), "less than a unit is not watched");
        assert!(claims.take(0, 1 << 23));
        assert!(!claims.take(1 << 22, 1 << 21));
    }

    #[test]
    fn long_ranges_are_taken_to_the_unit() {
        for (start, units) in [(0, 1), (0, 64), (63, 2), (5, 200), (64, 64), (100, 27)] {
            let mut claims = Claims::new(1 << 20, 512);
            assert!(claims.take(start * 512, units * 512));
            let taken: Vec<_> = (0..300).filter(|unit| claims.is_taken(unit * 512)).collect();
            assert_eq!(taken, (start..start + units).collect::<Vec<_>>());
            assert!(claims.take((start + units) * 512, 512));
            assert!(!claims.take((start + units - 1) * 512, 1024));
        }
        assert!(Claims::new(1000, 512).take(u64::MAX - 5000, u64::MAX), "past the end nothing is watched");
    }

    #[test]
    fn compressed_clusters_share_units_but_no_bytes() {
        let packed = |offset, length| Packed { offset, length };
        let mut uses = Uses::new(1 << 20, 512);
        uses.packed(packed(1000, 30)).unwrap();
        uses.packed(packed(1030, 30)).unwrap();
        assert!(uses.packed(packed(1059, 30)).is_err());
        assert!(uses.whole(0, 4096, "a cluster").is_err(), "one begins inside");
        uses.whole(8192, 4096, "a cluster").unwrap();
        assert!(uses.packed(packed(8192 + 4000, 30)).is_err());
        assert!(uses.whole(8192, 512, "a table").is_err());
    }
}
