//! The bytes of a file in their order, read in large pieces.

use std::ops::Range;
use std::sync::Arc;

use crate::error::Result;
use crate::source::Source;

/// What is read at once.
const PIECE: usize = 1 << 20;

/// A part of a file that is consumed from its beginning to its end.
pub(super) struct Input {
    source: Arc<dyn Source>,
    buffer: Vec<u8>,
    /// Where the bytes of the buffer begin that were not consumed yet.
    start: usize,
    /// The byte of the file that follows those in the buffer.
    next: u64,
    end: u64,
}

impl Input {
    /// Takes the bytes of `range`, which lies inside `source`.
    pub(super) fn new(source: Arc<dyn Source>, range: Range<u64>) -> Self {
        Self { source, buffer: Vec::new(), start: 0, next: range.start, end: range.end }
    }

    /// Returns the byte of the file that is consumed next.
    pub(super) fn position(&self) -> u64 {
        self.next - self.bytes().len() as u64
    }

    /// Returns the bytes that are in memory and were not consumed yet.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Returns `count` bytes or more without consuming them; fewer only where the part of the file ends.
    pub(super) fn at_least(&mut self, count: usize) -> Result<&[u8]> {
        if self.bytes().len() < count && self.next < self.end {
            self.buffer.drain(..self.start);
            self.start = 0;
            let known = self.buffer.len();
            let more = ((PIECE.max(count) - known) as u64).min(self.end - self.next) as usize;
            self.buffer.resize(known + more, 0);
            self.source.read_at(&mut self.buffer[known..], self.next).inspect_err(|_| self.buffer.truncate(known))?;
            self.next += more as u64;
        }
        Ok(self.bytes())
    }

    /// Marks `count` of the [`Input::bytes`] as consumed.
    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.buffer.len());
    }

    /// Returns whether everything was consumed.
    pub(super) fn is_at_end(&self) -> bool {
        self.position() == self.end
    }

    /// Consumes zeros, as many as follow; returns how many these were.
    pub(super) fn skip_zeros(&mut self) -> Result<u64> {
        let from = self.position();
        while let bytes = self.at_least(1)?
            && bytes.first() == Some(&0)
        {
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            self.consume(zeros);
        }
        Ok(self.position() - from)
    }
}
