//! Sets of files, as qemu-img makes them and as they are seldom.

use std::sync::Arc;

use disk::{Deny, ErrorKind, ExtentKind, Format, Given, Source, probe};
use proptest::prelude::*;

use super::esx::{cow_disk, se_sparse};
use super::{open_set, options};
use crate::common::{Folder, check_extents, open_bytes, qemu, qemu_img, read_all, seeded_disk, text};

const SIZE: usize = (36 << 20) + 3 * 512;

#[test]
fn sets_of_qemu_img() {
    let folder = Folder::new();
    let bytes = seeded_disk(SIZE, 1);
    let raw = folder.write("raw", &bytes);
    for (kind, file) in [
        ("monolithicFlat", "disk-flat.vmdk"),
        ("twoGbMaxExtentFlat", "disk-f001.vmdk"),
        ("twoGbMaxExtentSparse", "disk-s001.vmdk"),
    ] {
        let image = folder.image("disk.vmdk", &raw, "vmdk", &["-o", &format!("subformat={kind}")]);
        let descriptor = std::fs::read(image).unwrap();
        assert_eq!(probe(&descriptor).unwrap(), Format::Vmdk);
        let opened = open_set(&descriptor, &folder, &[file]).unwrap();
        assert_eq!(opened.variant, kind);
        assert!(read_all(&*opened.disk, 300_001).unwrap() == bytes, "{kind}");
        let data = check_extents(&*opened.disk, &bytes);
        assert!(data < SIZE as u64, "{kind} has holes");
    }
}

/// A set is split at 2 GiB, so the disk is longer than that, and nearly empty.
#[test]
fn sets_of_several_files() {
    let folder = Folder::new();
    for (kind, letter) in [("twoGbMaxExtentFlat", 'f'), ("twoGbMaxExtentSparse", 's')] {
        let image = folder.path("disk.vmdk");
        qemu_img(&["create", "-q", "-f", "vmdk", "-o", &format!("subformat={kind}"), text(&image), "5000000512"]);
        let writes = ["write -P 1 0 1M", "write -P 2 2147000000 1000000", "write -P 3 4999999488 1024"];
        let arguments: Vec<_> = writes.iter().flat_map(|write| ["-c", write]).chain([text(&image)]).collect();
        qemu("qemu-io", &arguments);
        let names = [1, 2, 3].map(|number| format!("disk-{letter}00{number}.vmdk"));
        let descriptor = std::fs::read(&image).unwrap();
        let disk = open_set(&descriptor, &folder, &names.each_ref().map(String::as_str)).unwrap().disk;
        assert_eq!(disk.len(), 5_000_000_512);
        let mut around = vec![9; 1_000_008];
        disk.read_at(&mut around, 2_146_999_996).unwrap();
        assert!(around[..4] == [0; 4] && around[1_000_004..] == [0; 4]);
        assert!(around[4..1_000_004].iter().all(|byte| *byte == 2));
        let mut end = vec![9; 1025];
        disk.read_at(&mut end, 4_999_999_487).unwrap();
        assert!(end[0] == 0 && end[1..].iter().all(|byte| *byte == 3));
        // Holes are seen through the set; at most a few grains or blocks are data.
        let (mut offset, mut data) = (0, 0);
        while offset < disk.len() {
            let extent = disk.extent_at(offset).unwrap();
            data += if extent.kind == ExtentKind::Data { extent.length } else { 0 };
            offset = extent.end();
        }
        assert!((2_000_000..4 << 20).contains(&data), "{kind}: {data} bytes of data");
        // A file that is missing is named, with the way to give it.
        let error = open_set(&descriptor, &folder, &[&names[0], &names[2]]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert!(error.to_string().contains(&names[1]), "{error}");
        assert!(error.hint().unwrap().contains(&format!("--extent {}", names[1])));
        assert!(open_bytes(descriptor, Format::Vmdk).unwrap_err().hint().unwrap().contains("--extent"));
    }
}

fn descriptor(kind: &str, lines: &str) -> Vec<u8> {
    format!("# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"{kind}\"\n\n{lines}\n")
        .into_bytes()
}

#[test]
fn seldom_sets() {
    let folder = Folder::new();
    let bytes = seeded_disk(3 << 20, 2);
    let raw = folder.write("a b.vmdk", &bytes);
    folder.image("hosted.vmdk", &raw, "vmdk", &["-o", "subformat=monolithicSparse"]);
    // Parts of a flat file, zeros, and a sparse extent that is a disk by itself.
    let lines = "RW 4 FLAT \"a b.vmdk\" 2\nRW 3 ZERO\nRDONLY 6144 SPARSE \"hosted.vmdk\"\nRW 1 ZERO\n";
    let opened = open_set(&descriptor("custom", lines), &folder, &["a b.vmdk", "hosted.vmdk"]).unwrap();
    let expected = [&bytes[1024..3072], &[0; 1536], &bytes, &[0; 512]].concat();
    assert!(read_all(&*opened.disk, 1000).unwrap() == expected);
    check_extents(&*opened.disk, &expected);
    assert_eq!(opened.block_size, Some(65536));
    // As ESX writes it: VMFS without an offset, windows line ends.
    let lines = "RW 6144 VMFS \"a b.vmdk\"\r\n\r\nddb.thinProvisioned = \"1\"\r";
    let opened = open_set(&descriptor("vmfs", lines), &folder, &["a b.vmdk"]).unwrap();
    assert!(read_all(&*opened.disk, 1 << 20).unwrap() == bytes);
    // Nothing but zeros needs no file.
    let opened = disk::open(Arc::new(descriptor("custom", "RW 100 ZERO")), Format::Vmdk, &Deny).unwrap();
    assert_eq!(opened.disk.extent_at(5).unwrap().kind, ExtentKind::Zero);
    assert!(read_all(&*opened.disk, 1000).unwrap() == vec![0; 51_200]);
}

#[test]
fn what_a_set_may_not_name() {
    let folder = Folder::new();
    folder.write("x", &[1; 1024]);
    std::fs::write(folder.path("stream"), super::stream(Arc::new(vec![1; 1 << 20]), &[], 1).unwrap()).unwrap();
    let fails = |bytes: &[u8], kind: ErrorKind, says: &str| {
        let error = open_set(bytes, &folder, &["x", "stream"]).map(|_| ()).expect_err(says);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error:?} does not say {says:?}");
    };
    use ErrorKind::{Corrupt, Refused, TooLarge, Unsupported};
    let flat = |line: &str| descriptor("monolithicFlat", line);
    for name in ["/dev/sda", "../x", "..", ".", "a/x", "C:\\x", "x\u{1}", &"n".repeat(256), ""] {
        fails(&flat(&format!("RW 1 FLAT \"{name}\" 0")), Refused, "not a bare file name");
    }
    fails(&flat("RW 1 FLAT \"y\" 0"), Refused, "\"y\" is not one of the files");
    fails(&flat("RW 1 FLAT \"x\" 0\nRW 1 FLAT \"x\" 1"), Refused, "\"x\" twice");
    fails(&flat("RW 3 FLAT \"x\" 0"), Corrupt, "the file ends at byte 1024");
    fails(&flat("RW 1 FLAT \"x\" 2"), Corrupt, "the file ends at byte 1024");
    fails(&flat("RW 1 FLAT \"x\" 18446744073709551615"), Corrupt, "beginning");
    fails(&flat("RW 18446744073709551615 FLAT \"x\" 0"), Corrupt, "length of extent");
    fails(&flat("RW 99999999999999999999 FLAT \"x\" 0"), Corrupt, "no meaning");
    fails(&flat("RW 1 FLAT \"x"), Corrupt, "no meaning");
    fails(&flat("NOACCESS 1 FLAT \"x\" 0"), Unsupported, "without access");
    fails(&flat("RW 1 VMFSRDM \"x\""), Refused, "VMFSRDM");
    fails(&flat("RW 1 SPARSE \"x\""), ErrorKind::WrongFormat, "\"x\": the file does not begin");
    fails(&flat("RW 2048 SPARSE \"stream\""), Unsupported, "compressed");
    fails(&flat(""), Corrupt, "names no extents");
    fails(&descriptor("fullDevice", "RW 1 FLAT \"x\" 0"), Unsupported, "fullDevice");
    fails(&descriptor("", "RW 1 FLAT \"x\" 0"), Unsupported, "type \"\"");
    fails(&descriptor("custom", &"RW 9007199254740991 ZERO\n".repeat(3)), TooLarge, "too large together");
    let parent = String::from_utf8(flat("RW 1 FLAT \"x\" 0")).unwrap();
    fails(parent.replace("ffffffff", "00000001").as_bytes(), Refused, "its parent");
    fails(format!("{parent}parentFileNameHint=\"base.vmdk\"\n").as_bytes(), Refused, "base.vmdk");
    // A descriptor that names itself, under whatever name.
    let own = flat("RW 1 FLAT \"x\" 0");
    folder.write("x", &own);
    let error = open_set(&own, &folder, &["x"]).unwrap_err();
    assert!(error.to_string().contains("its own descriptor"), "{error}");
    let error = open_set(&[own, vec![b'\n'; 70_000]].concat(), &folder, &["x"]).unwrap_err();
    assert_eq!(error.kind(), TooLarge);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_mixture_of_extents_is_one_disk(
        parts in prop::collection::vec((0_usize..5, 1_usize..700, 0_usize..9), 1..7),
        seed in any::<u64>(),
        ranges in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..200_000), 20),
    ) {
        let (mut gate, mut lines, mut expected) = (Given::new(), String::from("# Extents\n"), Vec::new());
        for (number, (kind, sectors, start)) in parts.into_iter().enumerate() {
            let part = if kind == 0 { vec![0; sectors * 512] } else { seeded_disk(sectors * 512, seed ^ number as u64) };
            let (kind, file, tail) = match kind {
                0 => ("ZERO", None, String::new()),
                1 => ("FLAT", Some([&vec![9; start * 512][..], &part, &[8; 700]].concat()), format!(" {start}")),
                2 => ("VMFSSPARSE", Some(cow_disk(&part, 512 << (start % 4))), String::new()),
                3 => ("SESPARSE", Some(se_sparse(&part, start * 1000)), String::new()),
                _ => {
                    let layout = disk::layout(Arc::new(part.clone()), Format::Vmdk, &options(&[])).unwrap();
                    ("SPARSE", Some(read_all(&*layout, 1 << 20).unwrap()), String::new())
                }
            };
            lines += &format!("RW {sectors} {kind}");
            if let Some(file) = file {
                gate = gate.with_file(format!("{number}"), Arc::new(file));
                lines += &format!(" \"{number}\"{tail}");
            }
            lines += "\n";
            expected.extend(part);
        }
        let disk = disk::open(Arc::new(descriptor("custom", &lines)), Format::Vmdk, &gate).unwrap().disk;
        prop_assert_eq!(disk.len(), expected.len() as u64);
        check_extents(&*disk, &expected);
        for (start, length) in ranges {
            let start = start.index(expected.len());
            let length = length.min(expected.len() - start);
            let mut bytes = vec![0xee; length];
            disk.read_at(&mut bytes, start as u64).unwrap();
            prop_assert!(bytes == expected[start..start + length], "{} bytes at {}", length, start);
        }
        prop_assert!(disk.read_at(&mut [0; 2], expected.len() as u64 - 1).is_err());
    }
}
