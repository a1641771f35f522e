//! Everything that `qemu-img` can create, made of seeded disks: what is read from it is what `qemu-img` reads from it.
//!
//! Each combination of format and options is made of one disk, and some in turn of a second one with its own way of ending.
//! What must not be read is here too, with the kind of the refusal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use disk::{CheckOptions, CompareOptions, ErrorKind, FileSource, Format, Given, Source};

use super::common::{Folder, check_extents, qemu_img, read_all, seeded_disk, text};

/// A file that `qemu-img` makes.
struct Case {
    /// The format as QEMU calls it.
    driver: &'static str,
    format: Format,
    options: String,
    compressed: bool,
    refused: Option<ErrorKind>,
}

const SECRET: &str = "secret,id=s,data=opensesame";

/// Makes a case of each of `options`; one that ends with " -c" is compressed.
fn cases(driver: &'static str, format: Format, options: &[&str]) -> Vec<Case> {
    let case = |options: &&str| {
        let (options, compressed) = options.strip_suffix("-c").map_or((*options, false), |options| (options, true));
        Case { driver, format, options: options.trim().to_owned(), compressed, refused: None }
    };
    options.iter().map(case).collect()
}

fn refused(driver: &'static str, format: Format, kind: ErrorKind, options: &[&str]) -> Vec<Case> {
    let refuse = |case: Case| Case { refused: Some(kind), ..case };
    cases(driver, format, options).into_iter().map(refuse).collect()
}

/// Every format and option, alone and where it matters together.
fn matrix() -> Vec<Case> {
    let mut all = vec![qcow2(), vmdk(), luks()];
    all.push(cases("raw", Format::Raw, &["", "preallocation=falloc", "preallocation=full"]));
    all.push(cases("qcow", Format::Qcow1, &["", "-c"]));
    all.push(refused("qcow", Format::Qcow1, ErrorKind::Unsupported, &["encrypt.format=aes,encrypt.key-secret=s"]));
    all.push(cases("qed", Format::Qed, &["", "cluster_size=4K", "cluster_size=1M,table_size=16", "table_size=2"]));
    all.push(cases("parallels", Format::Parallels, &["", "cluster_size=64K", "cluster_size=4M"]));
    all.push(cases("vdi", Format::Vdi, &["", "static=on"]));
    all.push(cases("vpc", Format::Vhd, &["", "force_size=on", "subformat=fixed", "subformat=fixed,force_size=on"]));
    all.push(cases(
        "vhdx",
        Format::Vhdx,
        &[
            "",
            "subformat=fixed",
            "block_size=1M",
            "block_size=256M",
            "block_size=2M,block_state_zero=off",
            "block_size=8M,log_size=4M",
            "subformat=fixed,block_size=1M,block_state_zero=off",
        ],
    ));
    all.into_iter().flatten().collect()
}

fn qcow2() -> Vec<Case> {
    let mut all = cases(
        "qcow2",
        Format::Qcow2,
        &[
            "",
            "-c",
            "compat=0.10",
            "compat=0.10 -c",
            "compression_type=zstd -c",
            "lazy_refcounts=on",
            "preallocation=metadata",
            "preallocation=falloc",
            "preallocation=full",
            "compat=0.10,preallocation=metadata",
            "cluster_size=512,preallocation=metadata",
            "extended_l2=on,preallocation=metadata",
            "extended_l2=on,cluster_size=16K",
            "extended_l2=on,cluster_size=16K -c",
            "extended_l2=on",
            "extended_l2=on,compression_type=zstd -c",
            "extended_l2=on,cluster_size=2M",
            "extended_l2=on,cluster_size=2M -c",
            "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10",
            "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,extended_l2=on",
            "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10,cluster_size=512",
        ],
    );
    let sizes = ["512", "1K", "2K", "4K", "8K", "16K", "32K", "128K", "256K", "512K", "1M", "2M"];
    for size in sizes {
        let [plain, zlib, zstd] =
            ["", " -c", ",compression_type=zstd -c"].map(|more| format!("cluster_size={size}{more}"));
        all.extend(cases("qcow2", Format::Qcow2, &[&plain, &zlib, &zstd]));
    }
    for bits in [1, 2, 4, 8, 32, 64] {
        all.extend(cases("qcow2", Format::Qcow2, &[&format!("refcount_bits={bits}")]));
    }
    all.extend(refused("qcow2", Format::Qcow2, ErrorKind::Unsupported, &["encrypt.format=aes,encrypt.key-secret=s"]));
    all
}

fn vmdk() -> Vec<Case> {
    let mut all = Vec::new();
    for subformat in
        ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "streamOptimized"]
    {
        for more in [
            "",
            ",adapter_type=lsilogic",
            ",adapter_type=buslogic,hwversion=13",
            ",adapter_type=legacyESX",
            ",compat6=on",
        ] {
            all.extend(cases("vmdk", Format::Vmdk, &[&format!("subformat={subformat}{more}")]));
        }
    }
    for subformat in ["monolithicSparse", "twoGbMaxExtentSparse"] {
        all.extend(cases("vmdk", Format::Vmdk, &[&format!("subformat={subformat},zeroed_grain=on")]));
    }
    all
}

fn luks() -> Vec<Case> {
    let mut all = Vec::new();
    for cipher in [
        "",
        ",cipher-alg=aes-128",
        ",cipher-alg=aes-192",
        ",cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256",
        ",ivgen-alg=plain",
        ",hash-alg=sha1",
        ",hash-alg=sha512",
    ] {
        all.extend(cases("luks", Format::Luks, &[&format!("key-secret=s,iter-time=10{cipher}")]));
    }
    for cipher in [
        ",cipher-mode=ecb",
        ",cipher-alg=serpent-256",
        ",cipher-alg=twofish-256",
        ",cipher-alg=cast5-128,cipher-mode=cbc",
    ] {
        let options = format!("key-secret=s,iter-time=10{cipher}");
        all.extend(refused("luks", Format::Luks, ErrorKind::Unsupported, &[&options]));
    }
    all
}

/// How `qemu-img` is told of an image that may need a secret.
fn image_options(case: &Case, path: &Path) -> String {
    let secret = match case.driver {
        "luks" => ",key-secret=s",
        "qcow2" if case.options.contains("format=luks") => ",encrypt.format=luks,encrypt.key-secret=s",
        _ => "",
    };
    format!("driver={}{secret},file.filename={}", case.driver, text(path))
}

/// Grants the secret and every file beside the image.
fn gate(folder: &Path, image: &Path) -> Given {
    let mut gate = Given::new().with_passphrase(b"opensesame".to_vec().into());
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path != image {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            gate = gate.with_file(name, Arc::new(FileSource::open(&path).unwrap()));
        }
    }
    gate
}

/// Makes the image of `case` from the raw disk at `raw` and reads it both ways.
fn try_case(case: &Case, raw: &Path) {
    let folder = Folder::new();
    let image = folder.path("image");
    let mut arguments = vec!["convert", "--object", SECRET, "-t", "unsafe", "-f", "raw", "-O", case.driver];
    if case.compressed {
        arguments.push("-c");
    }
    if !case.options.is_empty() {
        arguments.extend(["-o", &case.options]);
    }
    arguments.extend([text(raw), text(&image)]);
    if case.driver == "qcow" && case.compressed {
        // qemu-img 10 writes it whole and then exits with 1, without a word.
        Command::new("qemu-img").args(&arguments).status().unwrap();
    } else {
        qemu_img(&arguments);
    }
    let file = Arc::new(FileSource::open(&image).unwrap());
    // What is raw may hold anything, and these do not say what they are.
    if case.format != Format::Raw {
        assert_eq!(disk::probe(&file).unwrap(), case.format);
    }
    let gate = gate(image.parent().unwrap(), &image);
    let opened = match (disk::open(file.clone(), case.format, &gate), case.refused) {
        (Ok(opened), None) => opened,
        (Err(error), Some(kind)) => return assert_eq!(error.kind(), kind, "{error}"),
        (Ok(_), Some(_)) => panic!("the file is opened"),
        (Err(error), None) => panic!("the file is not opened: {error}"),
    };
    let copy = PathBuf::from(format!("{}.copy", text(&image)));
    let options = image_options(case, &image);
    qemu_img(&["convert", "--object", SECRET, "-t", "unsafe", "--image-opts", "-O", "raw", &options, text(&copy)]);
    let copied = FileSource::open(&copy).unwrap();
    assert_eq!(opened.disk.len(), copied.len(), "the length of the disk");
    let bytes = read_all(&*opened.disk, 300_001).unwrap();
    assert!(bytes == read_all(&copied, 1 << 20).unwrap(), "the bytes differ from what qemu-img reads");
    check_extents(&*opened.disk, &bytes);
    let found = disk::compare(&*opened.disk, &FileSource::open(raw).unwrap(), &CompareOptions::default()).unwrap();
    assert!(found.same_content(), "{found:?}");
    let report = disk::check(file, case.format, &gate, &CheckOptions { threads: 1, progress: None }).unwrap();
    assert!(report.is_sound(), "{report:?}");
}

#[test]
fn all_that_qemu_img_creates_is_read_as_qemu_img_reads_it() {
    let folder = Folder::new();
    // A sector, a disk that ends inside every cluster, one of zeros only, one of several tables of small clusters.
    let disks: Vec<_> = [(512, 1), ((1 << 20) + 3 * 512, 2), (3 << 20, 0), ((7 << 20) + 512, 3)]
        .iter()
        .map(|(size, seed)| {
            let bytes = if *seed == 0 { vec![0; *size] } else { seeded_disk(*size, *seed) };
            folder.write(&format!("{seed}.raw"), &bytes)
        })
        .collect();
    let matrix = matrix();
    let mut tries = Vec::new();
    for (number, case) in matrix.iter().enumerate() {
        tries.push((case, &disks[3]));
        if number % 8 < 3 {
            tries.push((case, &disks[number % 8]));
        }
    }
    let next = AtomicUsize::new(0);
    let faults = std::sync::Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((case, disk)) = tries.get(number) else { return };
                    let tried = std::panic::catch_unwind(|| try_case(case, disk));
                    if let Err(panic) = tried {
                        let said = panic.downcast_ref::<String>().cloned();
                        let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
                        let compressed = if case.compressed { " -c" } else { "" };
                        let name = format!("{} {}{compressed} of {}", case.driver, case.options, disk.display());
                        faults.lock().unwrap().insert(name, said.unwrap_or_default());
                    }
                }
            });
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{} of {} differ: {faults:#?}", faults.len(), tries.len());
}
