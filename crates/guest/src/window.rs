//! A range of the disk as its own address space, with a small memory of what was read.
//!
//! A partition is one piece of the disk; a logical volume is a list of pieces, some of them in stripes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use disk::error::{Error, ErrorKind, Result};
use disk::source::Source;

use crate::budget::Budget;

/// Bytes read at once: readers ask for 32 bytes at a time, and a source may have to unpack a cluster for each.
const PAGE: usize = 16 << 10;
/// Pages kept.
const PAGES: usize = 64;

/// A part of the disk; clones share the disk, its pages and the budget.
#[derive(Clone)]
pub(crate) struct Window {
    disk: Rc<PagedDisk>,
    /// Where the address space comes from; `offset` counts in it.
    pieces: Rc<[Piece]>,
    offset: u64,
    len: u64,
}

/// A stretch of an address space, dealt out in turns to columns of the disk.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// Where it begins in the address space: where the piece before it ends.
    pub(crate) start: u64,
    pub(crate) len: u64,
    /// Bytes in a column before the next one follows; at least one.
    pub(crate) stripe: u64,
    /// First byte of each column on the disk, none where it is on a disk that is not there; at least one.
    pub(crate) columns: Vec<Option<u64>>,
}

impl Piece {
    /// Returns where byte `at` of the piece lies on the disk, and how many bytes follow it there.
    pub(crate) fn place(&self, at: u64) -> (Option<u64>, u64) {
        let count = self.columns.len() as u64;
        let (turn, skip) = (at / self.stripe, at % self.stripe);
        let place = self.columns[(turn % count) as usize].map(|column| column + turn / count * self.stripe + skip);
        (place, (self.stripe - skip).min(self.len - at))
    }
}

struct PagedDisk {
    source: Arc<dyn Source>,
    len: u64,
    budget: Rc<Budget>,
    pages: RefCell<Pages>,
}

#[derive(Default)]
struct Pages {
    kept: Vec<(u64, Box<[u8]>)>,
    oldest: usize,
}

impl Window {
    /// Makes a window on the whole disk.
    pub(crate) fn whole(source: Arc<dyn Source>, budget: Rc<Budget>) -> Self {
        let len = source.len();
        let disk = Rc::new(PagedDisk { source, len, budget, pages: RefCell::default() });
        let whole = Piece { start: 0, len, stripe: len.max(1), columns: vec![Some(0)] };
        Self { disk, pieces: Rc::new([whole]), offset: 0, len }
    }

    /// Makes a window of pieces of the disk that lie one after the other, from address zero on.
    pub(crate) fn of_pieces(&self, pieces: Vec<Piece>) -> Self {
        let len = pieces.last().map_or(0, |last| last.start + last.len);
        Self { disk: self.disk.clone(), pieces: pieces.into(), offset: 0, len }
    }

    /// Returns the part from `offset` of at most `length` bytes; empty where the window does not reach.
    pub(crate) fn part(&self, offset: u64, length: u64) -> Self {
        let offset = offset.min(self.len);
        let len = length.min(self.len - offset);
        Self { disk: self.disk.clone(), pieces: self.pieces.clone(), offset: self.offset + offset, len }
    }

    /// Returns where the window begins on the disk, for one that is no logical volume.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Returns the pieces that the window looks at, and where in them it begins.
    pub(crate) fn pieces(&self) -> (&[Piece], u64) {
        (&self.pieces, self.offset)
    }

    pub(crate) fn budget(&self) -> &Rc<Budget> {
        &self.disk.budget
    }

    /// Fills `buf` from `offset`; a range past the end is an error.
    pub(crate) fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.disk.budget.count_read()?;
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len);
        if end.is_none() {
            return Err(Error::corrupt(format!("a read of {} bytes at {offset:#x} goes past the end", buf.len())));
        }
        self.read_pieces(buf, self.offset + offset)
    }

    fn read_pieces(&self, mut buf: &mut [u8], mut at: u64) -> Result<()> {
        let mut index = self.pieces.partition_point(|piece| piece.start + piece.len <= at);
        while !buf.is_empty() {
            let Some(piece) = self.pieces.get(index) else { return Err(Error::corrupt("the volume ends here")) };
            let (place, length) = piece.place(at - piece.start);
            let place = place.ok_or_else(|| Error::corrupt("it lies on a physical volume that is missing"))?;
            let count = usize::try_from(length).unwrap_or(usize::MAX).min(buf.len());
            let (now, rest) = buf.split_at_mut(count);
            self.disk.read_at(now, place)?;
            at += count as u64;
            index += usize::from(at == piece.start + piece.len);
            buf = rest;
        }
        Ok(())
    }

    /// Reads `length` bytes at `offset`, or none where the window is too short; the caller bounds `length`.
    pub(crate) fn bytes(&self, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
        if offset.checked_add(length as u64).is_none_or(|end| end > self.len) {
            return Ok(None);
        }
        let mut buf = vec![0; length];
        self.read_at(&mut buf, offset)?;
        Ok(Some(buf))
    }
}

impl PagedDisk {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        // Nodes of btrfs have the length of a page, and are read over and over.
        if buf.len() > PAGE {
            return self.read_source(buf, offset);
        }
        let mut filled = 0;
        while filled < buf.len() {
            let at = offset + filled as u64;
            let start = at - at % PAGE as u64;
            let skip = (at - start) as usize;
            let count = (buf.len() - filled).min(PAGE - skip);
            self.with_page(start, |page| {
                let found = page.get(skip..skip + count).ok_or_else(|| Error::corrupt("the disk is shorter"))?;
                buf[filled..filled + count].copy_from_slice(found);
                Ok(())
            })??;
            filled += count;
        }
        Ok(())
    }

    fn with_page<T>(&self, start: u64, take: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let mut pages = self.pages.borrow_mut();
        if let Some((_, page)) = pages.kept.iter().find(|(at, _)| *at == start) {
            return Ok(take(page));
        }
        let length = (self.len - start.min(self.len)).min(PAGE as u64) as usize;
        let mut page = vec![0; length].into_boxed_slice();
        self.read_source(&mut page, start)?;
        let taken = take(&page);
        if pages.kept.len() < PAGES {
            pages.kept.push((start, page));
        } else {
            let oldest = pages.oldest;
            pages.kept[oldest] = (start, page);
            pages.oldest = (oldest + 1) % PAGES;
        }
        Ok(taken)
    }

    fn read_source(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.budget.count_bytes(buf.len())?;
        self.source.read_at(buf, offset).map_err(|error| {
            let told = Error::new(error.kind(), format!("cannot read {} bytes of the disk at {offset:#x}", buf.len()));
            if error.kind() == ErrorKind::Io {
                self.budget.fail(error);
            }
            told
        })
    }
}
