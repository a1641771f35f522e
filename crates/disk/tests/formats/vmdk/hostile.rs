//! Hostile streams and sets: tables that lie, files cut anywhere, thousands of damaged ones.

use std::sync::Arc;
use std::time::Duration;

use disk::ErrorKind::{Corrupt, TooLarge};
use disk::{ErrorKind, ExtentKind, Format, Gate, Given, Source};

use super::esx::{cow_disk, descriptor, se_sparse};
use super::{options, stream};
use crate::common::Stopwatch;
use crate::common::{Numbers, read_all, seeded_disk};

/// Each damaged file must be done in this time, which is far above what any needs and far below that of a bomb.
const BOUND: Duration = Duration::from_secs(2);

/// A file and the others that it may name.
#[derive(Clone)]
struct Image {
    file: Vec<u8>,
    extent: Option<Vec<u8>>,
}

impl Image {
    fn open(&self) -> disk::Result<Arc<dyn Source>> {
        let mut gate = Given::new();
        if let Some(extent) = &self.extent {
            gate = gate.with_file("x", Arc::new(extent.clone()));
        }
        Ok(disk::open(Arc::new(self.file.clone()), Format::Vmdk, &gate as &dyn Gate)?.disk)
    }

    /// Opens and reads everything that is not a hole.
    fn exercise(&self) -> disk::Result<()> {
        let disk = self.open()?;
        let (mut offset, mut buffer) = (0, vec![0; 1 << 20]);
        while offset < disk.len() {
            let extent = disk.extent_at(offset)?;
            assert!(extent.length > 0 && extent.end() <= disk.len());
            let mut at = offset;
            while extent.kind == ExtentKind::Data && at < extent.end() {
                let length = (extent.end() - at).min(1 << 20) as usize;
                disk.read_at(&mut buffer[..length], at)?;
                at += length as u64;
            }
            offset = extent.end();
        }
        Ok(())
    }

    /// The bytes that hold the tables.
    fn tables(&mut self) -> &mut Vec<u8> {
        self.extent.as_mut().unwrap_or(&mut self.file)
    }
}

fn layout(disk: Vec<u8>) -> Vec<u8> {
    let layout = disk::layout(Arc::new(disk), Format::Vmdk, &options(&[])).unwrap();
    read_all(&*layout, 1 << 20).unwrap()
}

/// One of each kind that the other tests do not damage, of a small disk.
fn images() -> Vec<Image> {
    let disk = seeded_disk(1008 * 512, 3);
    let set = |kind: &str, extent: Vec<u8>| {
        let file = descriptor("custom", &format!("RW 1000 {kind} \"x\"\nRW 8 ZERO"));
        Image { file: file.into_bytes(), extent: Some(extent) }
    };
    let start = &disk[..1000 * 512];
    vec![
        Image { file: stream(Arc::new(disk.clone()), &[], 1).unwrap(), extent: None },
        Image { file: layout(disk.clone()), extent: None },
        set("FLAT", disk.clone()),
        set("SPARSE", layout(start.to_vec())),
        set("VMFSSPARSE", cow_disk(start, 512)),
        set("VMFSSPARSE", cow_disk(start, 8192)),
        set("SESPARSE", se_sparse(start, 0)),
    ]
}

#[test]
fn damaged_anywhere() {
    for (kind, image) in images().into_iter().enumerate() {
        image.exercise().unwrap();
        let mut numbers = Numbers::new(kind as u64 + 1);
        let (mut failed, times) = (0, 400);
        for time in 0..times {
            let mut image = image.clone();
            for _ in 0..=numbers.below(3) {
                let bytes = if numbers.below(4) == 0 { &mut image.file } else { image.tables() };
                // Most of the damage is done where the tables are.
                let end = if numbers.below(4) == 0 { bytes.len() } else { bytes.len().min(40_000) };
                let at = numbers.below(end as u64) as usize;
                bytes[at] = match numbers.below(4) {
                    0 => 0,
                    1 => 0xff,
                    2 => bytes[at] ^ (1 << numbers.below(8)),
                    _ => numbers.next() as u8,
                };
            }
            let started = Stopwatch::start();
            failed += u64::from(image.exercise().is_err());
            assert!(started.elapsed() < BOUND, "kind {kind}, time {time}: {:?}", started.elapsed());
        }
        assert!(failed > times / 100, "only {failed} of {times} damaged files of kind {kind} were found out");
    }
}

#[test]
fn cut_anywhere() {
    for (kind, image) in images().into_iter().enumerate() {
        let whole = read_all(&*image.open().unwrap(), 1 << 20).unwrap();
        let length = image.clone().tables().len();
        for cut in (0..600).chain((600..length).step_by(length / 60 + 1)).chain([length - 512, length - 1]) {
            let mut image = image.clone();
            image.tables().truncate(cut);
            match image.open().and_then(|disk| read_all(&*disk, 1 << 20)) {
                // The end may be padding, or not be part of the set.
                Ok(bytes) => assert!(bytes == whole, "kind {kind} cut at {cut} reads as another disk"),
                Err(error) => {
                    let short = cut < 600 && error.kind() == ErrorKind::WrongFormat;
                    assert!(error.kind() == Corrupt || short, "kind {kind} cut at {cut}: {error}");
                }
            }
        }
    }
}

/// The footer of a stream must say what the header says, and the markers of grains what the tables say.
#[test]
fn streams_that_lie() {
    let mut disk = vec![0; 70 << 20];
    disk[..200_000].fill(1);
    disk[40 << 20] = 2;
    let good = stream(Arc::new(disk), &[], 1).unwrap();
    let fails = |at: usize, bytes: &[u8], says: &str| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        let error = Image { file, extent: None }.exercise().expect_err(says);
        assert_eq!(error.kind(), Corrupt, "{error}");
        assert!(error.to_string().contains(says), "{error} does not say {says:?}");
    };
    let le = |at: usize| u32::from_le_bytes(good[at..at + 4].try_into().unwrap()) as usize;
    let footer = good.len() - 1024;
    for field in [4, 8, 12, 20, 28, 36, 44, 48, 64, 73, 77, 79, 511] {
        fails(footer + field, &[0xee], "the VMDK footer differs from the header");
    }
    fails(footer + 56, &[0xff; 8], "does not say where");
    fails(footer + 56, &u64::MAX.wrapping_sub(1).to_le_bytes(), "the grain directory of the VMDK");
    fails(footer + 56, &((good.len() / 512) as u64).to_le_bytes(), "the grain directory needs");
    fails(footer + 56, &1_u64.to_le_bytes(), "already in use");
    fails(footer - 512, &[0], "does not end with its footer");
    fails(footer - 500, &[1], "does not end with its footer");
    fails(footer + 512, &[1], "the marker of its end");
    let directory = le(footer + 56) * 512;
    let (first, second) = (le(directory), le(directory + 4));
    fails(directory, &(second as u32).to_le_bytes(), "already in use");
    // A table that is the directory, and a grain that is a table: no way round in a circle.
    fails(directory, &((directory / 512) as u32).to_le_bytes(), "already in use");
    fails(first * 512, &(first as u32).to_le_bytes(), "already in use");
    fails(first * 512, &1_u32.to_le_bytes(), "among the tables");
    let (one, two) = (le(first * 512), le(first * 512 + 4));
    // Two grains exchanged: only their markers tell.
    let exchanged = [(two as u32).to_le_bytes(), (one as u32).to_le_bytes()].concat();
    fails(first * 512, &exchanged, "is marked as that of sector 128");
    fails(one * 512 + 8, &[0xff; 4], "a stream of 4294967295 bytes");
    fails(one * 512 + 8, &1_u32.to_le_bytes(), "does not unpack to one grain");
    fails(one * 512 + 20, &[0x55; 8], "does not unpack to one grain");
}

/// The header may say that the stream is still being written; nobody can come back to it.
#[test]
fn only_the_footer_knows_whether_a_stream_was_closed() {
    let good = stream(Arc::new(vec![1; 1 << 20]), &[], 1).unwrap();
    let footer = good.len() - 1024;
    for (at, notes) in [(72, 0), (footer + 72, 1)] {
        let mut file = good.clone();
        file[at] = 1;
        let opened = disk::open(Arc::new(file), Format::Vmdk, &Given::new()).unwrap();
        assert_eq!(opened.notes.len(), notes);
        assert!(read_all(&*opened.disk, 1 << 20).unwrap() == vec![1; 1 << 20]);
    }
}

/// A sparse extent whose only bytes are its header; it takes no memory itself.
struct Empty(Vec<u8>, u64);

impl Source for Empty {
    fn len(&self) -> u64 {
        self.1
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        buf.fill(0);
        for (byte, known) in buf.iter_mut().zip(self.0.get(offset as usize..).unwrap_or(&[])) {
            *byte = *known;
        }
        Ok(())
    }
}

/// Each directory is within the limit, and not all of them together.
#[test]
fn the_directories_of_a_set_have_one_limit() {
    let mut header = b"KDMV\x01\0\0\0".to_vec();
    header.resize(512, 0);
    let sectors = (5_u64 << 20) * 8;
    for (at, value) in [(12, sectors), (20, 8), (44, 1), (56, 1)] {
        header[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    let extent = || Arc::new(Empty(header.clone(), 512 + (20 << 20))) as Arc<dyn Source>;
    let open = |count: usize| {
        let (mut gate, mut lines) = (Given::new(), String::new());
        for number in 0..count {
            gate = gate.with_file(format!("x{number}"), extent());
            lines += &format!("RW {sectors} SPARSE \"x{number}\"\n");
        }
        disk::open(Arc::new(descriptor("custom", &lines).into_bytes()), Format::Vmdk, &gate)
    };
    assert_eq!(open(1).unwrap().disk.len(), sectors * 512);
    let error = open(2).unwrap_err();
    assert_eq!(error.kind(), TooLarge);
    assert!(error.to_string().contains("together"), "{error}");
}
