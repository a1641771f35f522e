//! Numbers and tables in the bytes of a file, with every range checked against the end of the file.

use std::fmt::Display;

use crate::error::{Error, Result};
use crate::source::Source;

/// Returns `N` bytes of `bytes` from `at`; `bytes` is a buffer whose length the caller has fixed.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array(bytes, at))
}

pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// Returns the error for `what` that lies at `offset` and is not wholly inside a file of `len` bytes.
pub(crate) fn past_end(what: impl Display, offset: u64, length: u64, len: u64) -> Error {
    Error::corrupt(format!("{what} needs {length} bytes at byte {offset}, and the file ends at byte {len}"))
        .with_hint("the file was cut or is damaged: copy it again and compare checksums")
}

/// Checks that `what` lies wholly inside a file of `len` bytes.
pub(crate) fn check_inside(what: impl Display, offset: u64, length: u64, len: u64) -> Result<()> {
    match offset.checked_add(length) {
        Some(end) if end <= len => Ok(()),
        _ => Err(past_end(what, offset, length, len)),
    }
}

/// Reads `length` bytes of `what`; the caller has bounded `length`, and the file must hold them.
pub(crate) fn read_bytes(source: &dyn Source, offset: u64, length: usize, what: &str) -> Result<Vec<u8>> {
    check_inside(what, offset, length as u64, source.len())?;
    let mut bytes = vec![0; length];
    source.read_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Reads a table of `count` entries of `N` bytes each; the caller has bounded `count`.
pub(crate) fn read_table<T, const N: usize>(
    source: &dyn Source,
    offset: u64,
    count: usize,
    what: &str,
    decode: fn([u8; N]) -> T,
) -> Result<Vec<T>> {
    const PIECE: usize = 1 << 20;
    check_inside(what, offset, count as u64 * N as u64, source.len())?;
    let mut table = Vec::with_capacity(count);
    let mut bytes = vec![0; PIECE.min(count * N)];
    while table.len() < count {
        let piece = &mut bytes[..PIECE.min((count - table.len()) * N)];
        source.read_at(piece, offset + (table.len() * N) as u64)?;
        table.extend(piece.chunks_exact(N).map(|entry| decode(array(entry, 0))));
    }
    Ok(table)
}

/// Fills `buf` from byte `within` of a table whose entries `entry` makes.
pub(crate) fn fill<const N: usize>(buf: &mut [u8], within: u64, entry: impl Fn(u64) -> [u8; N]) {
    let size = N as u64;
    let (mut index, mut skip, mut done) = (within / size, (within % size) as usize, 0);
    while done < buf.len() {
        let bytes = &entry(index)[skip..];
        let length = bytes.len().min(buf.len() - done);
        buf[done..done + length].copy_from_slice(&bytes[..length]);
        (index, skip, done) = (index + 1, 0, done + length);
    }
}
