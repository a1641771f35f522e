//! The reader of VDI: a header of 512 bytes, little-endian, and one table that gives each block its place.

use std::sync::Arc;

use crate::claims::Claims;
use crate::error::{Error, ErrorKind, Result};
use crate::fields::{check_inside, le32, le64, past_end, read_bytes, read_table};
use crate::format::Format;
use crate::gate::{Gate, ask};
use crate::mapped::{BlockMap, MappedDisk, Place, Run};
use crate::opened::Opened;
use crate::source::Source;

/// Stands at byte 64.
pub(crate) const SIGNATURE: u32 = 0xbeda_107f;
pub(super) const HEADER_LENGTH: u64 = 512;
pub(super) const VERSION: u32 = 0x0001_0001;
/// The only size that VirtualBox makes and QEMU reads.
pub(super) const BLOCK_SIZE: u64 = 1 << 20;
/// The table of blocks is at most 32 MiB: 8 TiB of disk.
pub(super) const MAX_BLOCKS: u64 = (32 << 20) / 4;
pub(super) const UNALLOCATED: u32 = 0xffff_ffff;
/// The block was discarded and reads as zeros.
const ZERO: u32 = 0xffff_fffe;

/// Opens the VDI file `file`.
pub(crate) fn open(file: Arc<dyn Source>, gate: &dyn Gate) -> Result<Opened> {
    let header = Header::read(&*file, gate)?;
    let needed = header.size.div_ceil(BLOCK_SIZE) as usize;
    let table = read_table(&*file, header.table_offset, needed, "the table of blocks", u32::from_le_bytes)?;
    let blocks = Blocks { size: header.size, data_offset: header.data_offset, table };
    blocks.verify(file.len())?;
    Ok(Opened {
        disk: Arc::new(MappedDisk::new(file, header.size, blocks)),
        format: Format::Vdi,
        variant: header.variant.to_owned(),
        block_size: Some(BLOCK_SIZE),
        notes: Vec::new(),
    })
}

struct Header {
    variant: &'static str,
    size: u64,
    table_offset: u64,
    data_offset: u64,
}

impl Header {
    fn read(file: &dyn Source, gate: &dyn Gate) -> Result<Self> {
        let len = file.len();
        if len < 68 || le32(&read_bytes(file, 64, 4, "the VDI signature")?, 0) != SIGNATURE {
            return Err(Error::new(ErrorKind::WrongFormat, "the file does not have the signature of VDI"));
        }
        if len < HEADER_LENGTH {
            return Err(past_end("the VDI header", 0, HEADER_LENGTH, len));
        }
        let bytes = read_bytes(file, 0, HEADER_LENGTH as usize, "the VDI header")?;
        if le32(&bytes, 68) != VERSION {
            return Err(Error::unsupported(format!("VDI version {:#x}; only 1.1 is read", le32(&bytes, 68))));
        }
        let variant = match le32(&bytes, 76) {
            1 => "dynamic",
            2 => "fixed",
            4 => {
                let parent = format!("uuid {}", uuid::Uuid::from_bytes_le(id(&bytes, 440)));
                ask(gate, "its parent", &parent)?;
                return Err(Error::unsupported("reading through the parent of a VDI is not supported"));
            }
            other => {
                return Err(Error::unsupported(format!("VDI image type {other}; 1 (dynamic) and 2 (fixed) are read")));
            }
        };
        let header = Self {
            variant,
            size: le64(&bytes, 368),
            table_offset: u64::from(le32(&bytes, 340)),
            data_offset: u64::from(le32(&bytes, 344)),
        };
        for at in [424, 440] {
            if id(&bytes, at) != [0; 16] {
                let parent = format!("uuid {}", uuid::Uuid::from_bytes_le(id(&bytes, at)));
                ask(gate, "its parent", &parent)?;
                return Err(Error::unsupported("reading through the parent of a VDI is not supported"));
            }
        }
        header.check(&bytes, len)?;
        Ok(header)
    }

    fn check(&self, bytes: &[u8], len: u64) -> Result<()> {
        let (sector, block, extra) = (le32(bytes, 360), le32(bytes, 376), le32(bytes, 380));
        if sector != 512 || u64::from(block) != BLOCK_SIZE || extra != 0 {
            return Err(Error::unsupported(format!(
                "VDI sectors of {sector} and blocks of {block} + {extra} bytes; 512 and 1048576 + 0 are read"
            )));
        }
        let blocks = u64::from(le32(bytes, 384));
        if blocks > MAX_BLOCKS || self.size.div_ceil(BLOCK_SIZE) > MAX_BLOCKS {
            let size = self.size;
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a VDI of {size} bytes and {blocks} blocks, at most {MAX_BLOCKS} blocks are read"),
            ));
        }
        if self.size.div_ceil(BLOCK_SIZE) > blocks {
            return Err(Error::corrupt(format!("the VDI has {blocks} blocks for a disk of {} bytes", self.size)));
        }
        if self.table_offset < HEADER_LENGTH {
            return Err(Error::corrupt(format!(
                "the table of blocks lies at byte {}, in the header",
                self.table_offset
            )));
        }
        if self.table_offset + blocks * 4 > self.data_offset {
            return Err(Error::corrupt(format!("the table of blocks overlaps the data at byte {}", self.data_offset)));
        }
        check_inside("the table of blocks", self.table_offset, blocks * 4, len)
    }
}

fn id(bytes: &[u8], at: usize) -> [u8; 16] {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[at..at + 16]);
    id
}

/// Where the blocks lie, counted in blocks from the beginning of the data.
struct Blocks {
    size: u64,
    data_offset: u64,
    table: Vec<u32>,
}

impl Blocks {
    /// Checks that each block is inside the file, and that no two are the same.
    fn verify(&self, len: u64) -> Result<()> {
        let mut claims = Claims::new(len, BLOCK_SIZE);
        for (index, entry) in self.table.iter().enumerate() {
            let Place::Plain(offset) = self.place(index as u64) else { continue };
            let guest = index as u64 * BLOCK_SIZE;
            check_inside(
                format_args!("the block of disk byte {guest}"),
                offset,
                BLOCK_SIZE.min(self.size - guest),
                len,
            )?;
            if !claims.take(u64::from(*entry) * BLOCK_SIZE, BLOCK_SIZE) {
                return Err(Error::corrupt(format!(
                    "the block of disk byte {guest} lies at byte {offset} of the file, which is already in use"
                )));
            }
        }
        Ok(())
    }

    fn place(&self, index: u64) -> Place {
        match self.table[index as usize] {
            UNALLOCATED | ZERO => Place::Zero,
            block => Place::Plain(self.data_offset + u64::from(block) * BLOCK_SIZE),
        }
    }
}

impl BlockMap for Blocks {
    fn block_size(&self) -> u64 {
        BLOCK_SIZE
    }

    fn run_at(&self, index: u64, at_most: u64) -> Result<Run> {
        let place = self.place(index);
        let most = at_most.min(self.table.len() as u64 - index);
        let mut blocks = 1;
        while blocks < most {
            let next = match place {
                Place::Plain(offset) => Place::Plain(offset + blocks * BLOCK_SIZE),
                other => other,
            };
            if self.place(index + blocks) != next {
                break;
            }
            blocks += 1;
        }
        Ok(Run { place, blocks })
    }
}
