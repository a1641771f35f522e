//! What the tests share: disks from a seed, images made by qemu-img, and reading them back.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::allow_attributes, reason = "`expect` fails where all parts are used")]

pub(crate) mod damage;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use disk::{CopyOptions, Deny, Extent, ExtentKind, FileSource, Format, Opened, Source};
use proptest::prelude::*;

/// Measures what this thread computes, so that a busy machine does not look like slow code.
pub(crate) struct Stopwatch(Duration);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Self::now())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Self::now() - self.0
    }

    fn now() -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(now.tv_sec.try_into().unwrap(), now.tv_nsec.try_into().unwrap())
    }
}

/// Runs a QEMU tool; its absence is a failure, because these tests prove nothing without it.
pub(crate) fn qemu(tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{tool} is needed by these tests (Debian package qemu-utils): {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?} failed: {text}{errors}");
    text
}

pub(crate) fn qemu_img(arguments: &[&str]) -> String {
    qemu("qemu-img", arguments)
}

/// A generator that gives the same numbers for the same seed (xorshift64*).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A disk with runs of noise, of text that compresses, and of zeros.
pub(crate) fn seeded_disk(size: usize, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    let mut disk = vec![0; size];
    let mut at = 0;
    // Runs of at most 300 KiB, and in a small disk at least some.
    let longest = (size as u64 / 512 / 30).clamp(1, 600);
    while at < size {
        let length = (512 * (1 + numbers.below(longest)) as usize).min(size - at);
        let part = &mut disk[at..at + length];
        match numbers.below(10) {
            0 => {
                for bytes in part.chunks_mut(8) {
                    bytes.copy_from_slice(&numbers.next().to_le_bytes()[..bytes.len()]);
                }
            }
            1 => part.iter_mut().enumerate().for_each(|(i, byte)| *byte = b"a block of text \n"[i % 17]),
            2 => part[length / 2] = 1,
            _ => at += 4 * length,
        }
        at += length;
    }
    disk
}

pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes `bytes` to a file, with holes for its zeros.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        let file = std::fs::File::create(&path).unwrap();
        disk::copy_to_file(&bytes.to_vec(), &file, &CopyOptions::default()).unwrap();
        path
    }

    /// Makes an image of `format` from the raw disk at `raw` with the options of qemu-img.
    pub(crate) fn image(&self, name: &str, raw: &Path, format: &str, options: &[&str]) -> PathBuf {
        let path = self.path(name);
        let mut arguments = vec!["convert", "-f", "raw", "-O", format];
        arguments.extend(options);
        arguments.extend([text(raw), text(&path)]);
        qemu_img(&arguments);
        path
    }
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn open_file(path: &Path, format: Format) -> disk::Result<Opened> {
    disk::open(Arc::new(FileSource::open(path)?), format, &Deny)
}

pub(crate) fn open_bytes(bytes: Vec<u8>, format: Format) -> disk::Result<Opened> {
    disk::open(Arc::new(bytes), format, &Deny)
}

/// Reads a whole source in pieces.
pub(crate) fn read_all(source: &dyn Source, piece: usize) -> disk::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(source.len()).unwrap()];
    for (number, part) in bytes.chunks_mut(piece).enumerate() {
        source.read_at(part, (number * piece) as u64)?;
    }
    Ok(bytes)
}

/// Checks that the extents cover the source and that zero ones are zero; returns the bytes of data extents.
pub(crate) fn check_extents(source: &dyn Source, bytes: &[u8]) -> u64 {
    let (mut offset, mut data) = (0, 0);
    while offset < source.len() {
        let extent = source.extent_at(offset).unwrap();
        assert_eq!(extent.offset, offset);
        assert!(extent.length > 0 && extent.end() <= source.len(), "{extent:?}");
        match extent.kind {
            ExtentKind::Zero => assert!(
                bytes[offset as usize..extent.end() as usize].iter().all(|byte| *byte == 0),
                "{extent:?} is not zero"
            ),
            ExtentKind::Data => data += extent.length,
        }
        // From the middle of an extent, its rest is of the same kind.
        let middle = source.extent_at(offset + extent.length / 2).unwrap();
        assert_eq!(middle.kind, extent.kind);
        offset = extent.end();
    }
    assert!(source.extent_at(offset).is_err());
    data
}

/// Moves the place of the grain directory from the header of a streamOptimized VMDK to a footer, as VMware writes it.
pub(crate) fn with_footer(image: &[u8]) -> Vec<u8> {
    let mut bytes = image.to_vec();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    let mut marker = vec![0; 512];
    marker[0] = 1;
    marker[12] = 3;
    let footer = bytes[..512].to_vec();
    bytes[56..64].fill(0xff);
    [bytes, marker, footer, vec![0; 512]].concat()
}

/// A disk whose extents are given, with bytes that tell their place.
#[derive(Debug, Clone)]
pub(crate) struct Striped {
    pub(crate) runs: Vec<(u64, bool)>,
    pub(crate) tail: u64,
}

impl Source for Striped {
    fn len(&self) -> u64 {
        self.runs.iter().map(|run| run.0).sum::<u64>() + self.tail
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        disk::source::check_range(self.len(), offset, buf.len())?;
        let mut at = offset;
        let mut rest = buf;
        while !rest.is_empty() {
            let extent = self.extent_at(at)?;
            let (part, after) = rest.split_at_mut(extent.length.min(rest.len() as u64) as usize);
            let data = extent.kind == ExtentKind::Data;
            for (at, byte) in (at..).zip(part.iter_mut()) {
                *byte = if data { (at / 512 % 251) as u8 + 1 } else { 0 };
            }
            at += part.len() as u64;
            rest = after;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> disk::Result<Extent> {
        let mut end = 0;
        for (length, data) in &self.runs {
            end += length;
            if offset < end {
                let kind = if *data { ExtentKind::Data } else { ExtentKind::Zero };
                return Ok(Extent { offset, length: end - offset, kind });
            }
        }
        Ok(Extent { offset, length: self.len() - offset, kind: ExtentKind::Zero })
    }
}

/// Disks of some runs of up to `longest` bytes.
pub(crate) fn striped(longest: u64) -> impl Strategy<Value = Striped> {
    (prop::collection::vec((1..longest, any::<bool>()), 0..8), 0_u64..5000)
        .prop_map(|(runs, tail)| Striped { runs, tail })
}

/// Settings for `cases` cases of a property.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Checks that the layout of `disk` is one file whatever range of it is read, and that the disk comes out again, with
/// zeros up to the size that the format needs.
pub(crate) fn check_ranges(layout: &dyn Source, format: Format, disk: &dyn Source, seed: u64) {
    let whole = read_all(layout, usize::MAX).unwrap();
    let mut numbers = Numbers::new(seed);
    for _ in 0..20 {
        let start = numbers.below(whole.len() as u64);
        // Half of the ranges end soon, and half may go over several blocks.
        let most = if numbers.below(2) == 0 { 2000 } else { 5 << 20 };
        let length = numbers.below(most).min(whole.len() as u64 - start) as usize;
        let mut bytes = vec![0xee; length];
        layout.read_at(&mut bytes, start).unwrap();
        assert!(bytes == whole[start as usize..start as usize + length], "{length} bytes at {start}");
    }
    check_extents(layout, &whole);
    let read = read_all(&*open_bytes(whole, format).unwrap().disk, 1 << 20).unwrap();
    let (same, padding) = read.split_at(usize::try_from(disk.len()).unwrap());
    assert!(same == read_all(disk, 1 << 20).unwrap());
    assert!(padding.iter().all(|byte| *byte == 0));
}

/// Writes the layout of the raw file to a file, which qemu-img and the reader must find to be the same disk; returns it.
pub(crate) fn check_layout(folder: &Folder, raw: &Path, layout: &dyn Source, format: Format) -> PathBuf {
    let path = folder.path("layout");
    let file = std::fs::File::create(&path).unwrap();
    let copied = disk::copy_to_file(layout, &file, &CopyOptions::default()).unwrap();
    assert_eq!(copied.bytes_total, layout.len());
    let name = if format == Format::Vhd { "vpc" } else { format.as_str() };
    let report = qemu_img(&["compare", "-f", "raw", "-F", name, text(raw), text(&path)]);
    assert!(report.contains("identical"), "{report}");
    let bytes = std::fs::read(&path).unwrap();
    assert!(read_all(layout, 100_001).unwrap() == bytes);
    let opened = open_file(&path, format).unwrap();
    check_extents(layout, &bytes);
    let (read, expected) = (read_all(&*opened.disk, 1 << 20).unwrap(), std::fs::read(raw).unwrap());
    assert!(read.starts_with(&expected) && read[expected.len()..].iter().all(|byte| *byte == 0));
    path
}
