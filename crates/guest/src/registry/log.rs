//! Logs of a hive (`.LOG1`, `.LOG2`): whether one holds changes that the hive itself lacks.

use super::base::Base;
use crate::fields::{le32, stands_at};

/// The ends of the names of the logs of a hive.
pub(crate) const LOGS: [&str; 3] = ["LOG1", "LOG2", "LOG"];
/// Longest log that is read as a whole: Windows keeps it far smaller.
pub(crate) const LOG_MAX: usize = 64 << 20;
/// Where the entries of a log begin.
const ENTRIES: usize = 512;
/// Type of a base block that heads a log of separate entries, since Windows 8.1.
const TYPE_ENTRIES: u32 = 6;
/// Bytes of an entry before its pages.
const ENTRY_HEAD: usize = 32;

/// Returns whether `log` holds changes that are newer than the dirty hive `hive`; a clean hive lacks nothing.
///
/// The first 4 KiB of each are enough.
#[must_use]
pub fn is_log_newer(hive: &[u8], log: &[u8]) -> bool {
    let Ok(base) = Base::parse(hive) else { return false };
    if !base.is_dirty() || log.len() < ENTRIES + ENTRY_HEAD || !stands_at(log, 0, b"regf") {
        return false;
    }
    let known = if base.is_checksum_right { base.sequences.1 } else { 0 };
    if le32(log, 28) == TYPE_ENTRIES {
        stands_at(log, ENTRIES, b"HvLE") && le32(log, ENTRIES + 12) >= known
    } else {
        // An older log holds dirty pages, and was written whole when both its numbers are the same.
        stands_at(log, ENTRIES, b"DIRT") && le32(log, 4) == le32(log, 8) && le32(log, 4) >= known
    }
}

/// Returns whether Windows would take anything from `log` into `hive`, whole as they are, or may do so.
///
/// A clean hive was written after all entries of its log, so that one with a higher number belongs to a later write. Entries
/// are not verified: a broken one counts.
pub(crate) fn is_pending(hive: &[u8], log: &[u8]) -> bool {
    let Ok(base) = Base::parse(hive) else { return false };
    if base.is_dirty() {
        return is_log_newer(hive, log);
    }
    if log.len() < ENTRIES + ENTRY_HEAD || !stands_at(log, 0, b"regf") {
        return false;
    }
    if le32(log, 28) != TYPE_ENTRIES {
        return stands_at(log, ENTRIES, b"DIRT") && le32(log, 4) == le32(log, 8) && le32(log, 4) > base.sequences.1;
    }
    let (mut at, mut last) = (ENTRIES, None);
    while let Some(entry) = log.get(at..).filter(|rest| rest.len() >= ENTRY_HEAD && stands_at(rest, 0, b"HvLE")) {
        let number = le32(entry, 12);
        // Behind the newest entry lie what is left of older ones.
        if last.is_some_and(|last: u32| number != last.wrapping_add(1)) {
            break;
        }
        last = Some(number);
        match usize::try_from(le32(entry, 4)) {
            Ok(size) if size >= ENTRY_HEAD => at = at.saturating_add(size),
            _ => break,
        }
    }
    last.is_some_and(|last| last > base.sequences.1)
}

#[cfg(test)]
mod tests {
    use super::super::{BASE, base};
    use super::*;

    #[test]
    fn only_what_a_dirty_hive_lacks_is_newer() {
        let mut hive = vec![0; BASE];
        hive[..4].copy_from_slice(b"regf");
        (hive[20], hive[24], hive[40]) = (1, 5, 0);
        base::stamp(&mut hive, 0);
        let mut log = hive.clone();
        (log[28], log[4]) = (6, 9);
        log[512..516].copy_from_slice(b"HvLE");
        log[524] = 1;
        assert!(!is_log_newer(&hive, &log), "the hive is clean");
        hive[4] = 2;
        assert!(is_log_newer(&hive, &log));
        log[524] = 0;
        // The first number and the checksum differ, so that nothing in the hive can be trusted.
        assert!(is_log_newer(&hive, &log));
        log[512] = 0;
        assert!(!is_log_newer(&hive, &log));
        (log[28], log[8]) = (1, 9);
        log[512..516].copy_from_slice(b"DIRT");
        assert!(is_log_newer(&hive, &log));
        log[8] = 8;
        assert!(!is_log_newer(&hive, &log));
        assert!(!is_log_newer(&hive, &[]) && !is_log_newer(&[], &log));
    }

    #[test]
    fn entries_of_a_later_write_are_pending() {
        let mut hive = vec![0; BASE];
        hive[..4].copy_from_slice(b"regf");
        (hive[20], hive[24], hive[40], hive[4]) = (1, 5, 0, 6);
        base::stamp(&mut hive, 0);
        let mut log = vec![0; 2048];
        log[..4].copy_from_slice(b"regf");
        log[28] = 6;
        let entry = |log: &mut [u8], at: usize, number: u8| {
            log[at..at + 4].copy_from_slice(b"HvLE");
            (log[at + 5], log[at + 12]) = (2, number);
        };
        entry(&mut log, 512, 6);
        entry(&mut log, 1024, 7);
        assert!(!is_pending(&hive, &log), "both were written before the hive");
        entry(&mut log, 1536, 8);
        assert!(is_pending(&hive, &log));
        entry(&mut log, 1536, 9);
        assert!(!is_pending(&hive, &log), "what lies behind a gap is older");
        log[512 + 5] = 0;
        assert!(!is_pending(&hive, &log) && !is_pending(&hive, &[]) && !is_pending(&[], &log));
        log[28] = 1;
        log[512..516].copy_from_slice(b"DIRT");
        (log[4], log[8]) = (8, 8);
        assert!(is_pending(&hive, &log));
        log[4] = 7;
        assert!(!is_pending(&hive, &log));
    }
}
