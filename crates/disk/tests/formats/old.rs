//! qcow version 1, QED and Parallels, against qemu-img.

use std::path::{Path, PathBuf};
use std::process::Command;

use disk::{Extent, ExtentKind, FileSource, Format, Source, probe};

use crate::common::damage::mutate;
use crate::common::{Folder, Numbers, check_extents, open_file, qemu, qemu_img, read_all, seeded_disk, text};

/// Not a multiple of any cluster size but the smallest, and longer than the disk of one table of qcow.
const SIZE: usize = (20 << 20) + 3 * 512;

fn name(format: Format) -> &'static str {
    if format == Format::Qcow1 { "qcow" } else { format.as_str() }
}

/// Checks that the image reads as qemu-img reads it, whole and in random ranges.
fn check(path: &Path, format: Format, variant: &str) {
    assert_eq!(probe(&FileSource::open(path).unwrap()).unwrap(), format);
    let opened = open_file(path, format).unwrap();
    assert_eq!(opened.variant, variant);
    let expected_path = path.with_extension("expected");
    qemu_img(&["convert", "-f", name(format), "-O", "raw", text(path), text(&expected_path)]);
    let expected = std::fs::read(&expected_path).unwrap();
    assert!(read_all(&*opened.disk, 512 << 10).unwrap() == expected, "{} reads wrong", path.display());
    check_extents(&*opened.disk, &expected);
    let mut numbers = Numbers::new(expected.len() as u64);
    for _ in 0..100.min(expected.len()) {
        let start = numbers.below(expected.len() as u64) as usize;
        let length = (numbers.below(300_000) as usize).min(expected.len() - start);
        let mut bytes = vec![0xee; length];
        opened.disk.read_at(&mut bytes, start as u64).unwrap();
        assert!(bytes == expected[start..start + length], "{length} bytes at {start}");
    }
}

/// Makes a compressed qcow image. qemu-img 10 writes it whole and then exits with 1, without a word.
fn compressed_qcow(folder: &Folder, raw: &Path) -> PathBuf {
    let path = folder.path("image");
    let arguments = ["convert", "-f", "raw", "-O", "qcow", "-c", text(raw), text(&path)];
    Command::new("qemu-img").args(arguments).status().unwrap();
    qemu_img(&["compare", "-f", "raw", "-F", "qcow", text(raw), text(&path)]);
    path
}

/// Makes a qcow image with clusters of 512 bytes, which QEMU gives only to those with a backing file: that is taken away.
fn small_qcow(folder: &Folder) -> PathBuf {
    let base = folder.write("base", &vec![0; SIZE]);
    let path = folder.path("small");
    qemu_img(&["create", "-q", "-f", "qcow", "-b", text(&base), "-F", "raw", text(&path)]);
    let writes = ["write -P 1 0 5k", "write -P 2 1M 300k", "write -P 3 19M 512", "write -P 4 3000k 2M"];
    let mut arguments = vec!["-f", "qcow"];
    arguments.extend(writes.iter().flat_map(|write| ["-c", write]));
    arguments.push(text(&path));
    qemu("qemu-io", &arguments);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8..20].fill(0);
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn qcow1() {
    let folder = Folder::new();
    for (seed, size) in [(1, SIZE), (2, 512), (3, 4096), (4, 2 << 20)] {
        let raw = folder.write("raw", &seeded_disk(size, seed));
        check(&folder.image("image", &raw, "qcow", &[]), Format::Qcow1, "");
        check(&compressed_qcow(&folder, &raw), Format::Qcow1, "");
    }
    let small = small_qcow(&folder);
    check(&small, Format::Qcow1, "");
    assert_eq!(open_file(&small, Format::Qcow1).unwrap().block_size, Some(512));
}

#[test]
fn qed() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(SIZE, 5));
    for options in
        ["cluster_size=4k", "cluster_size=4k,table_size=2", "cluster_size=64k,table_size=16", "cluster_size=2M"]
    {
        let image = folder.image("image", &raw, "qed", &["-o", options]);
        check(&image, Format::Qed, "");
        qemu("qemu-io", &["-f", "qed", "-c", "write -z 1M 3M", "-c", "write -P 7 15M 1M", text(&image)]);
        check(&image, Format::Qed, "");
    }
    check(&folder.image("image", &folder.write("one", &[7; 512]), "qed", &[]), Format::Qed, "");
}

#[test]
fn parallels() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(SIZE, 6));
    for options in ["cluster_size=64k", "cluster_size=1M", "cluster_size=16k", "cluster_size=512"] {
        let image = folder.image("image", &raw, "parallels", &["-o", options]);
        check(&image, Format::Parallels, "WithouFreSpacExt");
        std::fs::write(&image, of_old_kind(std::fs::read(&image).unwrap())).unwrap();
        check(&image, Format::Parallels, "WithoutFreeSpace");
    }
    check(
        &folder.image("image", &folder.write("one", &[7; 512]), "parallels", &[]),
        Format::Parallels,
        "WithouFreSpacExt",
    );
}

/// Makes an old Parallels image, whose table counts sectors, of a new one.
fn of_old_kind(mut image: Vec<u8>) -> Vec<u8> {
    let le32 = |image: &[u8], at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
    image[..16].copy_from_slice(b"WithoutFreeSpace");
    let (tracks, entries) = (le32(&image, 28), le32(&image, 32) as usize);
    for at in (64..64 + entries * 4).step_by(4) {
        let sector = le32(&image, at) * tracks;
        image[at..at + 4].copy_from_slice(&sector.to_le_bytes());
    }
    image
}

#[test]
fn empty_disks_are_one_extent() {
    let folder = Folder::new();
    let path = folder.path("large");
    for (format, size, shown) in [
        (Format::Qcow1, 8_u64 << 40, "8T"),
        (Format::Qed, 64 << 40, "64T"),
        (Format::Parallels, 8 << 40, "8T"),
        (Format::Qcow1, 512, "512"),
    ] {
        qemu_img(&["create", "-q", "-f", name(format), text(&path), shown]);
        let started = std::time::Instant::now();
        let disk = open_file(&path, format).unwrap().disk;
        let extent = disk.extent_at(0).unwrap();
        assert_eq!(extent, Extent { offset: 0, length: size, kind: ExtentKind::Zero });
        let mut end = [1; 512];
        disk.read_at(&mut end, size - 512).unwrap();
        assert_eq!(end, [0; 512]);
        assert!(started.elapsed().as_millis() < 1000, "{format} took {:?}", started.elapsed());
    }
}

#[test]
fn damage() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(1500 * 512, 3));
    let bytes = |path: PathBuf| std::fs::read(path).unwrap();
    mutate(&bytes(folder.image("image", &raw, "qcow", &[])), Format::Qcow1, 2000, 1);
    mutate(&bytes(compressed_qcow(&folder, &raw)), Format::Qcow1, 2000, 2);
    mutate(&bytes(folder.image("image", &raw, "qed", &["-o", "cluster_size=4k,table_size=2"])), Format::Qed, 2000, 3);
    let parallels = bytes(folder.image("image", &raw, "parallels", &["-o", "cluster_size=4k"]));
    mutate(&parallels, Format::Parallels, 1000, 4);
    mutate(&of_old_kind(parallels), Format::Parallels, 1000, 5);
}
