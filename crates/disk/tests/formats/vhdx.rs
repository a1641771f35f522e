//! VHDX, against qemu-img.

use std::path::Path;
use std::sync::Arc;

use super::common::{
    Folder, Numbers, check_extents, open_bytes, open_file, qemu, qemu_img, read_all, seeded_disk, text,
};
use disk::{CopyOptions, FileSource, Format, Source, WriteOptions, probe};

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
    for (size, seed) in [((36 << 20) + 3 * 512, 1), (512, 2), (3 << 20, 3)] {
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
            if extent.kind == disk::ExtentKind::Data {
                data += extent.length;
            }
            offset = extent.end();
        }
        let blocks: std::collections::BTreeSet<_> = offsets.iter().map(|at| at / MIB / block_mib).collect();
        assert_eq!(data, blocks.len() as u64 * block_mib * MIB);
    }
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
    for (size, seed) in [((20 << 20) + 512, 1), (512, 2), (4 << 20, 3)] {
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
