//! VHDX, against qemu-img.

mod hostile;
mod image;
mod log;
mod mutations;

use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::common::{
    Folder, Numbers, check_extents, open_bytes, open_file, qemu, qemu_img, read_all, seeded_disk, text,
};
use crate::common::Stopwatch;
use disk::{CopyOptions, ErrorKind, Extent, ExtentKind, FileSource, Format, Source, WriteOptions, probe};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

/// Checks that the image reads as qemu-img reads it: whole, and in random ranges from several threads.
fn check_read(path: &Path, variant: &str, block_size: u64) {
    assert_eq!(probe(&FileSource::open(path).unwrap()).unwrap(), Format::Vhdx);
    let opened = open_file(path, Format::Vhdx).unwrap();
    assert_eq!((opened.variant.as_str(), opened.block_size), (variant, Some(block_size)));
    let expected_path = path.with_extension("expected");
    qemu_img(&["convert", "-f", "vhdx", "-O", "raw", text(path), text(&expected_path)]);
    let expected = std::fs::read(&expected_path).unwrap();
    let disk = opened.disk;
    assert_eq!(disk.len(), expected.len() as u64);
    assert!(read_all(&*disk, 700_001).unwrap() == expected, "{} reads wrong", path.display());
    check_extents(&*disk, &expected);
    std::thread::scope(|scope| {
        for seed in 0..3 {
            let (disk, expected) = (&disk, &expected);
            scope.spawn(move || {
                let mut numbers = Numbers::new(seed);
                for _ in 0..50 {
                    let start = numbers.below(expected.len() as u64) as usize;
                    let length = (numbers.below(300_000) as usize).min(expected.len() - start);
                    let mut bytes = vec![0xee; length];
                    disk.read_at(&mut bytes, start as u64).unwrap();
                    assert!(bytes == expected[start..start + length], "{length} bytes at {start}");
                }
            });
        }
    });
}

#[test]
fn reads_what_qemu_writes() {
    let folder = Folder::new();
    for (size, seed) in [((18 << 20) + 3 * 512, 1), (512, 2)] {
        let raw = folder.write("raw", &seeded_disk(size, seed));
        for (subformat, block_mib) in [("dynamic", 1), ("dynamic", 16), ("fixed", 1), ("fixed", 256)] {
            let options = format!("subformat={subformat},block_size={block_mib}M");
            let image = folder.image("image", &raw, "vhdx", &["-o", &options]);
            check_read(&image, subformat, block_mib * MIB);
        }
        let image = folder.image("image", &raw, "vhdx", &["-o", "block_state_zero=off,log_size=3M"]);
        check_read(&image, "dynamic", 8 * MIB);
    }
}

/// Behind the first 4 GiB, where entries of sector bitmaps stand between those of the blocks.
#[test]
fn reads_behind_the_first_sector_bitmap() {
    let folder = Folder::new();
    let image = folder.path("image");
    for block_mib in [1, 256] {
        let options = format!("block_size={block_mib}M");
        qemu_img(&["create", "-f", "vhdx", "-o", &options, text(&image), "13G"]);
        let offsets = [0_u64, 4095, 4096, 4097, 8191, 8192, 13_311].map(|mib| mib * MIB);
        for (number, offset) in offsets.iter().enumerate() {
            let write = format!("write -P {} {} 64k", number + 1, offset + 65536);
            qemu("qemu-io", &["-f", "vhdx", "-c", &write, text(&image)]);
        }
        let disk = open_file(&image, Format::Vhdx).unwrap().disk;
        for (number, offset) in offsets.iter().enumerate() {
            let mut bytes = vec![0xee; 3 << 16];
            disk.read_at(&mut bytes, *offset).unwrap();
            let filled = [[0; 65536], [number as u8 + 1; 65536], [0; 65536]].concat();
            assert!(bytes == filled, "blocks of {block_mib} MiB at {offset}");
        }
        let mut data = 0;
        let mut offset = 0;
        while offset < disk.len() {
            let extent = disk.extent_at(offset).unwrap();
            if extent.kind == ExtentKind::Data {
                data += extent.length;
            }
            offset = extent.end();
        }
        assert_eq!(data, offsets.len() as u64 * 65536, "the holes of the file are holes of the disk");
    }
}

/// With sectors of 4 KiB, which qemu-img neither reads nor makes, eight times as many blocks share a sector bitmap.
#[test]
fn sectors_of_4_kib() {
    let folder = Folder::new();
    let path = folder.path("image");
    qemu_img(&["create", "-f", "vhdx", "-o", "block_size=1M", text(&path), "33G"]);
    let image = image::Image(std::fs::read(&path).unwrap());
    let (bat, sector, end) = (image.bat(), image.item(3).1, image.0.len() as u64 / MIB * MIB);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&4096_u32.to_le_bytes(), sector as u64).unwrap();
    file.set_len(end + 3 * MIB).unwrap();
    // The entries of blocks 4096, 32767 and 32768: before the last stands one of a sector bitmap.
    let blocks = [(4096_u64, 4096), (32_767, 32_767), (32_768, 32_769)];
    for (number, (_, entry)) in (0_u64..).zip(blocks) {
        let place = end + number * MIB;
        file.write_all_at(&[number as u8 + 7; 4096], place + 8192).unwrap();
        file.write_all_at(&(place | 6).to_le_bytes(), bat as u64 + entry * 8).unwrap();
    }
    let disk = open_file(&path, Format::Vhdx).unwrap().disk;
    for (number, (block, _)) in (0..).zip(blocks) {
        let mut bytes = vec![0xee; 5 << 12];
        disk.read_at(&mut bytes, block * MIB).unwrap();
        assert!(bytes == [vec![0; 2 << 12], vec![number + 7; 1 << 12], vec![0; 2 << 12]].concat(), "block {block}");
    }
}

/// Holes of the file are holes of the disk, also where the table says that blocks are in the file.
#[test]
fn holes_in_blocks() {
    let folder = Folder::new();
    let image = folder.path("image");
    let options = "subformat=fixed,block_size=32M,block_state_zero=off";
    qemu_img(&["create", "-f", "vhdx", "-o", options, text(&image), "300G"]);
    qemu("qemu-io", &["-f", "vhdx", "-c", "write -P 5 40G 1M", text(&image)]);
    let disk = open_file(&image, Format::Vhdx).unwrap().disk;
    let (mut offset, mut extents) = (0, Vec::new());
    while offset < disk.len() {
        let extent = disk.extent_at(offset).unwrap();
        extents.push((offset, extent.length, extent.kind));
        offset = extent.end();
    }
    extents.retain(|(.., kind)| *kind == ExtentKind::Data);
    assert_eq!(extents, [(40 << 30, MIB, ExtentKind::Data)]);
    let mut bytes = vec![0; 2 << 20];
    disk.read_at(&mut bytes, (40 << 30) - MIB).unwrap();
    assert!(bytes == [vec![0; 1 << 20], vec![5; 1 << 20]].concat());
}

fn options(list: &[(&str, &str)]) -> WriteOptions {
    let mut options = WriteOptions::default();
    list.iter().for_each(|(key, value)| options.set(key, value));
    options
}

/// Writes the layout of the raw file; checks it with qemu-img and with the reader. Returns the length of the file.
fn check_written(folder: &Folder, raw: &Path, list: &[(&str, &str)]) -> u64 {
    let source: Arc<dyn Source> = Arc::new(FileSource::open(raw).unwrap());
    let layout = disk::layout(Arc::clone(&source), Format::Vhdx, &options(list)).unwrap();
    let path = folder.path("layout.vhdx");
    let file = std::fs::File::create(&path).unwrap();
    disk::copy_to_file(&*layout, &file, &CopyOptions::default()).unwrap();
    let report = qemu_img(&["check", "-f", "vhdx", text(&path)]);
    assert!(report.contains("No errors were found"), "{report}");
    let report = qemu_img(&["compare", "-f", "raw", "-F", "vhdx", text(raw), text(&path)]);
    assert!(report.contains("identical"), "{report}");
    let bytes = std::fs::read(&path).unwrap();
    assert!(read_all(&*layout, 100_001).unwrap() == bytes);
    check_extents(&*layout, &bytes);
    let mut expected = read_all(&*source, 1 << 20).unwrap();
    expected.resize(expected.len().next_multiple_of(512), 0);
    let opened = open_bytes(bytes, Format::Vhdx).unwrap();
    assert!(read_all(&*opened.disk, 1 << 20).unwrap() == expected);
    check_extents(&*opened.disk, &expected);
    layout.len()
}

#[test]
fn qemu_reads_what_is_written() {
    let folder = Folder::new();
    for (size, seed) in [((10 << 20) + 512, 1), (512, 2), (4 << 20, 3)] {
        let raw = folder.write("raw", &seeded_disk(size, seed));
        for list in [
            &[][..],
            &[("block_size", "1M")],
            &[("block_size", "16M")],
            &[("subformat", "fixed")],
            &[("subformat", "fixed"), ("block_size", "8M")],
        ] {
            let length = check_written(&folder, &raw, list);
            assert!(length.is_multiple_of(MIB));
        }
    }
}

/// A disk of nothing costs its tables at most, whatever its size, and opens at once.
#[test]
fn large_disks_of_nothing() {
    struct Nothing(u64);
    impl Source for Nothing {
        fn len(&self) -> u64 {
            self.0
        }
        fn read_at(&self, _: &mut [u8], offset: u64) -> disk::Result<()> {
            panic!("data at {offset} were read")
        }
        fn extent_at(&self, offset: u64) -> disk::Result<Extent> {
            Ok(Extent { offset, length: self.0 - offset, kind: ExtentKind::Zero })
        }
    }
    let layout = |size, list: &[_]| disk::layout(Arc::new(Nothing(size)), Format::Vhdx, &options(list));
    let folder = Folder::new();
    let path = folder.path("image");
    for (size, block_mib, table_mib) in
        [(0, 2, 1), (512, 2, 1), (2 << 40, 2, 9), ((2 << 40) + 1, 4, 5), (64 << 40, 64, 9)]
    {
        let layout = layout(size, &[]).unwrap();
        assert_eq!(layout.len(), (3 + table_mib) * MIB, "{size}");
        let file = std::fs::File::create(&path).unwrap();
        disk::copy_to_file(&*layout, &file, &CopyOptions::default()).unwrap();
        let started = Stopwatch::start();
        let opened = open_file(&path, Format::Vhdx).unwrap();
        assert!(started.elapsed().as_millis() < 500, "{:?}", started.elapsed());
        assert_eq!((opened.disk.len(), opened.block_size), (size.next_multiple_of(512), Some(block_mib * MIB)));
        // QEMU counts the blocks of an empty disk wrong, and reads only those that it made itself.
        if size > 0 {
            let extent = opened.disk.extent_at(0).unwrap();
            assert_eq!((extent.length, extent.kind), (opened.disk.len(), ExtentKind::Zero));
            let report = qemu_img(&["info", "-f", "vhdx", "--output=json", text(&path)]);
            assert!(report.contains(&format!("\"virtual-size\": {},", opened.disk.len())), "{report}");
            assert!(qemu_img(&["check", "-f", "vhdx", text(&path)]).contains("No errors"));
        }
    }
    let error = layout((64 << 40) + 1, &[]).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

/// The table of a full disk of 64 TiB names each block once, with room for sector bitmaps, and no data are read.
#[test]
fn a_full_disk_of_64_tib() {
    struct Full;
    impl Source for Full {
        fn len(&self) -> u64 {
            64 << 40
        }
        fn read_at(&self, _: &mut [u8], offset: u64) -> disk::Result<()> {
            panic!("data at {offset} were read")
        }
    }
    for subformat in ["dynamic", "fixed"] {
        let list = [("block_size", "32M"), ("subformat", subformat)];
        let layout = disk::layout(Arc::new(Full), Format::Vhdx, &options(&list)).unwrap();
        // 128 blocks of 32 MiB, and then a sector bitmap: 16 MiB and an eighth of 1 MiB.
        let data = 3 * MIB + 17 * MIB;
        assert_eq!(layout.len(), data + (64 << 40));
        let mut table = vec![0; 17 << 20];
        layout.read_at(&mut table, 3 * MIB).unwrap();
        let mut next = data;
        let blocks = 2 << 20;
        for (index, entry) in table.chunks(8).map(|entry| u64::from_le_bytes(entry.try_into().unwrap())).enumerate() {
            if index % 129 == 128 || index >= blocks + (blocks - 1) / 128 {
                assert_eq!(entry, 0);
            } else {
                assert_eq!(entry, next | 6);
                next += 32 * MIB;
            }
        }
        assert_eq!(next, layout.len());
        let opened = disk::open(layout, Format::Vhdx, &disk::Deny).unwrap();
        let extent = opened.disk.extent_at(5).unwrap();
        assert_eq!(extent.kind, ExtentKind::Data);
        assert_eq!(opened.variant, subformat);
    }
}

#[test]
fn what_can_be_chosen() {
    let of = |key: &str, value: &str| {
        disk::layout(Arc::new(vec![1; 512]), Format::Vhdx, &options(&[(key, value)])).map(|file| file.len())
    };
    assert_eq!(of("block_size", "256M").unwrap(), 260 * MIB);
    for (key, value) in
        [("block_size", "512K"), ("block_size", "512M"), ("block_size", "3M"), ("subformat", "x"), ("disk_id", "1")]
    {
        assert_eq!(of(key, value).unwrap_err().kind(), ErrorKind::Unsupported);
    }
    // The same disk gives the same file; disks of which something else is stored have other identities.
    let bytes = |size: usize, list| {
        read_all(&*disk::layout(Arc::new(vec![1; size]), Format::Vhdx, &options(list)).unwrap(), 1 << 20).unwrap()
    };
    let identity = |file: &[u8]| file[(2 << 20) + 65_536 + 16..][..16].to_vec();
    let one = bytes(512, &[]);
    assert!(one == bytes(512, &[]));
    assert_ne!(identity(&one), identity(&bytes(1024, &[])));
    assert_ne!(one[65_536 + 16..][..16], one[65_536 + 32..][..16]);
    let own = bytes(512, &[("disk_id", "00112233-4455-6677-8899-aabbccddeeff")]);
    assert_eq!(identity(&own), *b"\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff");
    assert_ne!(one[65_536 + 32..][..16], own[65_536 + 32..][..16]);
    let version = identity(&one)[7] >> 4;
    assert_eq!(version, 8, "a GUID of one's own making");
}

/// A disk whose extents are given, with bytes that tell their place.
#[derive(Debug, Clone)]
struct Striped {
    runs: Vec<(u64, bool)>,
    tail: u64,
}

impl Source for Striped {
    fn len(&self) -> u64 {
        self.runs.iter().map(|run| run.0).sum::<u64>() + self.tail
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        disk::source::check_range(self.len(), offset, buf.len())?;
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let extent = self.extent_at(at)?;
            let length = extent.length.min(buf.len() as u64 - done as u64) as usize;
            for (at, byte) in (at..).zip(&mut buf[done..done + length]) {
                *byte = if extent.kind == ExtentKind::Data { (at / 512 % 251) as u8 + 1 } else { 0 };
            }
            done += length;
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_range_is_that_part_of_the_whole(
        runs in prop::collection::vec((1_u64..3_000_000, any::<bool>()), 0..8),
        tail in 0_u64..5000,
        block_bits in 20_u32..23,
        fixed in any::<bool>(),
        ranges in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..70_000), 40),
    ) {
        let disk = Striped { runs, tail };
        let block_size = (1 << block_bits).to_string();
        let list = [("block_size", block_size.as_str()), ("subformat", if fixed { "fixed" } else { "dynamic" })];
        let layout = disk::layout(Arc::new(disk.clone()), Format::Vhdx, &options(&list)).unwrap();
        let whole = read_all(&*layout, usize::MAX).unwrap();
        // Half of the ranges are where the structures lie.
        for (number, (start, length)) in ranges.into_iter().enumerate() {
            let start = start.index(if number % 2 == 0 { whole.len() } else { 3 << 20 });
            let length = length.min(whole.len() - start);
            let mut bytes = vec![0xee; length];
            layout.read_at(&mut bytes, start as u64).unwrap();
            prop_assert!(bytes == whole[start..start + length], "{} bytes at {}", length, start);
        }
        check_extents(&*layout, &whole);
        let opened = open_bytes(whole, Format::Vhdx).unwrap();
        let mut expected = read_all(&disk, 1 << 20).unwrap();
        expected.resize(expected.len().next_multiple_of(512), 0);
        prop_assert!(read_all(&*opened.disk, 333_333).unwrap() == expected);
        check_extents(&*opened.disk, &expected);
    }
}
