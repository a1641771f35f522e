//! A table of a SQLite file, as far as rpm's is read: `Packages`, whose rows are a number and a header.
//!
//! Layout: "Database File Format" of SQLite, sections 1.3 (header), 1.6 (b-trees), 2.1 (records), 4 (write-ahead log).

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;

use super::Show;
use super::blob::{Blob, Link};
use super::paged::Paged;
use crate::fields::{be16, be32, stands_at};

/// Most pages of one tree.
const PAGES_MAX: usize = 1 << 20;
/// Most frames of a log: 1 GiB of usual pages.
const FRAMES_MAX: u64 = 256 << 10;
/// Longest head of a record: those that are read have five columns.
const RECORD_HEAD_MAX: usize = 64;

const PAGE_INNER: u8 = 5;
const PAGE_LEAF: u8 = 13;

struct Database<'a> {
    file: &'a Paged<'a>,
    /// The log, and where in it the newest content of a page lies.
    log: Option<&'a Paged<'a>>,
    newest: HashMap<u32, u64>,
    page_size: usize,
    /// Bytes of a page that hold content.
    usable: usize,
}

/// Shows the header of each package.
pub(super) fn read<'a>(file: &'a Paged<'a>, log: Option<&'a Paged<'a>>, show: &mut Show<'_>) -> Result<(), String> {
    let head = file.bytes(0, 100)?;
    // 65536 does not fit and is written as 1.
    let page_size = if be16(&head, 16) == 1 { 65_536 } else { usize::from(be16(&head, 16)) };
    let usable = page_size.saturating_sub(head[20].into());
    if !stands_at(&head, 0, b"SQLite format 3\0") || !page_size.is_power_of_two() || usable < 480 {
        return Err("it is no SQLite database".to_owned());
    }
    let newest = log.map(|log| newest_pages(log, page_size)).transpose()?.unwrap_or_default();
    let database = Database { file, log, newest, page_size, usable };
    let mut root = None;
    database.rows(1, &mut |mut row| {
        let is_packages =
            text(&mut row, 0).as_deref() == Some(b"table") && text(&mut row, 1).as_deref() == Some(b"Packages");
        if is_packages {
            root = number(&mut row, 3);
        }
        if root.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    let root = root.ok_or("it has no table `Packages`")?;
    database.rows(root, &mut |mut row| match column(&mut row, 1) {
        Ok(Some((start, kind))) if kind >= 12 && kind % 2 == 0 => {
            row.skip(start);
            show(row)
        }
        // What is no header is shown as nothing, so that it is counted.
        _ => show(Blob::new(Vec::new(), 0, 0, |_| Err("it has no pages".to_owned()))),
    })
}

impl Database<'_> {
    fn page(&self, number: u32) -> Result<Vec<u8>, String> {
        let index = number.checked_sub(1).ok_or("a page has the number zero")?;
        match (self.newest.get(&number), self.log) {
            (Some(at), Some(log)) => log.bytes(*at, self.page_size),
            _ => self.file.bytes(u64::from(index) * self.page_size as u64, self.page_size),
        }
    }

    /// Shows each record of the table at page `root`, in the order of their numbers.
    fn rows(&self, root: u32, show: &mut Show<'_>) -> Result<(), String> {
        let mut pending = vec![root];
        let mut seen = HashSet::new();
        while let Some(number) = pending.pop() {
            if !seen.insert(number) || seen.len() > PAGES_MAX {
                return Err(format!("page {number} of a table is met twice, or there are too many"));
            }
            let page = self.page(number)?;
            let head = if number == 1 { 100 } else { 0 };
            let cells = usize::from(be16(&page, head + 3));
            match page[head] {
                PAGE_LEAF => {
                    for cell in 0..cells.min(self.usable / 4) {
                        let at = usize::from(be16(&page, head + 8 + cell * 2));
                        if show(self.record(&page, at)?).is_break() {
                            return Ok(());
                        }
                    }
                }
                PAGE_INNER => {
                    pending.push(be32(&page, head + 8));
                    let child = |cell| be32(&page, usize::from(be16(&page, head + 12 + cell * 2)));
                    pending.extend((0..cells.min(self.usable / 2)).rev().map(child));
                }
                kind => return Err(format!("page {number} of a table is of kind {kind}")),
            }
        }
        Ok(())
    }

    /// Returns the record of the cell at `at` of a leaf.
    fn record(&self, page: &[u8], at: usize) -> Result<Blob<'_>, String> {
        let cell = page.get(at..self.usable).unwrap_or_default();
        let broken = || "a cell of a table is broken".to_owned();
        let (length, used) = varint(cell).ok_or_else(broken)?;
        let (_, used_too) = varint(&cell[used..]).ok_or_else(broken)?;
        let start = used + used_too;
        let held = self.held(length);
        let content = cell.get(start..start + held).ok_or_else(broken)?;
        let next = if (held as u64) < length { be32(cell, start + held) } else { 0 };
        Ok(Blob::new(content.to_vec(), next, 0, |page| self.follow(page)))
    }

    /// Returns how many bytes of a record of `length` bytes lie on the leaf itself.
    fn held(&self, length: u64) -> usize {
        let most = self.usable - 35;
        let least = (self.usable - 12) * 32 / 255 - 23;
        if length <= most as u64 {
            return length as usize;
        }
        let held = least + ((length - least as u64) % (self.usable as u64 - 4)) as usize;
        if held <= most { held } else { least }
    }

    /// Reads a page of a long record.
    fn follow(&self, number: u32) -> Result<Link, String> {
        let page = self.page(number)?;
        Ok((page[4..self.usable].to_vec(), be32(&page, 0)))
    }
}

/// Returns where column `index` begins, and its type.
fn column(row: &mut Blob<'_>, index: usize) -> Result<Option<(usize, u64)>, String> {
    let head = row.prefix(RECORD_HEAD_MAX)?;
    let Some((length, used)) = varint(head) else { return Ok(None) };
    let Ok(length) = usize::try_from(length) else { return Ok(None) };
    let mut types = head.get(used..length.min(head.len())).unwrap_or_default();
    let mut at = length;
    for passed in 0..=index {
        let Some((kind, used)) = varint(types) else { return Ok(None) };
        if passed == index {
            return Ok(Some((at, kind)));
        }
        types = &types[used..];
        let size = match kind {
            0 | 8 | 9 => 0,
            1..=4 => kind,
            5 => 6,
            6 | 7 => 8,
            _ => kind.saturating_sub(12) / 2,
        };
        let Some(next) = usize::try_from(size).ok().and_then(|size| at.checked_add(size)) else { return Ok(None) };
        at = next;
    }
    Ok(None)
}

/// Reads a short text.
fn text(row: &mut Blob<'_>, index: usize) -> Option<Vec<u8>> {
    let (at, kind) = column(row, index).ok()??;
    let length = usize::try_from(kind.checked_sub(13)? / 2).ok().filter(|length| *length <= 256)?;
    row.prefix(at.checked_add(length)?).ok()?.get(at..).map(<[u8]>::to_vec)
}

/// Reads a number of a page.
fn number(row: &mut Blob<'_>, index: usize) -> Option<u32> {
    let (at, kind) = column(row, index).ok()??;
    let length = usize::try_from(kind).ok().filter(|length| (1..=4).contains(length))?;
    let bytes = row.prefix(at.checked_add(length)?).ok()?.get(at..)?;
    (bytes.len() == length).then(|| bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
}

/// Reads a number of one to nine bytes, and how many these are.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(9).enumerate() {
        if at == 8 {
            return Some((number << 8 | u64::from(*byte), 9));
        }
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, at + 1));
        }
    }
    None
}

/// Returns where in the write-ahead log the newest content of each page lies: what was committed, and not yet copied back.
///
/// Frames of a round before have other salts. Checksums are not verified: a frame that is broken is a page that is broken.
fn newest_pages(log: &Paged<'_>, page_size: usize) -> Result<HashMap<u32, u64>, String> {
    let (mut newest, mut pending) = (HashMap::new(), Vec::new());
    if log.len() < 32 {
        return Ok(newest);
    }
    let head = log.bytes(0, 32)?;
    if be32(&head, 0) & !1 != 0x377f_0682 || be32(&head, 8) as usize != page_size {
        return Ok(newest);
    }
    let frame = 24 + page_size as u64;
    for number in 0..((log.len() - 32) / frame).min(FRAMES_MAX) {
        let at = 32 + number * frame;
        let frame = log.bytes(at, 24)?;
        if frame[8..16] != head[16..24] {
            break;
        }
        pending.push((be32(&frame, 0), at + 24));
        // The last frame of a transaction has the size of the database.
        if be32(&frame, 4) != 0 {
            newest.extend(pending.drain(..));
        }
    }
    Ok(newest)
}
