//! Where an export is known to be zero: as block status, and as holes in the answer to a read.

use disk::{Extent, ExtentKind, Result, Source};

use crate::protocol::{STATE_HOLE, STATE_ZERO};

/// Zeros are told as a hole where there are as many as that; fewer are sent with the data around them.
const HOLE_MIN: u64 = 4096;
/// Block status looks at most at so many extents, so that a torn map costs no more time than others.
const LOOKUPS_MAX: usize = 4096;
/// Block status tells at most so many runs.
pub(crate) const RUNS_MAX: usize = 1024;

/// Returns the extent at `offset` as far as byte `end`.
fn extent(disk: &dyn Source, offset: u64, end: u64) -> Result<Extent> {
    let extent = disk.extent_at(offset)?;
    Ok(Extent { length: extent.length.min(end - offset), ..extent })
}

/// Returns lengths and states of the runs from `offset` on, at most `runs_max` of them and none past byte `end`; there is at
/// least one. Both lie inside the disk and are less than 4 GiB apart.
pub(crate) fn block_status(disk: &dyn Source, offset: u64, end: u64, runs_max: usize) -> Result<Vec<(u32, u32)>> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    let mut at = offset;
    for _ in 0..LOOKUPS_MAX {
        if at == end {
            break;
        }
        let extent = extent(disk, at, end)?;
        let state = if extent.kind == ExtentKind::Zero { STATE_HOLE | STATE_ZERO } else { 0 };
        let length = extent.length as u32;
        let full = runs.len() == runs_max;
        match runs.last_mut() {
            Some(last) if last.1 == state => last.0 += length,
            _ if full => break,
            _ => runs.push((length, state)),
        }
        at += extent.length;
    }
    Ok(runs)
}

/// Returns what comes first between `offset` and `end`: a hole, or data of which at most those up to the next multiple of
/// `piece` are told.
pub(crate) fn first_part(disk: &dyn Source, offset: u64, end: u64, piece: u64) -> Result<Extent> {
    let mut first = extent(disk, offset, end)?;
    if first.kind == ExtentKind::Zero {
        while first.end() < end {
            let next = extent(disk, first.end(), end)?;
            if next.kind == ExtentKind::Data {
                break;
            }
            first.length += next.length;
        }
        if first.length >= HOLE_MIN || first.end() == end {
            return Ok(first);
        }
    }
    let piece_end = end.min((offset / piece + 1).saturating_mul(piece));
    let mut data_end = first.end();
    while data_end < piece_end {
        let next = extent(disk, data_end, end)?;
        if next.kind == ExtentKind::Zero && next.length >= HOLE_MIN {
            break;
        }
        data_end = next.end();
    }
    Ok(Extent { offset, length: data_end.min(piece_end) - offset, kind: ExtentKind::Data })
}
