//! The bytes of the file in order, with a look ahead.

use std::io::{self, BufRead, Read};

use crate::pieces::Pieces;

/// Bytes read at once: readers of file systems find the place anew each time.
const PIECE: usize = 1 << 20;

/// A stream that can be looked at before it is read, and passed over.
pub(super) trait Ahead: BufRead {
    /// Returns what was read and not taken.
    fn held(&self) -> &[u8];

    /// Reads some bytes more, unless the stream has ended.
    fn extend(&mut self) -> io::Result<()>;

    /// Returns the next `count` bytes without taking them; fewer at the end.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.held().len() < count {
            self.extend()?;
        }
        let held = self.held();
        Ok(&held[..count.min(held.len())])
    }

    /// Passes over `count` bytes; an error where there are fewer.
    fn skip(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let held = self.fill_buf()?.len();
            if held == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step = usize::try_from(count).unwrap_or(usize::MAX).min(held);
            self.consume(step);
            count -= step as u64;
        }
        Ok(())
    }

    /// Passes over bytes of zero; returns whether something comes after them.
    fn skip_zeros(&mut self) -> io::Result<bool> {
        loop {
            let bytes = self.fill_buf()?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
            let is_over = zeros < bytes.len();
            self.consume(zeros);
            if is_over {
                return Ok(true);
            }
        }
    }
}

/// The file from its first byte to its last.
pub(super) struct Input<'a> {
    pub(super) file: &'a dyn Pieces,
    /// The place of the first byte after those that are held.
    next: u64,
    held: Vec<u8>,
    taken: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(file: &'a dyn Pieces) -> Self {
        Self { file, next: 0, held: Vec::new(), taken: 0 }
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buf.len());
        buf[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.held().is_empty() {
            self.extend()?;
        }
        Ok(self.held())
    }

    fn consume(&mut self, count: usize) {
        self.taken = self.held.len().min(self.taken + count);
    }
}

impl Ahead for Input<'_> {
    fn held(&self) -> &[u8] {
        &self.held[self.taken..]
    }

    fn extend(&mut self) -> io::Result<()> {
        self.held.drain(..self.taken);
        self.taken = 0;
        let left = self.file.len().saturating_sub(self.next);
        if left > 0 {
            let most = PIECE.min(usize::try_from(left).unwrap_or(PIECE));
            let piece = self.file.piece(self.next, most).map_err(io::Error::other)?;
            self.next += piece.len() as u64;
            self.held.extend(piece);
        }
        Ok(())
    }

    /// What is passed over is not read.
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let held = self.held().len() as u64;
        if count <= held {
            self.taken += count as usize;
            return Ok(());
        }
        self.taken = self.held.len();
        self.next = self.next.saturating_add(count - held);
        if self.next > self.file.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}
