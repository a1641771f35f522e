//! The file of a bundle, written in order and read by position (`docs/formats/bundle.md`).

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::error::{Failure, Result};
use crate::transfer::{Chunk, Group, Origin, Run};

const MAGIC: [u8; 8] = *b"MOLDE-BN";
const VERSION: u32 = 1;
/// Magic, version, chunk size, length of what is said about the image.
const HEADER: usize = 20;
const HASH: usize = 32;
/// Longest text about an image: its record is bounded too.
const ABOUT_MAX: u32 = 4 << 20;
/// Longest chunk of any store.
const CHUNK_MAX: u32 = 4 << 20;
const READ: usize = 1 << 20;

/// Writes a bundle in order.
pub(super) struct BundleWriter<W: Write> {
    out: BufWriter<W>,
    hasher: blake3::Hasher,
    /// Zeros that are not written yet.
    zeros: u64,
}

impl<W: Write> BundleWriter<W> {
    pub(super) fn begin(out: W, chunk_size: u32, about: &Value) -> Result<Self> {
        let about = about.to_string();
        let length = u32::try_from(about.len()).ok().filter(|length| *length <= ABOUT_MAX);
        let length = length.ok_or_else(|| Failure::new("the image has more properties than a bundle can carry"))?;
        let mut writer = Self { out: BufWriter::with_capacity(READ, out), hasher: blake3::Hasher::new(), zeros: 0 };
        let numbers = [VERSION, chunk_size, length].map(u32::to_le_bytes).concat();
        writer.put(&[&MAGIC[..], &numbers, about.as_bytes()].concat())?;
        Ok(writer)
    }

    pub(super) fn zeros(&mut self, length: u64) {
        self.zeros += length;
    }

    /// Writes that a chunk lies in the base.
    pub(super) fn base(&mut self, offset: u64, length: u32, hash: [u8; 32]) -> Result<()> {
        self.end_zeros()?;
        self.put(&[&[5][..], &offset.to_le_bytes(), &length.to_le_bytes(), &hash].concat())
    }

    /// Writes the bytes of a chunk, as a frame where it has one.
    pub(super) fn data(&mut self, plain: &[u8], frame: Option<&[u8]>) -> Result<()> {
        self.end_zeros()?;
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
        match frame {
            Some(frame) => {
                self.put(&[&[4][..], &length(plain), &length(frame)].concat())?;
                self.put(frame)
            }
            None => {
                self.put(&[&[3][..], &length(plain)].concat())?;
                self.put(plain)
            }
        }
    }

    pub(super) fn finish(mut self) -> Result<()> {
        self.end_zeros()?;
        self.put(&[0])?;
        self.out.write_all(self.hasher.finalize().as_bytes())?;
        Ok(self.out.flush()?)
    }

    fn end_zeros(&mut self) -> Result<()> {
        if self.zeros == 0 {
            return Ok(());
        }
        let zeros = std::mem::take(&mut self.zeros);
        self.put(&[&[1][..], &zeros.to_le_bytes()].concat())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        Ok(self.out.write_all(bytes)?)
    }
}

/// A bundle that was checked as a whole.
pub(super) struct BundleFile {
    file: File,
    path: PathBuf,
    pub(super) chunk_size: u32,
    /// What it says about the image.
    pub(super) about: Value,
    /// Bytes of the image.
    pub(super) size: u64,
    /// Where the pieces begin, and where the hash does.
    first: u64,
    end: u64,
}

impl BundleFile {
    /// Opens a bundle and reads it once to the end to check its hash.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let cannot =
            |error: std::io::Error| Failure::new(format!("cannot read `{}`", path.display())).caused_by(&error);
        let mut file = File::open(path).map_err(cannot)?;
        let length = file.metadata().map_err(cannot)?.len();
        let mut header = [0; HEADER];
        if length < (HEADER + HASH) as u64 {
            return Err(Failure::new(format!("`{}` is no bundle: it is too short", path.display())));
        }
        file.read_exact(&mut header).map_err(cannot)?;
        if header[..8] != MAGIC {
            return Err(Failure::new(format!("`{}` is no bundle", path.display())));
        }
        let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if number(8) != VERSION {
            let message =
                format!("`{}` is a bundle of version {}, and only {VERSION} is known", path.display(), number(8));
            return Err(Failure::new(message).with_hint("use the release that made it, or a newer one"));
        }
        let end = length - HASH as u64;
        check_hash(&mut file, &header, end).map_err(cannot)?.ok_or_else(|| damaged(path, "its checksum is wrong"))?;
        let (chunk_size, text) = (number(12), number(16));
        let first = HEADER as u64 + u64::from(text);
        if text > ABOUT_MAX || first >= end || !(1..=CHUNK_MAX).contains(&chunk_size) {
            return Err(damaged(path, "its header is impossible"));
        }
        let mut about = vec![0; text as usize];
        file.read_exact_at(&mut about, HEADER as u64).map_err(cannot)?;
        let about: Value = serde_json::from_slice(&about).map_err(|_| damaged(path, "its description is no JSON"))?;
        let size = about["size"].as_u64().ok_or_else(|| damaged(path, "it does not tell how large the image is"))?;
        Ok(Self { file, path: path.to_owned(), chunk_size, about, size, first, end })
    }

    /// Returns the runs of the image in groups of at most `chunks` chunks that have to be read; chunks of the base are
    /// copied from the image `base`.
    pub(super) fn groups(this: &Arc<Self>, base: Option<[u8; 16]>, chunks: u64) -> Groups {
        Groups { bundle: Arc::clone(this), base, chunks, place: this.first, length: 0, over: false }
    }

    fn read(&self, length: usize, at: u64) -> Result<Vec<u8>> {
        if at.checked_add(length as u64).is_none_or(|end| end > self.end) {
            return Err(damaged(&self.path, "a piece goes past its end"));
        }
        let mut bytes = vec![0; length];
        let read = self.file.read_exact_at(&mut bytes, at);
        read.map_err(|error| Failure::new(format!("cannot read `{}`", self.path.display())).caused_by(&error))?;
        Ok(bytes)
    }
}

/// Hashes a file from behind its header to `end`, and compares with what stands there.
fn check_hash(file: &mut File, header: &[u8], end: u64) -> std::io::Result<Option<()>> {
    let (mut hasher, mut left, mut buffer) = (blake3::Hasher::new(), end - header.len() as u64, vec![0; READ]);
    hasher.update(header);
    while left > 0 {
        let piece = &mut buffer[..left.min(READ as u64) as usize];
        file.read_exact(piece)?;
        hasher.update(piece);
        left -= piece.len() as u64;
    }
    let mut told = [0; HASH];
    file.read_exact(&mut told)?;
    Ok((hasher.finalize() == told).then_some(()))
}

fn damaged(path: &Path, why: &str) -> Failure {
    Failure::new(format!("the bundle `{}` is damaged or cut short: {why}", path.display()))
        .with_hint("copy it again, or make it again")
}

impl Origin for BundleFile {
    fn plain(&self, chunk: Chunk, bytes: &mut [u8]) -> Result<()> {
        let Some(packed) = chunk.packed else {
            bytes.copy_from_slice(&self.read(bytes.len(), chunk.at)?);
            return Ok(());
        };
        let frame = self.read(packed as usize, chunk.at)?;
        match zstd::bulk::decompress_to_buffer(&frame, bytes) {
            Ok(length) if length == bytes.len() => Ok(()),
            _ => Err(damaged(&self.path, "a chunk does not decompress")),
        }
    }

    fn frame(&self, chunk: Chunk) -> Result<Option<Vec<u8>>> {
        chunk.packed.map(|packed| self.read(packed as usize, chunk.at)).transpose()
    }
}

/// The runs of a bundle.
pub(super) struct Groups {
    bundle: Arc<BundleFile>,
    base: Option<[u8; 16]>,
    chunks: u64,
    /// Where the next piece begins.
    place: u64,
    /// Bytes of the image that came before.
    length: u64,
    over: bool,
}

impl Groups {
    fn group(&mut self) -> Result<Group> {
        let (mut group, mut chunks) = (Vec::new(), 0);
        while !self.over && chunks < self.chunks {
            let Some(run) = self.run()? else {
                self.over = true;
                let Self { bundle, place, length, .. } = self;
                if *place != bundle.end || *length != bundle.size {
                    return Err(damaged(&bundle.path, "its pieces are not the whole image"));
                }
                break;
            };
            let length = self.length.checked_add(run.length());
            self.length = length.ok_or_else(|| damaged(&self.bundle.path, "a length is impossible"))?;
            // Every run counts but zeros, so that a group is bounded.
            chunks += u64::from(!matches!(run, Run::Zeros(_)));
            group.push(run);
        }
        Ok(group)
    }

    /// Reads one piece; nothing at the end.
    fn run(&mut self) -> Result<Option<Run>> {
        let run = match self.take::<1>()? {
            [0] => return Ok(None),
            [1] => Run::Zeros(u64::from_le_bytes(self.take()?)),
            [3] => {
                let length = self.chunk_length()?;
                self.chunk(length, length, None)?
            }
            [4] => {
                let (length, packed) = (self.chunk_length()?, self.chunk_length()?);
                self.chunk(length, packed, Some(packed))?
            }
            [5] => {
                let offset = u64::from_le_bytes(self.take()?);
                let length = self.chunk_length()?;
                let image = self.base.ok_or_else(|| damaged(&self.bundle.path, "it needs a base and names none"))?;
                Run::Copy { image, offset, length, hash: self.take()? }
            }
            _ => return Err(damaged(&self.bundle.path, "a piece is of no known kind")),
        };
        Ok(Some(run))
    }

    /// Steps over the bytes of a chunk.
    fn chunk(&mut self, length: u32, stored: u32, packed: Option<u32>) -> Result<Run> {
        let at = self.place;
        self.place += u64::from(stored);
        if self.place > self.bundle.end {
            return Err(damaged(&self.bundle.path, "a piece goes past its end"));
        }
        Ok(Run::Chunk(Chunk { at, length, packed }))
    }

    fn chunk_length(&mut self) -> Result<u32> {
        let length = u32::from_le_bytes(self.take()?);
        if (1..=self.bundle.chunk_size).contains(&length) {
            return Ok(length);
        }
        Err(damaged(&self.bundle.path, "a chunk has an impossible length"))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.bundle.read(N, self.place)?;
        self.place += N as u64;
        bytes.try_into().map_err(|_| damaged(&self.bundle.path, "a piece is cut off"))
    }
}

impl Iterator for Groups {
    type Item = Result<Group>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.group();
        self.over |= group.is_err();
        Some(group).filter(|group| group.as_ref().map_or(true, |group| !group.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const BASE: [u8; 16] = [9; 16];

    /// Writes a bundle of chunks of 32 bytes: data, zeros, a chunk of the base, a frame, a shorter last chunk.
    fn example() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = BundleWriter::begin(&mut bytes, 32, &json!({"name": "web", "size": 195})).unwrap();
        writer.data(&b"abcdefgh".repeat(4), None).unwrap();
        writer.zeros(32);
        writer.zeros(64);
        writer.base(24, 32, [7; 32]).unwrap();
        let frame = zstd::bulk::compress(&[b'a'; 32], 1).unwrap();
        writer.data(&[b'a'; 32], Some(&frame[..])).unwrap();
        writer.data(b"end", None).unwrap();
        writer.finish().unwrap();
        bytes
    }

    /// Opens bytes as a bundle and reads all of it.
    fn read(bytes: &[u8]) -> Result<(Value, Vec<Run>, Vec<u8>)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b");
        std::fs::write(&path, bytes).unwrap();
        let bundle = Arc::new(BundleFile::open(&path)?);
        let groups: Vec<Group> = BundleFile::groups(&bundle, Some(BASE), 2).collect::<Result<_>>()?;
        let runs: Vec<Run> = groups.into_iter().flatten().collect();
        let mut plain = Vec::new();
        for run in &runs {
            let mut chunk = vec![0; run.length() as usize];
            if let Run::Chunk(place) = run {
                bundle.plain(*place, &mut chunk)?;
            }
            plain.extend(chunk);
        }
        Ok((bundle.about.clone(), runs, plain))
    }

    #[test]
    fn what_was_written_is_read() {
        let bytes = example();
        let (about, runs, plain) = read(&bytes).unwrap();
        assert_eq!(about, json!({"name": "web", "size": 195}));
        assert_eq!(runs[1], Run::Zeros(96));
        assert_eq!(runs[2], Run::Copy { image: BASE, offset: 24, length: 32, hash: [7; 32] });
        assert_eq!(plain, [&b"abcdefgh".repeat(4)[..], &[0; 128], &[b'a'; 32], b"end"].concat());
    }

    #[test]
    fn the_first_and_last_bytes_are_as_the_page_says() {
        let bytes = example();
        assert_eq!(bytes[..20], *b"MOLDE-BN\x01\0\0\0\x20\0\0\0\x19\0\0\0");
        assert_eq!(&bytes[20..45], br#"{"name":"web","size":195}"#);
        assert_eq!(bytes[45..58], *b"\x03\x20\0\0\0abcdefgh");
        assert_eq!(bytes[82..91], *b"\x01\x60\0\0\0\0\0\0\0");
        assert_eq!(bytes[91..104], *b"\x05\x18\0\0\0\0\0\0\0\x20\0\0\0");
        let (before, hash) = bytes.split_at(bytes.len() - 32);
        assert!(before.ends_with(b"\x03\x03\0\0\0end\0"));
        assert_eq!(hash, blake3::hash(before).as_bytes());
    }

    #[test]
    fn every_byte_counts() {
        let bytes = example();
        for at in 0..bytes.len() {
            for change in [1, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                assert!(read(&changed).is_err(), "byte {at}");
            }
        }
        for length in 0..bytes.len() {
            let told = read(&bytes[..length]).unwrap_err().to_string();
            assert!(told.contains("is no bundle") || told.contains("damaged or cut short"), "{length}: {told}");
        }
        assert!(read(&[&bytes[..], b"more"].concat()).is_err());
    }

    /// With the right hash as well, a bundle that lies is an error and no panic.
    #[test]
    fn a_bundle_that_was_made_to_lie_is_refused() {
        let bytes = example();
        let body = bytes.len() - 32;
        for at in 12..body {
            for change in [1, 0x40, 0x80, 0xff] {
                let mut changed = bytes[..body].to_vec();
                changed[at] ^= change;
                let hash = blake3::hash(&changed);
                changed.extend(hash.as_bytes());
                if let Ok((_, runs, plain)) = read(&changed) {
                    assert_eq!((runs.iter().map(Run::length).sum::<u64>(), plain.len()), (195, 195), "byte {at}");
                }
            }
        }
    }

    #[test]
    fn another_version_is_named() {
        let mut bytes = example();
        bytes[8] = 2;
        let told = read(&bytes).unwrap_err().to_string();
        assert!(told.contains("version 2, and only 1 is known"), "{told}");
    }
}
