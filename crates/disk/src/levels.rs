//! Two levels of tables that lead to the clusters of a disk, as in qcow version 1 and QED.
//!
//! The first level is in memory. Those of the second level may be as large as a gigabyte, so they are loaded in pages.

use std::sync::Arc;

use crate::claims::Uses;
use crate::error::{Error, ErrorKind, Result};
use crate::fields::{check_inside, read_table};
use crate::inflate::read_packed;
use crate::mapped::{BlockMap, Packed, Place, Run};
use crate::source::{ExtentKind, Source};
use crate::tables::Tables;
use crate::zeros::is_zero;

/// Entries of a page, or all of a smaller table.
const PAGE: u64 = 4096;
/// What is read at once when all tables are verified.
const PIECE: u64 = 256 << 10;
/// Tables that are no holes are read up to this many bytes, which lead to 4 TiB in clusters of 64 KiB: verifying them takes
/// less than a second.
const MAX_TABLES: u64 = 512 << 20;

/// What the entries of a format say.
pub(crate) trait Entries: Send + Sync {
    /// Decodes an entry of a table of the second level; zeros are an entry of 0, which leads nowhere.
    fn decode(bytes: [u8; 8]) -> u64;

    /// Returns what `entry` says about cluster `index`; every byte that it names is inside the file.
    fn place(&self, index: u64, entry: u64) -> Result<Place>;

    /// Unpacks cluster `index` from `bytes`, which lie at `packed` in the file, into `out`, which is one cluster long.
    fn unpack(&self, bytes: &[u8], packed: Packed, index: u64, out: &mut [u8]) -> Result<()> {
        let (_, _) = (bytes, out);
        Err(Error::unsupported(format!(
            "cluster {index} at byte {} is compressed in a format that has none",
            packed.offset
        )))
    }
}

/// The size of things, all in powers of two except the disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Bytes of the disk.
    pub(crate) size: u64,
    /// Bytes of a cluster.
    pub(crate) cluster_size: u64,
    /// Entries of a table of the second level.
    pub(crate) entries: u64,
}

impl Shape {
    /// Returns how many tables of the second level the disk needs at most.
    pub(crate) fn tables(&self) -> u64 {
        self.clusters().div_ceil(self.entries)
    }

    fn clusters(&self) -> u64 {
        self.size.div_ceil(self.cluster_size)
    }
}

/// Where the clusters of a disk lie.
pub(crate) struct Levels<E> {
    file: Arc<dyn Source>,
    shape: Shape,
    /// Where each table of the second level lies; 0 if there is none.
    tables: Vec<u64>,
    pages: Tables<u64>,
    format: E,
}

impl<E: Entries> Levels<E> {
    /// Makes the map of a disk whose second tables lie at `tables` in the file, which [`Levels::verify`] checks.
    pub(crate) fn new(file: Arc<dyn Source>, shape: Shape, tables: Vec<u64>, format: E) -> Self {
        let pages = Tables::new(shape.entries.min(PAGE) as usize);
        Self { file, shape, tables, pages, format }
    }

    fn page_entries(&self) -> u64 {
        self.shape.entries.min(PAGE)
    }

    /// Returns where in the file the entry of cluster `index` lies, if its table exists.
    fn entry_offset(&self, index: u64) -> Option<u64> {
        match self.tables[(index / self.shape.entries) as usize] {
            0 => None,
            table => Some(table + index % self.shape.entries * 8),
        }
    }

    /// Returns the page of entries that holds that of cluster `index`, if its table exists.
    fn page(&self, index: u64) -> Result<Option<Arc<[u64]>>> {
        let (number, entries) = (index / self.page_entries(), self.page_entries());
        let Some(offset) = self.entry_offset(number * entries) else { return Ok(None) };
        let load = || read_table(&*self.file, offset, entries as usize, "a table", E::decode);
        self.pages.get(number, load).map(Some)
    }

    /// Checks that every table and cluster of the disk begins a cluster of the file, lies inside it and has its bytes
    /// alone; `uses` knows what else is in the file. Holes of the file are passed over without being read.
    pub(crate) fn verify(&self, uses: &mut Uses) -> Result<()> {
        let Shape { cluster_size, entries: table_entries, .. } = self.shape;
        for (number, offset) in self.tables.iter().enumerate().filter(|(_, offset)| **offset != 0) {
            if !offset.is_multiple_of(cluster_size) {
                return Err(Error::corrupt(format!(
                    "entry {number} of the L1 table is {offset:#x}, which begins no cluster"
                )));
            }
            check_inside(format_args!("L2 table {number}"), *offset, table_entries * 8, self.file.len())?;
            uses.whole(*offset, table_entries * 8, "an L2 table")?;
        }
        let (mut index, mut read, mut buffer) = (0, 0, vec![0; PIECE as usize]);
        while index < self.shape.clusters() {
            let rest = (table_entries - index % table_entries).min(self.shape.clusters() - index);
            let Some(offset) = self.entry_offset(index) else {
                index += rest;
                continue;
            };
            let extent = self.file.extent_at(offset)?;
            let known = (extent.length / 8).clamp(1, rest);
            if extent.kind == ExtentKind::Zero && extent.length >= 8 {
                index += known;
                continue;
            }
            let piece = &mut buffer[..(known.min(PIECE / 8) * 8) as usize];
            read += piece.len() as u64;
            if read > MAX_TABLES {
                return Err(Error::new(
                    ErrorKind::TooLarge,
                    format!("the tables of the disk have more than {MAX_TABLES} bytes that are no hole"),
                )
                .with_hint("convert the file where it came from, for example with: qemu-img convert -O qcow2"));
            }
            self.file.read_at(piece, offset)?;
            self.verify_entries(index, piece, uses)?;
            index += piece.len() as u64 / 8;
        }
        Ok(())
    }

    /// Checks what the entries in `bytes`, from that of cluster `first` on, lead to. Zeros lead nowhere.
    fn verify_entries(&self, first: u64, bytes: &[u8], uses: &mut Uses) -> Result<()> {
        for (number, part) in (0..).zip(bytes.chunks(512)).filter(|(_, part)| !is_zero(part)) {
            for (index, entry) in (first + number * 64..).zip(part.as_chunks().0) {
                match self.format.place(index, E::decode(*entry))? {
                    Place::Zero => {}
                    Place::Plain(offset) => uses.whole(offset, self.shape.cluster_size, "the cluster of a disk")?,
                    Place::Packed(packed) => uses.packed(packed)?,
                }
            }
        }
        Ok(())
    }

    /// Counts the clusters from `index` on, up to `at_most`, for which there is no table.
    fn without_table(&self, index: u64, at_most: u64) -> u64 {
        let (first, within) = (index / self.shape.entries, index % self.shape.entries);
        let most = at_most.saturating_add(within).div_ceil(self.shape.entries);
        let tables = self.tables[first as usize..].iter().zip(0..most).take_while(|(table, _)| **table == 0).count();
        (tables as u64 * self.shape.entries - within).min(at_most)
    }
}

impl<E: Entries> BlockMap for Levels<E> {
    fn block_size(&self) -> u64 {
        self.shape.cluster_size
    }

    fn run_at(&self, index: u64, at_most: u64) -> Result<Run> {
        let Some(page) = self.page(index)? else {
            return Ok(Run { place: Place::Zero, blocks: self.without_table(index, at_most) });
        };
        let within = (index % self.page_entries()) as usize;
        let place = self.format.place(index, page[within])?;
        let rest = page.len() - within;
        let most = usize::try_from(at_most).map_or(rest, |at_most| at_most.min(rest));
        let mut blocks = 1;
        while blocks < most {
            let next = match place {
                Place::Zero => Place::Zero,
                Place::Plain(offset) => Place::Plain(offset + blocks as u64 * self.shape.cluster_size),
                Place::Packed(_) => break,
            };
            if self.format.place(index + blocks as u64, page[within + blocks])? != next {
                break;
            }
            blocks += 1;
        }
        Ok(Run { place, blocks: blocks as u64 })
    }

    fn unpack(&self, packed: Packed, index: u64, _needed: usize, out: &mut [u8]) -> Result<()> {
        self.unpack_run(&[packed], index, out)
    }

    fn unpack_run(&self, run: &[Packed], index: u64, out: &mut [u8]) -> Result<()> {
        let size = self.shape.cluster_size as usize;
        read_packed(&*self.file, run, |number, bytes| {
            self.format.unpack(bytes, run[number], index + number as u64, &mut out[number * size..][..size])
        })
    }
}
