//! qcow2 files that are encrypted by LUKS, against qemu-img.

use std::path::Path;
use std::sync::Arc;

use disk::{ErrorKind, FileSource, Format, Opened, Source, WriteOptions};

use super::super::common::{Folder, check_extents, open_bytes, qemu_img, read_all, seeded_disk, text};
use super::{PASSPHRASE, SECRET, given, options};

fn open_qcow2(image: Vec<u8>, passphrase: &str) -> disk::Result<Opened> {
    disk::open(Arc::new(image), Format::Qcow2, &given(passphrase))
}

/// The options by which QEMU opens the encrypted qcow2 file at `path`.
fn encrypted_qcow2(path: &Path) -> String {
    format!("driver=qcow2,encrypt.format=luks,encrypt.key-secret=passphrase,file.filename={}", text(path))
}

/// Once QEMU makes the file, with subclusters, and once it writes into one that was made here.
#[test]
fn qcow2_that_qemu_encrypted() {
    let folder = Folder::new();
    let expected = seeded_disk((3 << 20) + 512, 6);
    let raw = folder.write("raw", &expected);
    let (made, filled) = (folder.path("made"), folder.path("filled"));
    let options =
        "encrypt.format=luks,encrypt.key-secret=passphrase,encrypt.iter-time=10,cluster_size=16k,extended_l2=on";
    let convert = ["convert", "--object", SECRET, "-f", "raw"];
    qemu_img(&[&convert[..], &["-O", "qcow2", "-o", options, text(&raw), text(&made)]].concat());
    let empty: Arc<dyn Source> = Arc::new(FileSource::open(&folder.write("empty", &vec![0; expected.len()])).unwrap());
    std::fs::write(&filled, read_all(&*own_qcow2(empty, "64K"), 1 << 20).unwrap()).unwrap();
    qemu_img(&[&convert[..], &["-n", "--target-image-opts", text(&raw), &encrypted_qcow2(&filled)]].concat());
    for (path, variant, clusters) in [(made, "v3 subclusters LUKS", 16384), (filled, "v3 LUKS", 65536)] {
        let image = std::fs::read(path).unwrap();
        let opened = open_qcow2(image.clone(), PASSPHRASE).unwrap();
        assert_eq!((opened.variant.as_str(), opened.block_size), (variant, Some(clusters)));
        assert!(opened.notes[0].contains("aes-xts-plain64 with a key of 512 bits"), "{:?}", opened.notes);
        assert!(read_all(&*opened.disk, 1 << 20).unwrap() == expected, "{variant} reads wrong");
        assert!(read_all(&*opened.disk, 100_001).unwrap() == expected, "{variant} reads wrong in odd pieces");
        assert!(check_extents(&*opened.disk, &expected) < expected.len() as u64, "holes are not encrypted");
        assert_eq!(open_qcow2(image.clone(), "wrong").unwrap_err().kind(), ErrorKind::Refused);
        let error = open_bytes(image, Format::Qcow2).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.hint().unwrap().contains("--passphrase-file"));
    }
}

/// An encrypted qcow2 file of this crate.
fn own_qcow2(disk: Arc<dyn Source>, cluster_size: &str) -> Arc<dyn Source> {
    let mut options = options(PASSPHRASE);
    options.set("encrypt", "luks");
    options.set("cluster_size", cluster_size);
    disk::layout(disk, Format::Qcow2, &options).unwrap()
}

#[test]
fn encrypted_qcow2_that_is_written_is_read_by_qemu() {
    let folder = Folder::new();
    for (seed, (size, cluster_size)) in
        [(3 << 20, "64K"), (600 << 10, "512"), (5 << 20, "2M"), (0, "4K")].into_iter().enumerate()
    {
        let expected = seeded_disk(size, seed as u64);
        let layout = own_qcow2(Arc::new(expected.clone()), cluster_size);
        let bytes = read_all(&*layout, 1 << 20).unwrap();
        assert!(bytes == read_all(&*layout, 100_001).unwrap());
        check_extents(&*layout, &bytes);
        let path = folder.path("own.qcow2");
        std::fs::write(&path, &bytes).unwrap();
        let image = encrypted_qcow2(&path);
        let report = qemu_img(&["check", "--object", SECRET, "--image-opts", &image]);
        assert!(report.contains("No errors were found"), "{report}");
        let out = folder.path("read by QEMU");
        qemu_img(&["convert", "--object", SECRET, "--image-opts", &image, "-O", "raw", text(&out)]);
        assert!(std::fs::read(out).unwrap() == expected, "QEMU reads {size} bytes in clusters of {cluster_size} wrong");
        let opened = open_qcow2(bytes, PASSPHRASE).unwrap();
        assert!(read_all(&*opened.disk, 1 << 20).unwrap() == expected);
    }
    let mut both = options(PASSPHRASE);
    both.set("encrypt", "luks");
    both.set("compression", "zstd");
    let error = disk::layout(Arc::new(vec![1; 512]), Format::Qcow2, &both).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("both compressed and encrypted"), "{error}");
    both = WriteOptions::default();
    both.set("encrypt", "luks");
    let error = disk::layout(Arc::new(vec![1; 512]), Format::Qcow2, &both).map(|_| ()).unwrap_err();
    assert!(error.hint().unwrap().contains("--new-passphrase-file"));
}

#[test]
fn encrypted_qcow2_headers_that_are_refused() {
    use ErrorKind::{Corrupt, Unsupported};
    let image = read_all(&*own_qcow2(Arc::new(vec![7; 70_000]), "64K"), 1 << 20).unwrap();
    let be64 = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap());
    let (luks, length) = (be64(112) as usize, be64(120));
    let refused = |at: usize, bytes: &[u8], kind, says: &str| {
        let mut image = image.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        let error = open_qcow2(image, PASSPHRASE).expect_err(says);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error} does not say {says:?}");
    };
    refused(32, &1_u32.to_be_bytes(), Unsupported, "encrypted (AES)");
    refused(32, &3_u32.to_be_bytes(), Unsupported, "unknown method 3");
    refused(104, &0_u32.to_be_bytes(), Corrupt, "no header extension");
    refused(104, &1_u32.to_be_bytes(), Corrupt, "no header extension");
    refused(108, &15_u32.to_be_bytes(), Corrupt, "no header extension");
    refused(112, &(luks as u64 + 512).to_be_bytes(), Corrupt, "begins no cluster");
    refused(112, &(1_u64 << 63).to_be_bytes(), Corrupt, "LUKS header");
    refused(112, &0_u64.to_be_bytes(), Corrupt, "already in use");
    refused(120, &u64::MAX.to_be_bytes(), Corrupt, "LUKS header");
    refused(120, &(length + 65536).to_be_bytes(), Corrupt, "already in use");
    refused(120, &4096_u64.to_be_bytes(), Corrupt, "LUKS header");
    refused(luks, b"x", ErrorKind::WrongFormat, "does not begin with a LUKS header");
    refused(luks + 7, &[2], Unsupported, "version 2 inside");
    // A data cluster that says it is compressed.
    let l2 = (be64(be64(40) as usize) & 0x00ff_ffff_ffff_fe00) as usize;
    refused(l2, &(be64(l2) | 1 << 62).to_be_bytes(), Corrupt, "is compressed");
}
