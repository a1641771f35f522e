//! Writing a file compressed as a whole, by all cores: gzip of many members, or zstd of many frames with a table of them.
//!
//! ```text
//! gzip: members of 1 MiB each; the first states the length of all in an extra field
//! zstd: a frame of nothing | a note of the length of all | frames of 2 MiB, with length and checksum | a table of them
//! ```
//! The table is that of the seekable format of the zstd project. A piece has its place by its number only, so the same
//! input gives the same file whatever the number of threads.
//! Pieces that are holes by the extents of the input are not read, and one that was made before serves for all of them.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use libdeflater::{CompressionLvl, Compressor};
use zstd::zstd_safe::{CCtx, CParameter};

use super::gzip::{LENGTH_FIELD, MAGIC};
use super::zstd::{LENGTH_NOTE, LENGTH_NOTE_LENGTH, NOTHING};
use super::zstd_frames::{TABLE, TABLE_END};
use crate::error::{Error, ErrorKind, Result};
use crate::inflate::with_buffer;
use crate::options::WriteOptions;
use crate::output::{Output, Progress, Stream};
use crate::pipeline::{in_order, threads};
use crate::source::{ExtentKind, Source};

const GZIP_PIECE: u64 = 1 << 20;
const ZSTD_PIECE: u64 = 2 << 20;
/// The frames of a large file are larger, so that its table stays small: at most this many.
const ZSTD_PIECES: u64 = 1 << 20;
const ZSTD_LARGEST: u64 = 64 << 20;

/// Compresses the file `output` as a whole if the options say so.
pub(crate) fn write(output: Output, options: &WriteOptions) -> Result<Output> {
    let kind = match options.choice("wrap", &["none", "gzip", "zstd"])? {
        "gzip" => Kind::Gzip { level: options.number("level", 6, 1..=12)? as i32 },
        "zstd" => Kind::Zstd { level: options.number("level", 3, 1..=19)? as i32 },
        _ => return Ok(output),
    };
    match output {
        Output::Layout(file) => Ok(Output::Stream(Box::new(Wrapped::new(file, kind)))),
        Output::Stream(_) => Err(Error::unsupported("a file whose disk is compressed already is not compressed again")
            .with_hint("leave out wrap, or the option that compresses the disk")),
        Output::Flat(_) => Err(Error::unsupported("a disk of two files cannot be compressed as one")
            .with_hint("leave out wrap, or choose a kind of the format that is one file")),
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Gzip { level: i32 },
    Zstd { level: i32 },
}

/// A file that is compressed as a whole.
struct Wrapped {
    file: Arc<dyn Source>,
    kind: Kind,
    piece: u64,
    /// A piece of zeros of the full length, packed.
    zeros: Mutex<Option<Arc<Vec<u8>>>>,
}

impl Wrapped {
    fn new(file: Arc<dyn Source>, kind: Kind) -> Self {
        let piece = match kind {
            Kind::Gzip { .. } => GZIP_PIECE,
            Kind::Zstd { .. } => {
                let needed = file.len().div_ceil(ZSTD_PIECES).max(1);
                needed.checked_next_power_of_two().unwrap_or(u64::MAX).clamp(ZSTD_PIECE, ZSTD_LARGEST)
            }
        };
        Self { file, kind, piece, zeros: Mutex::default() }
    }

    /// Returns the number of bytes in piece `number`.
    fn length(&self, number: u64) -> usize {
        (self.file.len() - number * self.piece).min(self.piece) as usize
    }

    fn pack(&self, number: u64) -> Result<Arc<Vec<u8>>> {
        let (offset, length) = (number * self.piece, self.length(number));
        let hole = self.is_hole(offset, length as u64)?;
        // The first gzip member has a header of its own, and the last piece may be short.
        let usual = number > 0 && length as u64 == self.piece;
        if hole
            && usual
            && let Some(zeros) = self.zeros().clone()
        {
            return Ok(zeros);
        }
        let packed = with_buffer(length, |bytes| {
            self.read(bytes, offset)?;
            match self.kind {
                Kind::Gzip { level } => gzip_member(bytes, level, (number == 0).then(|| self.file.len())),
                Kind::Zstd { level } => zstd_frame(bytes, level),
            }
        })?;
        let packed = Arc::new(packed);
        if hole && usual {
            *self.zeros() = Some(Arc::clone(&packed));
        }
        Ok(packed)
    }

    fn zeros(&self) -> std::sync::MutexGuard<'_, Option<Arc<Vec<u8>>>> {
        self.zeros.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_hole(&self, mut offset: u64, length: u64) -> Result<bool> {
        let end = offset + length;
        while offset < end {
            let extent = self.file.extent_at(offset)?;
            if extent.kind == ExtentKind::Data {
                return Ok(false);
            }
            offset = extent.end();
        }
        Ok(true)
    }

    /// Fills `bytes` from `offset`; holes are not read.
    fn read(&self, mut bytes: &mut [u8], mut offset: u64) -> Result<()> {
        while !bytes.is_empty() {
            let extent = self.file.extent_at(offset)?;
            let (part, rest) = bytes.split_at_mut(extent.length.min(bytes.len() as u64) as usize);
            match extent.kind {
                ExtentKind::Data => self.file.read_at(part, offset)?,
                ExtentKind::Zero => part.fill(0),
            }
            offset += part.len() as u64;
            bytes = rest;
        }
        Ok(())
    }
}

impl Stream for Wrapped {
    fn write(&self, wanted: usize, progress: Progress<'_>, out: &mut dyn Write) -> Result<Vec<u8>> {
        let total = self.file.len();
        // Also an empty file has a piece, which is empty.
        let pieces = total.div_ceil(self.piece).max(1);
        let put = |out: &mut dyn Write, bytes: &[u8]| {
            out.write_all(bytes).map_err(|error| Error::io("write the compressed file", error))
        };
        if let Kind::Zstd { .. } = self.kind {
            put(out, &[NOTHING, LENGTH_NOTE, &total.to_le_bytes()].concat())?;
        }
        let mut lengths = Vec::new();
        let mut done = 0;
        in_order(
            threads(wanted),
            // What waits is packed, and each thread has a piece besides.
            self.piece + self.piece / 2,
            (0..pieces).map(Ok),
            |number| self.pack(number),
            |packed| {
                put(out, &packed)?;
                let length = self.length(lengths.len() as u64);
                // What a piece is packed to is far below 4 GiB.
                lengths.push(packed.len() as u32);
                done += length as u64;
                progress(done, total);
                Ok(())
            },
        )?;
        if let Kind::Zstd { .. } = self.kind {
            put(out, &self.table(&lengths))?;
        }
        Ok(Vec::new())
    }
}

impl Wrapped {
    /// Returns the table of all frames; those with content are `packed` to these lengths.
    fn table(&self, packed: &[u32]) -> Vec<u8> {
        let content = packed.iter().enumerate().map(|(number, packed)| (*packed, self.length(number as u64) as u32));
        let entries = [(NOTHING.len() as u32, 0), (LENGTH_NOTE_LENGTH as u32, 0)].into_iter().chain(content);
        let count = packed.len() as u32 + 2;
        let mut table = Vec::with_capacity(packed.len() * 8 + 33);
        table.extend(TABLE.to_le_bytes());
        table.extend((count * 8 + 9).to_le_bytes());
        for (packed, length) in entries {
            table.extend(packed.to_le_bytes());
            table.extend(length.to_le_bytes());
        }
        table.extend(count.to_le_bytes());
        table.push(0);
        table.extend(TABLE_END.to_le_bytes());
        table
    }
}

/// Packs `bytes` as a gzip member without a name or a time; it states the length of the whole content if that is given.
fn gzip_member(bytes: &[u8], level: i32, total: Option<u64>) -> Result<Vec<u8>> {
    let level = CompressionLvl::new(level).map_err(|_| Error::unsupported(format!("gzip has no level {level}")))?;
    let mut compressor = Compressor::new(level);
    let flags = if total.is_some() { 4 } else { 0 };
    let mut member = [MAGIC, &[flags, 0, 0, 0, 0, 0, 255]].concat();
    if let Some(total) = total {
        member.extend((LENGTH_FIELD.len() as u16 + 8).to_le_bytes());
        member.extend(LENGTH_FIELD);
        member.extend(total.to_le_bytes());
    }
    let head = member.len();
    member.resize(head + compressor.deflate_compress_bound(bytes.len()), 0);
    let length = compressor
        .deflate_compress(bytes, &mut member[head..])
        .map_err(|_| Error::new(ErrorKind::Io, "the gzip compressor failed"))?;
    member.truncate(head + length);
    member.extend(libdeflater::crc32(bytes).to_le_bytes());
    member.extend((bytes.len() as u32).to_le_bytes());
    Ok(member)
}

/// Packs `bytes` as a zstd frame that states its length and has a checksum.
fn zstd_frame(bytes: &[u8], level: i32) -> Result<Vec<u8>> {
    let failed = |_| Error::new(ErrorKind::Io, "the zstd compressor failed");
    let mut compressor = CCtx::create();
    compressor.set_parameter(CParameter::CompressionLevel(level)).map_err(failed)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true)).map_err(failed)?;
    let mut frame = Vec::with_capacity(zstd::zstd_safe::compress_bound(bytes.len()));
    compressor.compress2(&mut frame, bytes).map_err(failed)?;
    Ok(frame)
}
