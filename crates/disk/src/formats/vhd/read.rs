//! The reader of VHD: a fixed disk is the file without its footer, a dynamic one has a table of blocks.

use std::sync::Arc;

use super::footer::{Footer, Kind, LENGTH, check_sum};
use crate::claims::Claims;
use crate::error::{Error, ErrorKind, Result};
use crate::fields::{be32, be64, check_inside, read_bytes, read_table};
use crate::format::Format;
use crate::gate::{Gate, ask};
use crate::mapped::{BlockMap, MappedDisk, Place, Run};
use crate::opened::Opened;
use crate::slice::Slice;
use crate::source::Source;

const SECTOR: u64 = 512;
const HEADER_LENGTH: usize = 1024;
/// The block table is at most 32 MiB: 2040 GiB in blocks of 256 KiB.
const MAX_ENTRIES: u64 = (32 << 20) / 4;
const UNALLOCATED: u32 = u32::MAX;

/// Opens the VHD file `file`.
pub(crate) fn open(file: Arc<dyn Source>, gate: &dyn Gate) -> Result<Opened> {
    let footer = Footer::read(&*file)?;
    if footer.kind == Kind::Fixed {
        return open_fixed(file, &footer);
    }
    let header = Header::read(&*file, &footer)?;
    if footer.kind == Kind::Differencing {
        ask(gate, "its parent", &header.parent)?;
        return Err(Error::unsupported(format!("reading through the parent {:?} is not supported", header.parent))
            .with_hint("merge the disk with its parent where both are"));
    }
    let needed = footer.size.div_ceil(header.block_size) as usize;
    let table = read_table(&*file, header.table_offset, needed, "the block table", u32::from_be_bytes)?;
    let blocks = Blocks { size: footer.size, block_size: header.block_size, bitmap: header.bitmap(), table };
    blocks.verify(&footer, &header)?;
    Ok(Opened {
        disk: Arc::new(MappedDisk::new(file, footer.size, blocks)),
        format: Format::Vhd,
        variant: "dynamic".to_owned(),
        block_size: Some(header.block_size),
        notes: Vec::new(),
    })
}

fn open_fixed(file: Arc<dyn Source>, footer: &Footer) -> Result<Opened> {
    if footer.current_size != footer.offset {
        return Err(Error::corrupt(format!(
            "the fixed VHD says that it holds {} bytes, and the file has {} before the footer",
            footer.current_size, footer.offset
        )));
    }
    Ok(Opened {
        disk: Arc::new(Slice::new(file, 0, footer.size, "the fixed VHD")?),
        format: Format::Vhd,
        variant: "fixed".to_owned(),
        block_size: None,
        notes: Vec::new(),
    })
}

/// The header of a dynamic or differencing disk: 1024 bytes, big-endian.
struct Header {
    offset: u64,
    table_offset: u64,
    block_size: u64,
    parent: String,
}

impl Header {
    fn read(file: &dyn Source, footer: &Footer) -> Result<Self> {
        let offset = footer.data_offset;
        let bytes = read_bytes(file, offset, HEADER_LENGTH, "the header of the dynamic VHD")?;
        if !bytes.starts_with(b"cxsparse") {
            return Err(Error::corrupt(format!("no dynamic VHD header at byte {offset}")));
        }
        check_sum(&bytes, 36, "the dynamic header")?;
        let (entries, block_size) = (u64::from(be32(&bytes, 28)), u64::from(be32(&bytes, 32)));
        if be32(&bytes, 24) >> 16 != 1 {
            return Err(Error::unsupported(format!("VHD header version {:#x} is not known", be32(&bytes, 24))));
        }
        if !block_size.is_power_of_two() || !(4096..=256 << 20).contains(&block_size) {
            return Err(Error::unsupported(format!(
                "VHD blocks of {block_size} bytes; a power of two from 4 KiB to 256 MiB is read"
            )));
        }
        if entries > MAX_ENTRIES {
            return Err(Error::new(ErrorKind::TooLarge, format!("a VHD block table of {entries} entries")));
        }
        let needed = footer.current_size.div_ceil(block_size);
        if entries < needed {
            return Err(Error::corrupt(format!("the block table has {entries} entries, and the disk needs {needed}")));
        }
        let table_offset = be64(&bytes, 16);
        check_inside("the block table", table_offset, entries * 4, footer.offset)?;
        Ok(Self { offset, table_offset, block_size, parent: utf16(&bytes[64..576]) })
    }

    /// Bytes of the bitmap of sectors before each block: one bit for a sector, in whole sectors.
    fn bitmap(&self) -> u64 {
        (self.block_size / SECTOR / 8).next_multiple_of(SECTOR)
    }
}

/// Returns big-endian UTF-16 up to the first zero.
fn utf16(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]])).take_while(|unit| *unit != 0);
    char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

/// Where the blocks lie: the sector of the bitmap that stands before each. The bitmaps themselves are not read, as
/// in QEMU: a sector that was never written is zeros in its block too.
struct Blocks {
    size: u64,
    block_size: u64,
    bitmap: u64,
    table: Vec<u32>,
}

impl Blocks {
    /// Checks that each block is inside the file, and each byte of the file in one block.
    fn verify(&self, footer: &Footer, header: &Header) -> Result<()> {
        let mut claims = Claims::new(footer.offset, SECTOR);
        let table_length = (self.table.len() as u64 * 4).next_multiple_of(SECTOR);
        for (offset, length) in
            [(0, LENGTH), (header.offset, HEADER_LENGTH as u64), (header.table_offset, table_length)]
        {
            if !claims.take(offset, length) {
                return Err(Error::corrupt(format!("the tables of the VHD overlap at byte {offset}")));
            }
        }
        for (index, sector) in self.table.iter().enumerate().filter(|(_, sector)| **sector != UNALLOCATED) {
            let guest = index as u64 * self.block_size;
            let offset = u64::from(*sector) * SECTOR;
            let length = self.bitmap + self.block_size.min(self.size - guest);
            check_inside(format_args!("the block of disk byte {guest}"), offset, length, footer.offset)?;
            if !claims.take(offset, length) {
                return Err(Error::corrupt(format!(
                    "the block of disk byte {guest} lies at byte {offset} of the file, which is already in use"
                )));
            }
        }
        Ok(())
    }

    fn place(&self, index: u64) -> Place {
        match self.table[index as usize] {
            UNALLOCATED => Place::Zero,
            sector => Place::Plain(u64::from(sector) * SECTOR + self.bitmap),
        }
    }
}

impl BlockMap for Blocks {
    fn block_size(&self) -> u64 {
        self.block_size
    }

    fn run_at(&self, index: u64, at_most: u64) -> Result<Run> {
        let place = self.place(index);
        let same = self.table[index as usize..].iter().take(usize::try_from(at_most).unwrap_or(usize::MAX));
        let blocks = match place {
            Place::Zero => same.take_while(|sector| **sector == UNALLOCATED).count() as u64,
            // A bitmap stands between any two blocks.
            _ => 1,
        };
        Ok(Run { place, blocks })
    }
}
