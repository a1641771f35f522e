//! The legacy frame of LZ4, which is what `lz4 -l` makes and the only one that the kernel unpacks.
//!
//! ```text
//! magic, then for each block: its packed length (4 bytes, little endian), its packed bytes
//! ```
//!
//! A block unpacks to at most 8 MiB. Nothing marks the end, so that the kernel takes what follows for a block: zeros
//! end the frame, and what is appended after it is not found ("LZ4 Frame Format", legacy frame; `lib/decompress_unlz4.c`).

use std::io::{self, BufRead, Read};

use super::input::{Ahead, Input};
use crate::fields::{le16, le32};

const MAGIC: u32 = 0x184c_2102;
/// Most bytes of a block, unpacked.
const BLOCK_MAX: usize = 8 << 20;
/// Most bytes of a block that does not compress.
const PACKED_MAX: usize = BLOCK_MAX + BLOCK_MAX / 255 + 16;
/// Shortest match.
const MATCH_MIN: usize = 4;

/// What comes out of a frame.
pub(super) struct Lz4<'a, 'b> {
    input: &'a mut Input<'b>,
    packed: Vec<u8>,
    block: Vec<u8>,
    taken: usize,
}

impl<'a, 'b> Lz4<'a, 'b> {
    /// Begins after the magic.
    pub(super) fn new(input: &'a mut Input<'b>) -> io::Result<Self> {
        input.skip(4)?;
        Ok(Self { input, packed: Vec::new(), block: Vec::new(), taken: 0 })
    }

    /// Unpacks the next block; returns whether there was one.
    fn next(&mut self) -> io::Result<bool> {
        let head = self.input.peek(4)?;
        if head.len() < 4 || le32(head, 0) == 0 {
            return Ok(false);
        }
        let length = le32(head, 0);
        self.input.consume(4);
        if length == MAGIC {
            return self.next_of_another();
        }
        let length = usize::try_from(length).ok().filter(|length| *length <= PACKED_MAX);
        self.packed.resize(length.ok_or_else(broken)?, 0);
        self.input.read_exact(&mut self.packed)?;
        self.block.clear();
        self.taken = 0;
        unpack(&self.packed, &mut self.block).ok_or_else(broken)?;
        Ok(true)
    }

    /// Goes on after the magic of a frame that follows; one without blocks ends all.
    fn next_of_another(&mut self) -> io::Result<bool> {
        let head = self.input.peek(4)?;
        if head.len() == 4 && le32(head, 0) == MAGIC { Err(broken()) } else { self.next() }
    }
}

impl Read for Lz4<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // An empty block is no end.
        while self.taken == self.block.len() {
            if !self.next()? {
                return Ok(0);
            }
        }
        let count = buf.len().min(self.block.len() - self.taken);
        buf[..count].copy_from_slice(&self.block[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a block of lz4 is broken")
}

/// Unpacks one block to the end of `block`; none where it breaks the format or holds too much ("LZ4 Block Format").
fn unpack(mut packed: &[u8], block: &mut Vec<u8>) -> Option<()> {
    loop {
        let token = take(&mut packed, 1)?[0];
        let literals = length(usize::from(token >> 4), &mut packed)?;
        let literals = take(&mut packed, literals)?;
        if block.len() + literals.len() > BLOCK_MAX {
            return None;
        }
        block.extend_from_slice(literals);
        if packed.is_empty() {
            return Some(());
        }
        let distance = usize::from(le16(take(&mut packed, 2)?, 0));
        let mut left = length(usize::from(token & 15), &mut packed)? + MATCH_MIN;
        if distance == 0 || distance > block.len() || block.len() + left > BLOCK_MAX {
            return None;
        }
        // A match may reach into what it makes: it is copied in steps that double.
        let start = block.len() - distance;
        while left > 0 {
            let step = left.min(block.len() - start);
            block.extend_from_within(start..start + step);
            left -= step;
        }
    }
}

/// Reads a length of four bits with what continues it; it stays below the bytes of the block times 255.
fn length(short: usize, packed: &mut &[u8]) -> Option<usize> {
    let mut length = short;
    if short == 15 {
        loop {
            let more = take(packed, 1)?[0];
            length += usize::from(more);
            if more != 255 {
                break;
            }
        }
    }
    Some(length)
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(count)?;
    *bytes = rest;
    Some(taken)
}
