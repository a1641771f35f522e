//! Overlays: a qcow2 file that holds what changed on a disk, and reads all else through the file that has it.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::backing::Backing;
use crate::convert::ConvertOptions;
use crate::copy::{Copied, copy_to_file};
use crate::error::Result;
use crate::formats::qcow2;
use crate::source::Source;
use crate::temporary::{Temporary, exists};

/// Writes to `dst` what lies in `changes`, ranges of `disk` in order; all else of `disk` must be what `backing` holds, for as
/// long as the overlay is used. Of the options, those about the copy and about a file that is there are heeded.
///
/// The new file appears under its name when it is complete, as that of [`convert`](crate::convert()) does.
pub fn write_overlay(
    disk: Arc<dyn Source>,
    changes: &[Range<u64>],
    backing: Backing,
    dst: &Path,
    options: &ConvertOptions<'_>,
) -> Result<Copied> {
    if !options.force && dst.symlink_metadata().is_ok() {
        return Err(exists(dst));
    }
    let overlay = qcow2::overlay(disk, changes, backing)?;
    let mut file = Temporary::create(dst)?;
    let copied = copy_to_file(&*overlay, &file.file, &options.copy)?;
    file.rename(dst, options.force, options.copy.sync)?;
    Ok(copied)
}
