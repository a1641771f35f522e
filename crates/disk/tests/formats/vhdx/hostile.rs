//! VHDX files that are refused, each for its own reason, by a message that names the thing.

use std::sync::Arc;

use super::image::{HEADERS, Image, REGIONS};
use crate::common::Stopwatch;
use disk::ErrorKind::{Corrupt, Refused, TooLarge, Unsupported, WrongFormat};
use disk::{Deny, Format, Given};

const MIB: u64 = 1 << 20;

#[test]
fn headers() {
    let image = Image::new();
    image.clone().set(0, b"x").fails(WrongFormat, "signature");
    let broken = |image: &Image, header: usize| image.clone().set(HEADERS[header] + 100, &[1]);
    broken(&broken(&image, 0), 1).fails(Corrupt, "neither header");
    // One sound header is enough, whichever it is.
    assert_eq!(broken(&image, 0).read().unwrap(), image.read().unwrap());
    assert_eq!(broken(&image, 1).read().unwrap(), image.read().unwrap());
    let same = image.both(HEADERS, 8, &7_u64.to_le_bytes());
    same.clone().set(HEADERS[0] + 16, &[0xab; 16]).summed().fails(Corrupt, "one sequence number and differ");
    let header = same.0[HEADERS[0]..HEADERS[0] + 4096].to_vec();
    same.clone().set(HEADERS[1], &header).read().unwrap();

    let image = Image::new();
    image.clone().both(HEADERS, 66, &[2, 0]).fails(Unsupported, "VHDX version 2");
    let log = |offset: u64, length: u32| {
        image.clone().both(HEADERS, 72, &offset.to_le_bytes()).both(HEADERS, 68, &length.to_le_bytes())
    };
    log(MIB, 0).read().unwrap();
    log(0, 1 << 20).fails(Corrupt, "the log has 1048576 bytes at byte 0");
    log(MIB + 4096, 1 << 20).fails(Corrupt, "whole MiB");
    log(MIB, 4096).fails(Corrupt, "whole MiB");
    log(MIB, 0xfff0_0000).fails(Corrupt, "the log needs 4293918720 bytes");
    log(u64::MAX << 20, 1 << 20).fails(Corrupt, "the log needs");
    log(image.bat() as u64, 1 << 20).fails(Corrupt, "overlaps another structure");
}

/// The newer of two sound headers is in force.
#[test]
fn the_newer_header() {
    let image = Image::new();
    for newer in 0..2 {
        let image = image.clone().set(HEADERS[newer] + 8, &u64::MAX.to_le_bytes()).summed();
        image.clone().set(HEADERS[1 - newer] + 66, &[9]).summed().read().unwrap();
        image.set(HEADERS[newer] + 66, &[9]).summed().fails(Unsupported, "VHDX version 9");
    }
}

#[test]
fn region_tables() {
    let image = Image::new();
    let broken = |image: &Image, table: usize| image.clone().set(REGIONS[table] + 60_000, &[1]);
    broken(&broken(&image, 0), 1).fails(Corrupt, "neither region table");
    assert_eq!(broken(&image, 0).read().unwrap(), image.read().unwrap());
    assert_eq!(broken(&image, 1).read().unwrap(), image.read().unwrap());
    broken(&image, 1).summed().fails(Corrupt, "region tables of the VHDX differ");

    let set = |at: usize, bytes: &[u8]| image.clone().both(REGIONS, at, bytes);
    set(8, &2048_u32.to_le_bytes()).fails(Corrupt, "2048 entries");
    set(8, &u32::MAX.to_le_bytes()).fails(Corrupt, "4294967295 entries");
    set(8, &1_u32.to_le_bytes()).fails(Corrupt, "no metadata region");
    set(8, &0_u32.to_le_bytes()).fails(Corrupt, "no block allocation table");
    set(32, &0_u64.to_le_bytes()).fails(Corrupt, "whole MiB");
    set(32, &(MIB + 512).to_le_bytes()).fails(Corrupt, "whole MiB");
    set(32, &MIB.to_le_bytes()).fails(Corrupt, "overlaps");
    set(32, &(1_u64 << 50).to_le_bytes()).fails(Corrupt, "the file ends at byte");
    set(40, &u32::MAX.to_le_bytes()).fails(Corrupt, "whole MiB");
    set(40, &0xfff0_0000_u32.to_le_bytes()).fails(Corrupt, "the file ends at byte");
    set(40, &0_u32.to_le_bytes()).fails(Corrupt, "the block allocation table has 0 bytes");
    set(64, &(image.bat() as u64).to_le_bytes()).fails(Corrupt, "overlaps another structure");
    let first = image.0[REGIONS[0] + 16..][..32].to_vec();
    set(48, &first).fails(Corrupt, "twice");

    let third = |required: u8| {
        let end = image.0.len().next_multiple_of(1 << 20);
        let mut bytes = image.0.clone();
        bytes.resize(end + (1 << 20), 0);
        let entry = [&[7; 16][..], &(end as u64).to_le_bytes(), &(1_u32 << 20).to_le_bytes(), &[required, 0, 0, 0]];
        Image(bytes).both(REGIONS, 8, &3_u32.to_le_bytes()).both(REGIONS, 80, &entry.concat())
    };
    third(0).read().unwrap();
    third(1).fails(Unsupported, "requires the region 07070707-0707-0707-0707-070707070707");
}

#[test]
fn metadata() {
    let image = Image::new();
    let table = image.metadata();
    image.clone().set(table, b"x").fails(Corrupt, "no metadata table");
    image.clone().set(table + 10, &2048_u16.to_le_bytes()).fails(Corrupt, "2048 entries");
    image.clone().set(table + 10, &4_u16.to_le_bytes()).fails(Corrupt, "physical sector size is missing");
    let (parameters, value) = image.item(0);
    image.clone().set(parameters, &[9]).fails(Unsupported, "requires the metadata item");
    image.clone().set(parameters, &[9]).set(parameters + 24, &[0]).fails(Corrupt, "file parameters is missing");
    image.clone().set(parameters + 24, &[5]).fails(Unsupported, "requires the metadata item");
    image.clone().set(parameters + 24, &[0]).read().unwrap();
    let (size, size_value) = image.item(1);
    let first = image.0[parameters..parameters + 32].to_vec();
    image.clone().set(size, &first).fails(Corrupt, "twice");
    let place = |offset: u32, length: u32| {
        image.clone().set(size + 16, &offset.to_le_bytes()).set(size + 20, &length.to_le_bytes())
    };
    place(64 << 10, 8).fails(Corrupt, "two items of the metadata overlap");
    place(100, 8).fails(Corrupt, "behind the table");
    place(0, 0).fails(Corrupt, "0 of 8 bytes");
    place(u32::MAX, 8).fails(Corrupt, "the metadata item");
    place(128 << 10, u32::MAX).fails(Corrupt, "up to 1 MiB");
    place((1 << 20) - 4, 8).fails(Corrupt, "the metadata item");
    place(128 << 10, 4).fails(Corrupt, "4 of 8 bytes");

    for block_size in [0_u32, 1, 512 << 10, 3 << 20, 512 << 20, u32::MAX] {
        image.clone().set(value, &block_size.to_le_bytes()).fails(Corrupt, "VHDX blocks of");
    }
    let sized = |size: u64| image.clone().set(size_value, &size.to_le_bytes());
    sized(u64::MAX).fails(TooLarge, "18446744073709551615 bytes");
    sized((64 << 40) + 512).fails(TooLarge, "at most 70368744177664");
    sized(1000).fails(Corrupt, "whole sectors");
    sized(64 << 40).fails(Corrupt, "the block allocation table has 1048576 bytes, and the disk needs 537001976");
    for item in [3, 4] {
        let (_, value) = image.item(item);
        for sector in [0_u32, 1, 1024, 4097] {
            image.clone().set(value, &sector.to_le_bytes()).fails(Corrupt, "512 and 4096 are allowed");
        }
    }
    // 4 KiB sectors: the chunks are longer, the disk is the same.
    let (_, value) = image.item(3);
    assert_eq!(image.clone().set(value, &4096_u32.to_le_bytes()).read().unwrap(), image.read().unwrap());
}

#[test]
fn blocks() {
    let image = Image::new();
    let bat = image.bat();
    let set = |block: usize, entry: u64| image.clone().set(bat + block * 8, &entry.to_le_bytes());
    let first = image.le64(bat) as u64;
    assert_eq!(first & 7, 6);
    set(1, first).fails(Corrupt, "already in use");
    set(1, 6).fails(Corrupt, "is 0x6");
    set(1, MIB | 6).fails(Corrupt, "already in use");
    set(1, bat as u64 | 6).fails(Corrupt, "already in use");
    set(1, image.metadata() as u64 | 6).fails(Corrupt, "already in use");
    set(1, 1 << 50 | 6).fails(Corrupt, "the block of disk byte 1048576 needs 1048576 bytes");
    set(1, u64::MAX << 20 | 6).fails(Corrupt, "the file ends at byte");
    let end = image.0.len() as u64 / MIB * MIB;
    set(1, end | 6).fails(Corrupt, "the file ends at byte");
    for state in [4, 5, 7] {
        set(1, first & !7 | state).fails(Corrupt, "which a disk without parent cannot have");
    }
    set(1, first | 8).fails(Corrupt, "cannot have");
    set(1, 1 << 19).fails(Corrupt, "cannot have");
    let mut zeroed = image.read().unwrap();
    zeroed[1 << 20..2 << 20].fill(0);
    for state in 0..4 {
        assert!(set(1, state).read().unwrap() == zeroed, "state {state}");
        // What such an entry still names is not read.
        assert!(set(1, first & !7 | state).read().unwrap() == zeroed, "state {state}");
    }
}

/// Returns an image that says it has a parent, with a locator of these keys and values.
fn differencing(list: &[(&str, &str)]) -> Image {
    let image = Image::new();
    let (mut entries, mut texts) = (Vec::new(), Vec::new());
    let base = 20 + list.len() * 12;
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    for (key, value) in list {
        let (key, value) = (utf16(key), utf16(value));
        entries.extend(((base + texts.len()) as u32).to_le_bytes());
        entries.extend(((base + texts.len() + key.len()) as u32).to_le_bytes());
        entries.extend((key.len() as u16).to_le_bytes());
        entries.extend((value.len() as u16).to_le_bytes());
        texts.extend([key, value].concat());
    }
    let locator = [&[1; 18][..], &(list.len() as u16).to_le_bytes(), &entries, &texts].concat();
    let id = *b"\x2d\x5f\xd3\xa8\x0b\xb3\x4d\x45\xab\xf7\xd3\xd8\x48\x34\xab\x0c";
    let place = [(128_u32 << 10).to_le_bytes(), (locator.len() as u32).to_le_bytes(), [4, 0, 0, 0], [0; 4]].concat();
    let (entry, table) = (image.item(5).0, image.metadata());
    let parameters = image.item(0).1;
    let image = image.set(table + 10, &[6, 0]).set(entry, &id).set(entry + 16, &place);
    image.set(table + (128 << 10), &locator).set(parameters + 4, &[2])
}

#[test]
fn parents() {
    let paths = [("parent_linkage", "{1}"), ("absolute_win32_path", r"\\?\d:\p.vhdx"), ("relative_path", r"..\p.vhdx")];
    let image = differencing(&paths);
    image.fails(Refused, r#"its parent "..\\p.vhdx""#);
    differencing(&paths[..2]).fails(Refused, r"\\\\?\\d:\\p.vhdx");
    differencing(&paths[..1]).fails(Refused, "{1}");
    differencing(&[("other", "x")]).fails(Corrupt, "names no parent");
    differencing(&[]).fails(Corrupt, "names no parent");
    let given = Given::new().with_file(r"..\p.vhdx", Arc::new(vec![0; 512]));
    let error = disk::open(Arc::new(image.0.clone()), Format::Vhdx, &given).unwrap_err();
    assert_eq!(error.kind(), Unsupported);
    let hint = disk::open(Arc::new(image.0.clone()), Format::Vhdx, &Deny).unwrap_err();
    assert!(hint.hint().is_some());
    // The flag and the locator must agree.
    let parameters = image.item(0).1;
    image.clone().set(parameters + 4, &[0]).fails(Corrupt, "says it has none");
    Image::new().set(parameters + 4, &[2]).fails(Corrupt, "the metadata name none");
    // A locator that is cut, in each of its parts.
    let entry = image.item(5).0;
    for length in [1, 19, 20, 50, 60] {
        image.clone().set(entry + 20, &[length]).fails(Corrupt, "is cut");
    }
    let locator = image.metadata() + (128 << 10);
    image.clone().set(locator + 18, &[0xff, 0xff]).fails(Corrupt, "is cut");
    image.clone().set(locator + 20, &[0xff; 12]).fails(Corrupt, "is cut");
}

/// A locator with as many keys as fit, all of the greatest length and one over the other.
#[test]
fn a_parent_locator_that_unfolds() {
    let image = differencing(&[("parent_linkage", "{1}")]);
    let locator = image.metadata() + (128 << 10);
    let entry = [20_u32.to_le_bytes(), 20_u32.to_le_bytes(), [0xff; 4]].concat();
    let bytes = [&[0; 18][..], &[0xff, 0xff], &entry.repeat(65_535)].concat();
    let length = (bytes.len() as u32).to_le_bytes();
    // The metadata region has 1 MiB, of which the table takes the first 64 KiB.
    let image = image.clone().set(image.item(5).0 + 20, &length).set(locator, &bytes);
    let started = Stopwatch::start();
    image.fails(Corrupt, "names no parent");
    assert!(started.elapsed().as_millis() < 500, "{:?}", started.elapsed());
}

/// Cut anywhere, the file is refused, or all that the disk needs is still there.
#[test]
fn cuts() {
    let image = Image::new();
    let whole = image.read().unwrap();
    let step = image.0.len() / 60;
    let near = [7, 8, 9, 520, 65_536, 69_631, 131_072, 135_167, 262_144, 327_679, 327_680, 1 << 20];
    for length in (0..image.0.len()).step_by(step).chain(near).chain([image.0.len() - 1]) {
        let cut = Image(image.0[..length].to_vec());
        match cut.read() {
            Ok(bytes) => assert!(bytes == whole, "cut at {length}, it reads as another disk"),
            Err(error) if length < 8 => assert_eq!(error.kind(), WrongFormat),
            Err(error) => assert_eq!(error.kind(), Corrupt, "cut at {length}: {error}"),
        }
    }
}
