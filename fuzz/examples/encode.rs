//! Makes a seed of a disk file: `encode IMAGE > fuzz/corpus/TARGET/NAME`.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    let path = std::env::args_os().nth(1).ok_or_else(|| io::Error::other("usage: encode IMAGE"))?;
    io::stdout().write_all(&fuzz::sparse::SparseFile::encode(&std::fs::read(path)?))
}
