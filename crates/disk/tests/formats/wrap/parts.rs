//! Compressed files of which any part is read alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use disk::{ErrorKind, Extent, Format, Source};

use super::{containers, seek_table, seekable, tool, unpacked, zstd_frame};
use crate::common::Stopwatch;
use crate::common::{Numbers, check_extents, open_bytes, read_all, seeded_disk};

/// Counts the reads of another source.
struct Counted<S> {
    source: S,
    reads: AtomicU64,
}

impl<S: Source> Counted<S> {
    fn new(source: S) -> Arc<Self> {
        Arc::new(Self { source, reads: AtomicU64::new(0) })
    }
}

impl<S: Source> Source for Counted<S> {
    fn len(&self) -> u64 {
        self.source.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.source.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> disk::Result<Extent> {
        self.source.extent_at(offset)
    }
}

/// A table or an index that says something else than the frames would make two readers see two disks.
#[test]
fn tables_that_lie_are_found_out() {
    let content = seeded_disk(9000, 20);
    let frames: Vec<_> = content.chunks(3000).map(zstd_frame).collect();
    let [a, b, c] = [0, 1, 2].map(|number: usize| frames[number].len());
    let read = |table: &[(usize, usize)]| {
        let file = [frames.concat(), seek_table(table)].concat();
        assert!(unpacked(&file, Format::Zstd).unwrap() == content);
        open_bytes(file, Format::Zstd).and_then(|opened| read_all(&*opened.disk, 1 << 20))
    };
    assert!(read(&[(a, 3000), (b, 3000), (c, 3000)]).unwrap() == content);
    for table in [
        &[(a, 3000), (b, 3000)][..],
        &[(a + b, 3000), (c, 3000)],
        &[(a + b, 6000), (c, 3000)],
        &[(a, 3000), (b, 2999), (c, 3000)],
        &[(a, 3000), (b, 3001), (c, 3000)],
        &[(a, 3000), (b, 0), (c, 3000)],
        &[(a - 1, 3000), (b + 1, 3000), (c, 3000)],
        &[(a, 3000), (b, 3000), (c, 3000), (10, 1)],
        &[(0, 0), (a, 3000), (b, 3000), (c, 3000)],
    ] {
        let error = read(table).err().unwrap_or_else(|| panic!("{table:?} is believed"));
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{table:?}: {error}");
    }
    // Two streams of xz whose blocks have other lengths than the index says: the checksums of the index are right.
    let xz = tool("xz", &["-0", "-c", "--block-size=3000"], &content);
    let at = xz.windows(2).rposition(|bytes| bytes == [0xb8, 0x17]).unwrap();
    let mut lie = xz.clone();
    lie[at] ^= 1;
    let end = lie.len() - 12;
    let start = end - 4 * (u32::from_le_bytes(lie[end + 4..end + 8].try_into().unwrap()) as usize + 1);
    let crc = libdeflater::crc32(&lie[start..end - 4]);
    lie[end - 4..end].copy_from_slice(&crc.to_le_bytes());
    assert!(unpacked(&lie, Format::Xz).is_err());
    let opened = open_bytes(lie, Format::Xz).and_then(|opened| read_all(&*opened.disk, 1 << 20));
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn any_part_is_read_alone_where_the_container_allows() {
    let mut content = seeded_disk(5_000_000, 10);
    content[1_000_000..3_500_000].fill(0);
    for (format, name, bytes) in seekable(&content) {
        let opened = open_bytes(bytes, format).unwrap();
        assert_eq!(opened.variant, format!("{format} of raw"), "{name}");
        assert_eq!(opened.format, format);
        let data = check_extents(&*opened.disk, &content);
        assert!(format == Format::Zip || data < 4_500_000, "{name}: {data} bytes of data");
        assert!(read_all(&*opened.disk, 333_333).unwrap() == content, "{name}");
        let mut numbers = Numbers::new(11);
        for _ in 0..200 {
            let offset = numbers.below(content.len() as u64) as usize;
            let mut part = vec![0; (numbers.below(700_000) as usize).min(content.len() - offset)];
            opened.disk.read_at(&mut part, offset as u64).unwrap();
            assert!(part == content[offset..offset + part.len()], "{name} at {offset}");
        }
        assert!(opened.disk.read_at(&mut [0; 2], content.len() as u64 - 1).is_err());
    }
}

#[test]
fn a_frame_is_unpacked_once_for_many_readers() {
    let content = seeded_disk(6_000_000, 12);
    for (format, name, bytes) in seekable(&content) {
        if format == Format::Zip {
            continue;
        }
        let frames = if name == "our zstd" { 3 } else { 24 };
        let file = Counted::new(bytes);
        let opened = disk::open(Arc::clone(&file) as Arc<dyn Source>, format, &disk::Deny).unwrap();
        let before = file.reads.load(Ordering::Relaxed);
        let at = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    let mut part = vec![0; 4096];
                    loop {
                        let offset = at.fetch_add(4096, Ordering::Relaxed) as usize;
                        let Some(expected) = content.get(offset..offset + 4096) else { return };
                        opened.disk.read_at(&mut part, offset as u64).unwrap();
                        assert!(part == expected, "{name} at {offset}");
                    }
                });
            }
        });
        let reads = file.reads.load(Ordering::Relaxed) - before;
        assert!(reads <= frames, "{name}: {reads} reads");
    }
}

#[test]
fn others_are_unpacked_first() {
    let content = seeded_disk(100_000, 13);
    for (format, name, bytes) in containers(&content) {
        match open_bytes(bytes, format) {
            Ok(opened) => assert!(read_all(&*opened.disk, 1 << 20).unwrap() == content, "{name}"),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}: {error}");
                assert!(error.hint().unwrap().contains("convert"), "{name}");
            }
        }
    }
}

/// What would make opening, or asking for extents, cost more than the file is worth.
#[test]
fn opening_and_extents_cost_little() {
    let xz = tool("xz", &["-c"], &seeded_disk(5000, 22));
    let nothing = tool("xz", &["-c"], b"");
    let text = vec![b'a'; 8 << 20];
    let frame = zstd_frame(&text);
    let frames = 1000;
    let table = seek_table(&vec![(frame.len(), text.len()); frames]);
    for (format, bytes) in [
        (Format::Xz, [&xz[..], &vec![0; 200 << 20]].concat()),
        (Format::Xz, [&nothing.repeat(100_000), &xz[..]].concat()),
        (Format::Zstd, [&frame.repeat(frames), &table[..]].concat()),
    ] {
        let started = Stopwatch::start();
        match open_bytes(bytes, format) {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
            Ok(opened) => {
                assert_eq!(opened.disk.len(), frames as u64 * text.len() as u64);
                assert!(disk::info_of(&opened, 0).unwrap().allocated == opened.disk.len());
            }
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{format}: {:?}", started.elapsed());
    }
}
