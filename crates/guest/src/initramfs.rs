//! The first root of a Linux: an initramfs is read without being unpacked, and written to without its programs.
//!
//! file -> [`input`] -> segments (one after the other, with zeros between) -> [`unpack`] -> archives of [`cpio`]
//!
//! The rules are those of the kernel (`Documentation/driver-api/early-userspace/buffer-format.rst`, `init/initramfs.c`):
//! a segment is an archive as it is, or one compressed stream of archives. Invariants: no content is held but those of
//! small files that were asked for; what comes out of a stream and the entries of all archives are limited.

pub(crate) mod cpio;
mod input;
mod lz4;
mod lzo;
pub(crate) mod survey;
pub(crate) mod unpack;
pub(crate) mod write;

use std::io;

use self::cpio::{Limits, Visitor};
use self::input::{Ahead, Input};
use self::unpack::{Compression, OUTPUT_MAX, Unpacked};
use crate::pieces::Pieces;

/// Largest file that is read.
const FILE_MAX: u64 = 512 << 20;

/// What was learned about the file itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    /// How its last segment is compressed.
    pub(crate) compression: Option<Compression>,
    /// Segments that were read, at least in part.
    pub(crate) segments: usize,
    /// Why it was not read to its end, as a sentence without its full stop; none also where the visitor stopped.
    pub(crate) fault: Option<String>,
}

/// Shows each entry of the initramfs `file` to `visitor`, in the order in which the kernel would make them.
pub(crate) fn read(file: &dyn Pieces, visitor: &mut dyn Visitor) -> Outline {
    let mut outline = Outline::default();
    if file.len() > FILE_MAX {
        outline.fault = Some(format!("it has {} bytes, over the limit of {FILE_MAX}", file.len()));
        return outline;
    }
    if let Err(error) = read_segments(file, visitor, &mut outline) {
        outline.fault = Some(error.to_string());
    }
    outline
}

fn read_segments(file: &dyn Pieces, visitor: &mut dyn Visitor, outline: &mut Outline) -> io::Result<()> {
    let mut input = Input::new(file);
    let mut limits = Limits::new();
    let mut left = OUTPUT_MAX;
    while input.skip_zeros()? {
        outline.segments += 1;
        let is_stopped = if cpio::starts(input.peek(6)?) {
            outline.compression = None;
            cpio::read(&mut input, &mut limits, visitor)?
        } else {
            let compression = Compression::of(input.peek(6)?)
                .ok_or_else(|| io::Error::other("it goes on with what no kernel unpacks"))?;
            outline.compression = Some(compression);
            let mut content = Unpacked::new(compression, &mut input, &mut left)?;
            read_archives(&mut content, &mut limits, visitor)?
        };
        if is_stopped {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads the archives of one compressed stream; returns whether the visitor stopped.
fn read_archives(content: &mut Unpacked<'_>, limits: &mut Limits, visitor: &mut dyn Visitor) -> io::Result<bool> {
    while content.skip_zeros()? {
        if !cpio::starts(content.peek(6)?) {
            return Err(io::Error::other("a compressed part of it holds no cpio archive"));
        }
        if cpio::read(content, limits, visitor)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
