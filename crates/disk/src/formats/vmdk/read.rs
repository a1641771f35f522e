//! The reader of VMDK: a directory of tables of grains, where each grain is plain or a marked zlib stream.

use std::sync::Arc;

use super::descriptor::{Descriptor, is_descriptor};
use super::header::{Header, SECTOR, one_of_several};
use crate::claims::Claims;
use crate::error::{Error, Result};
use crate::fields::{check_inside, le32, le64, read_bytes, read_table};
use crate::format::Format;
use crate::gate::Gate;
use crate::inflate::{self, with_buffer};
use crate::mapped::{BlockMap, MappedDisk, Packed, Place, Run};
use crate::opened::Opened;
use crate::source::Source;
use crate::tables::Tables;

/// Before each compressed grain: the sector of the disk it is for (8 bytes) and the length of the stream (4).
const MARKER: usize = 12;
/// A descriptor that stands alone is read up to this many bytes.
const MAX_TEXT: u64 = 64 << 10;

/// Opens the VMDK file `file`.
pub(crate) fn open(file: Arc<dyn Source>, gate: &dyn Gate) -> Result<Opened> {
    refuse_text(&*file, gate)?;
    let header = Header::read(&*file)?;
    let length = header.descriptor_length as usize;
    let text = read_bytes(&*file, header.descriptor_offset, length, "the descriptor")?;
    if text.first() == Some(&0) {
        return Err(one_of_several());
    }
    let descriptor = Descriptor::parse(&text)?;
    let variant = descriptor.check_embedded(header.size, header.compressed, gate)?.to_owned();
    let notes = if header.unclean { vec!["the file was not closed cleanly".to_owned()] } else { Vec::new() };
    let count = header.directory_entries() as usize;
    let directory = read_table(&*file, header.directory_offset, count, "the grain directory", u32::from_le_bytes)?;
    let (size, grain, tables) = (header.size, header.grain, Tables::new(header.entries as usize));
    let grains = Grains { file: Arc::clone(&file), header, directory, tables };
    grains.verify()?;
    let disk = Arc::new(MappedDisk::new(file, size, grains));
    Ok(Opened { disk, format: Format::Vmdk, variant, block_size: Some(grain), notes })
}

/// Refuses a descriptor that stands alone: all its data are in other files.
fn refuse_text(file: &dyn Source, gate: &dyn Gate) -> Result<()> {
    let head = read_bytes(file, 0, file.len().min(MAX_TEXT) as usize, "the descriptor")?;
    if !is_descriptor(&head) {
        return Ok(());
    }
    let descriptor = Descriptor::parse(&head)?;
    descriptor.refuse_parent(gate)?;
    Err(descriptor.refuse_extents(gate))
}

/// Where the grains lie.
struct Grains {
    file: Arc<dyn Source>,
    header: Header,
    directory: Vec<u32>,
    tables: Tables<u32>,
}

impl Grains {
    fn table(&self, number: u64) -> Result<Option<Arc<[u32]>>> {
        let offset = u64::from(self.directory[number as usize]) * SECTOR;
        if offset == 0 {
            return Ok(None);
        }
        let entries = self.header.entries as usize;
        self.tables
            .get(number, || read_table(&*self.file, offset, entries, "a grain table", u32::from_le_bytes))
            .map(Some)
    }

    /// Checks that each grain and table is inside the file, and each byte of the file in one of them.
    fn verify(&self) -> Result<()> {
        let header = &self.header;
        let mut claims = Claims::new(self.file.len(), SECTOR);
        let mut take = |what: &str, offset: u64, length: u64| {
            if claims.take(offset, length) {
                return Ok(());
            }
            Err(Error::corrupt(format!("{what} lies at byte {offset} of the file, which is already in use")))
        };
        take("the header", 0, SECTOR)?;
        take("the descriptor", header.descriptor_offset, header.descriptor_length)?;
        take(
            "the grain directory",
            header.directory_offset,
            (self.directory.len() as u64 * 4).next_multiple_of(SECTOR),
        )?;
        for sector in self.directory.iter().filter(|sector| **sector != 0) {
            take("a grain table", u64::from(*sector) * SECTOR, (header.entries * 4).next_multiple_of(SECTOR))?;
        }
        let mut last = None;
        for number in 0..self.directory.len() as u64 {
            let Some(table) = self.table(number)? else { continue };
            let first = number * header.entries;
            let inside = header.size.div_ceil(header.grain) - first;
            for index in first..first + inside.min(header.entries) {
                match self.place(index, &table)? {
                    Place::Zero => {}
                    Place::Plain(offset) => take("a grain", offset, self.needed(index))?,
                    Place::Packed(packed) => {
                        take("a grain", packed.offset, SECTOR)?;
                        last = last.max(Some((packed.offset, index)));
                    }
                }
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

    /// Bytes of a grain that lie inside the disk.
    fn needed(&self, index: u64) -> u64 {
        self.header.grain.min(self.header.size - index * self.header.grain)
    }

    /// Returns what the table says of grain `index`, checked against the end of the file.
    fn place(&self, index: u64, table: &[u32]) -> Result<Place> {
        let at = (index % self.header.entries) as usize;
        let offset = match table[at] {
            0 => return Ok(Place::Zero),
            1 if self.header.zero_grains => return Ok(Place::Zero),
            sector => u64::from(sector) * SECTOR,
        };
        let guest = index * self.header.grain;
        if offset < self.header.overhead {
            return Err(Error::corrupt(format!(
                "the grain of disk byte {guest} lies at byte {offset}, among the tables"
            )));
        }
        let what = format_args!("the grain of disk byte {guest}");
        if !self.header.compressed {
            check_inside(what, offset, self.needed(index), self.file.len())?;
            return Ok(Place::Plain(offset));
        }
        check_inside(what, offset, MARKER as u64, self.file.len())?;
        // A stream is written in order, so the next grain of the table tells how much is to be read at once.
        let next = table.get(at + 1).map_or(0, |sector| u64::from(*sector) * SECTOR);
        let likely = if next > offset { (next - offset).min(self.max_packed()) } else { self.header.grain };
        let length = likely.min(self.file.len() - offset) as usize;
        Ok(Place::Packed(Packed { offset, length }))
    }

    /// No encoder makes a grain more than a little longer than it is.
    fn max_packed(&self) -> u64 {
        2 * self.header.grain
    }

    /// Checks the marker of grain `index` at `offset`; returns the length of the stream after it.
    fn marked(&self, index: u64, offset: u64, marker: &[u8]) -> Result<usize> {
        let (sector, length) = (le64(marker, 0), u64::from(le32(marker, 8)));
        let guest = index * self.header.grain;
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
        self.header.grain
    }

    fn run_at(&self, index: u64, at_most: u64) -> Result<Run> {
        let entries = self.header.entries;
        let within = index % entries;
        let Some(table) = self.table(index / entries)? else {
            let tables = self.directory[(index / entries) as usize..].iter().take_while(|sector| **sector == 0);
            let wanted = (within + at_most).div_ceil(entries) as usize;
            let blocks = tables.take(wanted).count() as u64 * entries - within;
            return Ok(Run { place: Place::Zero, blocks: blocks.min(at_most) });
        };
        let place = self.place(index, &table)?;
        let most = at_most.min(entries - within).min(self.header.size.div_ceil(self.header.grain) - index);
        let mut blocks = 1;
        while blocks < most {
            let next = match place {
                Place::Zero => Place::Zero,
                Place::Plain(offset) => Place::Plain(offset + blocks * self.header.grain),
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
            index * self.header.grain,
            packed.offset
        )))
    }
}
