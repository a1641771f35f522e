//! COWD and seSparse extents, crafted here because no free tool writes them; qemu-img reads them by their descriptors.

use std::path::Path;

use disk::ErrorKind::{self, Corrupt, TooLarge, Unsupported, WrongFormat};
use disk::{FileSource, Format, probe};

use super::open_set;
use crate::common::{Folder, check_extents, open_file, qemu_img, read_all, seeded_disk, text};

const SECTOR: usize = 512;

/// Without the comment, qemu-img takes the line twice, because it reads on from the empty line before it.
pub(super) fn descriptor(create_type: &str, line: &str) -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"{create_type}\"\n\n# Extent\n{line}\n"
    )
}

fn put(bytes: &mut Vec<u8>, at: usize, value: &[u8]) {
    if bytes.len() < at + value.len() {
        bytes.resize(at + value.len(), 0);
    }
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Returns the grains of `disk` that are not zero, the last ones first, so that none lies where it would by itself.
fn grains(disk: &[u8], grain: usize) -> Vec<(usize, &[u8])> {
    let stored = disk.chunks(grain).enumerate().filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0));
    let mut grains: Vec<_> = stored.collect();
    grains.reverse();
    grains
}

/// Header, directory, then tables and grains as they were allocated.
pub(super) fn cow_disk(disk: &[u8], grain: usize) -> Vec<u8> {
    let tables = disk.len().div_ceil(grain * 4096);
    let mut file = b"COWD".to_vec();
    let fields = [1, 3, disk.len() / SECTOR, grain / SECTOR, 4, tables];
    for (at, value) in (4..).step_by(4).zip(fields) {
        put(&mut file, at, &(value as u32).to_le_bytes());
    }
    file.resize((4 * SECTOR + tables * 4).next_multiple_of(SECTOR), 0);
    for (index, bytes) in grains(disk, grain) {
        let entry = 4 * SECTOR + index / 4096 * 4;
        let mut table = u32::from_le_bytes(file[entry..entry + 4].try_into().unwrap()) as usize * SECTOR;
        if table == 0 {
            table = file.len();
            file.resize(table + 4096 * 4, 0);
            put(&mut file, entry, &((table / SECTOR) as u32).to_le_bytes());
        }
        let sector = (file.len() / SECTOR) as u32;
        put(&mut file, table + index % 4096 * 4, &sector.to_le_bytes());
        file.extend(bytes);
        file.resize(file.len().next_multiple_of(SECTOR), 0);
    }
    file
}

/// Where the parts of the extents made here lie, in sectors.
const DIRECTORY: usize = 16;
const TABLES: usize = 32;

/// Headers, directory, tables, and grains whose numbers begin at `first`.
pub(super) fn se_sparse(disk: &[u8], first: usize) -> Vec<u8> {
    let count = disk.len().div_ceil(4096 * 4096);
    let data = TABLES + count * 64;
    let mut file = Vec::new();
    for (at, value) in [
        (0, 0xcafe_babe_u64),
        (8, 0x2_0000_0001),
        (16, (disk.len() / SECTOR) as u64),
        (24, 8),
        (32, 64),
        (80, 1),
        (88, 1),
        (128, DIRECTORY as u64),
        (136, 16),
        (144, TABLES as u64),
        (152, (count * 64) as u64),
        (192, data as u64),
        (SECTOR, 0xcafe_cafe),
    ] {
        put(&mut file, at, &value.to_le_bytes());
    }
    file.resize(data * SECTOR, 0);
    for (number, (index, bytes)) in (first..).zip(grains(disk, 4096)) {
        // Tables are counted from the end, too.
        let table = count - 1 - index / 4096;
        put(&mut file, DIRECTORY * SECTOR + index / 4096 * 8, &((0x1000_0000 << 32) | table as u64).to_le_bytes());
        let entry = (3 << 60) | ((number as u64 & 0xfff) << 48) | (number as u64 >> 12);
        put(&mut file, TABLES * SECTOR + (table * 4096 + index % 4096) * 8, &entry.to_le_bytes());
        put(&mut file, data * SECTOR + number * 4096, bytes);
    }
    file.resize(file.len().next_multiple_of(SECTOR), 0);
    // Of the grains that are not stored, some are unmapped and some zero by their entries.
    for table in 0..count {
        for entry in (0..4096).step_by(3) {
            let at = TABLES * SECTOR + (table * 4096 + entry) * 8;
            if file[at..at + 8] == [0; 8] {
                file[at + 7] = 0x10 << (entry % 2);
            }
        }
    }
    file
}

/// Checks that the set reads as it should, and as qemu-img reads it.
fn check(folder: &Folder, create_type: &str, kind: &str, extent: &[u8], expected: &[u8]) {
    std::fs::write(folder.path("x-delta.vmdk"), extent).unwrap();
    let text_of = descriptor(create_type, &format!("RW {} {kind} \"x-delta.vmdk\"", expected.len() / SECTOR));
    let opened = open_set(text_of.as_bytes(), folder, &["x-delta.vmdk"]).unwrap();
    assert_eq!(opened.variant, create_type);
    assert!(read_all(&*opened.disk, 300_001).unwrap() == expected);
    let data = check_extents(&*opened.disk, expected);
    assert!(data < expected.len() as u64);
    let (path, raw) = (folder.path("x.vmdk"), folder.path("raw"));
    std::fs::write(&path, &text_of).unwrap();
    qemu_img(&["convert", "-f", "vmdk", "-O", "raw", text(&path), text(&raw)]);
    let found = std::fs::read(&raw).unwrap();
    assert_eq!(found.len(), expected.len());
    assert_eq!((0..found.len()).find(|at| found[*at] != expected[*at]), None, "qemu-img reads something else");
    // An extent alone is known for what it is, and not opened.
    let alone: &Path = &folder.path("x-delta.vmdk");
    assert_eq!(probe(&FileSource::open(alone).unwrap()).unwrap(), Format::Vmdk);
    let error = open_file(alone, Format::Vmdk).unwrap_err();
    assert_eq!(error.kind(), Unsupported);
    assert!(error.hint().unwrap().contains("--extent"));
}

#[test]
fn cow_disks() {
    let folder = Folder::new();
    for (size, grain) in [(3 << 20, 512), ((40 << 20) + 512, 4096), (5 << 20, 65536), (512, 512)] {
        let mut disk = vec![0; size];
        let seeded = seeded_disk(size.min(7 << 20), grain as u64);
        disk[..seeded.len()].copy_from_slice(&seeded);
        disk[size - 1] = u8::from(size > 512);
        if size == 512 {
            disk.fill(0);
        }
        let extent = cow_disk(&disk, grain);
        check(&folder, "vmfsSparse", "VMFSSPARSE", &extent, &disk);
        // Descriptors of old servers also call it so.
        check(&folder, "twoGbMaxExtentSparse", "SPARSE", &extent, &disk);
    }
}

#[test]
fn se_sparse_disks() {
    let folder = Folder::new();
    for (size, first) in [(3 << 20, 0), ((40 << 20) + 4096, 4090), (5 << 20, 9000)] {
        let disk = seeded_disk(size, first as u64 + 3);
        check(&folder, "seSparse", "SESPARSE", &se_sparse(&disk, first), &disk);
    }
}

/// Checks that a set of this extent fails, saying in which file and why.
#[track_caller]
fn fails(kind: &str, extent: &[u8], error_kind: ErrorKind, says: &str) {
    let folder = Folder::new();
    std::fs::write(folder.path("x"), extent).unwrap();
    let line = format!("RW {} {kind} \"x\"", DAMAGED / SECTOR);
    let error = open_set(descriptor("custom", &line).as_bytes(), &folder, &["x"]).map(|_| ()).expect_err(says);
    assert_eq!(error.kind(), error_kind, "{error}");
    assert!(error.to_string().contains(says) && error.to_string().contains("\"x\""), "{error} says not {says:?}");
}

/// Three tables long, in both.
const DAMAGED: usize = 40 << 20;

#[test]
fn damaged_cow_disks() {
    let cow = cow_disk(&seeded_disk(DAMAGED, 6), 4096);
    let cow_fails = |at: usize, value: u32, kind: ErrorKind, says: &str| {
        let mut extent = cow.clone();
        put(&mut extent, at, &value.to_le_bytes());
        fails("VMFSSPARSE", &extent, kind, says);
    };
    let le32 = |at: usize| u32::from_le_bytes(cow[at..at + 4].try_into().unwrap());
    cow_fails(0, 1, WrongFormat, "magic number of COWD");
    cow_fails(4, 2, Unsupported, "COWD version 2");
    cow_fails(12, 1, Corrupt, "its header 512");
    cow_fails(12, u32::MAX, Corrupt, "a directory of 3 entries");
    cow_fails(16, 0, Unsupported, "COWD grains of 0 bytes");
    cow_fails(16, 12, Unsupported, "COWD grains of 6144 bytes");
    cow_fails(20, u32::MAX, Corrupt, "the grain directory");
    cow_fails(20, 0, Corrupt, "already in use");
    cow_fails(24, 1, Corrupt, "a directory of 1 entries");
    cow_fails(24, u32::MAX, Corrupt, "the grain directory");
    cow_fails(2048, le32(2052), Corrupt, "already in use");
    cow_fails(2048, 4, Corrupt, "already in use");
    cow_fails(2048, u32::MAX, Corrupt, "a grain table");
    let table = le32(2048) as usize * SECTOR;
    let entry = (table..).step_by(4).find(|at| le32(*at) != 0).unwrap();
    cow_fails(entry, 2, Corrupt, "among the tables");
    cow_fails(entry, le32(2052), Corrupt, "already in use");
    cow_fails(entry, u32::MAX, Corrupt, "the file ends");
    fails("VMFSSPARSE", &cow[..2047], Corrupt, "the COWD header");
    fails("VMFSSPARSE", &cow[..cow.len() - 512], Corrupt, "the file ends");
}

#[test]
fn damaged_se_sparse_disks() {
    let sesparse = se_sparse(&seeded_disk(DAMAGED, 6), 0);
    let se_fails = |at: usize, value: u64, kind: ErrorKind, says: &str| {
        let mut extent = sesparse.clone();
        put(&mut extent, at, &value.to_le_bytes());
        fails("SESPARSE", &extent, kind, says);
    };
    let le64 = |at: usize| u64::from_le_bytes(sesparse[at..at + 8].try_into().unwrap());
    se_fails(0, 0, WrongFormat, "magic number of seSparse");
    for (at, value) in [(8, 3), (24, 16), (32, 128), (40, 1)] {
        se_fails(at, value, Unsupported, "seSparse version");
    }
    se_fails(48, 1, Unsupported, "not known");
    se_fails(504, 1, Unsupported, "not known");
    se_fails(16, u64::MAX, Corrupt, "capacity");
    se_fails(16, 1 << 50, TooLarge, "over 16 MiB");
    se_fails(16, 1 << 35, Corrupt, "a directory of 1024 entries");
    se_fails(80, u64::MAX, Corrupt, "volatile header");
    se_fails(80, 0, Corrupt, "no magic number");
    se_fails(SECTOR + 24, 1, Unsupported, "journal");
    se_fails(128, 1 << 40, Corrupt, "the grain directory");
    se_fails(136, u64::MAX, Corrupt, "the grain directory");
    se_fails(144, 1 << 40, Corrupt, "grain table");
    se_fails(152, 64, Corrupt, "there are 1 grain tables");
    se_fails(192, 1 << 50, Corrupt, "the file ends");
    se_fails(192, u64::MAX, Corrupt, "first grain");
    let first = DIRECTORY * SECTOR;
    se_fails(first, le64(first + 8), Corrupt, "already in use");
    for wrong in [1, 0x1000_0000_0000_0003, 0x1000_0000_ffff_ffff, 0x2000_0000_0000_0000, u64::MAX] {
        se_fails(first, wrong, Corrupt, "the grain directory has");
    }
    let entry = (TABLES * SECTOR..).step_by(8).find(|at| le64(*at) >> 60 == 3).unwrap();
    se_fails(entry, le64(entry) & (u64::MAX >> 4), Corrupt, "the table has");
    se_fails(entry, 0x4000_0000_0000_0000, Corrupt, "the table has");
    se_fails(entry, u64::MAX, Corrupt, "the table has");
    se_fails(entry, 0x3fff_ffff_ffff_ffff, Corrupt, "the table has");
    se_fails(entry, 0x3000_0000_0100_0000, Corrupt, "the file ends");
    let other = (entry + 8..).step_by(8).find(|at| le64(*at) >> 60 == 3).unwrap();
    se_fails(entry, le64(other), Corrupt, "already in use");
}
