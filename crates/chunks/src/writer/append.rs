//! Appending a range of another content of the domain, by its manifest where the chunks line up.

use std::ops::Range;

use futures::StreamExt;

use super::Writer;
use crate::Result;
use crate::reader::Reader;

impl Writer {
    /// Appends the bytes `range` of `from`, which must be of the same domain.
    ///
    /// Chunks that lie whole in the range and come to lie on the border of a chunk here are taken over by manifest,
    /// full segments without opening them. The rest is read and cut anew. The caller names `from` as a source when
    /// it finishes.
    pub(crate) async fn append(&mut self, from: &Reader, range: Range<u64>) -> Result<()> {
        let chunk_size = u64::from(self.store.chunk_size());
        let whole = range.end / chunk_size * chunk_size;
        Box::pin(self.append_until(from, range, whole)).await
    }

    /// Like [`Writer::append`], and nothing follows: so a shorter last chunk is taken over as well.
    pub(crate) async fn append_last(&mut self, from: &Reader, range: Range<u64>) -> Result<()> {
        if range.end == from.len() {
            let whole = range.end;
            return Box::pin(self.append_until(from, range, whole)).await;
        }
        self.append(from, range).await
    }

    /// Appends a range of which the chunks before `whole` may be taken over. Its future is large, so callers box it.
    async fn append_until(&mut self, from: &Reader, range: Range<u64>, whole: u64) -> Result<()> {
        let (chunk_size, segment_size) = (u64::from(self.store.chunk_size()), self.store.segment_size());
        if self.length % chunk_size != range.start % chunk_size {
            return self.copy(from, range).await;
        }
        // To the next border of a chunk, which both reach together.
        let mut at = range.start.next_multiple_of(chunk_size).min(range.end);
        self.copy(from, range.start..at).await?;
        while at < whole {
            let end = (at / segment_size + 1).saturating_mul(segment_size).min(whole);
            self.take_over(from, at..end).await?;
            at = end;
        }
        self.copy(from, at..range.end).await
    }

    /// Appends chunks that lie in one segment of `from` by their entries.
    async fn take_over(&mut self, from: &Reader, range: Range<u64>) -> Result<()> {
        let (chunk_size, segment_size) = (u64::from(self.store.chunk_size()), self.store.segment_size());
        let (index, length) = (range.start / segment_size, range.end - range.start);
        let segment = from.segment_entry(index);
        if segment.is_zero() {
            return self.write_zeros(length).await;
        }
        if length == segment_size && self.length.is_multiple_of(segment_size) {
            return self.append_segment(segment).await;
        }
        let first = (range.start % segment_size / chunk_size) as usize;
        let count = length.div_ceil(chunk_size) as usize;
        let entries = from.segment_entries(index).await?;
        self.append_known(entries[first..first + count].to_vec(), length).await
    }

    /// Appends bytes of `from` as data.
    async fn copy(&mut self, from: &Reader, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let (zero, length) = from.extent(at).await?;
            let length = length.min(range.end - at);
            if zero {
                self.write_zeros(length).await?;
            } else {
                let mut pieces = std::pin::pin!(from.stream(at..at + length));
                while let Some(piece) = pieces.next().await {
                    self.write(piece?).await?;
                }
            }
            at += length;
        }
        Ok(())
    }
}
