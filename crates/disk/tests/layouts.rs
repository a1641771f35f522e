//! The qcow2 layout against qemu-img, and against itself: any range is that part of the whole.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{Folder, Striped, check_extents, open_bytes, open_file, qemu_img, read_all, seeded_disk, text};
use disk::{CopyOptions, ErrorKind, Extent, ExtentKind, FileSource, Format, Source, WriteOptions};
use proptest::prelude::*;

fn cluster_size_of(bytes: u64) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set("cluster_size", &bytes.to_string());
    options
}

fn qcow2(disk: Arc<dyn Source>, cluster_size: u64) -> Arc<dyn Source> {
    disk::layout(disk, Format::Qcow2, &cluster_size_of(cluster_size)).unwrap()
}

/// Writes the layout of the raw file to a file; checks it with qemu-img and with the reader.
fn check(folder: &Folder, raw: &Path, cluster_size: u64) {
    let source: Arc<dyn Source> = Arc::new(FileSource::open(raw).unwrap());
    let layout = qcow2(Arc::clone(&source), cluster_size);
    let path = folder.path("layout.qcow2");
    let file = std::fs::File::create(&path).unwrap();
    let copied = disk::copy_to_file(&*layout, &file, &CopyOptions::default()).unwrap();
    assert_eq!(copied.bytes_total, layout.len());
    let report = qemu_img(&["check", "-f", "qcow2", text(&path)]);
    assert!(report.contains("No errors were found"), "{report}");
    let report = qemu_img(&["compare", "-f", "raw", "-F", "qcow2", text(raw), text(&path)]);
    assert!(report.contains("identical"), "{report}");
    let bytes = std::fs::read(&path).unwrap();
    assert!(read_all(&*layout, 100_001).unwrap() == bytes);
    check_extents(&*layout, &bytes);
    let disk = open_bytes(bytes, Format::Qcow2).unwrap().disk;
    assert!(read_all(&*disk, 1 << 20).unwrap() == read_all(&*source, 1 << 20).unwrap());
}

#[test]
fn layouts_are_sound_for_qemu_img() {
    let folder = Folder::new();
    for (seed, size) in [0, 512, 65536, (40 << 20) + 512, 3 << 20].into_iter().enumerate() {
        let raw = folder.write("raw", &seeded_disk(size, seed as u64));
        for cluster_size in [512, 4096, 65536, 2 << 20] {
            check(&folder, &raw, cluster_size);
        }
    }
}

#[test]
fn a_layout_of_nothing_but_holes_has_no_data() {
    let folder = Folder::new();
    let raw = folder.path("raw");
    std::fs::File::create(&raw).unwrap().set_len(1 << 40).unwrap();
    let layout = qcow2(Arc::new(FileSource::open(&raw).unwrap()), 65536);
    // Header, refcount table, refcount block and an L1 table of 16 KiB.
    assert_eq!(layout.len(), 4 * 65536);
    let disk = open_bytes(read_all(&*layout, 65536).unwrap(), Format::Qcow2).unwrap().disk;
    assert_eq!(disk.extent_at(0).unwrap(), Extent { offset: 0, length: 1 << 40, kind: ExtentKind::Zero });
}

/// The tables of a file of a terabyte count themselves right, and nothing of the data is read.
#[test]
fn a_full_terabyte() {
    struct Full;
    impl Source for Full {
        fn len(&self) -> u64 {
            1 << 40
        }
        fn read_at(&self, _: &mut [u8], offset: u64) -> disk::Result<()> {
            panic!("data at {offset} was read")
        }
    }
    let layout = qcow2(Arc::new(Full), 65536);
    let clusters = layout.len() / 65536;
    let (data, l2, l1) = (1 << 24, (1 << 40) >> 29, 1);
    let (blocks, table) = (clusters.div_ceil(32768), 1);
    assert_eq!(clusters, 1 + table + blocks + l1 + l2 + data);
    let extent = layout.extent_at(0).unwrap();
    assert_eq!(extent.length, (clusters - data) * 65536);
    let mut tables = vec![0; extent.length as usize];
    layout.read_at(&mut tables, 0).unwrap();
    let refcounts = &tables[2 * 65536..(2 + blocks as usize) * 65536];
    assert_eq!(refcounts.chunks(2).filter(|count| *count == [0, 1]).count() as u64, clusters);
}

#[test]
fn from_a_compressed_image_straight_to_a_layout() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(20 << 20, 9));
    let vmdk = folder.image("vmdk", &raw, "vmdk", &["-o", "subformat=streamOptimized"]);
    let disk = open_file(&vmdk, Format::Vmdk).unwrap().disk;
    let layout = qcow2(disk, 65536);
    let path = folder.path("out.qcow2");
    std::fs::write(&path, read_all(&*layout, 1 << 20).unwrap()).unwrap();
    qemu_img(&["check", "-f", "qcow2", text(&path)]);
    qemu_img(&["compare", "-f", "raw", "-F", "qcow2", text(&raw), text(&path)]);
}

#[test]
fn options_and_formats() {
    let disk: Arc<dyn Source> = Arc::new(vec![1; 512]);
    let of = |key: &str, value: &str| {
        let mut options = WriteOptions::default();
        options.set(key, value);
        disk::layout(Arc::clone(&disk), Format::Qcow2, &options).map(|_| ())
    };
    of("cluster_size", "2M").unwrap();
    assert!(of("colour", "red").unwrap_err().to_string().contains("colour"));
    for wrong in ["4M", "é", "0", "1000", "256"] {
        assert_eq!(of("cluster_size", wrong).unwrap_err().kind(), ErrorKind::Unsupported);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_range_is_that_part_of_the_whole(
        runs in prop::collection::vec((1_u64..20_000, any::<bool>()), 0..12),
        tail in 0_u64..5000,
        cluster_bits in 9_u32..13,
        ranges in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..70_000), 20),
    ) {
        let disk = Striped { runs, tail };
        let layout = qcow2(Arc::new(disk.clone()), 1 << cluster_bits);
        let whole = read_all(&*layout, usize::MAX).unwrap();
        for (start, length) in ranges {
            let start = start.index(whole.len());
            let length = length.min(whole.len() - start);
            let mut bytes = vec![0xee; length];
            layout.read_at(&mut bytes, start as u64).unwrap();
            prop_assert!(bytes == whole[start..start + length], "{} bytes at {}", length, start);
        }
        check_extents(&*layout, &whole);
        let opened = open_bytes(whole, Format::Qcow2).unwrap();
        prop_assert_eq!(read_all(&*opened.disk, 4096).unwrap(), read_all(&disk, 4096).unwrap());
    }
}
