//! Changes of an NTFS that take a driver of NTFS: files, and hives that have become longer.

use std::ops::Range;
use std::sync::Arc;

use agent::{After, Before, Mount, Operation};
use disk::error::{Error, Result};
use disk::source::Source;

use super::own::cannot;
use crate::plan::{Change, State};
use crate::vm;
use crate::write::{NtfsWriter, no_room};

/// Returns why the changes of the NTFS in `range` cannot be made in place, in files that stay as long as they are; none where
/// they can.
///
/// # Errors
///
/// Where only Windows may change the volume, or a hive cannot be changed at all.
pub(super) fn needs_driver(
    disk: &Arc<dyn Source>,
    range: Range<u64>,
    changes: &[&Change],
    now: u64,
) -> Result<Option<Error>> {
    let writer = NtfsWriter::open(Arc::clone(disk), range)?;
    for change in changes {
        let State::Values(values) = &change.after else {
            return Ok(Some(Error::unsupported("files of an NTFS are written by its driver only")));
        };
        // Data that is not longer than what was there takes its place.
        let is_longer = values
            .iter()
            .any(|value| value.before.as_ref().is_none_or(|before| before.bytes.len() < value.after.bytes.len()));
        if is_longer {
            let edited = writer.edit(&change.inner, values, now).map_err(|error| cannot(&change.summary(), &error))?;
            if edited.has_grown() {
                return Ok(Some(Error::unsupported(no_room(&change.path))));
            }
        }
    }
    Ok(None)
}

/// Returns the mount of the NTFS in `range`, which is drive `number`, with all changes. Of a hive, which may have a hundred
/// megabytes, it has what differs.
///
/// # Errors
///
/// As [`needs_driver`].
pub(super) fn mount(
    number: usize,
    disk: &Arc<dyn Source>,
    range: Range<u64>,
    changes: &[&Change],
    now: u64,
) -> Result<Mount> {
    let writer = NtfsWriter::open(Arc::clone(disk), range)?;
    let operation = |change: &Change| {
        let path = writer.written(&change.inner)?;
        let State::Values(values) = &change.after else { return Ok(Operation { path, ..vm::operation(change)? }) };
        let edited = writer.edit(&change.inner, values, now)?;
        let pieces = edited.pieces().map(|(at, bytes)| (at, bytes.to_vec())).collect();
        let before = Before::File { length: edited.length as u64, sha256: Some(edited.sha256) };
        Ok(Operation { path, before, after: After::Patched(pieces) })
    };
    let operations = changes
        .iter()
        .map(|change| operation(change).map_err(|error| cannot(&change.summary(), &error)))
        .collect::<Result<Vec<_>>>()?;
    Ok(vm::ntfs_mount(number, operations))
}
