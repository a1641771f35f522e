//! qcow version 1, QED and Parallels, against qemu-img.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use disk::{ErrorKind, Extent, ExtentKind, FileSource, Format, Source, probe};

use crate::common::Stopwatch;
use crate::common::damage::mutate;
use crate::common::{
    Folder, Numbers, check_extents, open_bytes, open_file, qemu, qemu_img, read_all, seeded_disk, text,
};

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
        let packed = compressed_qcow(&folder, &raw);
        check(&packed, Format::Qcow1, "");
        // Some clusters unpacked again, others new.
        if size == SIZE {
            qemu("qemu-io", &["-f", "qcow", "-c", "write -P 1 1M 2M", "-c", "write -P 2 5000k 700", text(&packed)]);
            check(&packed, Format::Qcow1, "");
        }
    }
    let small = small_qcow(&folder);
    check(&small, Format::Qcow1, "");
    assert_eq!(open_file(&small, Format::Qcow1).unwrap().block_size, Some(512));
}

/// A source that counts how often it is read.
struct Counting(Vec<u8>, std::sync::atomic::AtomicUsize);

impl Source for Counting {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.0.read_at(buf, offset)
    }
}

/// Compressed clusters of 4 KiB are not read one by one.
#[test]
fn qcow1_is_read_in_large_pieces() {
    let folder = Folder::new();
    let disk = b"a block of text\n".repeat(1 << 18);
    let image = std::fs::read(compressed_qcow(&folder, &folder.write("raw", &disk))).unwrap();
    let file = std::sync::Arc::new(Counting(image, 0.into()));
    let reads = || file.1.load(std::sync::atomic::Ordering::Relaxed);
    let source: std::sync::Arc<dyn Source> = file.clone();
    let opened = disk::open(source, Format::Qcow1, &disk::Deny).unwrap();
    let before = reads();
    assert!(read_all(&*opened.disk, 1 << 20).unwrap() == disk);
    assert!(reads() - before <= 8, "{} reads for 1024 clusters", reads() - before);
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
        let started = Stopwatch::start();
        let disk = open_file(&path, format).unwrap().disk;
        let extent = disk.extent_at(0).unwrap();
        assert_eq!(extent, Extent { offset: 0, length: size, kind: ExtentKind::Zero });
        let mut end = [1; 512];
        disk.read_at(&mut end, size - 512).unwrap();
        assert_eq!(end, [0; 512]);
        assert!(started.elapsed().as_secs() < 3, "{format} took {:?}", started.elapsed());
    }
}

#[test]
fn damage() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(1500 * 512, 3));
    let bytes = |path: PathBuf| std::fs::read(path).unwrap();
    mutate(&bytes(folder.image("image", &raw, "qcow", &[])), Format::Qcow1, 1000, 1);
    mutate(&bytes(compressed_qcow(&folder, &raw)), Format::Qcow1, 1000, 2);
    mutate(&bytes(folder.image("image", &raw, "qed", &["-o", "cluster_size=4k,table_size=2"])), Format::Qed, 1000, 3);
    let parallels = bytes(folder.image("image", &raw, "parallels", &["-o", "cluster_size=4k"]));
    mutate(&parallels, Format::Parallels, 700, 4);
    mutate(&of_old_kind(parallels), Format::Parallels, 700, 5);
}

use ErrorKind::{Corrupt, Refused, TooLarge, Unsupported, WrongFormat};

/// An image as bytes, with a way to change it.
#[derive(Clone)]
struct Image(Vec<u8>, Format);

impl Image {
    fn set(&self, at: usize, bytes: &[u8]) -> Self {
        let mut image = self.clone();
        image.0[at..at + bytes.len()].copy_from_slice(bytes);
        image
    }

    /// Sets a number as the format orders its bytes.
    fn set64(&self, at: usize, number: u64) -> Self {
        self.set(at, &if self.1 == Format::Qcow1 { number.to_be_bytes() } else { number.to_le_bytes() })
    }

    fn set32(&self, at: usize, number: u32) -> Self {
        self.set(at, &if self.1 == Format::Qcow1 { number.to_be_bytes() } else { number.to_le_bytes() })
    }

    fn get64(&self, at: usize) -> u64 {
        let bytes = self.0[at..at + 8].try_into().unwrap();
        if self.1 == Format::Qcow1 { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) }
    }

    /// Returns where the first two used entries of the first second table lie, and that of the first table.
    fn entries(&self, l1: usize) -> (usize, [usize; 2]) {
        let l1 = self.get64(l1) as usize;
        let l2 = self.get64(l1) as usize;
        let used: Vec<_> = (l2..).step_by(8).filter(|at| self.get64(*at) > 1).take(2).collect();
        (l1, [used[0], used[1]])
    }

    /// Checks that opening, or reading all of it, fails in this way.
    #[track_caller]
    fn fails(&self, kind: ErrorKind, says: &str) {
        let opened = open_bytes(self.0.clone(), self.1);
        let Err(error) = opened.and_then(|opened| read_all(&*opened.disk, 1 << 20)) else {
            panic!("it opens, and should fail with {says:?}");
        };
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error} does not say {says:?}");
    }

    /// Checks that it can be read to the end; returns what was said about it.
    #[track_caller]
    fn notes(&self) -> Vec<String> {
        let opened = open_bytes(self.0.clone(), self.1).unwrap();
        read_all(&*opened.disk, 1 << 20).unwrap();
        opened.notes
    }
}

fn image(format: Format, options: &[&str]) -> Image {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(6 << 20, 21));
    Image(std::fs::read(folder.image("image", &raw, name(format), options)).unwrap(), format)
}

fn qcow() -> Image {
    image(Format::Qcow1, &[])
}

#[test]
fn backing_files_are_refused_by_name() {
    let qed = image(Format::Qed, &[]).set64(16, 1);
    for name in ["/etc/passwd", "../../x", "json:{\"driver\":\"file\"}", "nbd://host/export"] {
        let length = name.len() as u32;
        for image in [
            qcow().set64(8, 3000).set32(16, length).set(3000, name.as_bytes()),
            qed.set32(56, 3000).set32(60, length).set(3000, name.as_bytes()),
        ] {
            image.fails(Refused, "backing file");
            image.fails(Refused, &format!("{name:?}"));
            let given = disk::Given::new().with_file(name, std::sync::Arc::new(vec![0; 512]));
            let error = disk::open(std::sync::Arc::new(image.0), image.1, &given).unwrap_err();
            assert_eq!(error.kind(), Unsupported, "{error}");
        }
    }
    qcow().set64(8, 1 << 60).set32(16, 9).fails(Corrupt, "name of the backing file");
    qcow().set64(8, 512).set32(16, 70_000).fails(Corrupt, "70000 bytes");
    qed.set32(56, u32::MAX).set32(60, 9).fails(Corrupt, "name of the backing file");
    qed.set32(60, 1024).fails(Corrupt, "1024 bytes");
}

#[test]
fn qcow1_headers() {
    let image = qcow();
    image.set(0, b"X").fails(WrongFormat, "magic");
    image.set32(4, 2).fails(WrongFormat, "magic");
    Image(image.0[..40].to_vec(), Format::Qcow1).fails(Corrupt, "ends at byte 40");
    for bits in [0, 8, 17, 255] {
        image.set(32, &[bits]).fails(Corrupt, &format!("cluster bits {bits}"));
    }
    for bits in [0, 5, 14, 255] {
        image.set(33, &[bits]).fails(Corrupt, &format!("table bits {bits}"));
    }
    image.set32(36, 1).fails(Unsupported, "encrypted (AES)");
    image.set32(36, 7).fails(Unsupported, "unknown method 7");
    image.set64(24, 1000).fails(Corrupt, "multiple of 512");
    image.set64(24, u64::MAX - 511).fails(TooLarge, "tables");
    image.set64(24, 1 << 40).fails(Corrupt, "the L1 table");
    image.set64(40, 0).fails(Corrupt, "in the header");
    image.set64(40, 1 << 40).fails(Corrupt, "the L1 table");
    image.set64(40, u64::MAX - 4).fails(Corrupt, "the L1 table");
}

#[test]
fn qcow1_tables() {
    let image = qcow();
    let (l1, [first, second]) = image.entries(40);
    let (table, cluster, len) = (image.get64(l1), image.get64(first), image.0.len() as u64);
    for at in [l1 + 8, second] {
        image.set64(at, 1).fails(Corrupt, "begins no cluster");
        image.set64(at, table).fails(Corrupt, "already in use");
        image.set64(at, cluster).fails(Corrupt, "already in use");
        image.set64(at, len & !4095).fails(Corrupt, "the file ends");
        image.set64(at, (1 << 63) - 4096).fails(Corrupt, "the file ends");
    }
    // The first table among the data.
    image.set64(40, table).fails(Corrupt, "begins no cluster");
    // Compressed: 51 bits of offset, then 12 of length.
    let packed = |offset: u64, length: u64| (1 << 63) | (length << 51) | offset;
    let at = |entry: usize, value: u64| image.set64(entry, value);
    at(second, packed(len - 100, 0)).fails(Corrupt, "has 0 bytes");
    at(second, packed(len - 100, 101)).fails(Corrupt, "the file ends");
    at(second, packed((1 << 51) - 1, 4095)).fails(Corrupt, "the file ends");
    at(second, packed(cluster + 5, 50)).fails(Corrupt, "already in use");
    at(second, packed(table, 50)).fails(Corrupt, "already in use");
    let mut longer = image.clone();
    longer.0.extend([0xff; 100]);
    longer.set64(second, packed(len, 100)).fails(Corrupt, "does not unpack to one cluster");
    longer.set64(second, packed(len, 100)).set64(first, packed(len + 20, 50)).fails(Corrupt, "already in use");
}

#[test]
fn qed_headers() {
    let image = image(Format::Qed, &["-o", "cluster_size=4k,table_size=2"]);
    image.set(0, b"X").fails(WrongFormat, "magic");
    Image(image.0[..40].to_vec(), Format::Qed).fails(Corrupt, "ends at byte 40");
    for size in [0, 1, 2048, 12345, 1 << 27, u32::MAX] {
        image.set32(4, size).fails(Corrupt, &format!("clusters of {size} bytes"));
    }
    for size in [0, 3, 32, u32::MAX] {
        image.set32(8, size).fails(Corrupt, &format!("tables of {size} clusters"));
    }
    image.set32(12, 0).fails(Corrupt, "0 clusters");
    image.set32(12, u32::MAX).fails(Corrupt, "the QED header needs");
    image.set32(12, 2).fails(Corrupt, "in the header");
    image.set64(16, 8).fails(Unsupported, "bits 0x8");
    image.set64(16, 1 << 63).fails(Unsupported, "not known");
    assert_eq!(image.set64(24, u64::MAX).set64(32, u64::MAX).notes(), [""; 0]);
    assert!(image.set64(16, 2).notes()[0].contains("not closed cleanly"));
    image.set64(48, 1000).fails(Corrupt, "multiple of 512");
    image.set64(48, u64::MAX - 511).fails(Corrupt, "has 1024");
    for offset in [0, 4097, 1 << 40, u64::MAX - 4095] {
        image.set64(40, offset).fails(Corrupt, "the L1 table");
    }
    // The limit of the table: clusters of 64 MiB, tables of a gigabyte, almost 2^64 bytes of disk.
    let large = image.set32(4, 64 << 20).set32(8, 16);
    large.set64(40, 64 << 20).set64(48, u64::MAX - 511).fails(Corrupt, "the file ends");
}

#[test]
fn qed_tables() {
    let image = image(Format::Qed, &["-o", "cluster_size=4k,table_size=2"]);
    let (l1, [first, second]) = image.entries(40);
    let (table, cluster, len) = (image.get64(l1), image.get64(first), image.0.len() as u64);
    for at in [l1 + 8, second] {
        image.set64(at, 2).fails(Corrupt, "begins no cluster");
        image.set64(at, cluster + 1).fails(Corrupt, "begins no cluster");
        image.set64(at, table).fails(Corrupt, "already in use");
        image.set64(at, cluster).fails(Corrupt, "already in use");
        image.set64(at, len & !4095).fails(Corrupt, "the file ends");
        image.set64(at, u64::MAX - 4095).fails(Corrupt, "the file ends");
    }
    image.set64(40, table).fails(Corrupt, "already in use");
    image.set64(second, 1).notes();
}

/// qemu-img makes such images and cannot open them; the specification allows them.
#[test]
fn qed_tables_of_one_cluster() {
    let folder = Folder::new();
    let path = folder.path("image");
    let arguments = ["create", "-f", "qed", "-o", "cluster_size=4k,table_size=1", text(&path), "3M"];
    Command::new("qemu-img").args(arguments).output().unwrap();
    let mut image = Image(std::fs::read(&path).unwrap(), Format::Qed);
    // The second table follows, then a cluster of the disk: number 514, the third of the second table.
    let l2 = image.0.len().next_multiple_of(4096);
    image.0.resize(l2, 0);
    image.0.extend([0; 4096]);
    image.0.extend([7; 4096]);
    let l1 = image.get64(40) as usize;
    let image = image.set64(l1 + 8, l2 as u64).set64(l2 + 16, l2 as u64 + 4096);
    let disk = open_bytes(image.0, Format::Qed).unwrap().disk;
    let mut expected = vec![0; 3 << 20];
    expected[514 * 4096..515 * 4096].fill(7);
    assert!(read_all(&*disk, 1 << 20).unwrap() == expected);
    check_extents(&*disk, &expected);
}

/// A table of a gigabyte that is nothing but a hole of the file is not read.
#[test]
fn large_holes_in_tables_cost_nothing() {
    let folder = Folder::new();
    let path = folder.path("image");
    qemu_img(&["create", "-q", "-f", "qed", text(&path), "1T"]);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let (table, size) = (2_u64 << 30, (1_u64 << 62) - (64 << 20));
    file.set_len(table + (1 << 30)).unwrap();
    let (cluster, tables) = ((64_u32 << 20).to_le_bytes(), 16_u32.to_le_bytes());
    let [l1, size_field, l2] = [64 << 20, size, table].map(u64::to_le_bytes);
    for (at, bytes) in [(4, &cluster[..]), (8, &tables), (40, &l1), (48, &size_field), (64 << 20, &l2)] {
        file.write_all_at(bytes, at).unwrap();
    }
    let started = Stopwatch::start();
    let disk = open_file(&path, Format::Qed).unwrap().disk;
    assert_eq!(disk.len(), size);
    assert!(started.elapsed().as_secs() < 3, "{:?}", started.elapsed());
}

#[test]
fn parallels_headers() {
    let image = image(Format::Parallels, &["-o", "cluster_size=64k"]);
    let old = Image(of_old_kind(image.0.clone()), Format::Parallels);
    assert_eq!(old.notes(), [""; 0]);
    image.set(0, b"X").fails(WrongFormat, "magic");
    Image(image.0[..40].to_vec(), Format::Parallels).fails(Corrupt, "ends at byte 40");
    image.set32(16, 3).fails(Unsupported, "version 3");
    image.set32(28, 0).fails(Unsupported, "clusters of 0 bytes");
    image.set32(28, u32::MAX).fails(Unsupported, "clusters of");
    image.set32(32, u32::MAX).fails(TooLarge, "4294967295 entries");
    image.set32(32, 8 << 20).fails(Corrupt, "the table of clusters");
    image.set32(32, 1).fails(Corrupt, "has 1 entries");
    image.set64(36, u64::MAX).fails(Corrupt, "sectors");
    image.set64(36, 1 << 40).fails(Corrupt, "the disk needs");
    old.set64(36, 1 << 40).fails(Corrupt, "sectors");
    image.set32(44, 5).fails(Corrupt, "mark of use");
    assert_eq!(image.set32(44, 0).notes(), [""; 0]);
    assert!(image.set32(44, 0x746f_6e59).notes()[0].contains("not closed cleanly"));
    image.set32(48, 0).fails(Corrupt, "clusters begin at byte 0");
    image.set32(48, 3).fails(Corrupt, "clusters begin at byte 1536");
    old.set32(48, 0).notes();
    old.set32(52, 1).fails(Corrupt, "marked as empty");
}

#[test]
fn parallels_tables() {
    let image = image(Format::Parallels, &["-o", "cluster_size=64k"]);
    let old = Image(of_old_kind(image.0.clone()), Format::Parallels);
    for image in [&image, &old] {
        let entry = |at: usize| u32::from_le_bytes(image.0[at..at + 4].try_into().unwrap());
        let used: Vec<_> = (64..).step_by(4).filter(|at| entry(*at) != 0).take(2).collect();
        image.set32(used[1], entry(used[0])).fails(Corrupt, "already in use");
        image.set32(used[1], u32::MAX).fails(Corrupt, "the file ends");
    }
    let entry = (64..).step_by(4).find(|at| old.0[*at] != 0 || old.0[at + 1] != 0).unwrap();
    old.set32(entry, 1).fails(Corrupt, "no place of a cluster");
    old.set32(entry, old.0.len() as u32 / 512).fails(Corrupt, "the file ends");
    let next = u32::from_le_bytes(old.0[entry..entry + 4].try_into().unwrap()) + 1;
    old.set32(entry, next).fails(Corrupt, "already in use");
}

#[test]
fn parallels_extensions() {
    let mut image = image(Format::Parallels, &["-o", "cluster_size=64k"]);
    let start = image.0.len().next_multiple_of(65536);
    image.0.resize(start + 65536, 0);
    // As a program that knows extensions leaves it; QEMU writes 0.
    let image = image.set32(44, 0x312e_3276);
    let named = image.set64(56, start as u64 / 512);
    named.fails(Corrupt, "no format extension");
    assert_eq!(named.set32(44, 0).notes(), [""; 0], "written last by a program that knows no extensions");
    let with = |features: &[(u64, u64, u32)]| {
        let mut image = named.set64(start, 0xab23_4cef_23dc_ea87);
        let mut at = start + 24;
        for (magic, flags, length) in features {
            image = image.set64(at, *magic).set64(at + 8, *flags).set32(at + 16, *length);
            at += 24 + (*length as usize).next_multiple_of(8);
        }
        image
    };
    assert_eq!(with(&[]).notes(), [""; 0]);
    assert_eq!(
        with(&[(0x2038_5fae_252c_b34a, 0, 40), (77, 2, 9)]).notes(),
        ["a bitmap of changed sectors is passed over"]
    );
    with(&[(78, 0, 3), (77, 1, 9)]).fails(Unsupported, "0x000000000000004d");
    named
        .set64(start, 0xab23_4cef_23dc_ea87)
        .set64(start + 24, 5)
        .set32(start + 40, u32::MAX)
        .fails(Corrupt, "a feature");
    let cluster = named.set64(start, 0xab23_4cef_23dc_ea87);
    let first = u64::from(cluster.0[64..].chunks(4).map(|entry| entry[0]).find(|entry| *entry != 0).unwrap());
    let shared = cluster.set64(56, first * 128).set64(first as usize * 65536, 0xab23_4cef_23dc_ea87);
    shared.set(first as usize * 65536 + 24, &[0; 24]).fails(Corrupt, "already in use");
    image.set64(56, 3).fails(Corrupt, "the format extension");
    image.set64(56, start as u64 / 512 + 128).fails(Corrupt, "the format extension needs");
    image.set64(56, u64::MAX).fails(Corrupt, "past the end of all files");
}

/// Cut anywhere, a file whose last byte is needed is never read to the end as if it were whole.
#[test]
fn cuts() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(1500 * 512, 4));
    for (format, options) in [
        (Format::Qcow1, &[][..]),
        (Format::Qed, &["-o", "cluster_size=4k,table_size=2"]),
        (Format::Parallels, &["-o", "cluster_size=4k"]),
    ] {
        let path = folder.image("image", &raw, name(format), options);
        let whole = std::fs::read(path).unwrap();
        let expected = read_all(&*open_bytes(whole.clone(), format).unwrap().disk, 1 << 20).unwrap();
        for length in (0..1200).chain((1200..whole.len()).step_by(whole.len() / 50 + 1)) {
            match open_bytes(whole[..length].to_vec(), format).and_then(|opened| read_all(&*opened.disk, 1 << 20)) {
                // The end of the file may be padding that no cluster needs.
                Ok(bytes) => assert!(bytes == expected, "{format} cut at {length} reads as another disk"),
                Err(error) => {
                    let unfit = length < 64 && error.kind() == WrongFormat;
                    assert!(error.kind() == Corrupt || unfit, "{format} cut at {length}: {error}");
                }
            }
        }
    }
}
