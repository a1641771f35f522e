//! What is done with disks besides converting them: map, compare and check, against naive ones and against qemu-img.

mod common;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Folder, Numbers, open_file, seeded_disk, text};
use disk::{
    COMPARED_BLOCK, CheckOptions, CompareOptions, Damage, Deny, Error, ErrorKind, Extent, ExtentKind, Format, Report,
    Source, WriteOptions,
};
use proptest::prelude::*;

/// A disk in memory whose extents are cut at any places, and of which some ranges cannot be read.
#[derive(Default)]
struct Awkward {
    bytes: Vec<u8>,
    /// Ends of the extents, in order; what is not zero makes an extent one of data, and so does `data`.
    cuts: Vec<usize>,
    data: bool,
    /// First byte and length of each.
    broken: Vec<(u64, u64)>,
    /// Where the map cannot be read.
    unmapped: Vec<(u64, u64)>,
    read: AtomicU64,
}

impl std::fmt::Debug for Awkward {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, data {}, cuts {:?}, broken {:?}", self.bytes.len(), self.data, self.cuts, self.broken)
    }
}

fn fails(ranges: &[(u64, u64)], offset: u64, length: u64) -> disk::Result<()> {
    match ranges.iter().find(|(start, of)| *start < offset + length && offset < start + of) {
        Some((start, _)) => Err(Error::io(format!("read near byte {start}"), std::io::Error::from_raw_os_error(5))),
        None => Ok(()),
    }
}

impl Source for Awkward {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        fails(&self.broken, offset, buf.len() as u64)?;
        self.read.fetch_add(buf.len() as u64, Ordering::Relaxed);
        self.bytes.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> disk::Result<Extent> {
        fails(&self.unmapped, offset, 1)?;
        let start = offset as usize;
        let end = self.cuts.iter().copied().find(|cut| *cut > start).unwrap_or(self.bytes.len()).min(self.bytes.len());
        let begin = self.cuts.iter().copied().filter(|cut| *cut <= start).max().unwrap_or(0);
        let zero = !self.data && self.bytes[begin..end].iter().all(|byte| *byte == 0);
        let kind = if zero { ExtentKind::Zero } else { ExtentKind::Data };
        Ok(Extent { offset, length: (end - start) as u64, kind })
    }
}

fn awkward() -> impl Strategy<Value = Awkward> {
    // Around the sizes at which compare and check cut: 64 KiB and 2 MiB.
    let length = prop_oneof![0..5000_usize, Just(1 << 16), (2 << 20) - 3..(2 << 20) + 70_000_usize];
    (length, any::<u64>(), 0..40_u64, any::<bool>()).prop_map(|(length, seed, cuts, data)| {
        let mut numbers = Numbers::new(seed);
        let mut cuts: Vec<_> = (0..cuts).map(|_| numbers.below(length as u64 + 1) as usize).collect();
        cuts.sort_unstable();
        let mut bytes = vec![0; length];
        for pair in cuts.windows(2).filter(|_| numbers.below(2) == 0) {
            bytes[pair[0]..pair[1]].fill(7);
        }
        Awkward { bytes, cuts, data, ..Awkward::default() }
    })
}

/// The bytes of both disks, as if both were as long as the longer one.
fn padded(a: &[u8], b: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let length = a.len().max(b.len());
    let pad = |bytes: &[u8]| [bytes, &vec![0; length - bytes.len()]].concat();
    (pad(a), pad(b))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_map_is_made_of_the_longest_runs(disk in awkward(), from in 0..6000_u64, length in 0..4_000_000_u64) {
        let range = from..from + length;
        let runs: Vec<_> = disk::map(&disk, range.clone()).collect::<disk::Result<_>>().unwrap();
        let mut at = range.start;
        for run in &runs {
            prop_assert_eq!(run.offset, at);
            prop_assert!(run.length > 0);
            at = run.end();
        }
        prop_assert_eq!(at, range.end.min(disk.len()).max(range.start));
        prop_assert!(runs.windows(2).all(|pair| pair[0].kind != pair[1].kind));
        for run in runs {
            let mut offset = run.offset;
            while offset < run.end() {
                let extent = disk.extent_at(offset).unwrap();
                prop_assert_eq!(extent.kind, run.kind);
                offset = extent.end();
            }
        }
    }

    #[test]
    fn compare_finds_what_a_naive_one_finds(
        first in awkward(),
        mut second in awkward(),
        alike in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        threads in 1..4_usize,
    ) {
        if alike {
            let length = second.bytes.len().min(first.bytes.len());
            second.bytes[..length].copy_from_slice(&first.bytes[..length]);
        }
        for (at, byte) in changes {
            if !second.bytes.is_empty() {
                let at = at.index(second.bytes.len());
                second.bytes[at] = byte;
            }
        }
        let (a, b) = padded(&first.bytes, &second.bytes);
        let block = COMPARED_BLOCK as usize;
        let differing = a.chunks(block).zip(b.chunks(block)).filter(|(a, b)| a != b).count() as u64;
        let options = CompareOptions { threads, ..CompareOptions::default() };
        let found = disk::compare(&first, &second, &options).unwrap();
        prop_assert_eq!(found.sizes, [first.len(), second.len()]);
        prop_assert_eq!(found.first_difference, a.iter().zip(&b).position(|(a, b)| a != b).map(|at| at as u64));
        prop_assert_eq!(found.differing_blocks, differing);
        prop_assert_eq!(found.same_content(), a == b);
        prop_assert_eq!(found.identical(), first.bytes == second.bytes);
        let bounded = disk::compare(&first, &second, &CompareOptions { at_most: 3, ..options }).unwrap();
        prop_assert_eq!(bounded.first_difference, found.first_difference);
        prop_assert_eq!(bounded.differing_blocks, differing.min(3));
    }

    // The disk is one extent, so the units are whole ones.
    #[test]
    fn check_finds_exactly_what_cannot_be_read(mut disk in awkward(), at in prop::collection::vec(0..2_100_000_u64, 0..4)) {
        disk.data = true;
        disk.broken = at.iter().map(|at| (*at, 1)).collect();
        let size = disk.len();
        let mut units: Vec<_> = at.iter().filter(|at| **at < size).map(|at| at / 4096 * 4096).collect();
        units.sort_unstable();
        units.dedup();
        disk.cuts.clear();
        let report = disk::check(Arc::new(disk), Format::Raw, &Deny, &CheckOptions::default()).unwrap();
        let damaged: u64 = units.iter().map(|unit| (size - unit).min(4096)).sum();
        prop_assert_eq!(report.bytes_damaged, damaged);
        prop_assert_eq!(report.bytes_read, size - damaged);
        prop_assert_eq!(report.is_sound(), units.is_empty());
        let offsets: Vec<_> = report.damaged.iter().map(|damage| damage.offset).collect();
        prop_assert_eq!(offsets, units);
    }
}

#[test]
fn zeros_of_both_disks_are_not_read() {
    let mut first = Awkward { bytes: vec![0; 9 << 20], ..Awkward::default() };
    let mut second = Awkward { bytes: vec![0; 8 << 20], ..Awkward::default() };
    let found = disk::compare(&first, &second, &CompareOptions::default()).unwrap();
    assert!(found.same_content() && !found.identical());
    assert_eq!((first.read.load(Ordering::Relaxed), second.read.load(Ordering::Relaxed)), (0, 0));
    // Data of one disk only: that is read, and the other is not.
    first.bytes[5000] = 1;
    first.cuts = vec![4096, 8192];
    let found = disk::compare(&first, &second, &CompareOptions::default()).unwrap();
    assert_eq!((found.first_difference, found.differing_blocks), (Some(5000), 1));
    assert_eq!((first.read.load(Ordering::Relaxed), second.read.load(Ordering::Relaxed)), (4096, 0));
    // Zeros that are not known to be zero.
    second.data = true;
    let done = AtomicU64::new(0);
    let progress = |bytes, total| {
        assert_eq!(total, 9 << 20);
        done.fetch_max(bytes, Ordering::Relaxed);
    };
    let options = CompareOptions { progress: Some(&progress), ..CompareOptions::default() };
    assert_eq!(disk::compare(&second, &first, &options).unwrap().first_difference, Some(5000));
    assert_eq!(done.into_inner(), 9 << 20);
    assert_eq!(second.read.into_inner(), 8 << 20);
}

#[test]
fn an_error_says_which_disk_it_is_in() {
    let sound = vec![1_u8; 100_000];
    let broken = Awkward { bytes: sound.clone(), broken: vec![(70_000, 1)], ..Awkward::default() };
    let error = disk::compare(&sound, &broken, &CompareOptions::default()).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::Io, "the second disk: cannot read near byte 70000")
    );
    let unmapped = Awkward { bytes: sound.clone(), unmapped: vec![(0, 1)], ..Awkward::default() };
    let error = disk::compare(&unmapped, &sound, &CompareOptions::default()).unwrap_err();
    assert_eq!(error.to_string(), "the first disk: cannot read near byte 0");
}

/// Runs `qemu-img compare` and returns its exit status: 0 alike, 1 different.
fn qemu_compare(strict: bool, first: &Path, second: &Path) -> i32 {
    let mut command = Command::new("qemu-img");
    command.arg("compare").args(strict.then_some("-s")).args([first, second]);
    command.output().unwrap().status.code().unwrap()
}

#[test]
fn compare_agrees_with_qemu_img() {
    let folder = Folder::new();
    let bytes = seeded_disk(3 << 20, 77);
    let raw = folder.write("a.raw", &bytes);
    let qcow2 = folder.image("a.qcow2", &raw, "qcow2", &["-c"]);
    let mut longer = bytes.clone();
    longer.resize(4 << 20, 0);
    let longer = folder.write("longer.raw", &longer);
    let mut other = bytes;
    other[1_234_567] ^= 1;
    let other = folder.write("other.raw", &other);
    let open = |path: &Path| {
        let format = if path.extension().is_some_and(|end| end == "qcow2") { Format::Qcow2 } else { Format::Raw };
        open_file(path, format).unwrap().disk
    };
    for (second, same, identical) in [(&raw, true, true), (&longer, true, false), (&other, false, false)] {
        let found = disk::compare(&*open(&qcow2), &*open(second), &CompareOptions::default()).unwrap();
        assert_eq!((found.same_content(), found.identical()), (same, identical), "{}", second.display());
        assert_eq!(qemu_compare(false, &qcow2, second) == 0, same);
        if same && !identical {
            assert_eq!(qemu_compare(true, &qcow2, second), 1);
        }
    }
    let found = disk::compare(&*open(&other), &*open(&qcow2), &CompareOptions::default()).unwrap();
    assert_eq!((found.first_difference, found.differing_blocks), (Some(1_234_567), 1));
}

/// The runs that `qemu-img map` tells, neighbours of one kind put together: start, length, whether it is zero.
fn qemu_map(path: &Path) -> Vec<(u64, u64, bool)> {
    let json = common::qemu_img(&["map", "--output=json", text(path)]);
    let mut runs: Vec<(u64, u64, bool)> = Vec::new();
    let value: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
    for run in value {
        let (start, length) = (run["start"].as_u64().unwrap(), run["length"].as_u64().unwrap());
        let zero = run["zero"].as_bool().unwrap();
        match runs.last_mut() {
            Some(last) if last.2 == zero => last.1 += length,
            _ => runs.push((start, length, zero)),
        }
    }
    runs
}

#[test]
fn map_agrees_with_qemu_img() {
    let folder = Folder::new();
    let raw = folder.write("a.raw", &seeded_disk(20 << 20, 78));
    for (format, name, options) in [
        (Format::Qcow2, "qcow2", &["-c"][..]),
        (Format::Qcow2, "qcow2", &["-o", "cluster_size=4096"]),
        (Format::Vdi, "vdi", &[]),
        (Format::Vmdk, "vmdk", &["-o", "subformat=streamOptimized"]),
    ] {
        let image = folder.image("image", &raw, name, options);
        let disk = open_file(&image, format).unwrap().disk;
        let runs: Vec<_> = disk::map(&*disk, 0..disk.len())
            .map(|run| run.map(|run| (run.offset, run.length, run.kind == ExtentKind::Zero)).unwrap())
            .collect();
        assert!(runs.len() > 4);
        assert_eq!(runs, qemu_map(&image), "{name} {options:?}");
    }
}

fn check_bytes(bytes: Vec<u8>, format: Format) -> Report {
    disk::check(Arc::new(bytes), format, &Deny, &CheckOptions::default()).unwrap()
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Noise that packs to half its size, so that each cluster is compressed and long.
fn packable(size: usize) -> Vec<u8> {
    let mut numbers = Numbers::new(5);
    (0..size).map(|_| (numbers.next() as u8) & 15).collect()
}

#[test]
fn a_damaged_cluster_is_told_by_its_range() {
    let folder = Folder::new();
    let raw = folder.write("a.raw", &packable(1 << 20));
    let bytes = std::fs::read(folder.image("a.qcow2", &raw, "qcow2", &["-c"])).unwrap();
    assert!(check_bytes(bytes.clone(), Format::Qcow2).is_sound());
    let l1 = be64(&bytes, 40) as usize;
    let l2 = (be64(&bytes, l1) & 0x00ff_ffff_ffff_fe00) as usize;
    for clusters in [&[3][..], &[0, 15], &[7, 8, 9]] {
        let mut damaged = bytes.clone();
        for cluster in clusters {
            let entry = be64(&bytes, l2 + cluster * 8);
            assert_eq!(entry >> 62, 1, "cluster {cluster} is not compressed");
            // The first bits of deflate data tell their kind, of which the last is none.
            damaged[(entry & ((1 << 54) - 1)) as usize] = 7;
        }
        let report = check_bytes(damaged, Format::Qcow2);
        let ranges: Vec<_> = report.damaged.iter().map(|damage| (damage.offset, damage.length)).collect();
        let expected: Vec<_> = clusters.iter().map(|cluster| (*cluster as u64 * 65536, 65536)).collect();
        assert_eq!(ranges, expected, "{report:?}");
        assert_eq!(report.damaged_ranges, clusters.len() as u64);
        assert_eq!(report.bytes_read, (1 << 20) - report.bytes_damaged);
    }
}

#[test]
fn wrong_refcounts_are_found_beside_the_data() {
    let folder = Folder::new();
    let raw = folder.write("a.raw", &packable(1 << 20));
    let bytes = std::fs::read(folder.image("a.qcow2", &raw, "qcow2", &[])).unwrap();
    let sound = check_bytes(bytes.clone(), Format::Qcow2);
    assert_eq!((sound.is_sound(), sound.fault_count, sound.leak_count), (true, 0, 0), "{sound:?}");
    // Refcounts of 16 bits in the first block: that of a cluster of the disk goes, or a cluster comes that nothing uses.
    let block = be64(&bytes, be64(&bytes, 48) as usize) as usize;
    let used = bytes.len().div_ceil(65536);
    for (cluster, count, faults, leaks, status) in [(used - 1, 0, 1, 0, 2), (used, 1, 0, 1, 3)] {
        let mut wrong = bytes.clone();
        wrong.resize((cluster + 1) * 65536, 0);
        wrong[block + 2 * cluster + 1] = count;
        let path = folder.path("wrong.qcow2");
        std::fs::write(&path, &wrong).unwrap();
        let report = check_bytes(wrong, Format::Qcow2);
        assert_eq!((report.fault_count, report.leak_count), (faults, leaks), "{report:?}");
        assert_eq!((report.faults.len() as u64, report.leaks.len() as u64), (faults, leaks));
        assert_eq!((report.is_sound(), report.damaged_ranges, report.bytes_read), (faults == 0, 0, 1 << 20));
        let qemu = Command::new("qemu-img").arg("check").arg(&path).output().unwrap();
        assert_eq!(qemu.status.code(), Some(status));
    }
}

#[test]
fn any_flipped_bit_of_a_grain_is_found() {
    let folder = Folder::new();
    let raw = folder.write("a.raw", &packable(1 << 20));
    let bytes = std::fs::read(folder.image("a.vmdk", &raw, "vmdk", &["-o", "subformat=streamOptimized"])).unwrap();
    let le =
        |at: usize, size: usize| bytes[at..at + size].iter().rev().fold(0, |all, byte| all << 8 | usize::from(*byte));
    let mut marker = le(64, 8) * 512;
    let mut numbers = Numbers::new(6);
    for grain in 0..16 {
        let (sector, size) = (le(marker, 8), le(marker + 8, 4));
        assert_eq!(sector, grain * 128);
        let mut damaged = bytes.clone();
        damaged[marker + 12 + numbers.below(size as u64) as usize] ^= 1 << numbers.below(8);
        let report = check_bytes(damaged, Format::Vmdk);
        let [Damage { offset, length, message }] = report.damaged.as_slice() else { panic!("{report:?}") };
        assert_eq!((*offset, *length), (grain as u64 * 65536, 65536), "{message}");
        marker += (12 + size).next_multiple_of(512);
    }
}

#[test]
fn a_file_with_broken_tables_is_not_opened() {
    let folder = Folder::new();
    let raw = folder.write("a.raw", &packable(1 << 20));
    let mut bytes = std::fs::read(folder.image("a.qcow2", &raw, "qcow2", &[])).unwrap();
    bytes.truncate(400_000);
    let error = disk::check(Arc::new(bytes), Format::Qcow2, &Deny, &CheckOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[test]
fn much_damage_is_counted_and_not_listed() {
    // Every second unit of 12 MiB, and a map that is broken for one piece.
    let disk = Awkward {
        bytes: vec![1; 12 << 20],
        cuts: (0..12 << 20).step_by(4096).collect(),
        broken: (0..1536).map(|unit| (unit * 8192, 1)).collect(),
        unmapped: vec![(4 << 20, 1)],
        ..Awkward::default()
    };
    let report = disk::check(Arc::new(disk), Format::Raw, &Deny, &CheckOptions { threads: 2, progress: None }).unwrap();
    assert_eq!(report.damaged.len(), 1000);
    // 256 units of each of five pieces, and the sixth as a whole.
    assert_eq!((report.damaged_ranges, report.bytes_damaged), (5 * 256 + 1, 5 * (1 << 20) + (2 << 20)));
    let whole = report.damaged.iter().find(|damage| damage.length == 2 << 20).unwrap();
    assert_eq!(whole.offset, 4 << 20);
    assert_eq!(whole.message, "cannot read near byte 4194304: Input/output error (os error 5)");
}

/// A disk of which a long range is packed in one.
struct Packed {
    tries: AtomicU64,
}

impl Source for Packed {
    fn len(&self) -> u64 {
        64 << 20
    }

    fn read_at(&self, _: &mut [u8], offset: u64) -> disk::Result<()> {
        if !(16 << 20..48 << 20).contains(&offset) {
            return Ok(());
        }
        self.tries.fetch_add(1, Ordering::Relaxed);
        Err(Error::new(ErrorKind::Corrupt, "the frame at byte 1000 is damaged"))
    }
}

#[test]
fn large_damage_is_not_tried_again_and_again() {
    let disk = Arc::new(Packed { tries: AtomicU64::new(0) });
    let source = Arc::clone(&disk) as Arc<dyn Source>;
    let report = disk::check(source, Format::Raw, &Deny, &CheckOptions::default()).unwrap();
    let [damage] = report.damaged.as_slice() else { panic!("{report:?}") };
    assert_eq!((damage.offset, damage.length), (16 << 20, 32 << 20));
    assert_eq!(disk.tries.load(Ordering::Relaxed), 16 * 3);
}

#[test]
fn what_is_laid_out_is_mapped_and_compared_as_its_disk() {
    let folder = Folder::new();
    let raw = folder.write("a.raw", &seeded_disk(6 << 20, 79));
    let disk = open_file(&raw, Format::Raw).unwrap().disk;
    let file = disk::layout(Arc::clone(&disk), Format::Qcow2, &WriteOptions::default()).unwrap();
    let again = disk::open(file, Format::Qcow2, &Deny).unwrap().disk;
    assert!(disk::compare(&*disk, &*again, &CompareOptions::default()).unwrap().identical());
}
