//! A database file whose pages are read here and there, many of them twice.

use std::cell::RefCell;

use crate::pieces::Pieces;

/// Bytes read at once.
const PIECE: u64 = 64 << 10;
/// Pieces kept.
const PIECES: usize = 32;

/// The file with a small memory.
pub(super) struct Paged<'a> {
    file: &'a dyn Pieces,
    kept: RefCell<Kept>,
}

#[derive(Default)]
struct Kept {
    pieces: Vec<(u64, Vec<u8>)>,
    oldest: usize,
}

impl<'a> Paged<'a> {
    pub(super) fn new(file: &'a dyn Pieces) -> Self {
        Self { file, kept: RefCell::default() }
    }

    pub(super) fn len(&self) -> u64 {
        self.file.len()
    }

    /// Reads `length` bytes at `offset`, all of them; the caller bounds `length`.
    pub(super) fn bytes(&self, offset: u64, length: usize) -> Result<Vec<u8>, String> {
        self.file.check()?;
        if offset.checked_add(length as u64).is_none_or(|end| end > self.len()) {
            return Err(format!("{length} bytes at {offset:#x} are past its end"));
        }
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = offset + bytes.len() as u64;
            let skip = (at % PIECE) as usize;
            self.with_piece(at - at % PIECE, |piece| {
                let found = piece.get(skip..).unwrap_or_default();
                bytes.extend(&found[..found.len().min(length - bytes.len())]);
                if found.is_empty() { Err(format!("it ends at {at:#x}")) } else { Ok(()) }
            })??;
        }
        Ok(bytes)
    }

    fn with_piece<T>(&self, start: u64, take: impl FnOnce(&[u8]) -> T) -> Result<T, String> {
        let mut kept = self.kept.borrow_mut();
        if let Some((_, piece)) = kept.pieces.iter().find(|(at, _)| *at == start) {
            return Ok(take(piece));
        }
        let piece = self.file.piece(start, PIECE as usize)?;
        let taken = take(&piece);
        if kept.pieces.len() < PIECES {
            kept.pieces.push((start, piece));
        } else {
            let oldest = kept.oldest;
            kept.pieces[oldest] = (start, piece);
            kept.oldest = (oldest + 1) % PIECES;
        }
        Ok(taken)
    }
}
