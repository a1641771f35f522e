//! Replies of the transmission, each written whole before the next, whichever worker it comes from.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::protocol::{
    EIO, REPLY_BLOCK_STATUS, REPLY_ERROR, REPLY_ERROR_OFFSET, REPLY_FLAG_DONE, REPLY_NONE, REPLY_OFFSET_DATA,
    REPLY_OFFSET_HOLE, SIMPLE_REPLY_MAGIC, STRING_MAX, STRUCTURED_REPLY_MAGIC,
};

/// A buffer for data has this much room in front of them, so that one call sends both.
pub(crate) const HEAD: usize = 28;

/// The way to a client.
pub(crate) struct Replies<W> {
    out: Mutex<W>,
    structured: bool,
}

impl<W: Write> Replies<W> {
    /// Replies to `out`, in the structured way or in the simple one.
    pub(crate) fn new(out: W, structured: bool) -> Self {
        Self { out: Mutex::new(out), structured }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
    }

    fn chunk(&self, cookie: u64, done: bool, kind: u16, payload: &[&[u8]]) -> io::Result<()> {
        let length = payload.iter().map(|part| part.len()).sum();
        let mut bytes = chunk_head(cookie, done, kind, length).to_vec();
        payload.iter().for_each(|part| bytes.extend(*part));
        self.write(&bytes)
    }

    /// Says that a command succeeded that has nothing to tell, or no more.
    pub(crate) fn done(&self, cookie: u64) -> io::Result<()> {
        if self.structured { self.chunk(cookie, true, REPLY_NONE, &[]) } else { self.write(&simple_head(cookie, 0)) }
    }

    /// Says that a command failed, and why.
    pub(crate) fn error(&self, cookie: u64, code: u32, sentence: &str) -> io::Result<()> {
        if !self.structured {
            return self.write(&simple_head(cookie, code));
        }
        let sentence = bounded(sentence);
        let length = (sentence.len() as u16).to_be_bytes();
        self.chunk(cookie, true, REPLY_ERROR, &[&code.to_be_bytes(), &length, sentence.as_bytes()])
    }

    /// Says that a read failed at byte `offset`; what was sent before is good.
    pub(crate) fn error_at(&self, cookie: u64, offset: u64, sentence: &str) -> io::Result<()> {
        if !self.structured {
            return self.error(cookie, EIO, sentence);
        }
        let sentence = bounded(sentence);
        let length = (sentence.len() as u16).to_be_bytes();
        let payload = [&EIO.to_be_bytes()[..], &length, sentence.as_bytes(), &offset.to_be_bytes()];
        self.chunk(cookie, true, REPLY_ERROR_OFFSET, &payload)
    }

    /// Sends a chunk of data; `buffer` is [`HEAD`] bytes of room and the bytes from `offset` on.
    pub(crate) fn data(&self, cookie: u64, done: bool, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let head = chunk_head(cookie, done, REPLY_OFFSET_DATA, buffer.len() - HEAD + 8);
        buffer[..20].copy_from_slice(&head);
        buffer[20..HEAD].copy_from_slice(&offset.to_be_bytes());
        self.write(buffer)
    }

    /// Says that `length` bytes from `offset` on are zero.
    pub(crate) fn hole(&self, cookie: u64, done: bool, offset: u64, length: u32) -> io::Result<()> {
        self.chunk(cookie, done, REPLY_OFFSET_HOLE, &[&offset.to_be_bytes(), &length.to_be_bytes()])
    }

    /// Sends the block status of a range: lengths and states of its runs in context `context`.
    pub(crate) fn status(&self, cookie: u64, context: u32, runs: &[(u32, u32)]) -> io::Result<()> {
        let mut payload = context.to_be_bytes().to_vec();
        for (length, state) in runs {
            payload.extend(length.to_be_bytes());
            payload.extend(state.to_be_bytes());
        }
        self.chunk(cookie, true, REPLY_BLOCK_STATUS, &[&payload])
    }

    /// Says in the simple way that a read succeeds. Its data are to be written to what is returned; no other reply comes
    /// between. If they cannot be read after all, the connection must end.
    pub(crate) fn begin_simple(&self, cookie: u64) -> io::Result<MutexGuard<'_, W>> {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.write_all(&simple_head(cookie, 0))?;
        Ok(out)
    }
}

fn simple_head(cookie: u64, error: u32) -> [u8; 16] {
    let mut head = [0; 16];
    head[..4].copy_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
    head[4..8].copy_from_slice(&error.to_be_bytes());
    head[8..].copy_from_slice(&cookie.to_be_bytes());
    head
}

fn chunk_head(cookie: u64, done: bool, kind: u16, length: usize) -> [u8; 20] {
    let flags = if done { REPLY_FLAG_DONE } else { 0 };
    let mut head = [0; 20];
    head[..4].copy_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
    head[4..6].copy_from_slice(&flags.to_be_bytes());
    head[6..8].copy_from_slice(&kind.to_be_bytes());
    head[8..16].copy_from_slice(&cookie.to_be_bytes());
    head[16..].copy_from_slice(&(length as u32).to_be_bytes());
    head
}

/// Returns the beginning of `sentence` that a string of the protocol can hold.
fn bounded(sentence: &str) -> &str {
    &sentence[..sentence.floor_char_boundary(STRING_MAX)]
}
