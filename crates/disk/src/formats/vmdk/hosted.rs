//! The sparse extent of hosted products (KDMV): its directory, and the descriptor inside it.

use super::descriptor::Descriptor;
use super::grains::{Entries, Extent};
use super::header::{Header, SECTOR};
use crate::error::Result;
use crate::fields::{read_bytes, read_table};
use crate::source::Source;

/// Reads the descriptor inside a file; `None` if there is none or an empty one, as in the extents of a set.
pub(super) fn embedded(file: &dyn Source, header: &Header) -> Result<Option<Descriptor>> {
    if header.descriptor_offset == 0 || header.descriptor_length == 0 {
        return Ok(None);
    }
    let text = read_bytes(file, header.descriptor_offset, header.descriptor_length as usize, "the descriptor")?;
    if text.first() == Some(&0) {
        return Ok(None);
    }
    Descriptor::parse(&text).map(Some)
}

/// Reads the directory of an extent.
pub(super) fn extent(file: &dyn Source, header: &Header) -> Result<Extent> {
    let count = header.directory_entries() as usize;
    let directory = read_table(file, header.directory_offset, count, "the grain directory", u32::from_le_bytes)?;
    Ok(Extent {
        size: header.size,
        grain: header.grain,
        entries: header.entries,
        encoding: Entries::Sectors { zero_grains: header.zero_grains },
        directory,
        overhead: header.overhead,
        compressed: header.compressed,
        taken: vec![
            ("the header", 0, SECTOR),
            ("the descriptor", header.descriptor_offset, header.descriptor_length),
            ("the grain directory", header.directory_offset, count as u64 * 4),
        ],
    })
}
