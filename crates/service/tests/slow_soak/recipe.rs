//! What the bytes of a content are, without the bytes: pieces of noise that seeds determine.

use std::ops::Range;

/// A piece of the noise of a seed; seed 0 is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    seed: u64,
    from: u64,
    length: u64,
}

/// Pieces, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Recipe(Vec<Piece>);

impl Recipe {
    /// Adds `length` bytes of a seed's noise, from `from` on.
    pub(crate) fn add(&mut self, seed: u64, from: u64, length: u64) {
        self.0.push(Piece { seed, from, length });
    }

    pub(crate) fn length(&self) -> u64 {
        self.0.iter().map(|piece| piece.length).sum()
    }

    /// Returns what a range of the bytes is made of.
    pub(crate) fn slice(&self, range: Range<u64>) -> Self {
        let (mut slice, mut at) = (Self::default(), 0);
        for piece in &self.0 {
            let (start, end) = (range.start.max(at), range.end.min(at + piece.length));
            if start < end {
                slice.add(piece.seed, piece.from + start - at, end - start);
            }
            at += piece.length;
        }
        slice
    }

    pub(crate) fn concat(recipes: &[Self]) -> Self {
        Self(recipes.iter().flat_map(|recipe| recipe.0.iter().copied()).collect())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.length()).unwrap()];
        let mut rest = bytes.as_mut_slice();
        for piece in &self.0 {
            let (here, after) = rest.split_at_mut(usize::try_from(piece.length).unwrap());
            if piece.seed > 0 {
                let mut noise = blake3::Hasher::new().update(&piece.seed.to_le_bytes()).finalize_xof();
                noise.set_position(piece.from);
                noise.fill(here);
            }
            rest = after;
        }
        bytes
    }

    /// Returns the pieces as text, one a line.
    pub(crate) fn to_text(&self) -> String {
        self.0.iter().map(|Piece { seed, from, length }| format!("{seed} {from} {length}\n")).collect()
    }

    /// Reads what [`Recipe::to_text`] wrote.
    pub(crate) fn from_text(text: &str) -> Self {
        let number = |words: &mut std::str::SplitWhitespace<'_>| words.next().unwrap().parse().unwrap();
        let piece = |line: &str| {
            let mut words = line.split_whitespace();
            Piece { seed: number(&mut words), from: number(&mut words), length: number(&mut words) }
        };
        Self(text.lines().map(piece).collect())
    }
}
