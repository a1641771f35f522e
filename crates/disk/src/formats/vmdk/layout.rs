//! The monolithicSparse file that would hold a disk, computed piece by piece from the extents of the disk.
//!
//! ```text
//! header | descriptor | directory | all tables | directory | all tables | up to a grain: zeros | grains in the order of the disk
//! ```
//! As VMware lays it out, all tables exist, twice. A grain is stored if any byte of it is data; a table without one is a
//! hole. The same disk gives the same file, byte for byte.

use std::ops::Range;

use super::describe::{Description, content_of, sectors};
use super::header::{DESCRIPTOR_SECTORS, ENTRIES, GRAIN, MAX_DIRECTORY, NewHeader, SECTOR};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::fill;
use crate::options::WriteOptions;
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};
use crate::stored::Stored;

/// Bytes of a grain table.
const TABLE: u64 = ENTRIES * 4;

/// One copy of the directory and the tables: where they lie, in bytes.
struct Copy {
    directory: Range<u64>,
    tables: Range<u64>,
}

/// A sparse file of which any range can be read alone.
pub(super) struct Layout {
    stored: Stored,
    /// Header and descriptor.
    head: Vec<u8>,
    copies: [Copy; 2],
    /// Where the grains begin, in bytes.
    data: u64,
}

impl Layout {
    /// Lays out the file of the disk of which `stored` are the grains.
    pub(super) fn new(stored: Stored, options: &WriteOptions) -> Result<Self> {
        let capacity = sectors(stored.disk().len())?;
        let tables = (capacity * SECTOR).div_ceil(GRAIN * ENTRIES);
        let copy = |start: u64| {
            let directory = start..start + (tables * 4).next_multiple_of(SECTOR);
            let tables = directory.end..directory.end + tables * TABLE;
            Copy { directory, tables }
        };
        let start = (1 + DESCRIPTOR_SECTORS) * SECTOR;
        let redundant = copy(start);
        let primary = copy(redundant.tables.end);
        let data = primary.tables.end.next_multiple_of(GRAIN);
        if tables > MAX_DIRECTORY || (data + stored.count() * GRAIN) / SECTOR > u64::from(u32::MAX) {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "a sparse VMDK would be over 2 TiB, which is the most it can be",
            )
            .with_hint("write it compressed: subformat=streamOptimized"));
        }
        let header = NewHeader {
            capacity,
            redundant: Some(redundant.directory.start / SECTOR),
            directory: primary.directory.start / SECTOR,
            overhead: data / SECTOR,
            compressed: false,
        };
        let mut head = header.bytes();
        let text = Description::new(options)?.text("monolithicSparse", "SPARSE", capacity, content_of(&stored));
        head.extend(text.as_bytes());
        head.resize(start as usize, 0);
        Ok(Self { stored, head, copies: [redundant, primary], data })
    }

    /// Returns the entry of grain `index`.
    fn grain_entry(&self, index: u64) -> u32 {
        match self.stored.rank(index) {
            // The whole file is below the limit.
            (number, true) => ((self.data + number * GRAIN) / SECTOR) as u32,
            (_, false) => 0,
        }
    }

    /// Fills `buf` from `offset`, all inside one part; returns how many bytes were filled.
    fn read_part(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        if offset >= self.data {
            return self.stored.read(buf, offset - self.data);
        }
        let until = |end: u64| (end - offset).min(buf.len() as u64) as usize;
        if let Some(bytes) = self.head.get(offset as usize..).filter(|bytes| !bytes.is_empty()) {
            let length = until(self.head.len() as u64);
            buf[..length].copy_from_slice(&bytes[..length]);
            return Ok(length);
        }
        for Copy { directory, tables } in &self.copies {
            if directory.contains(&offset) {
                let length = until(directory.end);
                let table = |index: u64| tables.start + index * TABLE;
                fill(&mut buf[..length], offset - directory.start, |index| {
                    let sector = if table(index) < tables.end { table(index) / SECTOR } else { 0 };
                    (sector as u32).to_le_bytes()
                });
                return Ok(length);
            }
            if tables.contains(&offset) {
                let length = until(tables.end);
                fill(&mut buf[..length], offset - tables.start, |index| self.grain_entry(index).to_le_bytes());
                return Ok(length);
            }
        }
        let length = until(self.data);
        buf[..length].fill(0);
        Ok(length)
    }

    /// Returns how many bytes from byte `within` of the tables are of one kind. A table without any grain is zero.
    fn table_extent(&self, within: u64, length: u64) -> (u64, ExtentKind) {
        let table = within / TABLE;
        let (before, _) = self.stored.rank(table * ENTRIES);
        if before == self.stored.count() {
            return (length - within, ExtentKind::Zero);
        }
        let (grain, count) = self.stored.locate(before);
        let (first, last) = (grain / ENTRIES, (grain + count - 1) / ENTRIES);
        if first > table {
            return (first * TABLE - within, ExtentKind::Zero);
        }
        ((last + 1) * TABLE - within, ExtentKind::Data)
    }
}

impl Source for Layout {
    fn len(&self) -> u64 {
        self.data + self.stored.count() * GRAIN
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.len(), offset, buf.len())?;
        let mut done = 0;
        while done < buf.len() {
            done += self.read_part(&mut buf[done..], offset + done as u64)?;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.len(), offset)?;
        if offset >= self.data {
            let (length, kind) = self.stored.extent(offset - self.data)?;
            return Ok(Extent { offset, length, kind });
        }
        for Copy { directory, tables } in &self.copies {
            if offset < directory.end {
                return Ok(Extent { offset, length: directory.end - offset, kind: ExtentKind::Data });
            }
            if tables.contains(&offset) {
                let (length, kind) = self.table_extent(offset - tables.start, tables.end - tables.start);
                return Ok(Extent { offset, length, kind });
            }
        }
        Ok(Extent { offset, length: self.data - offset, kind: ExtentKind::Zero })
    }
}
