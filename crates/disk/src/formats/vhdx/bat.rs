//! The block allocation table of a VHDX file: where each block of the disk lies. It has up to 512 MiB, so it is checked
//! in one pass at opening and then loaded in pieces; pieces without any block in the file are not looked at again.

use std::sync::Arc;

use super::header::Region;
use super::metadata::Metadata;
use super::structures::{BLOCK_PRESENT, MIB, chunk_ratio, entry_index};
use crate::claims::Claims;
use crate::error::{Error, Result};
use crate::fields::{check_inside, read_bytes};
use crate::mapped::{BlockMap, Place, Run};
use crate::source::{ExtentKind, Source};
use crate::tables::Tables;

/// Blocks in a piece of the table; a power of two, as is the number of blocks between two entries of sector bitmaps.
const PIECE: u64 = 4096;
const ENTRY: u64 = 8;
/// Bits 3 to 19 of an entry have no meaning yet.
const RESERVED: u64 = 0xf_fff8;
const STATE: u64 = 7;
/// All states of blocks that are in the file have this bit, and so have those that are not known.
const IN_FILE: u64 = 4;
/// Bits 20 to 63 count MiB, so together they are the offset in bytes.
const OFFSET: u64 = !0xf_ffff;

/// Where the blocks of the disk lie.
pub(super) struct Bat {
    file: Arc<dyn Source>,
    offset: u64,
    size: u64,
    block_size: u64,
    /// Blocks between two entries of sector bitmaps, which are passed over: only differencing disks have any.
    ratio: u64,
    /// Whether a piece of the table has any block that is in the file.
    occupied: Vec<bool>,
    pieces: Tables<u64>,
}

impl Bat {
    /// Checks the table in `region`: each block must be inside the file, and each byte of the file in one block.
    pub(super) fn new(file: Arc<dyn Source>, region: Region, metadata: &Metadata, claims: &mut Claims) -> Result<Self> {
        let ratio = chunk_ratio(metadata.sector, metadata.block_size);
        let blocks = metadata.size.div_ceil(metadata.block_size);
        let mut bat = Self {
            file,
            offset: region.offset,
            size: metadata.size,
            block_size: metadata.block_size,
            ratio,
            occupied: vec![false; blocks.div_ceil(PIECE) as usize],
            pieces: Tables::new(PIECE as usize),
        };
        let needed = blocks.checked_sub(1).map_or(0, |last| (entry_index(last, ratio) + 1) * ENTRY);
        if needed > region.length {
            return Err(Error::corrupt(format!(
                "the block allocation table has {} bytes, and the disk needs {needed}",
                region.length
            )));
        }
        bat.verify(claims)?;
        Ok(bat)
    }

    fn verify(&mut self, claims: &mut Claims) -> Result<()> {
        let (mut known_end, mut hole) = (0, false);
        let mut bytes = Vec::new();
        for piece in 0..self.occupied.len() as u64 {
            let (start, length) = self.range(piece);
            if start >= known_end {
                let extent = self.file.extent_at(start)?;
                (known_end, hole) = (extent.end(), extent.kind == ExtentKind::Zero);
            }
            if hole && start + length <= known_end {
                continue;
            }
            bytes.resize(length as usize, 0);
            self.file.read_at(&mut bytes, start)?;
            if is_without_blocks(&bytes) {
                continue;
            }
            for (index, entry) in (piece * PIECE..).zip(self.decode(&bytes)) {
                if let Place::Plain(offset) = self.place(index, entry)? {
                    self.claim(index, offset, claims)?;
                    self.occupied[piece as usize] = true;
                }
            }
        }
        Ok(())
    }

    fn claim(&self, index: u64, offset: u64, claims: &mut Claims) -> Result<()> {
        let guest = index * self.block_size;
        // The last block may end where the disk ends.
        let length = self.block_size.min(self.size - guest);
        check_inside(format_args!("the block of disk byte {guest}"), offset, length, self.file.len())?;
        if claims.take(offset, length.next_multiple_of(MIB)) {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "the block of disk byte {guest} lies at byte {offset} of the file, which is already in use"
        )))
    }

    fn blocks(&self) -> u64 {
        self.size.div_ceil(self.block_size)
    }

    /// Returns the bytes of the file that hold a piece of the table: where they begin, and how many.
    fn range(&self, piece: u64) -> (u64, u64) {
        let (first, end) = (piece * PIECE, ((piece + 1) * PIECE).min(self.blocks()));
        let (from, to) = (entry_index(first, self.ratio), entry_index(end - 1, self.ratio) + 1);
        (self.offset + from * ENTRY, (to - from) * ENTRY)
    }

    /// Reads the entries of the blocks in a piece.
    fn load(&self, piece: u64) -> Result<Vec<u64>> {
        let (start, length) = self.range(piece);
        Ok(self.decode(&read_bytes(&*self.file, start, length as usize, "the block allocation table")?))
    }

    /// Returns the entries in the bytes of a piece, which begins with a chunk or lies wholly inside one.
    fn decode(&self, bytes: &[u8]) -> Vec<u64> {
        let mut entries = Vec::with_capacity(PIECE as usize);
        for chunk in bytes.chunks(((self.ratio + 1) * ENTRY) as usize) {
            let blocks = chunk.as_chunks().0.iter().take(self.ratio as usize);
            entries.extend(blocks.map(|entry| u64::from_le_bytes(*entry)));
        }
        entries
    }

    /// Returns what the entry of block `index` says.
    fn place(&self, index: u64, entry: u64) -> Result<Place> {
        match entry & STATE {
            _ if entry & RESERVED != 0 => {}
            BLOCK_PRESENT if entry & OFFSET != 0 => return Ok(Place::Plain(entry & OFFSET)),
            // Not present, undefined, zero and unmapped: what their offset names must not be relied upon.
            0..=3 => return Ok(Place::Zero),
            _ => {}
        }
        let guest = index * self.block_size;
        Err(Error::corrupt(format!(
            "the entry of disk byte {guest} in the block allocation table is {entry:#x}, which a disk without parent \
             cannot have"
        )))
    }

    /// Counts the blocks from `index` on, up to `at_most`, whose pieces have no block in the file.
    fn unoccupied(&self, index: u64, at_most: u64) -> u64 {
        let most = usize::try_from(at_most / PIECE + 2).unwrap_or(usize::MAX);
        let pieces = self.occupied[(index / PIECE) as usize..].iter().take(most);
        let pieces = pieces.take_while(|occupied| !**occupied).count();
        ((index / PIECE + pieces as u64) * PIECE).saturating_sub(index).min(at_most)
    }
}

/// Returns whether all entries are in order and of blocks that are not in the file. Of half a gigabyte of table, this
/// looks at the rest only where something is.
fn is_without_blocks(bytes: &[u8]) -> bool {
    let all = bytes.as_chunks().0.iter().fold(0, |all, entry| all | u64::from_le_bytes(*entry));
    all & (RESERVED | IN_FILE) == 0
}

impl BlockMap for Arc<Bat> {
    fn block_size(&self) -> u64 {
        self.block_size
    }

    fn run_at(&self, index: u64, at_most: u64) -> Result<Run> {
        let blocks = self.unoccupied(index, at_most);
        if blocks > 0 {
            return Ok(Run { place: Place::Zero, blocks });
        }
        let piece = self.pieces.get(index / PIECE, || self.load(index / PIECE))?;
        let entries = &piece[(index % PIECE) as usize..];
        let place = self.place(index, entries[0])?;
        let most = at_most.min(entries.len() as u64);
        let mut blocks = 1;
        while blocks < most {
            let next = match place {
                Place::Plain(offset) => Place::Plain(offset + blocks * self.block_size),
                other => other,
            };
            if self.place(index + blocks, entries[blocks as usize])? != next {
                break;
            }
            blocks += 1;
        }
        Ok(Run { place, blocks })
    }
}
