//! Conversion of files: what is written, what is left alone, and what is left behind.

mod common;

use std::sync::Mutex;

use common::{Folder, qemu_img, seeded_disk, text};
use disk::{ConvertOptions, CopyOptions, ErrorKind, Format, Source, convert, convert_to_stream, copy_to_file};

fn names(folder: &Folder) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_format_to_raw_and_qcow2() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk((20 << 20) + 512, 1));
    let images = [
        (Format::Qcow2, folder.image("q", &raw, "qcow2", &["-c", "-o", "compression_type=zstd"])),
        (Format::Vhd, folder.image("h", &raw, "vpc", &["-o", "force_size=on"])),
        (Format::Vdi, folder.image("d", &raw, "vdi", &[])),
        (Format::Vmdk, folder.image("v", &raw, "vmdk", &["-o", "subformat=streamOptimized"])),
        (Format::Raw, raw.clone()),
    ];
    for (format, image) in images {
        for out in [Format::Raw, Format::Qcow2] {
            let to = folder.path("out");
            let copied = convert(&image, None, &to, out, &ConvertOptions::default()).unwrap().copied;
            assert_eq!(copied.bytes_total, std::fs::metadata(&to).unwrap().len());
            assert!(copied.bytes_data < copied.bytes_total || out == Format::Qcow2);
            qemu_img(&["compare", "-f", "raw", "-F", out.as_str(), text(&raw), text(&to)]);
            std::fs::remove_file(&to).unwrap();
            let probed =
                disk::info(std::sync::Arc::new(disk::FileSource::open(&image).unwrap()), None, &disk::Deny).unwrap();
            assert_eq!(probed.format, format);
            assert_eq!(probed.virtual_size, (20 << 20) + 512);
            assert!(probed.allocated > 0 && probed.allocated <= probed.virtual_size);
        }
    }
}

#[test]
fn holes_and_zeros_become_holes() {
    let folder = Folder::new();
    let mut disk = vec![0; 8 << 20];
    disk[(3 << 20) + 5] = 1;
    let file = std::fs::File::create(folder.path("sparse")).unwrap();
    let copied = copy_to_file(&disk, &file, &CopyOptions::default()).unwrap();
    assert_eq!(copied, disk::Copied { bytes_data: 4096, bytes_total: 8 << 20 });
    assert_eq!(std::fs::read(folder.path("sparse")).unwrap(), disk);
    use std::os::unix::fs::MetadataExt;
    assert!(file.metadata().unwrap().blocks() * 512 < 100_000, "the file has no holes");

    // A file that had other bytes before has none of them after.
    std::fs::write(folder.path("used"), vec![9; 9 << 20]).unwrap();
    let file = std::fs::File::options().write(true).open(folder.path("used")).unwrap();
    let options = CopyOptions { sparse: false, threads: 3, ..CopyOptions::default() };
    let copied = copy_to_file(&disk, &file, &options).unwrap();
    assert_eq!(copied.bytes_data, 8 << 20);
    assert_eq!(std::fs::read(folder.path("used")).unwrap(), disk);
}

/// Where zeros are to be written, no way of copying leaves holes.
#[test]
fn zeros_are_written_if_that_is_asked_for() {
    use std::os::unix::fs::MetadataExt;
    let folder = Folder::new();
    let mut disk = vec![0; 8 << 20];
    disk[(3 << 20) + 5] = 1;
    let raw = folder.write("raw", &disk);
    let wrapped = |kind: &str| {
        let path = folder.path(kind);
        let mut options = ConvertOptions::default();
        options.write.set("wrap", kind);
        convert(&raw, None, &path, Format::Raw, &options).unwrap();
        path
    };
    let image = folder.image("qcow2", &raw, "qcow2", &[]);
    for source in [raw.clone(), wrapped("gzip"), wrapped("zstd"), image] {
        for (sparse, stream) in [(true, false), (false, false), (false, true)] {
            let out = folder.path("out");
            let copy = CopyOptions { sparse, ..CopyOptions::default() };
            // The checksum makes another way of it.
            let options = ConvertOptions { copy, force: true, checksum: stream, ..ConvertOptions::default() };
            convert(&source, None, &out, Format::Raw, &options).unwrap();
            assert!(std::fs::read(&out).unwrap() == disk);
            let kept = std::fs::metadata(&out).unwrap().blocks() * 512;
            assert_eq!(kept >= 8 << 20, !sparse, "{source:?}: {kept} bytes with sparse: {sparse}");
        }
    }
}

#[test]
fn progress_reaches_the_end() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(30 << 20, 2));
    let seen = Mutex::new(Vec::new());
    let progress = |done, total| seen.lock().unwrap().push((done, total));
    let copy = CopyOptions { progress: Some(&progress), ..CopyOptions::default() };
    let options = ConvertOptions { copy, ..ConvertOptions::default() };
    convert(&raw, Some(Format::Raw), &folder.path("out"), Format::Raw, &options).unwrap();
    let seen = seen.into_inner().unwrap();
    assert!(seen.iter().all(|(done, total)| done <= total && *total == 30 << 20));
    assert_eq!(seen.iter().max().unwrap().0, 30 << 20);
}

#[test]
fn a_file_that_is_there_stays_unless_forced() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(1 << 20, 3));
    std::fs::write(folder.path("out"), "precious").unwrap();
    let error = convert(&raw, None, &folder.path("out"), Format::Raw, &ConvertOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(std::fs::read(folder.path("out")).unwrap(), b"precious");
    let options = ConvertOptions { force: true, ..ConvertOptions::default() };
    convert(&raw, None, &folder.path("out"), Format::Raw, &options).unwrap();
    assert_eq!(std::fs::read(folder.path("out")).unwrap(), std::fs::read(&raw).unwrap());
    // Even the source itself, because the new file takes its name only when it is complete.
    convert(&raw, None, &raw, Format::Qcow2, &options).unwrap();
    qemu_img(&["compare", "-f", "raw", "-F", "qcow2", text(&folder.path("out")), text(&raw)]);
    assert_eq!(names(&folder), ["out", "raw"]);
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let folder = Folder::new();
    let raw = folder.write("raw", &vec![b'x'; 10 << 20]);
    let image = folder.image("image", &raw, "qcow2", &["-c"]);
    let mut bytes = std::fs::read(&image).unwrap();
    // In the middle of the compressed data, which lie after the tables.
    let disk = common::open_bytes(bytes.clone(), Format::Qcow2).unwrap().disk;
    assert!(disk.read_at(&mut [0; 512], 0).is_ok());
    let start = bytes.len() / 2;
    let end = bytes.len() - 512;
    bytes[start..end].fill(0xff);
    std::fs::write(&image, bytes).unwrap();
    let error = convert(&image, Some(Format::Qcow2), &folder.path("out"), Format::Raw, &ConvertOptions::default());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(names(&folder), ["image", "raw"]);
    let error = convert(&raw, None, &folder.path("no/out"), Format::Raw, &ConvertOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(names(&folder), ["image", "raw"]);
}

#[test]
fn a_pipe_or_a_folder_is_no_disk() {
    let folder = Folder::new();
    let made = std::process::Command::new("mkfifo").arg(folder.path("pipe")).status().unwrap();
    assert!(made.success());
    for path in [folder.path("pipe"), folder.path("")] {
        let error = disk::FileSource::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    assert_eq!(disk::FileSource::open(&folder.path("absent")).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn the_checksum_is_that_of_the_disk() {
    let folder = Folder::new();
    let bytes = seeded_disk((12 << 20) + 512, 5);
    let raw = folder.write("raw", &bytes);
    let wanted: [u8; 32] = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(&bytes)).into();
    let qcow2 = folder.image("qcow2", &raw, "qcow2", &["-c"]);
    for source in [&raw, &qcow2] {
        for out in [Format::Raw, Format::Qcow2] {
            let options = ConvertOptions { checksum: true, force: true, ..ConvertOptions::default() };
            let converted = convert(source, None, &folder.path("out"), out, &options).unwrap();
            assert_eq!((converted.sha256, converted.virtual_size), (Some(wanted), bytes.len() as u64));
        }
    }
}

#[test]
fn a_stream_holds_the_same_bytes_as_a_file() {
    let folder = Folder::new();
    let raw = folder.write("raw", &seeded_disk(9 << 20, 6));
    let options = ConvertOptions::default();
    for out in [Format::Raw, Format::Qcow2] {
        let path = folder.path("out").with_extension(out.as_str());
        convert(&raw, None, &path, out, &options).unwrap();
        let mut streamed = Vec::new();
        let converted = convert_to_stream(&raw, None, &mut streamed, out, &options).unwrap();
        assert_eq!(converted.copied.bytes_total, streamed.len() as u64);
        assert!(streamed == std::fs::read(&path).unwrap());
    }
}
