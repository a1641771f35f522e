//! Every reader against qemu-img, over a matrix of kinds, cluster sizes and compression.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{Folder, Numbers, check_extents, open_bytes, open_file, qemu, qemu_img, read_all, seeded_disk, text};
use disk::{FileSource, Format, Source, probe};

/// Not a multiple of any cluster or grain size, and more than one grain table long.
const SIZE: usize = (36 << 20) + 3 * 512;

/// Checks that the image reads as qemu-img reads it, whole, in pieces, in random ranges and from many threads.
fn check(path: &Path, format: Format, variant: &str, seed: u64) {
    let file = FileSource::open(path).unwrap();
    assert_eq!(probe(&file).unwrap(), format);
    let opened = open_file(path, format).unwrap();
    assert_eq!(opened.variant, variant);
    let expected_path = path.with_extension("expected");
    let name = if format == Format::Vhd { "vpc" } else { format.as_str() };
    qemu_img(&["convert", "-f", name, "-O", "raw", text(path), text(&expected_path)]);
    let expected = std::fs::read(&expected_path).unwrap();
    let disk = opened.disk;
    assert_eq!(disk.len(), expected.len() as u64, "size of {}", path.display());
    let found = read_all(&*disk, 512 << 10).unwrap();
    assert!(found == expected, "{} reads wrong", path.display());
    let data = check_extents(&*disk, &expected);
    // qemu-img does not look for the holes of a fixed VHD.
    if format != Format::Vhd || variant != "fixed" {
        let mapped = mapped_data(path, name);
        assert!(data >= mapped, "{data} bytes of data, and qemu-img knows {mapped}");
    }
    random_ranges(&*disk, &expected, seed);
    std::thread::scope(|scope| {
        for thread in 0..3 {
            let (disk, expected) = (&disk, &expected);
            scope.spawn(move || random_ranges(disk, expected, seed + thread));
        }
    });
}

/// Sums up the extents that qemu-img takes for data.
fn mapped_data(path: &Path, name: &str) -> u64 {
    let map = qemu_img(&["map", "-f", name, "--output=json", text(path)]);
    let length =
        |line: &str| line.split_once("\"length\": ").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
    map.lines().filter(|line| line.contains("\"data\": true")).map(|line| length(line).unwrap_or(0)).sum::<u64>()
}

fn random_ranges(disk: &dyn Source, expected: &[u8], seed: u64) {
    let mut numbers = Numbers::new(seed);
    for _ in 0..100.min(expected.len()) {
        let start = numbers.below(expected.len() as u64) as usize;
        let length = (numbers.below(300_000) as usize).min(expected.len() - start);
        let mut bytes = vec![0xee; length];
        disk.read_at(&mut bytes, start as u64).unwrap();
        assert!(bytes == expected[start..start + length], "{length} bytes at {start}");
    }
    assert!(disk.read_at(&mut [0; 2], expected.len() as u64 - 1).is_err());
}

#[test]
fn raw_with_holes() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(SIZE, 1));
    let file = FileSource::open(&raw).unwrap();
    let data = check_extents(&file, &std::fs::read(&raw).unwrap());
    assert!(data < SIZE as u64 / 2, "no holes were seen: {data} bytes of data");
    check(&raw, Format::Raw, "", 1);
}

fn qcow2(cluster_size: &str) {
    let folder = Folder::new();
    let size = if cluster_size == "512" { 20_000_256 / 512 * 512 } else { SIZE };
    let raw = folder.write("raw", &seeded_disk(size, 2));
    for (compat, variant, options) in [
        ("0.10", "v2", &[][..]),
        ("0.10", "v2", &["-c"]),
        ("1.1", "v3", &["-o", "lazy_refcounts=on,refcount_bits=64"]),
        ("1.1", "v3", &["-c", "-o", "refcount_bits=1"]),
        ("1.1", "v3 zstd", &["-c", "-o", "compression_type=zstd"]),
        ("1.1", "v3", &["-S", "0", "-o", "preallocation=metadata"]),
    ] {
        let common = format!("cluster_size={cluster_size},compat={compat}");
        let image = folder.image("image", &raw, "qcow2", &[&["-o", &common], options].concat());
        check(&image, Format::Qcow2, variant, 3);
    }
}

#[test]
fn qcow2_512() {
    qcow2("512");
}

#[test]
fn qcow2_4k() {
    qcow2("4k");
}

#[test]
fn qcow2_64k() {
    qcow2("64k");
}

#[test]
fn qcow2_2m() {
    qcow2("2M");
}

#[test]
fn qcow2_zero_clusters_and_snapshots() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(SIZE, 4));
    let image = folder.image("image", &raw, "qcow2", &["-S", "0"]);
    let image_text = text(&image);
    qemu_img(&["snapshot", "-c", "before", image_text]);
    qemu("qemu-io", &["-c", "write -z 1M 3M", "-c", "write -z -u 9M 3M", "-c", "write -P 7 20M 5M", image_text]);
    qemu_img(&["snapshot", "-c", "after", image_text]);
    check(&image, Format::Qcow2, "v3", 4);
    let notes = open_file(&image, Format::Qcow2).unwrap().notes;
    assert_eq!(notes, ["2 internal snapshots are passed over; the disk is its present state"]);
}

#[test]
fn qcow2_sizes() {
    let folder = Folder::new();
    for size in [0, 512, 65536, 65536 + 512] {
        let raw = folder.write("raw", &vec![7; size]);
        for options in [&[][..], &["-c"]] {
            let image = folder.image("image", &raw, "qcow2", options);
            let disk = open_file(&image, Format::Qcow2).unwrap().disk;
            assert_eq!(read_all(&*disk, 1 << 20).unwrap(), vec![7; size]);
        }
    }
    // A terabyte of nothing costs nothing.
    let image = folder.path("large");
    qemu_img(&["create", "-f", "qcow2", text(&image), "1000T"]);
    let disk = open_file(&image, Format::Qcow2).unwrap().disk;
    let extent = disk.extent_at(4096).unwrap();
    assert_eq!((extent.end(), extent.kind), (1000 << 40, disk::ExtentKind::Zero));
    let mut end = [1; 512];
    disk.read_at(&mut end, (1000 << 40) - 512).unwrap();
    assert_eq!(end, [0; 512]);
}

#[test]
fn vhd() {
    let folder = Folder::new();
    for (size, seed) in [(SIZE, 5), (512 * 17, 6)] {
        let raw = folder.write("raw", &seeded_disk(size, seed));
        for (variant, options) in [
            ("dynamic", "subformat=dynamic"),
            ("dynamic", "subformat=dynamic,force_size=on"),
            ("fixed", "subformat=fixed"),
            ("fixed", "subformat=fixed,force_size=on"),
        ] {
            let image = folder.image("image", &raw, "vpc", &["-o", options]);
            check(&image, Format::Vhd, variant, seed);
        }
    }
}

#[test]
fn vhd_with_the_short_footer_of_old_versions() {
    let folder = Folder::new();
    let disk = seeded_disk(4 << 20, 7);
    let raw = folder.write("raw", &disk);
    let image = folder.image("image", &raw, "vpc", &["-o", "subformat=fixed,force_size=on"]);
    let mut bytes = std::fs::read(image).unwrap();
    bytes.pop();
    assert_eq!(probe(&bytes).unwrap(), Format::Vhd);
    let opened = open_bytes(bytes, Format::Vhd).unwrap();
    assert!(read_all(&*opened.disk, 1 << 20).unwrap() == disk);
}

#[test]
fn vdi() {
    let folder = Folder::new();
    for (size, seed) in [(SIZE, 8), (512 * 17, 9)] {
        let raw = folder.write("raw", &seeded_disk(size, seed));
        for (variant, options) in [("dynamic", "static=off"), ("fixed", "static=on")] {
            let image = folder.image("image", &raw, "vdi", &["-o", options]);
            check(&image, Format::Vdi, variant, seed);
        }
    }
}

#[test]
fn vmdk() {
    let folder = Folder::new();
    for (size, seed) in [(SIZE, 10), (512 * 17, 11), (64 << 10, 12)] {
        let raw = folder.write("raw", &seeded_disk(size, seed));
        for (variant, options) in [
            ("monolithicSparse", "subformat=monolithicSparse"),
            ("monolithicSparse", "subformat=monolithicSparse,zeroed_grain=on"),
            ("streamOptimized", "subformat=streamOptimized"),
        ] {
            let image = folder.image("image", &raw, "vmdk", &["-o", options]);
            check(&image, Format::Vmdk, variant, seed);
        }
    }
}

#[test]
fn vmdk_zeroed_grains() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(SIZE, 13));
    let image = folder.image("image", &raw, "vmdk", &["-S", "0", "-o", "zeroed_grain=on"]);
    qemu("qemu-io", &["-c", "write -z 1M 3M", "-c", "write -P 7 20M 1M", text(&image)]);
    check(&image, Format::Vmdk, "monolithicSparse", 13);
}

/// qemu-img writes no footer, VMware does: the directory is named only there.
#[test]
fn vmdk_stream_with_footer() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(SIZE, 14));
    let image = folder.image("image", &raw, "vmdk", &["-o", "subformat=streamOptimized"]);
    let bytes = common::with_footer(&std::fs::read(&image).unwrap());
    std::fs::write(&image, bytes).unwrap();
    check(&image, Format::Vmdk, "streamOptimized", 14);
}

/// A source that counts what is read of it.
struct Counting(Vec<u8>, std::sync::atomic::AtomicU64);

impl Source for Counting {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        self.1.fetch_add(buf.len() as u64, std::sync::atomic::Ordering::Relaxed);
        self.0.read_at(buf, offset)
    }
}

#[test]
fn small_reads_in_order_unpack_each_grain_once() {
    let folder = Folder::new();
    let mut numbers = Numbers::new(15);
    let noise: Vec<u8> = (0..1 << 20).flat_map(|_| numbers.next().to_le_bytes()).collect();
    let raw = folder.write("raw", &noise);
    for (format, name, options) in [
        (Format::Vmdk, "vmdk", &["-o", "subformat=streamOptimized"][..]),
        (Format::Qcow2, "qcow2", &["-c", "-o", "cluster_size=2M,compression_type=zstd"]),
    ] {
        // Clusters of noise are not compressed by qemu-img, so half of each block is text.
        let half: Vec<u8> = noise.chunks(4096).flat_map(|part| [part, &[b'x'; 4096]].concat()).collect();
        let raw = if format == Format::Qcow2 { folder.write("half", &half) } else { raw.clone() };
        let image = folder.image("image", &raw, name, options);
        let source = Arc::new(Counting(std::fs::read(image).unwrap(), 0.into()));
        let opened = disk::open(Arc::clone(&source) as Arc<dyn Source>, format, &disk::Deny).unwrap();
        let read = || source.1.load(std::sync::atomic::Ordering::Relaxed);
        let before = read();
        let bytes = read_all(&*opened.disk, 4096).unwrap();
        assert!(bytes == std::fs::read(&raw).unwrap());
        let read = read() - before;
        // Each grain or cluster is read once, and a stream is not much longer than the file.
        assert!(read < source.len() * 11 / 10, "{format}: {read} bytes were read of a file of {}", source.len());
    }
}
