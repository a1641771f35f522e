//! The VHD file that would hold a disk, computed piece by piece from the extents of the disk.
//!
//! ```text
//! dynamic:  copy of the footer | header | table of blocks | bitmap, block | bitmap, block | ... | footer
//! fixed:    the disk, filled up with zeros | footer
//! ```
//! A block of the disk is stored if any byte of it is data. The same disk and options give the same file, byte for byte.

use std::sync::Arc;

use super::footer::{Kind, LENGTH, MAX_SIZE, seal};
use super::new_footer::{VERSION, new_footer};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::fill;
use crate::options::{Known, WriteOptions};
use crate::output::Output;
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};
use crate::stored::Stored;

const SECTOR: u64 = 512;
/// The size of blocks that the specification gives as the default; some readers know no other.
const BLOCK: u64 = 2 << 20;
/// One bit for each sector of a block: 512 bytes.
const BITMAP: u64 = BLOCK / SECTOR / 8;
const HEADER_LENGTH: u64 = 1024;
const TABLE: u64 = LENGTH + HEADER_LENGTH;

/// The options of the writer.
pub(crate) const OPTIONS: &[Known] = &[
    ("subformat", "dynamic (only blocks with data) or fixed (the whole disk, as Azure takes it)"),
    ("align", "the size of the disk is rounded up to this, a power of two from 512 to 2M; 1M if fixed, else 512"),
];

/// Returns the file that holds `disk`.
pub(crate) fn write(disk: Arc<dyn Source>, options: &WriteOptions) -> Result<Output> {
    let fixed = options.choice("subformat", &["dynamic", "fixed"])? == "fixed";
    let align = options.power_of_two("align", if fixed { 1 << 20 } else { SECTOR }, SECTOR..=BLOCK)?;
    let size = disk.len().checked_next_multiple_of(align).filter(|size| *size <= MAX_SIZE).ok_or_else(|| {
        let size = disk.len();
        Error::new(ErrorKind::TooLarge, format!("a VHD holds at most {MAX_SIZE} bytes, and the disk has {size}"))
            .with_hint("write it as vhdx")
    })?;
    let stored = Stored::new(Arc::clone(&disk), BLOCK)?;
    if fixed {
        if size == 0 {
            // The file would begin with its footer, as dynamic ones do.
            return Err(Error::unsupported("a fixed VHD of 0 bytes").with_hint("write it with subformat=dynamic"));
        }
        let footer = new_footer(Kind::Fixed, size, stored.uuid("fixed vhd"));
        return Ok(Output::Layout(Arc::new(Fixed { data: Stored::all(disk, align), footer, size })));
    }
    Ok(Output::Layout(Arc::new(Dynamic::new(stored, size))))
}

/// The disk, filled up with zeros, and the footer.
struct Fixed {
    data: Stored,
    footer: Vec<u8>,
    size: u64,
}

impl Source for Fixed {
    fn len(&self) -> u64 {
        self.size + LENGTH
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.len(), offset, buf.len())?;
        let inside = self.size.saturating_sub(offset).min(buf.len() as u64) as usize;
        let (data, tail) = buf.split_at_mut(inside);
        let mut done = 0;
        while done < data.len() {
            done += self.data.read(&mut data[done..], offset + done as u64)?;
        }
        fill(tail, offset.saturating_sub(self.size), |index| [self.footer[index as usize]]);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.len(), offset)?;
        if offset >= self.size {
            return Ok(Extent { offset, length: self.len() - offset, kind: ExtentKind::Data });
        }
        let (length, kind) = self.data.extent(offset)?;
        Ok(Extent { offset, length, kind })
    }
}

/// Blocks with a bitmap before each, found by a table.
struct Dynamic {
    stored: Stored,
    /// Footer and header.
    head: Vec<u8>,
    /// Where the first block begins.
    data: u64,
}

impl Dynamic {
    fn new(stored: Stored, size: u64) -> Self {
        let mut head = new_footer(Kind::Dynamic, size, stored.uuid("dynamic vhd"));
        let entries = size.div_ceil(BLOCK);
        head.extend(header(entries as u32));
        Self { stored, head, data: TABLE + (entries * 4).next_multiple_of(SECTOR) }
    }

    /// Where the blocks end and the footer begins.
    fn end(&self) -> u64 {
        self.data + self.stored.count() * (BITMAP + BLOCK)
    }

    /// Returns entry `index` of the table of blocks; what fills up its last sector looks like blocks without data.
    fn entry(&self, index: u64) -> u32 {
        match self.stored.rank(index) {
            (number, true) => ((self.data + number * (BITMAP + BLOCK)) / SECTOR) as u32,
            (_, false) => u32::MAX,
        }
    }

    /// Fills the beginning of `buf` from `offset`, all inside one part; returns how many bytes were filled.
    fn read_part(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let take = |end: u64| (end - offset).min(buf.len() as u64) as usize;
        if offset < TABLE {
            let length = take(TABLE);
            fill(&mut buf[..length], offset, |index| [self.head[index as usize]]);
            return Ok(length);
        }
        if offset < self.data {
            let length = take(self.data);
            fill(&mut buf[..length], offset - TABLE, |index| self.entry(index).to_be_bytes());
            return Ok(length);
        }
        if offset >= self.end() {
            let length = take(self.len());
            fill(&mut buf[..length], offset - self.end(), |index| [self.head[index as usize]]);
            return Ok(length);
        }
        let (number, within) = ((offset - self.data) / (BITMAP + BLOCK), (offset - self.data) % (BITMAP + BLOCK));
        let length = take(offset - within + if within < BITMAP { BITMAP } else { BITMAP + BLOCK });
        if within < BITMAP {
            // All sectors of a stored block are there.
            buf[..length].fill(0xff);
            return Ok(length);
        }
        self.stored.read(&mut buf[..length], number * BLOCK + within - BITMAP)
    }

    /// Returns what lies from byte `within` of the blocks and their bitmaps: how many bytes, and of which kind.
    fn extent_of_blocks(&self, within: u64) -> Result<(u64, ExtentKind)> {
        let (number, within_block) = (within / (BITMAP + BLOCK), within % (BITMAP + BLOCK));
        let start = number * BLOCK + within_block.saturating_sub(BITMAP);
        let (length, kind) = self.stored.extent(start)?;
        match kind {
            ExtentKind::Data => {
                // Data go on over the bitmaps between blocks, which are data too.
                let (blocks, rest) = ((start + length) / BLOCK, (start + length) % BLOCK);
                let end = blocks * (BITMAP + BLOCK) + if rest > 0 { BITMAP + rest } else { 0 };
                Ok((end - within, ExtentKind::Data))
            }
            ExtentKind::Zero if within_block < BITMAP => Ok((BITMAP - within_block, ExtentKind::Data)),
            ExtentKind::Zero => Ok((length.min(BITMAP + BLOCK - within_block), ExtentKind::Zero)),
        }
    }
}

impl Source for Dynamic {
    fn len(&self) -> u64 {
        self.end() + LENGTH
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
        if (self.data..self.end()).contains(&offset) {
            let (length, kind) = self.extent_of_blocks(offset - self.data)?;
            return Ok(Extent { offset, length, kind });
        }
        let end = if offset < self.data { self.data } else { self.len() };
        Ok(Extent { offset, length: end - offset, kind: ExtentKind::Data })
    }
}

/// The header of a dynamic disk whose table has `entries` entries.
fn header(entries: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_LENGTH as usize);
    header.extend(b"cxsparse");
    header.extend(u64::MAX.to_be_bytes()); // No further structure.
    header.extend(TABLE.to_be_bytes());
    header.extend(VERSION.to_be_bytes());
    header.extend(entries.to_be_bytes());
    header.extend((BLOCK as u32).to_be_bytes());
    header.resize(HEADER_LENGTH as usize, 0); // No parent.
    seal(&mut header, 36);
    header
}
