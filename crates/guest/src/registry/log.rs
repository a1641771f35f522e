//! Logs of a hive (`.LOG1`, `.LOG2`): whether one holds changes that the hive itself lacks.

use super::base::Base;
use crate::fields::{le32, stands_at};

/// Where the entries of a log begin.
const ENTRIES: usize = 512;
/// Type of a base block that heads a log of separate entries, since Windows 8.1.
const TYPE_ENTRIES: u32 = 6;

/// Returns whether `log` holds changes that are newer than the dirty hive `hive`; a clean hive lacks nothing.
///
/// The first 4 KiB of each are enough.
#[must_use]
pub fn is_log_newer(hive: &[u8], log: &[u8]) -> bool {
    let Ok(base) = Base::parse(hive) else { return false };
    if !base.is_dirty() || log.len() < ENTRIES + 32 || !stands_at(log, 0, b"regf") {
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
}
