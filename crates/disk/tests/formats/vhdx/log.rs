//! VHDX files that were not closed: their logs as qemu-img replays them in a copy, and logs that are refused.

use super::image::{BLOCKS, Change, HEADERS, Image, SECTOR, entry, summed};
use crate::common::Stopwatch;
use crate::common::{Folder, open_bytes, qemu_img, text};
use disk::ErrorKind::{Corrupt, TooLarge, Unsupported};
use disk::Format;

/// The first sector of the block allocation table with entries in another order: block `order[i]` is put at `i`.
fn bat(image: &Image, order: &[usize]) -> Vec<u8> {
    let mut sector = image.0[image.bat()..][..SECTOR].to_vec();
    for (index, from) in order.iter().enumerate() {
        sector[index * 8..index * 8 + 8].copy_from_slice(&image.0[image.bat() + from * 8..][..8]);
    }
    sector
}

fn moved(image: &Image, order: &[usize]) -> Change {
    Change::Data(image.bat(), bat(image, order))
}

/// Returns the disk whose blocks are those of `image` in another order.
fn blocks(image: &Image, order: &[usize]) -> Vec<u8> {
    let disk = image.read().unwrap();
    let parts: Vec<_> = disk.chunks(1 << 20).collect();
    order.iter().flat_map(|block| parts[*block].to_vec()).collect()
}

/// Checks that the image reads as the copy that qemu-img has repaired, and that it reads in order `order`.
fn check(dirty: &Image, order: &[usize], entries: usize) {
    let folder = Folder::new();
    let (copy, raw) = (folder.path("copy"), folder.path("raw"));
    std::fs::write(&copy, &dirty.0).unwrap();
    qemu_img(&["check", "-f", "vhdx", "-r", "all", text(&copy)]);
    qemu_img(&["convert", "-f", "vhdx", "-O", "raw", text(&copy), text(&raw)]);
    let read = dirty.read().unwrap();
    assert!(read == std::fs::read(raw).unwrap(), "qemu-img replays another log");
    assert!(read == blocks(&Image::new(), order), "the disk is not {order:?}");
    let notes = open_bytes(dirty.0.clone(), Format::Vhdx).unwrap().notes;
    assert!(notes[0].contains(&format!("{entries} entries")), "{notes:?}");
}

#[test]
fn one_entry() {
    let image = Image::new();
    check(&image.clone().with_log(&[(0, entry(1, 0, &[moved(&image, &[2, 0, 1])]))]), &[2, 0, 1], 1);
    // Round the end of the ring, and behind what older sessions and half written entries left.
    let last = image.le32(HEADERS[0] + 68) / SECTOR - 1;
    let mut old = entry(9, 4, &[moved(&image, &[0, 0, 0])]);
    old[32..48].fill(7);
    let mut torn = entry(8, 8, &[moved(&image, &[1, 1, 1])]);
    torn[SECTOR + 100] ^= 1;
    let wrapped = entry(1 << 40, last, &[Change::Zero(image.bat() as u64, 8192), moved(&image, &[1, 2, 0])]);
    check(&image.clone().with_log(&[(4, summed(old)), (8, torn), (last, wrapped)]), &[1, 2, 0], 1);
}

#[test]
fn several_entries() {
    let image = Image::new();
    let bat = image.bat();
    let zeros = (0..100).map(|_| Change::Zero(bat as u64 + 4096, 4096));
    let many: Vec<_> = zeros.chain([moved(&image, &[1, 0, 2])]).collect();
    let metadata = image.metadata() + (64 << 10);
    let log = [
        (3, entry(5, 3, &[moved(&image, &[0, 0, 0]), Change::Zero(bat as u64, 4096)])),
        (5, entry(6, 3, &many)),
        (7, entry(7, 3, &[])),
        (8, entry(8, 3, &[moved(&image, &[2, 1, 0]), Change::Data(metadata, image.0[metadata..][..SECTOR].to_vec())])),
        // Older than the others.
        (100, entry(4, 100, &[moved(&image, &[1, 1, 1])])),
    ];
    check(&image.clone().with_log(&log), &[2, 1, 0], 4);
}

/// Here qemu-img differs: it replays also what the last entry no longer needs, no sequence round the end of the ring, and
/// no entry whose descriptors take more than one sector.
#[test]
fn sequences_as_the_specification_has_them() {
    let image = Image::new();
    let last = image.le32(HEADERS[0] + 68) / SECTOR - 1;
    let done = (0, entry(1, 0, &[Change::Data(image.metadata(), vec![0xee; SECTOR])]));
    let rest = [(2, entry(2, 2, &[moved(&image, &[1, 1, 1])])), (4, entry(3, 2, &[]))];
    // The block table would name one block three times.
    let dirty = image.clone().with_log(&[std::slice::from_ref(&done), &rest[..]].concat());
    dirty.fails(Corrupt, "already in use");
    let rest = [(2, entry(2, 2, &[moved(&image, &[1, 0, 2])])), (4, entry(3, 2, &[]))];
    let dirty = image.clone().with_log(&[&[done], &rest[..]].concat());
    assert!(dirty.read().unwrap() == blocks(&image, &[1, 0, 2]));

    let zeros = (0..300).map(|_| Change::Zero(image.bat() as u64 + 4096, 4096));
    let many: Vec<_> = zeros.chain([moved(&image, &[2, 1, 0])]).collect();
    assert!(image.clone().with_log(&[(7, entry(1, 7, &many))]).read().unwrap() == blocks(&image, &[2, 1, 0]));

    let round = [
        (last - 1, entry(7, last - 1, &[moved(&image, &[0, 0, 1])])),
        (0, entry(8, last - 1, &[moved(&image, &[0, 2, 1])])),
        (2, entry(9, last - 1, &[])),
    ];
    assert!(image.clone().with_log(&round).read().unwrap() == blocks(&image, &[0, 2, 1]));
    // Without its first entry, it is no sequence; an older one that is whole is taken.
    image.clone().with_log(&round[1..]).fails(Corrupt, "no whole sequence");
    let older = (30, entry(3, 30, &[moved(&image, &[1, 2, 0])]));
    let dirty = image.clone().with_log(&[round[1].clone(), round[2].clone(), older]);
    assert!(dirty.read().unwrap() == blocks(&image, &[1, 2, 0]));
    assert_eq!(blocks(&image, &[0]).len() * BLOCKS, image.read().unwrap().len());
}

#[test]
fn logs_that_reach_where_they_must_not() {
    let image = Image::new();
    let len = image.0.len();
    let log = image.le64(HEADERS[0] + 72) as u64;
    let zero = |offset: u64, length: u64| {
        let changes = [moved(&image, &[0, 1, 2]), Change::Zero(offset, length)];
        image.clone().with_log(&[(0, entry(1, 0, &changes))])
    };
    zero(len as u64, 4096).fails(Corrupt, "a change in the log needs 4096 bytes");
    zero(0x10_0000_0000_0000, 4096).fails(Corrupt, "the file ends at byte");
    zero(4096, 1 << 63).fails(Corrupt, "the file ends at byte");
    zero(u64::MAX << 12, u64::MAX << 12).fails(Corrupt, "the file ends at byte");
    zero(0, 4096).fails(Corrupt, "where the headers or the log itself lie");
    zero(HEADERS[1] as u64, 4096).fails(Corrupt, "where the headers or the log itself lie");
    zero(188 << 10, 8192).fails(Corrupt, "where the headers or the log itself lie");
    zero(log, 4096).fails(Corrupt, "where the headers or the log itself lie");
    zero(log - 4096, 8192).fails(Corrupt, "where the headers or the log itself lie");
    let data = [Change::Data(len, vec![1; SECTOR])];
    image.clone().with_log(&[(0, entry(1, 0, &data))]).fails(Corrupt, "a change in the log");
    // The region tables are changed through the log; here they end up empty.
    zero(192 << 10, 128 << 10).fails(Corrupt, "neither region table");
    zero(192 << 10, 64 << 10).read().unwrap();
    zero(image.metadata() as u64, 4096).fails(Corrupt, "no metadata table");
}

#[test]
fn logs_that_are_no_logs() {
    let image = Image::new();
    let with = |entry: Vec<u8>| image.clone().with_log(&[(0, entry)]);
    let good = || entry(1, 0, &[moved(&image, &[1, 0, 2]), Change::Zero(image.bat() as u64 + 4096, 4096)]);
    let no_sequence = "no whole sequence";
    image.clone().with_log(&[]).fails(Corrupt, no_sequence);
    with(entry(0, 0, &[])).fails(Corrupt, no_sequence);
    with(entry(1, 1, &[])).fails(Corrupt, no_sequence);
    // Each field in turn, with the right sum: signature, length, tail, sequence, count, mark, descriptors, data.
    let last = good().len() - 1;
    for at in [0, 8, 9, 12, 15, 16, 24, 27, 32, 64, 80, 88, 96, 97, 104, 112, 120, SECTOR, SECTOR + 4, last] {
        let mut wrong = good();
        wrong[at] ^= 0x11;
        with(summed(wrong)).fails(Corrupt, no_sequence);
    }
    let mut wrong = good();
    wrong[4] ^= 1;
    with(wrong).fails(Corrupt, no_sequence);
    let mut cut = good();
    cut[48..56].copy_from_slice(&(1_u64 << 40).to_le_bytes());
    with(summed(cut)).fails(Corrupt, "the log was written to a file of 1099511627776 bytes");
    with(good()).both(HEADERS, 64, &[1, 0]).fails(Unsupported, "log version 1");
    // The version is of no account if there is nothing to replay.
    image.clone().both(HEADERS, 64, &[1, 0]).read().unwrap();
}

#[test]
fn a_log_too_large_to_replay() {
    let image = Image::new();
    let mut bytes = image.0.clone();
    let log = bytes.len().next_multiple_of(1 << 20);
    bytes.resize(log + (65 << 20), 0);
    let offset = (log as u64).to_le_bytes();
    let large = Image(bytes).both(HEADERS, 68, &(65_u32 << 20).to_le_bytes()).both(HEADERS, 72, &offset);
    assert_eq!(large.read().unwrap(), image.read().unwrap());
    large.with_log(&[]).fails(TooLarge, "68157440 bytes");
}

/// A log full of descriptors that lie over one another is replayed soon or refused.
#[test]
fn a_log_of_nothing_but_descriptors() {
    let image = Image::new();
    let bat = image.bat() as u64;
    let sectors = image.le32(HEADERS[0] + 68) / SECTOR;
    let zero = |number| Change::Zero(bat + 4096 * (number % 200 + 1), 4096);
    let changes: Vec<_> = (0..sectors as u64 * 128 - 2).map(zero).collect();
    let full = image.clone().with_log(&[(0, entry(1, 0, &changes))]);
    let started = Stopwatch::start();
    assert_eq!(full.read().unwrap(), image.read().unwrap());
    assert!(started.elapsed().as_secs() < 2, "{:?}", started.elapsed());
}
