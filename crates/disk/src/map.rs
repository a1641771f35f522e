//! The map of a disk: which runs of it must be read and which are known to be zero, neighbours of one kind put together.

use std::ops::Range;

use crate::error::Result;
use crate::source::{Extent, Source};

/// Returns the runs of `disk` inside `range`, in order and without gaps; two neighbours are never of one kind.
///
/// The runs come one by one and are not kept, so the map of a disk of any size needs no memory. After an error
/// there are no more. A range that goes past the end of the disk ends there.
pub fn map(disk: &dyn Source, range: Range<u64>) -> Map<'_> {
    Map { disk, offset: range.start, end: range.end.min(disk.len()), ahead: None }
}

/// The runs of a disk that [`map`] returns.
pub struct Map<'a> {
    disk: &'a dyn Source,
    /// Where the extent that was not yet asked for begins.
    offset: u64,
    end: u64,
    /// The extent that ended the last run.
    ahead: Option<Extent>,
}

impl Map<'_> {
    fn next_extent(&mut self) -> Option<Result<Extent>> {
        if let Some(extent) = self.ahead.take() {
            return Some(Ok(extent));
        }
        if self.offset >= self.end {
            return None;
        }
        let extent = self.disk.extent_at(self.offset).map(|extent| {
            let length = extent.length.min(self.end - self.offset);
            Extent { offset: self.offset, length, kind: extent.kind }
        });
        self.offset = extent.as_ref().map_or(self.end, Extent::end);
        Some(extent)
    }
}

impl Iterator for Map<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut run = match self.next_extent()? {
            Ok(extent) => extent,
            Err(error) => return Some(Err(error)),
        };
        loop {
            match self.next_extent() {
                None => return Some(Ok(run)),
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(extent)) if extent.kind == run.kind => run.length += extent.length,
                Some(Ok(extent)) => {
                    self.ahead = Some(extent);
                    return Some(Ok(run));
                }
            }
        }
    }
}
