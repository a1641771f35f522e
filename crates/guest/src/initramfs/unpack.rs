//! One compressed segment: which program compressed it, and what comes out of it.

use std::io::{self, BufRead, Read};

use bzip2::bufread::BzDecoder;
use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;

use super::input::{Ahead, Input};
use super::lz4::Lz4;
use super::lzo::Lzo;
use crate::pieces::Pieces;

/// Most bytes that come out of all segments of a file.
pub(super) const OUTPUT_MAX: u64 = 1 << 30;
/// What the decoder of xz or lzma may take; the kernel's own stops at a dictionary of 64 MiB.
const LZMA_MEMORY: u64 = 80 << 20;
/// Largest window of zstd, as a power of two, in the kernel too.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Bytes unpacked at once.
const STEP: usize = 64 << 10;

/// How a segment is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Bzip2,
    Lzma,
    Xz,
    Lzo,
    Lz4,
    Zstd,
}

impl Compression {
    /// Recognises a segment by its first six bytes, as the kernel's `decompress_method` does.
    pub(super) fn of(head: &[u8]) -> Option<Self> {
        let known: [(&[u8], Self); 8] = [
            (b"\x1f\x8b", Self::Gzip),
            (b"\x1f\x9e", Self::Gzip),
            (b"BZh", Self::Bzip2),
            (b"\x5d\0\0", Self::Lzma),
            (b"\xfd7zXZ\0", Self::Xz),
            (b"\x89LZO", Self::Lzo),
            (b"\x02\x21\x4c\x18", Self::Lz4),
            (b"\x28\xb5\x2f\xfd", Self::Zstd),
        ];
        known.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, compression)| *compression)
    }

    /// Returns the name of the program that makes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Xz => "xz",
            Self::Lzo => "lzop",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// Unpacks the segment `packed` to the end of `bytes`, which get at most `most` more.
///
/// # Errors
///
/// Where no kernel would unpack it, or more comes out.
pub(crate) fn whole(packed: &[u8], most: u64, bytes: &mut Vec<u8>) -> io::Result<()> {
    let compression = Compression::of(packed).ok_or_else(|| io::Error::other("it is nothing that a kernel unpacks"))?;
    let (mut input, mut left) = (Input::new(&packed), most);
    Unpacked::new(compression, &mut input, &mut left)?.read_to_end(bytes)?;
    Ok(())
}

/// What comes out of a segment.
pub(super) struct Unpacked<'a> {
    decoder: Box<dyn Read + 'a>,
    file: &'a dyn Pieces,
    /// Bytes that may still come out of this file.
    left: &'a mut u64,
    held: Vec<u8>,
    taken: usize,
}

impl<'a> Unpacked<'a> {
    /// Begins with the segment at the head of `input`, which is left where the segment ends; at most `left` bytes come
    /// out of it.
    pub(super) fn new(compression: Compression, input: &'a mut Input<'_>, left: &'a mut u64) -> io::Result<Self> {
        let file = input.file;
        let decoder: Box<dyn Read + 'a> = match compression {
            Compression::Gzip => Box::new(GzDecoder::new(input)),
            Compression::Bzip2 => Box::new(BzDecoder::new(input)),
            Compression::Lzma => Box::new(XzDecoder::new_stream(input, Stream::new_lzma_decoder(LZMA_MEMORY)?)),
            Compression::Xz => Box::new(XzDecoder::new_stream(input, Stream::new_stream_decoder(LZMA_MEMORY, 0)?)),
            Compression::Lz4 => Box::new(Lz4::new(input)?),
            Compression::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(input)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Compression::Lzo => Box::new(Lzo::new(input)?),
        };
        Ok(Self { decoder, file, left, held: Vec::new(), taken: 0 })
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buf.len());
        buf[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Unpacked<'_> {
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

impl Ahead for Unpacked<'_> {
    fn held(&self) -> &[u8] {
        &self.held[self.taken..]
    }

    fn extend(&mut self) -> io::Result<()> {
        self.file.check().map_err(io::Error::other)?;
        self.held.drain(..self.taken);
        self.taken = 0;
        let known = self.held.len();
        self.held.resize(known + STEP, 0);
        let mut filled = known;
        while filled < self.held.len() {
            match self.decoder.read(&mut self.held[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        self.held.truncate(filled);
        let made = (filled - known) as u64;
        *self.left = self
            .left
            .checked_sub(made)
            .ok_or_else(|| io::Error::other(format!("more than {OUTPUT_MAX} bytes come out of it")))?;
        Ok(())
    }
}
