//! Compressed files that are written, and local ones that are unpacked.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use disk::{ErrorKind, Extent, Format, LocalOptions, Source, UnpackLimits, open_unpacked, open_unpacked_into};

use super::{containers, python, seekable, tool, unpacked, wrapped, written};
use crate::common::Stopwatch;
use crate::common::{Folder, check_extents, open_bytes, qemu_img, read_all, seeded_disk, text};

/// Files of many members can be cut between two of them: ours say how much is missing.
#[test]
fn our_files_are_not_short_wherever_they_are_cut() {
    let content = vec![0; 5 << 20];
    for (wrap, format) in [("gzip", Format::Gzip), ("zstd", Format::Zstd)] {
        let bytes = wrapped(content.clone(), wrap, 0);
        assert!(bytes.len() < 10_000);
        for length in 0..bytes.len() {
            let cut = bytes[..length].to_vec();
            match unpacked(&cut, format) {
                // Only the table is missing.
                Ok(read) => assert!(read == content && format == Format::Zstd, "{wrap} cut at {length}"),
                Err(error) => assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::WrongFormat), "{error}"),
            }
            let opened = open_bytes(cut, format).and_then(|opened| read_all(&*opened.disk, 1 << 20));
            assert!(opened.is_err() || opened.unwrap() == content, "{wrap} opens, cut at {length}");
        }
    }
}

#[test]
fn what_is_written_is_read_by_gzip_and_zstd() {
    for size in [0, 1, 512, 1 << 20, (2 << 20) + 7, (7 << 20) + 12345] {
        let content = seeded_disk(size, 14);
        let [gzip, zstd] = ["gzip", "zstd"].map(|wrap| wrapped(content.clone(), wrap, 0));
        assert!(tool("gzip", &["-dc"], &gzip) == content, "{size}");
        assert!(python("import gzip\no.write(gzip.decompress(i.read()))", &gzip) == content, "{size}");
        assert!(tool("zstd", &["-dcq"], &zstd) == content, "{size}");
        assert!(unpacked(&gzip, Format::Gzip).unwrap() == content, "{size}");
        assert!(unpacked(&zstd, Format::Zstd).unwrap() == content, "{size}");
        for threads in [1, 2, 5] {
            assert!(wrapped(content.clone(), "gzip", threads) == gzip, "{size} in {threads} threads");
            assert!(wrapped(content.clone(), "zstd", threads) == zstd, "{size} in {threads} threads");
        }
    }
}

#[test]
fn options_of_the_wrapper() {
    let disk: Arc<dyn Source> = Arc::new(seeded_disk(3 << 20, 15));
    let length =
        |wrap, level| written(Arc::clone(&disk), Format::Qcow2, &[("wrap", wrap), ("level", level)], 0).unwrap().len();
    assert!(length("gzip", "12") < length("gzip", "1"));
    assert!(length("zstd", "19") < length("zstd", "1"));
    for wrong in
        [[("wrap", "xz"), ("level", "1")], [("wrap", "gzip"), ("level", "13")], [("wrap", "zstd"), ("level", "0")]]
    {
        let error = written(Arc::clone(&disk), Format::Raw, &wrong, 0).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.hint().is_some(), "{error}");
    }
}

#[test]
fn qcow2_inside() {
    let content = seeded_disk(4 << 20, 16);
    let disk: Arc<dyn Source> = Arc::new(content.clone());
    let file = written(Arc::clone(&disk), Format::Qcow2, &[("wrap", "zstd")], 0).unwrap();
    let opened = open_bytes(file, Format::Zstd).unwrap();
    assert!(opened.variant.starts_with("zstd of qcow2"), "{}", opened.variant);
    assert!(read_all(&*opened.disk, 1 << 20).unwrap() == content);
    let gzip = written(disk, Format::Qcow2, &[("wrap", "gzip")], 0).unwrap();
    let folder = Folder::new();
    std::fs::write(folder.path("disk.qcow2"), tool("gzip", &["-dc"], &gzip)).unwrap();
    qemu_img(&["check", text(&folder.path("disk.qcow2"))]);
}

/// Zeros that are known by their extents.
struct Hole(u64);

impl Source for Hole {
    fn len(&self) -> u64 {
        self.0
    }

    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> disk::Result<()> {
        panic!("a hole is not read");
    }

    fn extent_at(&self, offset: u64) -> disk::Result<Extent> {
        Ok(Extent { offset, length: self.0 - offset, kind: disk::ExtentKind::Zero })
    }
}

#[test]
fn holes_are_not_read_and_cost_little() {
    let started = Stopwatch::start();
    let file = written(Arc::new(Hole(100 << 30)), Format::Raw, &[("wrap", "zstd")], 2).unwrap();
    let opened = open_bytes(file, Format::Zstd).unwrap();
    assert_eq!(opened.disk.len(), 100 << 30);
    let mut offset = 0;
    while offset < opened.disk.len() {
        let extent = opened.disk.extent_at(offset).unwrap();
        assert_eq!(extent.kind, disk::ExtentKind::Zero);
        offset = extent.end();
    }
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

fn names(folder: &Folder) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_local_file_is_unpacked_where_it_must_be() {
    let mut content = seeded_disk(6 << 20, 17);
    content[1 << 20..5 << 20].fill(0);
    let folder = Folder::new();
    let raw = folder.write("raw", &content);
    let image = folder.image("image", &raw, "qcow2", &[]);
    for (inner, path) in [(Format::Raw, raw), (Format::Qcow2, image)] {
        let file = std::fs::read(path).unwrap();
        for (format, name, bytes) in containers(&file).into_iter().chain(seekable(&file)) {
            let path = folder.path("packed");
            std::fs::write(&path, &bytes).unwrap();
            let before = names(&folder);
            for find_zeros in [false, true] {
                let options = LocalOptions { find_zeros, ..LocalOptions::default() };
                let opened = open_unpacked(&path, &options).unwrap();
                assert!(opened.variant.starts_with(&format!("{format} of {inner}")), "{name}: {}", opened.variant);
                assert!(read_all(&*opened.disk, 1 << 20).unwrap() == content, "{name}");
                let data = check_extents(&*opened.disk, &content);
                assert!(data <= 2 << 20 || inner == Format::Raw && !find_zeros, "{name}: {data} bytes of data");
                let info = disk::info_of(&opened, bytes.len() as u64).unwrap();
                assert_eq!((info.format, info.virtual_size, info.allocated), (format, 6 << 20, data), "{name}");
                assert_eq!(names(&folder), before, "{name} leaves something behind");
            }
        }
    }
}

#[test]
fn a_bare_disk_is_unpacked_straight_into_its_file() {
    let mut content = seeded_disk((3 << 20) + 100, 18);
    content[1 << 20..].fill(0);
    let folder = Folder::new();
    let path = folder.path("packed");
    std::fs::write(&path, tool("gzip", &["-c"], &content)).unwrap();
    let file = std::fs::File::create_new(folder.path("out")).unwrap();
    let told = AtomicU64::new(0);
    let progress = |done: u64, total: u64| {
        assert!(done >= told.swap(done, Ordering::Relaxed) && done <= total);
    };
    let options = LocalOptions { progress: Some(&progress), ..LocalOptions::default() };
    let local = open_unpacked_into(&path, &options, &file).unwrap();
    assert_eq!(local.inner, Format::Raw);
    assert!(local.unpacked.unwrap() <= 1 << 20, "{:?}", local.unpacked);
    assert_eq!(told.into_inner(), std::fs::metadata(&path).unwrap().len());
    assert!(std::fs::read(folder.path("out")).unwrap() == content);
    assert!(file.metadata().unwrap().blocks() * 512 <= 2 << 20, "no holes");
}

#[test]
fn local_files_that_cannot_be_unpacked() {
    let folder = Folder::new();
    let path = folder.path("packed");
    std::fs::write(&path, tool("gzip", &["-c"], &seeded_disk(1 << 20, 19))).unwrap();
    let fails = |options: &LocalOptions<'_>| {
        let error = open_unpacked(&path, options).unwrap_err();
        assert_eq!(names(&folder), ["packed"]);
        (error.kind(), error.hint().map(ToOwned::to_owned))
    };
    let limits = UnpackLimits { output: 1 << 19, ..UnpackLimits::default() };
    assert_eq!(fails(&LocalOptions { limits, ..LocalOptions::default() }).0, ErrorKind::TooLarge);
    let absent = folder.path("absent");
    let (kind, hint) = fails(&LocalOptions { folder: Some(&absent), ..LocalOptions::default() });
    assert!(kind == ErrorKind::Io && hint.unwrap().contains("another folder"));
    let declared = LocalOptions { format: Some(Format::Qcow2), ..LocalOptions::default() };
    assert_eq!(fails(&declared).0, ErrorKind::WrongFormat);
    // Somebody who says that it is a bare disk gets that.
    let raw = LocalOptions { format: Some(Format::Raw), ..LocalOptions::default() };
    assert_eq!(open_unpacked(&path, &raw).unwrap().disk.len(), std::fs::metadata(&path).unwrap().len());
}
