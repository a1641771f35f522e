//! The journal (`$LogFile`): whether a driver that was stopped left something in it that Windows will do at its next start.

use super::record::restore;
use crate::fields::{le16, le32, le64};

/// Sizes that the pages of a restart may have.
const PAGE_MIN: usize = 512;
const PAGE_MAX: usize = 64 << 10;
const NO_CLIENT: u16 = 0xffff;
const VOLUME_IS_CLEAN: u16 = 2;

/// Returns whether the journal that `read` reads (from an offset on, so many bytes) was closed. The first of its two pages of restarts says how long they are; the newer one counts.
pub(super) fn is_closed(read: impl Fn(u64, usize) -> Result<Vec<u8>, String>) -> Result<bool, String> {
    let head = read(0, PAGE_MIN)?;
    // Drivers other than that of Windows empty it.
    if head.len() == PAGE_MIN && head.iter().all(|byte| *byte == 0xff) {
        return Ok(true);
    }
    let size = usize::try_from(le32(&head, 16)).unwrap_or(usize::MAX);
    if !(PAGE_MIN..=PAGE_MAX).contains(&size) || !size.is_power_of_two() {
        return Ok(false);
    }
    let mut pages = Vec::new();
    for at in [0, size as u64] {
        pages.extend(restart(read(at, size)?, size));
    }
    Ok(pages.into_iter().max_by_key(|(number, _)| *number).is_some_and(|(_, is_closed)| is_closed))
}

/// Returns the number of the restart that a page tells, and whether nothing was open then; none where it is not sound.
fn restart(page: Vec<u8>, size: usize) -> Option<(u64, bool)> {
    let mut page = page;
    // Checking the volume gives the page another signature.
    let signature = if page.starts_with(b"CHKD") { *b"CHKD" } else { *b"RSTR" };
    restore(&mut page, signature).ok().filter(|()| page.len() == size)?;
    let area = page.get(usize::from(le16(&page, 24))..)?;
    let is_closed = le16(area, 12) == NO_CLIENT || le16(area, 14) & VOLUME_IS_CLEAN != 0;
    (area.len() >= 16).then_some((le64(area, 0), is_closed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pages of 1 KiB with these numbers, lists of clients and flags.
    fn journal(pages: [(u8, u16, u16); 2]) -> Vec<u8> {
        let page = |(number, clients, flags): (u8, u16, u16)| {
            let mut page = vec![0; 1024];
            page[..8].copy_from_slice(b"RSTR\x28\0\x03\0");
            (page[17], page[24], page[0x40]) = (4, 0x40, number);
            page[0x4c..0x4e].copy_from_slice(&clients.to_le_bytes());
            page[0x4e..0x50].copy_from_slice(&flags.to_le_bytes());
            for at in [0x28, 510, 1022] {
                page[at..at + 2].copy_from_slice(&[7, 7]);
            }
            page
        };
        pages.map(page).concat()
    }

    fn check(bytes: &[u8], expected: bool) {
        let read = |at: u64, most: usize| {
            let start = (at as usize).min(bytes.len());
            Ok(bytes[start..(start + most).min(bytes.len())].to_vec())
        };
        assert_eq!(is_closed(read).unwrap(), expected);
    }

    #[test]
    fn the_newer_page_says_whether_it_was_closed() {
        check(&[0xff; 4096], true);
        check(&journal([(1, 0, 0), (2, NO_CLIENT, 0)]), true);
        check(&journal([(2, 0, 0), (1, NO_CLIENT, 0)]), false);
        check(&journal([(2, 0, VOLUME_IS_CLEAN), (1, 0, 0)]), true);
        let mut checked = journal([(2, NO_CLIENT, 0), (1, 0, 0)]);
        checked[..4].copy_from_slice(b"CHKD");
        check(&checked, true);
        // A page that was torn does not count.
        checked[510] = 0;
        check(&checked, false);
    }

    #[test]
    fn what_is_no_journal_is_open() {
        check(&[], false);
        check(&[0; 8192], false);
        let mut sizes = journal([(1, NO_CLIENT, 0); 2]);
        sizes[17] = 5;
        check(&sizes, false);
        let mut area = journal([(1, NO_CLIENT, 0); 2]);
        (area[24], area[25], area[1024 + 24], area[1024 + 25]) = (0xff, 0xff, 0xf8, 3);
        check(&area, false);
    }
}
