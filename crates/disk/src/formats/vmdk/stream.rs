//! The streamOptimized file: grains compressed by all cores, written in order, with the tables after them.
//!
//! ```text
//! header | descriptor | up to 64 KiB: zeros | grains of 32 MiB of disk | their table | ... | directory | footer | end
//! ```
//! Before each grain stands a marker with its place and length, before each table a sector that says what follows. The
//! header says that the directory is found by the footer, so the file can be written to a pipe. Grains of zeros are
//! left out, and so are tables without a grain. The same disk and level give the same file, whatever the threads.

use std::io::Write;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use libdeflater::{CompressionLvl, Compressor};

use super::describe::{Description, content_of, sectors};
use super::header::{AT_END, ENTRIES, GRAIN, MAX_DIRECTORY, NewHeader, SECTOR};
use crate::error::{Error, ErrorKind, Result};
use crate::options::WriteOptions;
use crate::output::{Progress, Stream};
use crate::pipeline::{in_order, threads};
use crate::stored::Stored;
use crate::zeros::is_zero;

/// What one thread compresses at once, in grains: 1 MiB. A table covers a multiple of it.
const PIECE: u64 = 16;
/// The first grain, as VMware places it.
const OVERHEAD: u64 = GRAIN / SECTOR;
/// Makes a Debian disk smaller than zlib does by default, in a third of the time.
const DEFAULT_LEVEL: u32 = 5;

const TABLE: u32 = 1;
const DIRECTORY: u32 = 2;
const FOOTER: u32 = 3;

/// A stream that is not written yet.
pub(super) struct Compressed {
    stored: Stored,
    capacity: u64,
    level: CompressionLvl,
    descriptor: String,
    /// What the threads work with; each takes one and puts it back.
    workers: Mutex<Vec<Worker>>,
}

struct Worker {
    compressor: Compressor,
    plain: Vec<u8>,
}

/// Neighbouring grains with their markers, each from the beginning of a sector.
struct Piece {
    first: u64,
    /// Of each grain; 0 for a grain of zeros, which is left out.
    sectors: Vec<u32>,
    bytes: Vec<u8>,
}

impl Compressed {
    /// Prepares the stream that holds the disk of which `stored` are the grains.
    pub(super) fn new(stored: Stored, options: &WriteOptions) -> Result<Self> {
        let level = options.number("level", DEFAULT_LEVEL, 1..=12)?;
        let level = CompressionLvl::new(level as i32).map_err(|_| Error::unsupported(format!("level={level}")))?;
        let capacity = sectors(stored.disk().len())?;
        if tables(capacity) > MAX_DIRECTORY {
            return Err(Error::new(ErrorKind::TooLarge, format!("a VMDK cannot hold a disk of {capacity} sectors")));
        }
        let descriptor = Description::new(options)?.text("streamOptimized", "SPARSE", capacity, content_of(&stored));
        Ok(Self { stored, capacity, level, descriptor, workers: Mutex::default() })
    }

    fn header(&self, directory: u64) -> Vec<u8> {
        NewHeader { capacity: self.capacity, redundant: None, directory, overhead: OVERHEAD, compressed: true }.bytes()
    }

    /// Returns the grains that may hold data, cut at multiples of the piece.
    fn pieces(&self) -> impl Iterator<Item = Result<Range<u64>>> + Send {
        self.stored.runs().flat_map(|(first, count)| {
            let end = first + count;
            (first / PIECE..end.div_ceil(PIECE))
                .map(move |piece| Ok((piece * PIECE).max(first)..((piece + 1) * PIECE).min(end)))
        })
    }

    fn compress(&self, grains: Range<u64>) -> Result<Piece> {
        let idle = self.workers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut worker = idle.unwrap_or_else(|| Worker { compressor: Compressor::new(self.level), plain: Vec::new() });
        let length = (grains.end * GRAIN).min(self.capacity * SECTOR) - grains.start * GRAIN;
        worker.plain.resize(length as usize, 0);
        let (number, _) = self.stored.rank(grains.start);
        self.stored.read(&mut worker.plain, number * GRAIN)?;
        let mut piece = Piece { first: grains.start, sectors: Vec::new(), bytes: Vec::new() };
        for (grain, plain) in grains.zip(worker.plain.chunks(GRAIN as usize)) {
            let start = piece.bytes.len();
            if !is_zero(plain) {
                add_grain(&mut worker.compressor, grain, plain, &mut piece.bytes)?;
            }
            piece.sectors.push(((piece.bytes.len() - start) as u64 / SECTOR) as u32);
        }
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
        Ok(piece)
    }
}

impl Stream for Compressed {
    fn write(&self, count: usize, progress: Progress<'_>, out: &mut dyn Write) -> Result<Vec<u8>> {
        let mut file = Tail { out, sector: 0, directory: vec![0; tables(self.capacity) as usize], table: None };
        let mut head = self.header(AT_END);
        head.extend(self.descriptor.as_bytes());
        head.resize((OVERHEAD * SECTOR) as usize, 0);
        file.put(&head)?;
        let total = self.stored.disk().len();
        in_order(
            threads(count),
            2 * PIECE * GRAIN,
            self.pieces(),
            |grains| self.compress(grains),
            |piece| {
                let end = (piece.first + piece.sectors.len() as u64) * GRAIN;
                file.put_grains(&piece)?;
                progress(end.min(total), total);
                Ok(())
            },
        )?;
        file.end(|directory| self.header(directory))?;
        progress(total, total);
        Ok(Vec::new())
    }
}

/// Returns the number of grain tables, had all of them a grain.
fn tables(capacity: u64) -> u64 {
    capacity.div_ceil(GRAIN / SECTOR * ENTRIES)
}

/// Adds a grain with its marker, and zeros up to the end of the sector.
fn add_grain(compressor: &mut Compressor, grain: u64, plain: &[u8], bytes: &mut Vec<u8>) -> Result<()> {
    bytes.extend((grain * (GRAIN / SECTOR)).to_le_bytes());
    let (length_at, start) = (bytes.len(), bytes.len() + 4);
    bytes.resize(start + compressor.zlib_compress_bound(plain.len()), 0);
    let length = compressor
        .zlib_compress(plain, &mut bytes[start..])
        .map_err(|error| Error::new(ErrorKind::Io, format!("cannot compress grain {grain}: {error}")))?;
    bytes[length_at..start].copy_from_slice(&(length as u32).to_le_bytes());
    bytes.truncate(start + length);
    bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
    Ok(())
}

/// The file from its first byte on, and the tables that are not written yet.
struct Tail<'a> {
    out: &'a mut dyn Write,
    /// The next sector to be written.
    sector: u64,
    directory: Vec<u32>,
    /// The table that the last grain is in: its number and entries.
    table: Option<(u64, Vec<u32>)>,
}

impl Tail<'_> {
    /// Writes whole sectors.
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(|error| Error::io("write the VMDK stream", error))?;
        self.sector += bytes.len() as u64 / SECTOR;
        Ok(())
    }

    fn put_grains(&mut self, piece: &Piece) -> Result<()> {
        let number = piece.first / ENTRIES;
        if self.table.as_ref().is_some_and(|(table, _)| *table != number) {
            self.put_table()?;
        }
        let mut sector = self.sector;
        if !piece.bytes.is_empty() {
            let (_, entries) = self.table.get_or_insert_with(|| (number, vec![0; ENTRIES as usize]));
            for (entry, length) in entries[(piece.first % ENTRIES) as usize..].iter_mut().zip(&piece.sectors) {
                if *length != 0 {
                    *entry = entry_of(sector)?;
                    sector += u64::from(*length);
                }
            }
        }
        self.put(&piece.bytes)
    }

    fn put_table(&mut self) -> Result<()> {
        let Some((number, entries)) = self.table.take() else { return Ok(()) };
        self.put(&marker(TABLE, ENTRIES * 4 / SECTOR))?;
        self.directory[number as usize] = entry_of(self.sector)?;
        self.put(&table_bytes(&entries))
    }

    /// Writes what follows the last grain.
    fn end(&mut self, header: impl Fn(u64) -> Vec<u8>) -> Result<()> {
        self.put_table()?;
        let directory = table_bytes(&std::mem::take(&mut self.directory));
        self.put(&marker(DIRECTORY, directory.len() as u64 / SECTOR))?;
        let footer = header(self.sector);
        self.put(&directory)?;
        self.put(&marker(FOOTER, 1))?;
        self.put(&footer)?;
        self.put(&[0; SECTOR as usize])
    }
}

fn entry_of(sector: u64) -> Result<u32> {
    u32::try_from(sector).map_err(|_| {
        Error::new(ErrorKind::TooLarge, "the compressed disk is over 2 TiB, which is the most that a VMDK can hold")
    })
}

/// Returns the sector before `sectors` sectors of a table or of the footer.
fn marker(kind: u32, sectors: u64) -> Vec<u8> {
    let mut marker = sectors.to_le_bytes().to_vec();
    marker.extend(0_u32.to_le_bytes()); // No grain.
    marker.extend(kind.to_le_bytes());
    marker.resize(SECTOR as usize, 0);
    marker
}

fn table_bytes(entries: &[u32]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    bytes.resize(bytes.len().next_multiple_of(SECTOR as usize), 0);
    bytes
}
