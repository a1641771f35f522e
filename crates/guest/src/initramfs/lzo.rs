//! What `lzop` makes.
//!
//! ```text
//! magic, header, then for each block: its length (4 bytes, big endian; zero ends it all), its packed length, sums, its bytes
//! ```
//!
//! A block is stored as it is where packing made it no shorter. The sums are not compared, as the kernel does not
//! (`lib/decompress_unlzo.c`; the header is that of lzop's `src/lzop.h`).

use std::io::{self, Read};

use super::input::{Ahead as _, Input};
use crate::fields::{be16, be32};

/// Most bytes of a block, unpacked: lzop makes them of 256 KiB, others of up to 64 MiB, which the kernel refuses.
const BLOCK_MAX: usize = 8 << 20;
/// Flags: which sums a block has, and what the header does.
const ADLER_UNPACKED: u32 = 1;
const ADLER_PACKED: u32 = 1 << 1;
const EXTRA: u32 = 1 << 6;
const CRC_UNPACKED: u32 = 1 << 8;
const CRC_PACKED: u32 = 1 << 9;
const FILTER: u32 = 1 << 11;
/// The header was shorter before.
const VERSION_MIN: u16 = 0x0940;

/// What comes out of a file of lzop.
pub(super) struct Lzo<'a, 'b> {
    input: &'a mut Input<'b>,
    flags: u32,
    block: Vec<u8>,
    taken: usize,
    is_over: bool,
}

impl<'a, 'b> Lzo<'a, 'b> {
    /// Begins at the magic.
    pub(super) fn new(input: &'a mut Input<'b>) -> io::Result<Self> {
        input.skip(9)?;
        // Versions of lzop, of its library, and of what unpacks it; method; level.
        let mut versions = [0; 8];
        input.read_exact(&mut versions)?;
        if be16(&versions, 0) < VERSION_MIN {
            return Err(io::Error::other("it was made by lzop before 1998"));
        }
        let flags = number(input)?;
        if flags & FILTER != 0 {
            return Err(io::Error::other("it was made by lzop with a filter"));
        }
        // Mode and both halves of the time.
        input.skip(12)?;
        let mut name = [0];
        input.read_exact(&mut name)?;
        input.skip(u64::from(name[0]) + 4)?;
        if flags & EXTRA != 0 {
            let length = number(input)?;
            input.skip(u64::from(length) + 4)?;
        }
        Ok(Self { input, flags, block: Vec::new(), taken: 0, is_over: false })
    }

    /// Unpacks the next block; returns whether there was one.
    fn next(&mut self) -> io::Result<bool> {
        let length = number(self.input)? as usize;
        if length == 0 {
            self.is_over = true;
            return Ok(false);
        }
        let packed = number(self.input)? as usize;
        if length > BLOCK_MAX || packed > length {
            return Err(broken());
        }
        let has = |flag: u32| u64::from(self.flags & flag != 0);
        let of_packed = if packed < length { has(ADLER_PACKED) + has(CRC_PACKED) } else { 0 };
        let sums = has(ADLER_UNPACKED) + has(CRC_UNPACKED) + of_packed;
        self.input.skip(sums * 4)?;
        let mut bytes = vec![0; packed];
        self.input.read_exact(&mut bytes)?;
        if packed < length {
            self.block.resize(length, 0);
            let made = lzokay::decompress::decompress(&bytes, &mut self.block).map_err(|_| broken())?;
            self.block.truncate(made);
        } else {
            self.block = bytes;
        }
        self.taken = 0;
        Ok(true)
    }
}

impl Read for Lzo<'_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // An empty block is no end.
        while self.taken == self.block.len() {
            if self.is_over || !self.next()? {
                return Ok(0);
            }
        }
        let count = buf.len().min(self.block.len() - self.taken);
        buf[..count].copy_from_slice(&self.block[self.taken..self.taken + count]);
        self.taken += count;
        Ok(count)
    }
}

fn number(input: &mut Input<'_>) -> io::Result<u32> {
    let mut bytes = [0; 4];
    input.read_exact(&mut bytes)?;
    Ok(be32(&bytes, 0))
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "what lzop packed is broken")
}
