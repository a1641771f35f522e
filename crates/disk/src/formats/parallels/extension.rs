//! The format extension of a Parallels disk: one cluster with a list of features, which a reader must know or may skip.

use super::header::Header;
use crate::error::{Error, Result};
use crate::fields::{check_inside, le32, le64, read_bytes};
use crate::source::Source;

const MAGIC: u64 = 0xab23_4cef_23dc_ea87;
/// The magic number and a checksum.
const HEAD: u64 = 24;
const FEATURE_HEAD: u64 = 24;
const END: u64 = 0;
const DIRTY_BITMAP: u64 = 0x2038_5fae_252c_b34a;
/// An image has at most so many features; QEMU writes one for each bitmap.
const MAX_FEATURES: usize = 4096;
/// Who does not know the feature must leave the file alone.
const NECESSARY: u64 = 1;

/// Goes through the features, if there are any, and refuses the file if it needs one that is not known.
///
/// Bitmaps of changed sectors are for backups, and no reader of the disk needs them.
pub(super) fn check(file: &dyn Source, header: &mut Header) -> Result<()> {
    let start = header.extension;
    if start == 0 {
        return Ok(());
    }
    header.check_cluster("the format extension", start)?;
    check_inside("the format extension", start, header.cluster_size, file.len())?;
    let end = start + header.cluster_size;
    if le64(&read_bytes(file, start, 8, "the format extension")?, 0) != MAGIC {
        return Err(Error::corrupt(format!("no format extension lies at byte {start}")));
    }
    let mut at = start + HEAD;
    for _ in 0..MAX_FEATURES {
        check_inside("a feature of the format extension", at, FEATURE_HEAD, end)?;
        let feature = read_bytes(file, at, FEATURE_HEAD as usize, "a feature of the format extension")?;
        let (magic, flags, length) = (le64(&feature, 0), le64(&feature, 8), u64::from(le32(&feature, 16)));
        match magic {
            END => return Ok(()),
            DIRTY_BITMAP => header.notes.push("a bitmap of changed sectors is passed over".to_owned()),
            _ if flags & NECESSARY == 0 => {}
            _ => {
                return Err(Error::unsupported(format!(
                    "the Parallels disk needs a feature that is not known: {magic:#018x}"
                )));
            }
        }
        at += FEATURE_HEAD + length.next_multiple_of(8);
    }
    Err(Error::corrupt(format!("the format extension has more than {MAX_FEATURES} features")))
}
