//! Which ranges of two contents differ, by their manifests alone.

use std::ops::Range;

use futures::{Stream, future, stream};

use crate::blob::{BlobId, ZERO_ID};
use crate::reader::Reader;
use crate::store::Store;
use crate::{Error, Result};

/// What a content has in a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Stored bytes.
    Data,
    /// Zeros, which are not stored.
    Zero,
    /// No bytes at all: the content ends before the range.
    Nothing,
}

/// A range in which two contents differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where, in bytes; it begins at the border of a chunk or where the shorter content ends.
    pub range: Range<u64>,
    /// What the old content has there.
    pub old: Side,
    /// What the new one has there.
    pub new: Side,
}

impl Store {
    /// Returns the ranges in which the content of `new` differs from that of `old`, in ascending order.
    ///
    /// Segments and chunks are compared by their ids, so no data is read, and segments that are the same are not
    /// opened: two contents of any size with one changed chunk cost two roots and two segments. What is not told is
    /// equal; of what is told, at least one byte of each chunk differs, but for the last chunk of the shorter
    /// content, where only more bytes may follow. Ranges of the same kind that touch are told as one.
    ///
    /// # Errors
    /// `Invalid` when the contents are of different domains, where equal bytes have different ids.
    pub async fn diff(&self, old: &[u8], new: &[u8]) -> Result<impl Stream<Item = Result<Difference>> + Send + use<>> {
        let (old, new) = future::try_join(self.reader(old), self.reader(new)).await?;
        if old.domain() != new.domain() {
            let message = format!(
                "contents {} and {} are in different dedup domains, so their chunks cannot be compared",
                old.content(),
                new.content()
            );
            return Err(Error::invalid(message).with_hint("compare them by reading both"));
        }
        let (chunk_size, segment_size) = (self.chunk_size().into(), self.segment_size());
        let walk = Walk { old, new, chunk_size, segment_size, at: 0, open: None };
        Ok(stream::try_unfold(walk, async |mut walk| Ok(walk.next().await?.map(|found| (found, walk)))))
    }
}

struct Walk {
    old: Reader,
    new: Reader,
    chunk_size: u64,
    segment_size: u64,
    at: u64,
    /// A difference that ends at `at` and may go on there.
    open: Option<Difference>,
}

impl Walk {
    async fn next(&mut self) -> Result<Option<Difference>> {
        while self.at < self.old.len().max(self.new.len()) {
            let (end, sides) = self.run().await?;
            let range = std::mem::replace(&mut self.at, end)..end;
            let next = sides.map(|(old, new)| Difference { range, old, new });
            if let (Some(open), Some(next)) = (&mut self.open, &next)
                && (open.old, open.new) == (next.old, next.new)
            {
                open.range.end = end;
                continue;
            }
            if let Some(closed) = std::mem::replace(&mut self.open, next) {
                return Ok(Some(closed));
            }
        }
        Ok(self.open.take())
    }

    /// Returns where a run of one kind that begins at `at` ends, and what the contents have there if they differ.
    async fn run(&self) -> Result<(u64, Option<(Side, Side)>)> {
        let shorter = self.old.len().min(self.new.len());
        let end = if self.at < shorter { shorter } else { self.old.len().max(self.new.len()) };
        let index = self.at / self.segment_size;
        let segment_end = ((index + 1) * self.segment_size).min(end);
        if self.at < shorter && self.old.segment_entry(index).id == self.new.segment_entry(index).id {
            return Ok((segment_end, None));
        }
        let (old, new) = future::try_join(self.id(&self.old), self.id(&self.new)).await?;
        if old == new {
            return Ok((self.chunk_end(end), None));
        }
        let sides = (side(old), side(new));
        // Past the shorter one, a segment of zeros is told at once.
        let is_zero = self.at >= shorter && self.longer().is_zero_segment(index);
        Ok((if is_zero { segment_end } else { self.chunk_end(end) }, Some(sides)))
    }

    /// Returns the id of the chunk at `at`; nothing behind the end.
    async fn id(&self, content: &Reader) -> Result<Option<BlobId>> {
        let index = self.at / self.segment_size;
        if self.at >= content.len() {
            return Ok(None);
        }
        if content.is_zero_segment(index) {
            return Ok(Some(ZERO_ID));
        }
        let number = (self.at % self.segment_size / self.chunk_size) as usize;
        Ok(Some(content.segment_entries(index).await?[number].id))
    }

    fn chunk_end(&self, end: u64) -> u64 {
        ((self.at / self.chunk_size + 1) * self.chunk_size).min(end)
    }

    fn longer(&self) -> &Reader {
        if self.old.len() > self.new.len() { &self.old } else { &self.new }
    }
}

fn side(id: Option<BlobId>) -> Side {
    match id {
        None => Side::Nothing,
        Some(ZERO_ID) => Side::Zero,
        Some(_) => Side::Data,
    }
}
