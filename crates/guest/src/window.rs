//! A range of the disk as its own address space, with a small memory of what was read.

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
    offset: u64,
    len: u64,
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
        Self { disk: Rc::new(PagedDisk { source, len, budget, pages: RefCell::default() }), offset: 0, len }
    }

    /// Returns the part from `offset` of at most `length` bytes; empty where the window does not reach.
    pub(crate) fn part(&self, offset: u64, length: u64) -> Self {
        let offset = offset.min(self.len);
        Self { disk: self.disk.clone(), offset: self.offset + offset, len: length.min(self.len - offset) }
    }

    pub(crate) fn len(&self) -> u64 {
        self.len
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
        self.disk.read_at(buf, self.offset + offset)
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
        if buf.len() >= PAGE {
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
