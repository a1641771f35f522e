//! The writers: what they write is sound for qemu-img and reads back the same, whatever the threads.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use disk::{Extent, ExtentKind, FileSource, Format, Output, Source, WriteOptions, flat_descriptor};
use proptest::prelude::*;

use super::{open_set, options, stream};
use crate::common::Stopwatch;
use crate::common::{Folder, Numbers, check_extents, open_bytes, open_file, qemu_img, read_all, seeded_disk, text};

/// Less than a grain, a grain, more than a grain table, and odd ones.
const SIZES: [usize; 6] = [1, 512, 65536, 65536 + 512, (40 << 20) + 512 + 7, 3 << 20];

/// Checks a file against qemu-img and our own reader.
fn check(folder: &Folder, raw: &std::path::Path, written: &[u8], variant: &str) {
    let path = folder.path("written.vmdk");
    std::fs::write(&path, written).unwrap();
    qemu_img(&["check", "-f", "vmdk", text(&path)]);
    // Both fill up the last sector.
    qemu_img(&["compare", "-f", "raw", "-F", "vmdk", text(raw), text(&path)]);
    let opened = open_file(&path, Format::Vmdk).unwrap();
    assert_eq!(opened.variant, variant);
    let expected = std::fs::read(raw).unwrap();
    let found = read_all(&*opened.disk, 1 << 20).unwrap();
    assert_eq!(found.len(), expected.len().next_multiple_of(512));
    assert!(found[..expected.len()] == expected && found[expected.len()..].iter().all(|byte| *byte == 0));
    check_extents(&*opened.disk, &found);
}

#[test]
fn streams_are_sound_for_qemu_img() {
    let folder = Folder::new();
    for (seed, size) in SIZES.into_iter().enumerate() {
        let raw = folder.write("raw", &seeded_disk(size, seed as u64));
        let source = || Arc::new(FileSource::open(&raw).unwrap()) as Arc<dyn Source>;
        let written = stream(source(), &["level=1"], 2).unwrap();
        check(&folder, &raw, &written, "streamOptimized");
        assert!(written == stream(source(), &["level=1"], 1).unwrap(), "one thread writes the same");
        assert!(written == stream(source(), &["level=1"], 5).unwrap(), "five threads write the same");
    }
    let mut numbers = Numbers::new(77);
    let words: Vec<u8> = (0..100_000).flat_map(|_| format!("word {} ", numbers.below(5000)).into_bytes()).collect();
    let raw = folder.write("raw", &words);
    let of = |level: &str| stream(Arc::new(FileSource::open(&raw).unwrap()), &[level], 0).unwrap();
    let (fast, small) = (of("level=1"), of("level=12"));
    assert!(small.len() < fast.len());
    check(&folder, &raw, &small, "streamOptimized");
}

#[test]
fn the_parts_of_a_stream_are_those_of_vmware() {
    let mut disk = vec![0; 100 << 20];
    disk[65536] = 7;
    disk[70 << 20] = 8;
    let bytes = stream(Arc::new(disk), &[], 2).unwrap();
    let le32 = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let le64 = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let header = [le32(4), le32(8), u32::from(bytes[77])];
    assert_eq!((&bytes[..4], header), (&b"KDMV"[..], [3, 0x3_0001, 1]));
    assert_eq!([12, 20, 28, 36, 48, 56, 64].map(le64), [204_800, 128, 1, 20, 0, u64::MAX, 128]);
    // A grain with its sector and length, then its table, the next grain and table, directory, footer and end.
    let marker = |sector: usize| (le64(sector * 512), le32(sector * 512 + 8), le32(sector * 512 + 12));
    assert_eq!((le64(128 * 512), le32(128 * 512 + 8) > 0), (128, true));
    assert_eq!(marker(129), (4, 0, 1));
    assert_eq!((le32(130 * 512), le32(130 * 512 + 4)), (0, 128));
    assert_eq!(le64(134 * 512), (70 << 20) / 512);
    assert_eq!(marker(135), (4, 0, 1));
    assert_eq!(marker(140), (1, 0, 2));
    assert_eq!([0, 4, 8, 12].map(|at| le32(141 * 512 + at)), [130, 0, 136, 0]);
    assert_eq!(marker(142), (1, 0, 3));
    assert_eq!((le64(143 * 512 + 56), bytes.len()), (141, 145 * 512));
    assert!(bytes[144 * 512..].iter().all(|byte| *byte == 0));
    let text = String::from_utf8_lossy(&bytes[512..2048]);
    for line in ["createType=\"streamOptimized\"", "RW 204800 SPARSE \"disk.vmdk\"", "ddb.adapterType = \"lsilogic\""] {
        assert!(text.lines().any(|known| known == line), "{line} is not in {text}");
    }
}

#[test]
fn grains_of_zeros_are_left_out_and_faults_are_passed_on() {
    let zeros = stream(Arc::new(vec![0; 50 << 20]), &[], 2).unwrap();
    assert!(zeros.len() < 70_000, "{} bytes for nothing", zeros.len());
    assert_eq!(open_bytes(zeros, Format::Vmdk).unwrap().disk.extent_at(0).unwrap().kind, ExtentKind::Zero);

    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let of = |pairs: &[&str]| disk::write(Arc::new(vec![1; 1 << 20]), Format::Vmdk, &options(pairs));
    let Output::Stream(to_full) = of(&["subformat=streamOptimized"]).unwrap() else { panic!() };
    let error = to_full.write(2, &|_, _| (), &mut Full).unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (disk::ErrorKind::Io, "cannot write the VMDK stream"));
    for wrong in ["level=13", "level=0", "adapter_type=floppy", "hwversion=0", "name=../x", "name=a\"b", "subformat=x"]
    {
        assert!(of(&["subformat=streamOptimized", wrong]).is_err(), "{wrong}");
    }
    for kind in ["streamOptimized", "monolithicSparse", "monolithicFlat"] {
        let empty = disk::write(Arc::new(Vec::new()), Format::Vmdk, &options(&[&format!("subformat={kind}")]));
        assert!(empty.err().unwrap().to_string().contains("0 bytes"));
    }
}

#[test]
fn layouts_are_sound_for_qemu_img() {
    let folder = Folder::new();
    for (seed, size) in SIZES.into_iter().enumerate() {
        let raw = folder.write("raw", &seeded_disk(size, 20 + seed as u64));
        let source = Arc::new(FileSource::open(&raw).unwrap());
        let layout = disk::layout(source, Format::Vmdk, &options(&["adapter_type=ide"])).unwrap();
        let written = read_all(&*layout, 100_001).unwrap();
        check(&folder, &raw, &written, "monolithicSparse");
        check_extents(&*layout, &written);
        // Both copies of the tables say the same.
        let le64 = |at: usize| u64::from_le_bytes(written[at..at + 8].try_into().unwrap()) as usize * 512;
        let tables = |directory: usize| {
            let sector = u32::from_le_bytes(written[directory..directory + 4].try_into().unwrap());
            let count = size.next_multiple_of(32 << 20) >> 25;
            &written[sector as usize * 512..][..count * 2048]
        };
        assert_eq!(written[8] & 2, 2);
        assert!(tables(le64(48)) == tables(le64(56)));
    }
}

/// Every option of the descriptor is seen by those who read it.
#[test]
fn descriptors_say_what_was_asked() {
    let disk = || Arc::new(vec![1_u8; 4 << 20]) as Arc<dyn Source>;
    for (adapter, heads) in [("ide", "16"), ("lsilogic", "255"), ("buslogic", "255"), ("pvscsi", "255")] {
        let pairs = [&format!("adapter_type={adapter}"), "hwversion=14", "name=web server.vmdk"];
        let layout = disk::layout(disk(), Format::Vmdk, &options(&pairs)).unwrap();
        let text = String::from_utf8(read_all(&*layout, 1 << 20).unwrap()[512..21 * 512].to_vec()).unwrap();
        let text = text.trim_end_matches('\0');
        for line in [
            "CID=",
            "RW 8192 SPARSE \"web server.vmdk\"\n",
            &format!("ddb.adapterType = \"{adapter}\"\n"),
            &format!("ddb.geometry.heads = \"{heads}\"\n"),
            "ddb.virtualHWVersion = \"14\"\n",
        ] {
            assert!(text.contains(line), "{line:?} is not in {text}");
        }
    }
}

#[test]
fn a_flat_disk_and_its_descriptor() {
    let folder = Folder::new();
    let bytes = seeded_disk((3 << 20) + 100, 5);
    let raw = folder.write("raw", &bytes);
    let Output::Flat(flat) =
        disk::write(Arc::new(bytes), Format::Vmdk, &options(&["subformat=monolithicFlat"])).unwrap()
    else {
        panic!("monolithicFlat is flat");
    };
    let written = read_all(&*flat, 1 << 20).unwrap();
    check_extents(&*flat, &written);
    folder.write("web-flat.vmdk", &written);
    let descriptor = flat_descriptor(flat.len(), "web-flat.vmdk", &options(&["adapter_type=buslogic"])).unwrap();
    std::fs::write(folder.path("web.vmdk"), &descriptor).unwrap();
    qemu_img(&["compare", "-f", "raw", "-F", "vmdk", text(&raw), text(&folder.path("web.vmdk"))]);
    assert!(descriptor.contains("buslogic"));
    let opened = open_set(descriptor.as_bytes(), &folder, &["web-flat.vmdk"]).unwrap();
    assert_eq!(opened.variant, "monolithicFlat");
    assert!(read_all(&*opened.disk, 1 << 20).unwrap() == written);
    assert!(flat_descriptor(512, "a/b", &WriteOptions::default()).is_err());
}

#[test]
fn a_layout_of_nothing_but_holes_is_nothing_but_holes() {
    struct Holes(u64);
    impl Source for Holes {
        fn len(&self) -> u64 {
            self.0
        }
        fn read_at(&self, _: &mut [u8], offset: u64) -> disk::Result<()> {
            panic!("data at {offset} was read")
        }
        fn extent_at(&self, offset: u64) -> disk::Result<Extent> {
            Ok(Extent { offset, length: self.0 - offset, kind: ExtentKind::Zero })
        }
    }
    let layout = disk::layout(Arc::new(Holes(64 << 40)), Format::Vmdk, &WriteOptions::default()).unwrap();
    let (mut offset, mut data) = (0, 0);
    while offset < layout.len() {
        let extent = layout.extent_at(offset).unwrap();
        data += if extent.kind == ExtentKind::Data { extent.length } else { 0 };
        offset = extent.end();
    }
    // Header, descriptor, and two directories of 2^21 entries.
    assert_eq!(data, 21 * 512 + 2 * (4 << 21));
    // The four gigabytes of empty tables are not read.
    let started = Stopwatch::start();
    let disk = disk::open(layout, Format::Vmdk, &disk::Deny).unwrap().disk;
    assert_eq!(disk.extent_at(512).unwrap(), Extent { offset: 512, length: (64 << 40) - 512, kind: ExtentKind::Zero });
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    let full = Arc::new(Full(3 << 40));
    let error = disk::layout(full, Format::Vmdk, &WriteOptions::default()).err().unwrap();
    assert_eq!(error.kind(), disk::ErrorKind::TooLarge);
    assert!(error.hint().unwrap().contains("streamOptimized"));
}

struct Full(u64);

impl Source for Full {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_at(&self, _: &mut [u8], offset: u64) -> disk::Result<()> {
        panic!("data at {offset} was read")
    }
}

/// A disk whose extents are given in grains, with bytes that tell their place.
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
            let length = (buf.len() - done).min(extent.length as usize).min(512 - at as usize % 512);
            let byte = if extent.kind == ExtentKind::Data { (at / 512 % 251) as u8 + 1 } else { 0 };
            buf[done..done + length].fill(byte);
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
        runs in prop::collection::vec((1_u64..3_000_000, any::<bool>()), 0..10),
        far in prop::sample::select(vec![0_u64, 0, 40 << 20]),
        tail in 1_u64..70_000,
        ranges in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..70_000), 20),
    ) {
        let mut disk = Striped { runs, tail };
        disk.runs.push((far + 1, false));
        disk.runs.push((1000, true));
        let disk = Arc::new(disk);
        let layout = disk::layout(Arc::clone(&disk) as Arc<dyn Source>, Format::Vmdk, &WriteOptions::default()).unwrap();
        let whole = read_all(&*layout, usize::MAX).unwrap();
        for (start, length) in ranges {
            let start = start.index(whole.len());
            let length = length.min(whole.len() - start);
            let mut bytes = vec![0xee; length];
            layout.read_at(&mut bytes, start as u64).unwrap();
            prop_assert!(bytes == whole[start..start + length], "{} bytes at {}", length, start);
        }
        check_extents(&*layout, &whole);
        let mut expected = read_all(&*disk, 1 << 20).unwrap();
        expected.resize(expected.len().next_multiple_of(512), 0);
        for file in [whole, stream(disk, &["level=1"], 2).unwrap()] {
            let opened = open_bytes(file, Format::Vmdk).unwrap();
            prop_assert!(read_all(&*opened.disk, 300_001).unwrap() == expected);
        }
    }
}
