//! Berkeley DB, access method "hash": pages of pairs in a chain for each bucket; long values lie in chains of their own.
//!
//! Layout: `db_page.h` of Berkeley DB 4 and 5. Numbers have the order of the machine that wrote them.

use std::collections::HashSet;

use super::Show;
use super::blob::{Blob, Link};
use super::paged::Paged;
use crate::fields::{be16, be32, le16, le32};

const MAGIC: u32 = 0x0006_1561;
const HEAD: usize = 26;
/// Most buckets: rpm has some hundreds.
const BUCKETS_MAX: u32 = 1 << 20;
/// Most pages in the chains of all buckets.
const PAGES_MAX: usize = 1 << 20;

const PAGE_HASH_UNSORTED: u8 = 2;
const PAGE_OVERFLOW: u8 = 7;
const PAGE_HASH: u8 = 13;
const ITEM_PLAIN: u8 = 1;
const ITEM_ELSEWHERE: u8 = 3;

struct Database<'a> {
    file: &'a Paged<'a>,
    is_big_endian: bool,
    page_size: u32,
}

/// Shows the value of each pair, but that of key zero, which is a counter.
pub(super) fn read(file: &Paged<'_>, show: &mut Show<'_>) -> Result<(), String> {
    let meta = file.bytes(0, 512)?;
    let is_big_endian = be32(&meta, 12) == MAGIC;
    let number = |at| if is_big_endian { be32(&meta, at) } else { le32(&meta, at) };
    let page_size = number(20);
    if number(12) != MAGIC || !(512..=65_536).contains(&page_size) || !page_size.is_power_of_two() {
        return Err("it is no Berkeley DB of kind hash".to_owned());
    }
    if meta[24] != 0 {
        return Err("it is encrypted".to_owned());
    }
    let database = Database { file, is_big_endian, page_size };
    let bucket_last = number(72);
    if bucket_last >= BUCKETS_MAX {
        return Err(format!("it has {bucket_last} buckets; {BUCKETS_MAX} is the limit"));
    }
    let mut seen = HashSet::new();
    for bucket in 0..=bucket_last {
        // Buckets were added in groups that double, each of which has its pages in a row.
        let group = (bucket + 1).next_power_of_two().trailing_zeros() as usize;
        let mut page = number(96 + group * 4).wrapping_add(bucket);
        while page != 0 && seen.insert(page) {
            if seen.len() > PAGES_MAX {
                return Err(format!("it has more than {PAGES_MAX} pages of pairs"));
            }
            match database.pairs(page, show)? {
                Some(next) => page = next,
                None => return Ok(()),
            }
        }
    }
    Ok(())
}

impl Database<'_> {
    fn le_or_be16(&self, bytes: &[u8], at: usize) -> usize {
        usize::from(if self.is_big_endian { be16(bytes, at) } else { le16(bytes, at) })
    }

    fn le_or_be32(&self, bytes: &[u8], at: usize) -> u32 {
        if self.is_big_endian { be32(bytes, at) } else { le32(bytes, at) }
    }

    fn page(&self, number: u32) -> Result<Vec<u8>, String> {
        self.file.bytes(u64::from(number) * u64::from(self.page_size), self.page_size as usize)
    }

    /// Shows the values of one page; returns the next page of its bucket, or none where no more is wanted.
    fn pairs(&self, number: u32, show: &mut Show<'_>) -> Result<Option<u32>, String> {
        let page = self.page(number)?;
        // A page of a bucket that was never filled is all zeros.
        if !matches!(page[25], PAGE_HASH | PAGE_HASH_UNSORTED) {
            return Ok(Some(0));
        }
        let items = self.le_or_be16(&page, 20);
        let place = |item: usize| {
            let at = HEAD + item * 2;
            if at + 2 <= page.len() { self.le_or_be16(&page, at) } else { 0 }
        };
        // The number of an item with a key is even, and its value comes next. Items fill a page from its end.
        for key in (0..items.saturating_sub(1)).step_by(2) {
            let (key_at, value_at) = (place(key), place(key + 1));
            let is_counter = page.get(key_at + 1..key_at.saturating_add(5)) == Some(&[0; 4]);
            let Some(item) = page.get(value_at..key_at).filter(|item| !item.is_empty() && value_at >= HEAD) else {
                return Err(format!("an item on page {number} is broken"));
            };
            let blob = match item[0] {
                ITEM_PLAIN => Blob::new(item.to_vec(), 0, 1, |_| Err("it has no pages".to_owned())),
                ITEM_ELSEWHERE => Blob::new(Vec::new(), self.le_or_be32(item, 4), 0, |page| self.follow(page)),
                kind => return Err(format!("an item on page {number} is of kind {kind}, which is not read")),
            };
            if !is_counter && show(blob).is_break() {
                return Ok(None);
            }
        }
        Ok(Some(self.le_or_be32(&page, 16)))
    }

    /// Reads a page of a long value.
    fn follow(&self, number: u32) -> Result<Link, String> {
        let page = self.page(number)?;
        let length = self.le_or_be16(&page, 22);
        match page.get(HEAD..HEAD + length) {
            Some(bytes) if page[25] == PAGE_OVERFLOW => Ok((bytes.to_vec(), self.le_or_be32(&page, 16))),
            _ => Err(format!("page {number} holds no part of a value")),
        }
    }
}
