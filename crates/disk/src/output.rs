//! What a writer answers with: a layout of which any range can be read, or a stream that is made in order.

use std::io::Write;
use std::sync::Arc;

use crate::error::Result;
use crate::source::Source;

/// Told how many bytes are done, and how many there are.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// A file that is not written yet.
pub enum Output {
    /// A file whose length is known and of which any range can be read alone.
    Layout(Arc<dyn Source>),
    /// A file that can only be made from its beginning to its end, because it is compressed.
    Stream(Box<dyn Stream>),
    /// A file that holds the bare disk, and a text beside it that says so: VMDK `monolithicFlat`.
    Flat(Arc<dyn Source>),
}

/// A compressed file that is made from its beginning to its end by all cores.
pub trait Stream: Send + Sync {
    /// Returns how many bytes at the beginning of the file are known only when all others were made; often 0.
    fn head_length(&self) -> u64 {
        0
    }

    /// Writes the file from byte [`Stream::head_length`] on to `out`, in order, and returns the bytes before that.
    /// Works in `threads` threads (0: as many as there are processors); `progress` is told about bytes of the disk.
    fn write(&self, threads: usize, progress: Progress<'_>, out: &mut dyn Write) -> Result<Vec<u8>>;
}
