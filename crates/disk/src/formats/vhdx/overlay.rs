//! A file with changes over it that are kept in memory: what replaying its log would write.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::Result;
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};

/// What changes are made of; every change begins and ends at a multiple of it.
pub(super) const SECTOR: u64 = 4096;

/// Where a change ends, and its bytes: one sector, or any number of zeros if there are none.
struct Change {
    end: u64,
    bytes: Option<Box<[u8]>>,
}

/// A file and the changes over it, by where they begin; none overlap.
pub(super) struct Overlay {
    file: Arc<dyn Source>,
    changes: BTreeMap<u64, Change>,
}

impl Overlay {
    /// Makes an overlay without changes.
    pub(super) fn new(file: Arc<dyn Source>) -> Self {
        Self { file, changes: BTreeMap::new() }
    }

    /// Puts zeros from `start` to `end`, both multiples of a sector and inside the file.
    pub(super) fn put_zeros(&mut self, start: u64, end: u64) {
        if start < end {
            self.clear(start, end);
            self.changes.insert(start, Change { end, bytes: None });
        }
    }

    /// Puts one sector at `start`.
    pub(super) fn put_sector(&mut self, start: u64, bytes: Box<[u8]>) {
        let end = start + bytes.len() as u64;
        self.clear(start, end);
        self.changes.insert(start, Change { end, bytes: Some(bytes) });
    }

    /// Takes away the changes in a range. Only zeros can reach out of it, because a sector lies inside or outside.
    fn clear(&mut self, start: u64, end: u64) {
        let inside: Vec<u64> = self.range(start, end).map(|(begin, _)| begin).collect();
        for begin in inside {
            let Some(change) = self.changes.remove(&begin) else { continue };
            if begin < start {
                self.changes.insert(begin, Change { end: start, bytes: None });
            }
            if change.end > end {
                self.changes.insert(end, Change { end: change.end, bytes: None });
            }
        }
    }

    /// Returns the changes that touch a range, the last one first.
    fn range(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, &Change)> {
        let before = self.changes.range(..end).rev();
        before.take_while(move |(_, change)| change.end > start).map(|(begin, change)| (*begin, change))
    }
}

impl Source for Overlay {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.len(), offset, buf.len())?;
        self.file.read_at(buf, offset)?;
        let end = offset + buf.len() as u64;
        for (begin, change) in self.range(offset, end) {
            let (from, to) = (begin.max(offset), change.end.min(end));
            let part = &mut buf[(from - offset) as usize..(to - offset) as usize];
            match &change.bytes {
                Some(bytes) => part.copy_from_slice(&bytes[(from - begin) as usize..(to - begin) as usize]),
                None => part.fill(0),
            }
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.len(), offset)?;
        if let Some((_, change)) = self.range(offset, offset + 1).next() {
            let kind = if change.bytes.is_some() { ExtentKind::Data } else { ExtentKind::Zero };
            return Ok(Extent { offset, length: change.end - offset, kind });
        }
        let extent = self.file.extent_at(offset)?;
        let next = self.changes.range(offset..).next().map_or(u64::MAX, |(begin, _)| *begin);
        Ok(Extent { length: extent.length.min(next - offset), ..extent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every step is done to plain bytes too.
    #[test]
    fn changes_lie_over_each_other_in_their_order() {
        let mut plain: Vec<u8> = (0..64 * 4096_u32).map(|at| (at / 4096 + at % 7) as u8 | 1).collect();
        let mut overlay = Overlay::new(Arc::new(plain.clone()));
        let mut state = 7_u64;
        let mut below = |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % end
        };
        for step in 0..300 {
            let start = below(64) * SECTOR;
            if step % 3 == 0 {
                let end = (start + below(20) * SECTOR).min(64 * SECTOR);
                overlay.put_zeros(start, end);
                plain[start as usize..end as usize].fill(0);
            } else {
                overlay.put_sector(start, vec![step as u8 | 1; SECTOR as usize].into());
                plain[start as usize..][..SECTOR as usize].fill(step as u8 | 1);
            }
            let (from, length) = (below(63 * SECTOR), below(SECTOR));
            let mut bytes = vec![0xee; length as usize];
            overlay.read_at(&mut bytes, from).unwrap();
            assert_eq!(bytes, plain[from as usize..(from + length) as usize]);
            let extent = overlay.extent_at(from).unwrap();
            let bytes = &plain[from as usize..extent.end() as usize];
            assert_eq!(extent.kind == ExtentKind::Zero, bytes[0] == 0, "step {step}");
            assert!(extent.kind == ExtentKind::Data || bytes.iter().all(|byte| *byte == 0));
        }
    }
}
