//! Overlays against qemu-img: over a base in each format, what changed and what did not are read as they should be.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use disk::{Backing, ConvertOptions, ErrorKind, FileSource, Format, Source, write_overlay};
use proptest::prelude::*;
use serde_json::Value;

use crate::common::{Folder, Numbers, open_file, qemu_img, read_all, seeded_disk, text};

/// Not a multiple of a cluster, nor of what is changed at once.
const SIZE: usize = (6 << 20) + 3 * 512;
const CLUSTER: u64 = 64 << 10;
const PAGE: usize = 4096;

/// Changes some runs of pages of `disk`, to noise or to zeros, and its last bytes; returns where, in order.
fn change(disk: &mut [u8], seed: u64, runs: usize) -> Vec<Range<u64>> {
    let mut numbers = Numbers::new(seed);
    let pages = disk.len().div_ceil(PAGE);
    let mut changed = vec![false; pages];
    changed[pages - 1] = true;
    for _ in 0..runs {
        let (first, count) = (numbers.below(pages as u64) as usize, 1 + numbers.below(40) as usize);
        let zero = numbers.below(2) == 0;
        for page in first..(first + count).min(pages) {
            changed[page] = true;
            let end = ((page + 1) * PAGE).min(disk.len());
            disk[page * PAGE..end].fill(if zero { 0 } else { numbers.next() as u8 });
        }
    }
    let pages = changed.iter().enumerate().filter(|(_, changed)| **changed);
    pages.map(|(page, _)| (page * PAGE) as u64..((page + 1) * PAGE).min(disk.len()) as u64).collect()
}

/// Writes an overlay over `base` for a disk that is `after`.
fn overlay(
    base: &Path,
    format: Format,
    after: Arc<dyn Source>,
    changes: &[Range<u64>],
    out: &Path,
) -> disk::Result<u64> {
    let backing = Backing::new(base, &open_file(base, format)?, &[], out)?;
    write_overlay(after, changes, backing, out, &ConvertOptions::default()).map(|copied| copied.bytes_total)
}

/// Checks that QEMU finds `out` sound and sees the disk `after` through it; returns what it tells of the chain.
#[track_caller]
fn check(folder: &Folder, out: &Path, after: &[u8]) -> Value {
    qemu_img(&["check", "-f", "qcow2", text(out)]);
    let raw = folder.write("after", after);
    qemu_img(&["compare", "-f", "qcow2", "-F", "raw", text(out), text(&raw)]);
    chain(out, after.len() as u64)
}

#[track_caller]
fn chain(out: &Path, size: u64) -> Value {
    let told = qemu_img(&["info", "--backing-chain", "--output", "json", text(out)]);
    let chain: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(chain[0]["virtual-size"], size.next_multiple_of(512), "{chain}");
    assert_eq!(chain.as_array().unwrap().len(), 2, "{chain}");
    chain
}

#[test]
fn over_every_format_that_qemu_reads_through() {
    let folder = Folder::new();
    let raw = folder.write("disk.raw", &seeded_disk(SIZE, 51));
    let bases: &[(Format, &str, &[&str])] = &[
        (Format::Raw, "raw", &[]),
        (Format::Qcow2, "qcow2", &["-c", "-o", "compression_type=zstd"]),
        (Format::Vmdk, "vmdk", &["-o", "subformat=monolithicSparse"]),
        (Format::Vmdk, "vmdk", &["-o", "subformat=streamOptimized"]),
        (Format::Vhd, "vpc", &[]),
        (Format::Vhd, "vpc", &["-o", "subformat=fixed,force_size=on"]),
        (Format::Vdi, "vdi", &[]),
        (Format::Vhdx, "vhdx", &[]),
        (Format::Qcow1, "qcow", &[]),
        (Format::Qed, "qed", &[]),
        (Format::Parallels, "parallels", &[]),
    ];
    for (number, (format, name, options)) in bases.iter().enumerate() {
        let base = folder.image(&format!("base-{number}"), &raw, name, options);
        let before = std::fs::read(&base).unwrap();
        let mut after = read_all(&*open_file(&base, *format).unwrap().disk, 1 << 20).unwrap();
        let changes = change(&mut after, 52 + number as u64, 6);
        let out = folder.path(&format!("out-{number}"));
        overlay(&base, *format, Arc::new(after.clone()), &changes, &out).unwrap();
        let chain = check(&folder, &out, &after);
        assert_eq!(chain[0]["backing-filename"], format!("base-{number}"), "{chain}");
        assert_eq!(chain[0]["backing-filename-format"], *name, "{chain}");
        assert_eq!(chain[1]["format"], *name, "{chain}");
        assert!(std::fs::read(&base).unwrap() == before, "{name}: the base stays as it is");
        let refused = open_file(&out, Format::Qcow2).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Refused);
        assert!(refused.to_string().contains("names the backing file \"base-"), "{refused}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_changes_of_any_disk(sectors in 1_usize..4000, seed in any::<u64>(), runs in 0_usize..12, packed in any::<bool>()) {
        let folder = Folder::new();
        let mut base = folder.write("base", &seeded_disk(sectors * 512, seed));
        let format = if packed { Format::Qcow2 } else { Format::Raw };
        if packed {
            base = folder.image("packed", &base, "qcow2", &["-c"]);
        }
        let mut after = read_all(&*open_file(&base, format).unwrap().disk, 1 << 20).unwrap();
        let changes = change(&mut after, seed ^ 1, runs);
        let out = folder.path("out");
        let length = overlay(&base, format, Arc::new(after.clone()), &changes, &out).unwrap();
        check(&folder, &out, &after);
        let mut clusters: Vec<u64> = changes.iter().map(|range| range.start / CLUSTER).collect();
        clusters.dedup();
        let inside = |cluster: &u64| (cluster * CLUSTER) as usize..after.len().min(((cluster + 1) * CLUSTER) as usize);
        clusters.retain(|cluster| after[inside(cluster)].iter().any(|byte| *byte != 0));
        prop_assert_eq!(length, (5 + clusters.len() as u64) * CLUSTER, "the tables, and what changed and is not zero");
    }
}

/// A large disk with holes and some bytes that were changed.
struct Patched {
    base: FileSource,
    patches: Vec<(u64, Vec<u8>)>,
}

impl Source for Patched {
    fn len(&self) -> u64 {
        self.base.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        self.base.read_at(buf, offset)?;
        for (at, bytes) in &self.patches {
            for (place, byte) in (*at..).zip(bytes) {
                if let Some(place) = place.checked_sub(offset).filter(|place| *place < buf.len() as u64) {
                    buf[place as usize] = *byte;
                }
            }
        }
        Ok(())
    }
}

#[test]
fn a_large_disk_has_the_tables_that_it_needs() {
    let folder = Folder::new();
    let (size, base, raw) = (5 << 30, folder.path("base"), folder.path("after"));
    let patches: Vec<(u64, Vec<u8>)> =
        [0, 3 << 29, (5 << 30) - 512].map(|at| (at, vec![7; if at == 3 << 29 { 5000 } else { 512 }])).into();
    for path in [&base, &raw] {
        File::create(path).unwrap().set_len(size).unwrap();
    }
    let file = File::options().write(true).open(&raw).unwrap();
    patches.iter().for_each(|(at, bytes)| file.write_all_at(bytes, *at).unwrap());
    let changes: Vec<_> = patches.iter().map(|(at, bytes)| *at..at + bytes.len() as u64).collect();
    let after = Patched { base: FileSource::open(&base).unwrap(), patches };
    let out = folder.path("out");
    let length = overlay(&base, Format::Raw, Arc::new(after), &changes, &out).unwrap();
    assert_eq!(length, (4 + 3 + 3) * CLUSTER, "header, refcounts, L1, and for each change a table and a cluster");
    qemu_img(&["check", "-f", "qcow2", text(&out)]);
    qemu_img(&["compare", "-f", "qcow2", "-F", "raw", text(&out), text(&raw)]);
    chain(&out, size);
}

#[test]
fn the_base_is_found_from_wherever_the_overlay_lies() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path("a/b:c")).unwrap();
    let disk = seeded_disk(1 << 20, 53);
    for (base, out, name) in [
        ("a/disk", "a/out", "disk"),
        ("a/disk", "out", "a/disk"),
        ("disk", "a/b:c/out", "../../disk"),
        ("a/b:c/disk", "a/out3", "./b:c/disk"),
        ("nbd:host:10809", "out:1", "./nbd:host:10809"),
        ("a/json:{}", "a/out2", "./json:{}"),
        ("a/a disk, with \"signs\" = ü", "a/b:c/out2", "../a disk, with \"signs\" = ü"),
    ] {
        let mut after = disk.clone();
        let changes = change(&mut after, 54, 1);
        let base = folder.write(base, &disk);
        let path: PathBuf = folder.path(out);
        overlay(&base, Format::Raw, Arc::new(after.clone()), &changes, &path).unwrap();
        // By a name that QEMU takes for no protocol either, and from the folder itself.
        let own = format!("./{}", path.file_name().unwrap().to_str().unwrap());
        let raw = folder.write("after", &after);
        let compared = Command::new("qemu-img")
            .args(["compare", "-f", "qcow2", "-F", "raw", &own, text(&raw)])
            .current_dir(path.parent().unwrap())
            .output()
            .unwrap();
        assert!(compared.status.success(), "{name}: {}", String::from_utf8_lossy(&compared.stderr));
        assert_eq!(chain(&path, 1 << 20)[0]["backing-filename"], name);
    }
}

/// QEMU sees zeros from there up to the end of the sector.
#[test]
fn a_disk_that_ends_inside_a_sector_is_whole() {
    let folder = Folder::new();
    let mut disk = seeded_disk((1 << 20) - 100, 56);
    *disk.last_mut().unwrap() = 9;
    let base = folder.write("base", &disk);
    let out = folder.path("nothing-changed");
    overlay(&base, Format::Raw, Arc::new(disk.clone()), &[], &out).unwrap();
    check(&folder, &out, &disk);
    let changes = change(&mut disk, 57, 3);
    let out = folder.path("changed");
    overlay(&base, Format::Raw, Arc::new(disk.clone()), &changes, &out).unwrap();
    check(&folder, &out, &disk);
}

struct Unreadable;

impl Source for Unreadable {
    fn len(&self) -> u64 {
        1 << 20
    }

    fn read_at(&self, _buf: &mut [u8], _offset: u64) -> disk::Result<()> {
        Err(disk::Error::corrupt("it is gone"))
    }
}

#[test]
fn what_is_there_stays_and_what_fails_leaves_nothing() {
    let folder = Folder::new();
    let disk = seeded_disk(1 << 20, 55);
    let (base, out) = (folder.write("base", &disk), folder.path("out"));
    std::fs::write(&out, "precious").unwrap();
    let after: Arc<dyn Source> = Arc::new(disk.clone());
    let names = || std::fs::read_dir(folder.path("")).unwrap().count();
    let refused = overlay(&base, Format::Raw, Arc::clone(&after), &[], &out).unwrap_err();
    assert_eq!((refused.kind(), names()), (ErrorKind::Refused, 2));
    let options = ConvertOptions { force: true, ..ConvertOptions::default() };
    let backing = |out: &Path| Backing::new(&base, &open_file(&base, Format::Raw).unwrap(), &[], out);
    write_overlay(Arc::clone(&after), &[], backing(&out).unwrap(), &out, &options).unwrap();
    check(&folder, &out, &disk);
    std::fs::remove_file(folder.path("after")).unwrap();
    assert_eq!(backing(&base).unwrap_err().kind(), ErrorKind::Refused, "not over its own base, whatever is forced");
    let failed =
        write_overlay(Arc::new(Unreadable), std::slice::from_ref(&(0..4096)), backing(&out).unwrap(), &out, &options)
            .unwrap_err();
    assert_eq!((failed.kind(), names()), (ErrorKind::Corrupt, 2));
    check(&folder, &out, &disk);
    assert!(std::fs::read(&base).unwrap() == disk);
}
