//! Finding zeros in data, so that they are neither written nor compressed.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{Error, Result};

/// Zeros are looked for in blocks of this many bytes, a page of the host and the smallest cluster that is common.
const BLOCK: usize = 4096;

/// Returns whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    // Most blocks that are not zero show it at once; the rest is a loop that the compiler makes wide.
    bytes.first().is_none_or(|first| *first == 0)
        && bytes.chunks(256).all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Cuts `bytes` into runs of blocks that hold data: where each begins in `bytes`, and its bytes.
pub(crate) fn data_runs(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += blocks_while(&bytes[at..], is_zero);
        let length = blocks_while(&bytes[at..], |block| !is_zero(block));
        let run = (at, &bytes[at..at + length]);
        at += length;
        (length > 0).then_some(run)
    })
}

/// Writes the blocks of `bytes` that are not zero to `file`, which is a hole there, at `offset`; returns the bytes written.
pub(crate) fn write_sparse(file: &File, bytes: &[u8], offset: u64) -> Result<u64> {
    let mut written = 0;
    for (at, run) in data_runs(bytes) {
        let at = offset + at as u64;
        file.write_all_at(run, at)
            .map_err(|error| Error::io(format!("write {} bytes at byte {at}", run.len()), error))?;
        written += run.len() as u64;
    }
    Ok(written)
}

/// Returns the bytes of the blocks at the beginning for which `holds` is true.
fn blocks_while(bytes: &[u8], holds: impl Fn(&[u8]) -> bool) -> usize {
    bytes.chunks(BLOCK).take_while(|block| holds(block)).map(<[u8]>::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_data() {
        let mut bytes = vec![0; 5 * BLOCK + 100];
        assert_eq!(data_runs(&bytes).count(), 0);
        bytes[BLOCK] = 1;
        bytes[3 * BLOCK - 1] = 1;
        bytes[5 * BLOCK + 99] = 1;
        let runs: Vec<_> = data_runs(&bytes).map(|(at, run)| (at, run.len())).collect();
        assert_eq!(runs, [(BLOCK, 2 * BLOCK), (5 * BLOCK, 100)]);
        assert_eq!(data_runs(&[]).count(), 0);
        assert!(is_zero(&[]) && is_zero(&[0; 257]) && !is_zero(&[0, 0, 1]));
    }
}
