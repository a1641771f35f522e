//! The VDI file that would hold a disk, computed piece by piece from the extents of the disk.
//!
//! ```text
//! header | table of blocks | blocks of 1 MiB, in the order of the disk
//! ```
//! A block of the disk is stored if any byte of it is data, or in a fixed file always. The same disk and options give
//! the same file, byte for byte.

use std::sync::Arc;

use uuid::Uuid;

use super::read::{BLOCK_SIZE, HEADER_LENGTH, MAX_BLOCKS, SIGNATURE, UNALLOCATED, VERSION};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::fill;
use crate::options::{Known, WriteOptions};
use crate::output::Output;
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};
use crate::stored::Stored;

/// The free text at the beginning of every file of VirtualBox.
const TEXT: &[u8] = b"<<< Oracle VM VirtualBox Disk Image >>>\n";
/// The header proper, from byte 72 to the end of the second geometry.
const FIELDS_LENGTH: u32 = 400;
const SECTOR: u64 = 512;
/// The blocks begin at a page, so that they can be copied without being touched.
const DATA_ALIGN: u64 = 4096;

/// The options of the writer.
pub(crate) const OPTIONS: &[Known] = &[("subformat", "dynamic (only blocks with data) or fixed (the whole disk)")];

/// Returns the file that holds `disk`.
pub(crate) fn write(disk: Arc<dyn Source>, options: &WriteOptions) -> Result<Output> {
    let fixed = options.choice("subformat", &["dynamic", "fixed"])? == "fixed";
    let (len, most) = (disk.len(), MAX_BLOCKS * BLOCK_SIZE);
    if len > most {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("a VDI of at most {most} bytes is written, and the disk has {len}"),
        )
        .with_hint("write it as qcow2 or vhdx"));
    }
    let stored = Stored::new(Arc::clone(&disk), BLOCK_SIZE)?;
    let ids = [stored.uuid("vdi"), stored.uuid("vdi, last change")];
    let stored = if fixed { Stored::all(disk, BLOCK_SIZE) } else { stored };
    Ok(Output::Layout(Arc::new(Layout::new(stored, fixed, ids))))
}

struct Layout {
    stored: Stored,
    header: Vec<u8>,
    /// Where the first block begins.
    data: u64,
}

impl Layout {
    fn new(stored: Stored, fixed: bool, ids: [Uuid; 2]) -> Self {
        // Whole sectors, because QEMU counts in them.
        let size = stored.disk().len().next_multiple_of(SECTOR);
        let blocks = size.div_ceil(BLOCK_SIZE);
        let data = (HEADER_LENGTH + blocks * 4).next_multiple_of(DATA_ALIGN);
        let numbers = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<_>>();
        let mut header = TEXT.to_vec();
        header.resize(64, 0);
        header.extend(numbers(&[SIGNATURE, VERSION, FIELDS_LENGTH, if fixed { 2 } else { 1 }]));
        header.resize(340, 0); // No flags, no comment.
        header.extend(numbers(&[HEADER_LENGTH as u32, data as u32]));
        header.extend(numbers(&[0, 0, 0, SECTOR as u32, 0])); // No geometry: VirtualBox makes one.
        header.extend(size.to_le_bytes());
        header.extend(numbers(&[BLOCK_SIZE as u32, 0, blocks as u32, stored.count() as u32]));
        header.extend(ids.iter().flat_map(Uuid::to_bytes_le));
        header.resize(456, 0); // No parent.
        header.extend(numbers(&[0, 0, 0, SECTOR as u32]));
        header.resize(HEADER_LENGTH as usize, 0);
        Self { stored, header, data }
    }

    /// Returns entry `index` of the table of blocks. What fills up the table looks like blocks without data.
    fn entry(&self, index: u64) -> u32 {
        match self.stored.rank(index) {
            (number, true) => number as u32,
            (_, false) => UNALLOCATED,
        }
    }

    /// Fills the beginning of `buf` from `offset`, all inside one part; returns how many bytes were filled.
    fn read_part(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        if offset >= self.data {
            return self.stored.read(buf, offset - self.data);
        }
        let end = if offset < HEADER_LENGTH { HEADER_LENGTH } else { self.data };
        let length = (end - offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..length];
        if offset < HEADER_LENGTH {
            fill(buf, offset, |index| [self.header[index as usize]]);
        } else {
            fill(buf, offset - HEADER_LENGTH, |index| self.entry(index).to_le_bytes());
        }
        Ok(length)
    }
}

impl Source for Layout {
    fn len(&self) -> u64 {
        self.data + self.stored.count() * BLOCK_SIZE
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
        if offset < self.data {
            return Ok(Extent { offset, length: self.data - offset, kind: ExtentKind::Data });
        }
        let (length, kind) = self.stored.extent(offset - self.data)?;
        Ok(Extent { offset, length, kind })
    }
}
