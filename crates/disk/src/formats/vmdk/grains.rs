//! The grains of a sparse extent: a directory of tables, whose entries say where each grain lies.

use std::sync::Arc;

use super::header::SECTOR;
use crate::claims::Claims;
use crate::error::{Error, Result};
use crate::fields::{check_inside, le32, le64, read_bytes, read_table};
use crate::inflate::{self, with_buffer};
use crate::mapped::{BlockMap, MappedDisk, Packed, Place, Run};
use crate::source::{self, ExtentKind, Source};
use crate::tables::Tables;

/// Before each compressed grain: the sector of the disk it is for (8 bytes) and the length of the stream (4).
const MARKER: usize = 12;

/// How the entries of directory and tables are written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entries {
    /// 4 bytes: the sector in the file. 0 is nowhere, 1 may stand for a grain of zeros.
    Sectors {
        /// Whether entry 1 of a table stands for zeros.
        zero_grains: bool,
    },
    /// 8 bytes: the kind in the upper 4 bits, and a number counted from where all tables or all grains begin (bytes).
    Numbers { tables: u64, grains: u64 },
}

/// What the header of an extent says; places and sizes are in bytes.
pub(super) struct Extent {
    pub(super) size: u64,
    /// A power of two.
    pub(super) grain: u64,
    /// Entries of a table.
    pub(super) entries: u64,
    pub(super) encoding: Entries,
    /// The sector of each table, or its number plus one; 0 where there is none.
    pub(super) directory: Vec<u32>,
    /// No grain lies before this byte.
    pub(super) overhead: u64,
    /// Whether grains are zlib streams after a marker.
    pub(super) compressed: bool,
    /// What else lies in the file: name, place and length.
    pub(super) taken: Vec<(&'static str, u64, u64)>,
}

/// The tables in memory of all extents of a disk.
#[derive(Clone)]
pub(super) struct Memory {
    tables: Arc<Tables<u64>>,
    /// The number of the extent, so that each table has its own.
    extent: u64,
}

impl Memory {
    /// Makes the memory of a disk whose tables have at most `entries` entries.
    pub(super) fn new(entries: u64) -> Self {
        Self { tables: Arc::new(Tables::new(entries as usize)), extent: 0 }
    }

    /// Returns the same memory for the extent with another number.
    pub(super) fn of_extent(&self, extent: u64) -> Self {
        Self { tables: Arc::clone(&self.tables), extent }
    }
}

/// Opens the disk of one extent. All tables are checked; each byte of the file may be used once.
pub(super) fn open_extent(file: &Arc<dyn Source>, extent: Extent, memory: Memory) -> Result<Arc<dyn Source>> {
    let size = extent.size;
    let mut grains = Grains { file: Arc::clone(file), extent, memory };
    grains.claim_and_verify()?;
    Ok(Arc::new(MappedDisk::new(Arc::clone(file), size, grains)))
}

/// Marks a part of the file as used, which it must not be yet.
fn take(claims: &mut Claims, what: &str, offset: u64, length: u64) -> Result<()> {
    if claims.take(offset, length) {
        return Ok(());
    }
    Err(Error::corrupt(format!("{what} lies at byte {offset} of the file, which is already in use")))
}

/// The extent of the file that was looked at last: tables in a hole are empty, and are not read.
#[derive(Default)]
struct Holes(Option<source::Extent>);

impl Holes {
    /// Returns whether the bytes are known to be zero; they lie inside the file.
    fn contain(&mut self, file: &dyn Source, offset: u64, length: u64) -> Result<bool> {
        let known = self.0.filter(|extent| (extent.offset..extent.end()).contains(&offset));
        let extent = match known {
            Some(extent) => extent,
            None => file.extent_at(offset)?,
        };
        self.0 = Some(extent);
        Ok(extent.kind == ExtentKind::Zero && offset + length <= extent.end())
    }
}

/// Where the grains lie.
struct Grains {
    file: Arc<dyn Source>,
    extent: Extent,
    memory: Memory,
}

impl Grains {
    /// Returns where a table is that the directory names, and how long it is.
    fn table_range(&self, entry: u32) -> (u64, u64) {
        let entries = self.extent.entries;
        match self.extent.encoding {
            Entries::Sectors { .. } => (u64::from(entry) * SECTOR, entries * 4),
            Entries::Numbers { tables, .. } => (tables + (u64::from(entry) - 1) * entries * 8, entries * 8),
        }
    }

    fn table(&self, number: u64) -> Result<Option<Arc<[u64]>>> {
        let entry = self.extent.directory[number as usize];
        if entry == 0 {
            return Ok(None);
        }
        let (offset, _) = self.table_range(entry);
        let (file, count) = (&*self.file, self.extent.entries as usize);
        let load = || match self.extent.encoding {
            Entries::Sectors { .. } => {
                read_table(file, offset, count, "a grain table", |bytes| u64::from(u32::from_le_bytes(bytes)))
            }
            Entries::Numbers { .. } => read_table(file, offset, count, "a grain table", u64::from_le_bytes),
        };
        // A directory has fewer than 2^32 entries.
        self.memory.tables.get((self.memory.extent << 32) | number, load).map(Some)
    }

    /// Checks that each grain and table is inside the file, and each byte of the file in one of them. Tables without any
    /// grain are forgotten: many files have all of them, and then an empty disk is one run.
    fn claim_and_verify(&mut self) -> Result<()> {
        let mut claims = Claims::new(self.file.len(), SECTOR);
        for (what, offset, length) in &self.extent.taken {
            take(&mut claims, what, *offset, length.next_multiple_of(SECTOR))?;
        }
        for entry in self.extent.directory.iter().filter(|entry| **entry != 0) {
            let (offset, length) = self.table_range(*entry);
            take(&mut claims, "a grain table", offset, length.next_multiple_of(SECTOR))?;
        }
        let (mut holes, mut last) = (Holes::default(), None);
        for number in 0..self.extent.directory.len() {
            let (offset, length) = match self.extent.directory[number] {
                0 => continue,
                entry => self.table_range(entry),
            };
            check_inside("a grain table", offset, length, self.file.len())?;
            if holes.contain(&*self.file, offset, length)?
                || !self.verify_table(number as u64, &mut claims, &mut last)?
            {
                self.extent.directory[number] = 0;
            }
        }
        // Only the markers know how long the grains are. That of the last one tells whether the file was cut.
        match last {
            Some((offset, index)) => {
                self.marked(index, offset, &read_bytes(&*self.file, offset, MARKER, "a grain")?).map(|_| ())
            }
            None => Ok(()),
        }
    }

    /// Checks the grains of a table; returns whether there are any. `last` is the compressed one that lies furthest.
    fn verify_table(&self, number: u64, claims: &mut Claims, last: &mut Option<(u64, u64)>) -> Result<bool> {
        let Some(table) = self.table(number)? else { return Ok(false) };
        let first = number * self.extent.entries;
        let inside = self.extent.size.div_ceil(self.extent.grain) - first;
        let mut any = false;
        for index in first..first + inside.min(self.extent.entries) {
            match self.place(index, &table)? {
                Place::Zero => continue,
                Place::Plain(offset) => take(claims, "a grain", offset, self.needed(index))?,
                Place::Packed(packed) => {
                    take(claims, "a grain", packed.offset, SECTOR)?;
                    *last = (*last).max(Some((packed.offset, index)));
                }
            }
            any = true;
        }
        Ok(any)
    }

    /// Bytes of a grain that lie inside the disk.
    fn needed(&self, index: u64) -> u64 {
        self.extent.grain.min(self.extent.size - index * self.extent.grain)
    }

    /// Returns the byte of the file that an entry of a table names; `None` for a grain of zeros.
    fn offset(&self, index: u64, entry: u64) -> Result<Option<u64>> {
        let nowhere = || {
            let guest = index * self.extent.grain;
            Error::corrupt(format!("the table has {entry:#x} for the grain of disk byte {guest}"))
        };
        match (self.extent.encoding, entry >> 60) {
            (Entries::Sectors { .. }, _) if entry == 0 => Ok(None),
            (Entries::Sectors { zero_grains: true }, _) if entry == 1 => Ok(None),
            (Entries::Sectors { .. }, _) => Ok(Some(entry * SECTOR)),
            (Entries::Numbers { .. }, 0) if entry == 0 => Ok(None),
            // Given back by the guest, and written with zeros.
            (Entries::Numbers { .. }, 1 | 2) => Ok(None),
            (Entries::Numbers { grains, .. }, 3) => {
                // The lower 12 bits of the number stand above its other 48.
                let number = ((entry >> 48) & 0xfff) | ((entry & 0xffff_ffff_ffff) << 12);
                number
                    .checked_mul(self.extent.grain)
                    .and_then(|at| at.checked_add(grains))
                    .map(Some)
                    .ok_or_else(nowhere)
            }
            (Entries::Numbers { .. }, _) => Err(nowhere()),
        }
    }

    /// Returns what the table says of grain `index`, checked against the end of the file.
    fn place(&self, index: u64, table: &[u64]) -> Result<Place> {
        let at = (index % self.extent.entries) as usize;
        let Some(offset) = self.offset(index, table[at])? else { return Ok(Place::Zero) };
        let guest = index * self.extent.grain;
        if offset < self.extent.overhead {
            return Err(Error::corrupt(format!(
                "the grain of disk byte {guest} lies at byte {offset}, among the tables"
            )));
        }
        let what = format_args!("the grain of disk byte {guest}");
        if !self.extent.compressed {
            check_inside(what, offset, self.needed(index), self.file.len())?;
            return Ok(Place::Plain(offset));
        }
        check_inside(what, offset, MARKER as u64, self.file.len())?;
        // A stream is written in order, so the next grain of the table tells how much is to be read at once.
        let next = table.get(at + 1).map_or(0, |sector| sector * SECTOR);
        let likely = if next > offset { (next - offset).min(self.max_packed()) } else { self.extent.grain };
        let length = likely.min(self.file.len() - offset) as usize;
        Ok(Place::Packed(Packed { offset, length }))
    }

    /// No encoder makes a grain more than a little longer than it is.
    fn max_packed(&self) -> u64 {
        2 * self.extent.grain
    }

    /// Checks the marker of grain `index` at `offset`; returns the length of the stream after it.
    fn marked(&self, index: u64, offset: u64, marker: &[u8]) -> Result<usize> {
        let (sector, length) = (le64(marker, 0), u64::from(le32(marker, 8)));
        let guest = index * self.extent.grain;
        if sector != guest / SECTOR {
            return Err(Error::corrupt(format!(
                "the grain of disk byte {guest}, at byte {offset} of the file, is marked as that of sector {sector}"
            )));
        }
        if length == 0 || length > self.max_packed() {
            return Err(Error::corrupt(format!("the grain of disk byte {guest} has a stream of {length} bytes")));
        }
        check_inside(format_args!("the grain of disk byte {guest}"), offset + MARKER as u64, length, self.file.len())?;
        Ok(length as usize)
    }
}

impl BlockMap for Grains {
    fn block_size(&self) -> u64 {
        self.extent.grain
    }

    fn run_at(&self, index: u64, at_most: u64) -> Result<Run> {
        let (entries, grain) = (self.extent.entries, self.extent.grain);
        let within = index % entries;
        let Some(table) = self.table(index / entries)? else {
            let tables = self.extent.directory[(index / entries) as usize..].iter().take_while(|entry| **entry == 0);
            let wanted = (within + at_most).div_ceil(entries) as usize;
            let blocks = tables.take(wanted).count() as u64 * entries - within;
            return Ok(Run { place: Place::Zero, blocks: blocks.min(at_most) });
        };
        let place = self.place(index, &table)?;
        let most = at_most.min(entries - within).min(self.extent.size.div_ceil(grain) - index);
        let mut blocks = 1;
        while blocks < most {
            let next = match place {
                Place::Zero => Place::Zero,
                Place::Plain(offset) => Place::Plain(offset + blocks * grain),
                Place::Packed(_) => break,
            };
            if self.place(index + blocks, &table)? != next {
                break;
            }
            blocks += 1;
        }
        Ok(Run { place, blocks })
    }

    fn unpack(&self, packed: Packed, index: u64, needed: usize, out: &mut [u8]) -> Result<()> {
        let made = with_buffer(MARKER + self.max_packed() as usize, |buffer| {
            let read = packed.length.clamp(MARKER, buffer.len());
            self.file.read_at(&mut buffer[..read], packed.offset)?;
            let end = MARKER + self.marked(index, packed.offset, &buffer[..MARKER])?;
            if end > read {
                self.file.read_at(&mut buffer[read..end], packed.offset + read as u64)?;
            }
            Ok(inflate::zlib(&buffer[MARKER..end], out))
        })?;
        if made.is_some_and(|made| made >= needed) {
            return Ok(());
        }
        Err(Error::corrupt(format!(
            "the grain of disk byte {}, at byte {} of the file, does not unpack to one grain",
            index * self.extent.grain,
            packed.offset
        )))
    }
}
