//! Block access: bytes that are read by position, and the map of where they are zero.
//!
//! Everything is a [`Source`]: a local file, a content of the chunk store, the disk inside a qcow2 file,
//! and the qcow2 file that a layout would write. So readers stack on sources and layouts stack on disks,
//! and neither knows where the bytes lie.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// What a run of bytes holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentKind {
    /// Bytes that must be read.
    Data,
    /// Zeros that need not be read. Data may also turn out to be zero.
    Zero,
}

/// A run of bytes of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// Length in bytes, above zero.
    pub length: u64,
    /// What it holds.
    pub kind: ExtentKind,
}

impl Extent {
    /// Returns the first byte after it.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + self.length
    }
}

/// Bytes that are read by position; plain blocking calls that many threads may make at once.
pub trait Source: Send + Sync {
    /// Returns the length in bytes.
    fn len(&self) -> u64;

    /// Returns whether there are no bytes at all.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` from `offset`. A range that goes past the end is an error, never zero-filled.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()>;

    /// Returns the run that begins at `offset` (below [`Source::len`]), as long as is known cheaply, without reading data.
    /// Neighbouring runs may be of one kind.
    fn extent_at(&self, offset: u64) -> Result<Extent> {
        Ok(Extent { offset, length: self.len() - offset, kind: ExtentKind::Data })
    }
}

impl<S: Source + ?Sized> Source for Arc<S> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        (**self).read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        (**self).extent_at(offset)
    }
}

/// Bytes in memory, all of them data.
impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(Source::len(self), offset, buf.len())?;
        let start =
            usize::try_from(offset).map_err(|_| Error::new(ErrorKind::TooLarge, "offset is past all memory"))?;
        buf.copy_from_slice(&self[start..start + buf.len()]);
        Ok(())
    }
}

/// Checks that `length` bytes at `offset` lie inside a source of `len` bytes, as every [`Source::read_at`] must.
pub fn check_range(len: u64, offset: u64, length: usize) -> Result<()> {
    match offset.checked_add(length as u64) {
        Some(end) if end <= len => Ok(()),
        _ => Err(Error::new(
            ErrorKind::Io,
            format!("cannot read {length} bytes at byte {offset}: the end is at byte {len}"),
        )),
    }
}

/// Checks that `offset` lies inside a source of `len` bytes, as every [`Source::extent_at`] must.
pub fn check_offset(len: u64, offset: u64) -> Result<()> {
    if offset < len {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Io, format!("no extent at byte {offset}: the end is at byte {len}")))
}
