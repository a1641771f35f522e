//! Reading in order, with several windows fetched and opened ahead of the consumer.

use std::ops::Range;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};

use super::Reader;
use crate::Result;
use crate::blocking::Job;

/// Chunks of a window, which is fetched in one go.
const WINDOW_CHUNKS: u64 = 4;
/// Windows that are under way at once. With 512 KiB chunks a stream holds at most
/// 4 windows x 4 chunks x (stored + plain) = 16 MiB, and what the consumer keeps.
const READ_AHEAD: usize = 4;

impl Reader {
    /// Returns the bytes of `range` in order, in pieces of at most one chunk. Reading goes on ahead of the
    /// consumer, up to a bound, and stops when the stream is dropped.
    pub fn stream(&self, range: Range<u64>) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
        let (range, error) = match self.checked(range) {
            Ok(range) => (range, None),
            Err(error) => (0..0, Some(error)),
        };
        let reader = self.clone();
        let jobs = stream::iter(self.windows(range)).map(move |window| {
            let reader = reader.clone();
            let mut job = Job::spawn(async move { reader.window(window).await });
            async move { job.wait().await }
        });
        let pieces = jobs.buffered(READ_AHEAD).map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok))).try_flatten();
        stream::iter(error.map(Err)).chain(pieces)
    }

    /// Cuts a range at the borders of windows.
    pub(super) fn windows(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + Send + 'static {
        let window = WINDOW_CHUNKS * self.chunk_size();
        let mut start = range.start;
        std::iter::from_fn(move || {
            let end = (start / window + 1).saturating_mul(window).min(range.end);
            let next = start..end;
            start = end;
            (!next.is_empty()).then_some(next)
        })
    }
}
