//! Where one file system lies on the disk: found anew from the disk alone, as a partition or as a logical volume.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use disk::error::{Error, Result};
use disk::source::Source;

use crate::budget::Budget;
use crate::contents;
use crate::filesystems::recognise::recognise;
use crate::partitions;
use crate::report::{FilesystemKind, Report};
use crate::window::{Piece, Window};

/// A file system and the pieces of the disk that it lies in.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) kind: FilesystemKind,
    pieces: Vec<Piece>,
    /// Where in the pieces it begins.
    offset: u64,
    pub(crate) len: u64,
    /// Whether it lies on a volume with snapshots, past which it must not be written.
    pub(crate) has_snapshots: bool,
}

/// Returns where the file systems on `devices` lie, in the same order.
pub(crate) fn find(disk: &Arc<dyn Source>, devices: &[&str]) -> Result<Vec<Place>> {
    let window = Window::whole(Arc::clone(disk), Rc::new(Budget::new()));
    let table = partitions::read(&window, recognise(&window).is_some())?;
    let mut report = Report { partition_table: table.table, partitions: table.partitions, ..Report::default() };
    let contents = contents::find(&window, &mut report);
    if let Some(failure) = window.budget().take_failure() {
        return Err(failure);
    }
    let find = |device: &&str| {
        let content = contents.iter().find(|content| report.filesystems[content.index].device == **device);
        let content = content.ok_or_else(|| Error::refused(format!("{device} is not there any more")))?;
        let (pieces, offset) = content.window.pieces();
        let kind = report.filesystems[content.index].kind;
        Ok(Place {
            kind,
            pieces: pieces.to_vec(),
            offset,
            len: content.window.len(),
            has_snapshots: content.has_snapshots,
        })
    };
    devices.iter().map(find).collect()
}

impl Place {
    /// Returns where it lies on the disk, if that is one range.
    pub(crate) fn range(&self) -> Option<Range<u64>> {
        let first = self.pieces.iter().find(|piece| piece.start + piece.len > self.offset)?;
        let (start, _) = first.place(self.offset - first.start);
        let is_whole = first.columns.len() == 1 && first.start + first.len - self.offset >= self.len;
        start.filter(|_| is_whole).map(|start| start..start + self.len)
    }

    /// Returns the parts of the disk that hold `length` bytes at `offset`: where each begins, and its length.
    ///
    /// # Errors
    ///
    /// Where the range goes past the end, or lies on a disk that is not there.
    pub(crate) fn parts(&self, offset: u64, length: usize) -> Result<Vec<(u64, usize)>> {
        if offset.checked_add(length as u64).is_none_or(|end| end > self.len) {
            return Err(Error::corrupt("a range goes past the end of the volume"));
        }
        let (mut at, mut left, mut parts) = (self.offset + offset, length, Vec::new());
        let mut index = self.pieces.partition_point(|piece| piece.start + piece.len <= at);
        while left > 0 {
            let piece = self.pieces.get(index).ok_or_else(|| Error::corrupt("the volume ends here"))?;
            let (place, follow) = piece.place(at - piece.start);
            let place = place.ok_or_else(|| Error::corrupt("it lies on a physical volume that is missing"))?;
            let count = usize::try_from(follow).unwrap_or(usize::MAX).min(left);
            parts.push((place, count));
            at += count as u64;
            left -= count;
            index += usize::from(at == piece.start + piece.len);
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_the_pieces_and_their_stripes() {
        let pieces = vec![
            Piece { start: 0, len: 100, stripe: 100, columns: vec![Some(1000)] },
            Piece { start: 100, len: 40, stripe: 10, columns: vec![Some(5000), Some(7000)] },
        ];
        let place = Place { kind: FilesystemKind::Xfs, pieces, offset: 20, len: 120, has_snapshots: false };
        assert_eq!(place.parts(0, 80).unwrap(), [(1020, 80)]);
        assert_eq!(place.parts(70, 45).unwrap(), [(1090, 10), (5000, 10), (7000, 10), (5010, 10), (7010, 5)]);
        assert!(place.parts(100, 21).is_err() && place.parts(u64::MAX, 1).is_err());
        assert_eq!(place.range(), None);
        assert_eq!(Place { len: 80, ..place }.range(), Some(1020..1100));
    }
}
