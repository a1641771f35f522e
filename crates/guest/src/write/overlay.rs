//! A disk with changes that are kept in memory.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use disk::error::{Error, ErrorKind, Result};
use disk::source::{Extent, ExtentKind, Source, check_offset, check_range};

/// Bytes that are kept together; a write of fewer reads the rest from the base.
const PAGE: u64 = 4096;
/// Most bytes of changes: files of configuration take kilobytes, a segment of an initramfs a few megabytes.
const CHANGED_MAX: u64 = 256 << 20;

/// A disk, and blocks of 4 KiB that were written since: the base itself is never changed.
pub struct Overlay {
    base: Arc<dyn Source>,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl fmt::Debug for Overlay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Overlay").field("len", &self.len()).field("changed", &self.changed_bytes()).finish()
    }
}

impl Overlay {
    /// Makes a disk that is equal to `base`.
    pub fn new(base: Arc<dyn Source>) -> Self {
        Self { base, pages: BTreeMap::new() }
    }

    /// Writes `bytes` at `offset`.
    ///
    /// # Errors
    ///
    /// Nothing is written where the range goes past the end, where the base cannot be read, or where more than 256 MiB
    /// would have been changed.
    pub fn write_at(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        self.write_all(&[(offset, bytes)])
    }

    /// Returns the ranges that were written, in order and joined; their bytes are read by [`Source::read_at`].
    ///
    /// They are whole blocks of 4 KiB (the last one of the disk may be shorter) and may hold bytes that did not change.
    #[must_use]
    pub fn changes(&self) -> Vec<Range<u64>> {
        let mut changes: Vec<Range<u64>> = Vec::new();
        for (number, page) in &self.pages {
            let range = number * PAGE..number * PAGE + page.len() as u64;
            match changes.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => changes.push(range),
            }
        }
        changes
    }

    /// Returns how many bytes [`Overlay::changes`] are.
    #[must_use]
    pub fn changed_bytes(&self) -> u64 {
        self.pages.values().map(|page| page.len() as u64).sum()
    }

    /// Makes all `writes` (place and bytes), or none of them.
    pub(crate) fn write_all(&mut self, writes: &[(u64, &[u8])]) -> Result<()> {
        let mut new: BTreeMap<u64, Box<[u8]>> = BTreeMap::new();
        for (offset, bytes) in writes {
            check_range(self.len(), *offset, bytes.len())?;
            let mut rest = *bytes;
            let mut at = *offset;
            while !rest.is_empty() {
                let number = at / PAGE;
                let skip = (at % PAGE) as usize;
                let page = match new.entry(number) {
                    std::collections::btree_map::Entry::Occupied(page) => page.into_mut(),
                    std::collections::btree_map::Entry::Vacant(place) => place.insert(self.page(number, rest, skip)?),
                };
                let count = rest.len().min(page.len() - skip);
                page[skip..skip + count].copy_from_slice(&rest[..count]);
                rest = &rest[count..];
                at += count as u64;
            }
        }
        let added = new.keys().filter(|number| !self.pages.contains_key(number)).count() as u64;
        if (self.pages.len() as u64).saturating_add(added) > CHANGED_MAX / PAGE {
            let most = CHANGED_MAX >> 20;
            return Err(Error::new(ErrorKind::TooLarge, format!("more than {most} MiB of the disk would be changed")));
        }
        self.pages.append(&mut new);
        Ok(())
    }

    /// Returns a copy of page `number`, without reading it where `bytes` at `skip` will replace it as a whole.
    fn page(&self, number: u64, bytes: &[u8], skip: usize) -> Result<Box<[u8]>> {
        let start = number * PAGE;
        let length = PAGE.min(self.len() - start) as usize;
        let mut page = vec![0; length].into_boxed_slice();
        if skip > 0 || bytes.len() < length {
            self.read_at(&mut page, start)?;
        }
        Ok(page)
    }
}

impl Source for Overlay {
    fn len(&self) -> u64 {
        self.base.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.len(), offset, buf.len())?;
        let end = offset + buf.len() as u64;
        let mut at = offset;
        while at < end {
            let filled = (at - offset) as usize;
            let skip = (at % PAGE) as usize;
            if let Some(page) = self.pages.get(&(at / PAGE)) {
                let count = (page.len() - skip).min(buf.len() - filled);
                buf[filled..filled + count].copy_from_slice(&page[skip..skip + count]);
                at += count as u64;
                continue;
            }
            // One read of the base as far as nothing was written.
            let next = self.pages.range(at / PAGE..).next().map_or(end, |(number, _)| end.min(number * PAGE));
            self.base.read_at(&mut buf[filled..filled + (next - at) as usize], at)?;
            at = next;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.len(), offset)?;
        let mut number = offset / PAGE;
        if self.pages.contains_key(&number) {
            while self.pages.contains_key(&number) {
                number += 1;
            }
            let end = (number * PAGE).min(self.len());
            return Ok(Extent { offset, length: end - offset, kind: ExtentKind::Data });
        }
        let mut extent = self.base.extent_at(offset)?;
        if let Some((next, _)) = self.pages.range(number..).next() {
            extent.length = extent.length.min(next * PAGE - offset);
        }
        Ok(extent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Zeros(u64);

    impl Source for Zeros {
        fn len(&self) -> u64 {
            self.0
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            check_range(self.0, offset, buf.len())?;
            buf.fill(0);
            Ok(())
        }

        fn extent_at(&self, offset: u64) -> Result<Extent> {
            Ok(Extent { offset, length: self.0 - offset, kind: ExtentKind::Zero })
        }
    }

    fn bytes_of(overlay: &Overlay, range: Range<u64>) -> Vec<u8> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        overlay.read_at(&mut bytes, range.start).unwrap();
        bytes
    }

    #[test]
    fn what_was_written_is_read_and_told() {
        let base: Vec<u8> = (0..20_000_u32).map(|at| at as u8).collect();
        let mut overlay = Overlay::new(Arc::new(base.clone()));
        let mut model = base;
        let writes: [(u64, &[u8]); 4] = [(4090, &[1; 10]), (19_990, &[2; 10]), (8192, &[3; 4096]), (4095, &[4])];
        for (at, bytes) in writes {
            overlay.write_at(bytes, at).unwrap();
            model[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        }
        assert_eq!(bytes_of(&overlay, 0..20_000), model);
        assert_eq!(bytes_of(&overlay, 4000..9000), model[4000..9000]);
        assert_eq!(overlay.changes(), [0..12_288, 16_384..20_000]);
        assert_eq!(overlay.changed_bytes(), 12_288 + 3616);
    }

    #[test]
    fn nothing_is_written_past_the_end_or_over_the_limit() {
        let mut overlay = Overlay::new(Arc::new(Zeros(1 << 40)));
        assert!(overlay.write_all(&[(0, &[1]), ((1 << 40) - 1, &[1; 2])]).is_err());
        assert!(overlay.changes().is_empty());
        let piece = vec![7; 64 << 20];
        for at in 0..4_u64 {
            overlay.write_at(&piece, at << 30).unwrap();
        }
        assert_eq!(overlay.write_at(&[1], 1 << 39).unwrap_err().kind(), ErrorKind::TooLarge);
        overlay.write_at(&[1; 4096], 5).unwrap();
        assert_eq!(overlay.changed_bytes(), CHANGED_MAX);
    }

    #[test]
    fn extents_tell_zeros_between_changes() {
        let mut overlay = Overlay::new(Arc::new(Zeros(100_000)));
        overlay.write_at(&[1; 5000], 40_960).unwrap();
        let extent = |offset, length, kind| Extent { offset, length, kind };
        assert_eq!(overlay.extent_at(10).unwrap(), extent(10, 40_950, ExtentKind::Zero));
        assert_eq!(overlay.extent_at(41_000).unwrap(), extent(41_000, 8152, ExtentKind::Data));
        assert_eq!(overlay.extent_at(49_152).unwrap(), extent(49_152, 50_848, ExtentKind::Zero));
        assert!(overlay.extent_at(100_000).is_err());
    }
}
