//! Comparison of two disks as their guests see them, whatever files hold them.
//!
//! The maps come first: what is zero in both is passed over, what is zero in one is looked for anything else in the other.
//! The rest is read in large pieces by several threads, each of which holds one piece of both disks. What they find
//! is put together in order, so the answer does not depend on the number of threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::Result;
use crate::output::Progress;
use crate::pipeline::{in_order, threads};
use crate::source::{Extent, ExtentKind, Source};
use crate::zeros::is_zero;

/// Differences are counted in blocks of this many bytes.
pub const COMPARED_BLOCK: u64 = 64 << 10;
/// What a thread reads of each disk at once. No block of any format is larger and compressed, so none is unpacked twice.
const PIECE: u64 = 2 << 20;

/// How two disks are compared.
#[derive(Clone, Copy)]
pub struct CompareOptions<'a> {
    /// Threads that read, 1 to 16; 0 takes as many as there are processors.
    pub threads: usize,
    /// The comparison ends when this many blocks of [`COMPARED_BLOCK`] bytes differ; 0 counts as 1.
    pub at_most: u64,
    /// Told by any of the threads how many bytes of the longer disk were compared.
    pub progress: Option<Progress<'a>>,
}

impl Default for CompareOptions<'_> {
    fn default() -> Self {
        Self { threads: 0, at_most: u64::MAX, progress: None }
    }
}

/// What was found about two disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// The lengths of both disks in bytes.
    pub sizes: [u64; 2],
    /// The first byte that differs. A disk counts as zero past its end.
    pub first_difference: Option<u64>,
    /// How many blocks of [`COMPARED_BLOCK`] bytes differ, at most as many as were asked for.
    pub differing_blocks: u64,
}

impl Comparison {
    /// Returns whether the disks hold the same bytes, and what one of them has beyond the other is zero.
    #[must_use]
    pub fn same_content(&self) -> bool {
        self.first_difference.is_none()
    }

    /// Returns whether the disks hold the same bytes and are of the same length.
    #[must_use]
    pub fn identical(&self) -> bool {
        self.same_content() && self.sizes[0] == self.sizes[1]
    }
}

/// Compares two disks; an error says in which of them it happened.
pub fn compare(first: &dyn Source, second: &dyn Source, options: &CompareOptions<'_>) -> Result<Comparison> {
    let sizes = [first.len(), second.len()];
    let readers = Readers {
        disks: [first, second],
        total: sizes[0].max(sizes[1]),
        progress: options.progress,
        done: AtomicU64::new(0),
        buffers: Mutex::default(),
    };
    let at_most = options.at_most.max(1);
    let mut found = Comparison { sizes, first_difference: None, differing_blocks: 0 };
    let mut last_block = None;
    let enough = AtomicBool::new(false);
    let mut pieces = Pieces { readers: &readers, offset: 0, extents: [None; 2] };
    in_order(
        threads(options.threads),
        // What waits is small; a thread has its buffers, however many pieces there are.
        1,
        std::iter::from_fn(|| if enough.load(Ordering::Relaxed) { None } else { pieces.next().transpose() }),
        |piece| readers.compare(&piece),
        |difference| {
            found.first_difference = found.first_difference.or(difference.first);
            for block in difference.blocks {
                // A block may lie in two pieces.
                if last_block.replace(block) != Some(block) && found.differing_blocks < at_most {
                    found.differing_blocks += 1;
                }
            }
            if found.differing_blocks == at_most {
                enough.store(true, Ordering::Relaxed);
            }
            Ok(())
        },
    )?;
    Ok(found)
}

/// A range of the disks, and which of them may hold anything but zeros there.
struct Piece {
    offset: u64,
    length: usize,
    data: [bool; 2],
}

/// Where the disks differ within a piece.
#[derive(Default)]
struct Difference {
    first: Option<u64>,
    /// Numbers of the blocks that differ, in order.
    blocks: Vec<u64>,
}

/// Both disks, and what the threads share.
struct Readers<'a> {
    disks: [&'a dyn Source; 2],
    total: u64,
    progress: Option<Progress<'a>>,
    done: AtomicU64,
    /// Those that no thread holds now; there are at most as many as threads.
    buffers: Mutex<Vec<[Vec<u8>; 2]>>,
}

impl Readers<'_> {
    /// Returns the extent of disk `which` that begins at `offset`; past its end there is nothing but zeros.
    fn extent(&self, which: usize, offset: u64) -> Result<Extent> {
        let disk = self.disks[which];
        if offset >= disk.len() {
            return Ok(Extent { offset, length: self.total - offset, kind: ExtentKind::Zero });
        }
        disk.extent_at(offset).map_err(|error| error.within(NAMES[which]))
    }

    fn compare(&self, piece: &Piece) -> Result<Difference> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        for (which, buffer) in buffers.iter_mut().enumerate().filter(|(which, _)| piece.data[*which]) {
            buffer.resize(piece.length, 0);
            self.disks[which].read_at(buffer, piece.offset).map_err(|error| error.within(NAMES[which]))?;
        }
        let [first, second] = &buffers;
        let difference = match piece.data {
            [true, true] => differences(piece.offset, first, Some(second)),
            [true, false] => differences(piece.offset, first, None),
            [false, _] => differences(piece.offset, second, None),
        };
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
        self.report(piece.length as u64);
        Ok(difference)
    }

    fn report(&self, length: u64) {
        let done = self.done.fetch_add(length, Ordering::Relaxed) + length;
        if let Some(progress) = self.progress {
            progress(done, self.total);
        }
    }
}

const NAMES: [&str; 2] = ["the first disk", "the second disk"];

/// Compares `bytes`, which lie at `offset` of the disk, with `others`, or with zeros if there are none.
fn differences(offset: u64, bytes: &[u8], others: Option<&[u8]>) -> Difference {
    let mut found = Difference::default();
    let mut at = 0;
    while at < bytes.len() {
        let block = (offset + at as u64) / COMPARED_BLOCK;
        let end = bytes.len().min(((block + 1) * COMPARED_BLOCK - offset) as usize);
        let part = &bytes[at..end];
        let other = others.map(|others| &others[at..end]);
        if other.map_or_else(|| !is_zero(part), |other| part != other) {
            found.blocks.push(block);
            if found.first.is_none() {
                let differs = |index: &usize| part[*index] != other.map_or(0, |other| other[*index]);
                found.first = (0..part.len()).find(differs).map(|index| offset + (at + index) as u64);
            }
        }
        at = end;
    }
    found
}

/// Cuts the disks into pieces and passes over what is zero in both.
struct Pieces<'a> {
    readers: &'a Readers<'a>,
    offset: u64,
    /// Those of both disks at the offset, if they were looked up.
    extents: [Option<Extent>; 2],
}

impl Pieces<'_> {
    fn next(&mut self) -> Result<Option<Piece>> {
        while self.offset < self.readers.total {
            let offset = self.offset;
            let mut end = self.readers.total;
            let mut data = [false; 2];
            for (which, known) in self.extents.iter_mut().enumerate() {
                let extent = match *known {
                    Some(extent) if offset < extent.end() => extent,
                    _ => *known.insert(self.readers.extent(which, offset)?),
                };
                end = end.min(extent.end());
                data[which] = extent.kind == ExtentKind::Data;
            }
            if data == [false, false] {
                self.readers.report(end - offset);
                self.offset = end;
                continue;
            }
            // Pieces begin at multiples of their size, as the blocks of the formats do.
            self.offset = end.min((offset / PIECE + 1).saturating_mul(PIECE));
            return Ok(Some(Piece { offset, length: (self.offset - offset) as usize, data }));
        }
        Ok(None)
    }
}
