//! The VHD writer, against qemu-img.

use std::sync::Arc;

use disk::{ErrorKind, Extent, ExtentKind, FileSource, Format, Source, WriteOptions};

use crate::common::{
    Folder, Numbers, Striped, check_layout, check_ranges, open_bytes, qemu_img, read_all, seeded_disk, striped, text,
};

const MIB: u64 = 1 << 20;

fn options(subformat: &str, align: &str) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set("subformat", subformat);
    if !align.is_empty() {
        options.set("align", align);
    }
    options
}

fn vhd(disk: Arc<dyn Source>, subformat: &str, align: &str) -> Arc<dyn Source> {
    disk::layout(disk, Format::Vhd, &options(subformat, align)).unwrap()
}

/// Returns the size that qemu-img takes the disk in the file for. With `,force_size_calc=chs` it goes by the geometry,
/// as versions before 10 do with files of creators that they do not know.
fn size_for_qemu(path: &std::path::Path, more: &str) -> u64 {
    let options = format!("driver=vpc,file.driver=file,file.filename={}{more}", text(path));
    let info = qemu_img(&["info", "--output=json", "--image-opts", &options]);
    // The size of the file comes before that of the disk.
    let (_, rest) = info.rsplit_once("\"virtual-size\": ").unwrap();
    rest[..rest.find(',').unwrap()].parse().unwrap()
}

/// Sizes that a geometry makes up exactly, and others: every reader must see the size that was meant.
#[test]
fn layouts_are_sound_for_qemu_img() {
    let folder = Folder::new();
    let exact = 512 * 17 * 4 * 241;
    let sizes = [0, 512, 8 * MIB as usize, exact, (33 << 20) + 512, (5 << 20) + 100];
    for (seed, size) in sizes.into_iter().enumerate() {
        let raw = folder.write("raw", &seeded_disk(size, seed as u64));
        for (subformat, align, rounded) in
            [("dynamic", "", 512), ("dynamic", "2M", 2 << 20), ("fixed", "", 1 << 20), ("fixed", "512", 512)]
        {
            if size == 0 && subformat == "fixed" {
                continue;
            }
            let source: Arc<dyn Source> = Arc::new(FileSource::open(&raw).unwrap());
            let layout = vhd(source, subformat, align);
            let path = check_layout(&folder, &raw, &*layout, Format::Vhd);
            let size = size.next_multiple_of(rounded) as u64;
            for more in ["", ",force_size_calc=chs"] {
                assert_eq!(size_for_qemu(&path, more), size, "{more}");
            }
            let opened = open_bytes(std::fs::read(&path).unwrap(), Format::Vhd).unwrap();
            assert_eq!((opened.disk.len(), opened.variant.as_str()), (size, subformat));
        }
    }
}

fn geometry(layout: &dyn Source) -> [u8; 4] {
    let mut geometry = [0; 4];
    layout.read_at(&mut geometry, layout.len() - 512 + 56).unwrap();
    geometry
}

/// qemu-img rounds a size up to what the geometry of the specification makes; for that size we must find the same one.
#[test]
fn exact_geometries_are_those_of_qemu_img() {
    let folder = Folder::new();
    let path = folder.path("vpc");
    for size in ["1M", "9M", "40M", "600M", "2G", "31G", "33G", "100G"] {
        qemu_img(&["create", "-q", "-f", "vpc", text(&path), size]);
        let file = FileSource::open(&path).unwrap();
        let disk = Striped { runs: Vec::new(), tail: size_for_qemu(&path, "") };
        assert_eq!(geometry(&*vhd(Arc::new(disk), "dynamic", "")), geometry(&file), "{size}");
    }
}

/// QEMU before version 10 believes the geometry of creators that it does not know, unless it is the largest one.
#[test]
fn the_geometry_never_cuts_the_disk() {
    let mut numbers = Numbers::new(1);
    for case in 0..2000 {
        let sectors = if case % 2 == 0 { numbers.below(1 << 32) } else { numbers.below(1 << 22) };
        let size = sectors * 512;
        if size > 2040 << 30 {
            continue;
        }
        let layout = vhd(Arc::new(Striped { runs: Vec::new(), tail: size }), "dynamic", "");
        let geometry = geometry(&*layout);
        let cylinders = u64::from(u16::from_be_bytes([geometry[0], geometry[1]]));
        let (heads, track) = (u64::from(geometry[2]), u64::from(geometry[3]));
        let largest = (cylinders, heads, track) == (65535, 16, 255);
        assert!(largest || cylinders * heads * track == sectors, "{cylinders}/{heads}/{track} for {sectors}");
    }
}

#[test]
fn a_fixed_file_is_what_azure_takes() {
    let layout = vhd(Arc::new(vec![7_u8; 1000]), "fixed", "");
    assert_eq!(layout.len(), MIB + 512);
    let bytes = read_all(&*layout, 100_000).unwrap();
    assert!(bytes[..1000].iter().all(|byte| *byte == 7) && bytes[1000..MIB as usize].iter().all(|byte| *byte == 0));
    let zeros = Extent { offset: 1000, length: MIB - 1000, kind: ExtentKind::Zero };
    assert_eq!(layout.extent_at(1000).unwrap(), zeros);
}

#[test]
fn sizes_have_a_limit() {
    let empty = |tail| Arc::new(Striped { runs: Vec::new(), tail });
    let most = 2040 << 30;
    // Header, and a table of 4 MiB: 2 MiB blocks.
    assert_eq!(vhd(empty(most), "dynamic", "").len(), 1536 + (most >> 21) * 4 + 512);
    let file = vhd(empty(most), "fixed", "");
    assert_eq!(file.len(), most + 512);
    assert_eq!(file.extent_at(0).unwrap(), Extent { offset: 0, length: most, kind: ExtentKind::Zero });
    for subformat in ["dynamic", "fixed"] {
        for size in [most + 1, u64::MAX] {
            let error = disk::layout(empty(size), Format::Vhd, &options(subformat, "")).map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert!(error.hint().unwrap().contains("vhdx"), "{error}");
        }
    }
    let nothing = disk::layout(empty(0), Format::Vhd, &options("fixed", "")).map(|_| ()).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::Unsupported);
    let wrong = disk::layout(empty(1), Format::Vhd, &options("sparse", "")).map(|_| ()).unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Unsupported);
}

/// Data over several blocks are one extent, bitmaps included.
#[test]
fn extents_are_long() {
    let disk = Striped { runs: vec![(100 * MIB, true), (4 * MIB, false)], tail: 0 };
    let layout = vhd(Arc::new(disk), "dynamic", "");
    let tables = layout.extent_at(0).unwrap();
    let data = layout.extent_at(tables.end()).unwrap();
    assert_eq!((data.length, data.kind), (50 * (2 * MIB + 512), ExtentKind::Data));
    assert_eq!(data.end() + 512, layout.len());
}

#[test]
fn the_identity_is_that_of_the_disk() {
    let id = |data: bool, subformat: &str| {
        let disk = Striped { runs: vec![(4 * MIB, data)], tail: 0 };
        let layout = vhd(Arc::new(disk), subformat, "");
        let mut id = [0; 16];
        layout.read_at(&mut id, layout.len() - 512 + 68).unwrap();
        id
    };
    assert_eq!(id(true, "dynamic"), id(true, "dynamic"));
    let ids = [id(true, "dynamic"), id(false, "dynamic"), id(true, "fixed"), id(false, "fixed")];
    assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 4);
}

proptest::proptest! {
    #![proptest_config(crate::common::cases(12))]

    #[test]
    fn any_range_is_that_part_of_the_whole(disk in striped(3 * MIB), fixed: bool, seed: u64) {
        let layout = vhd(Arc::new(disk.clone()), if fixed && !disk.is_empty() { "fixed" } else { "dynamic" }, "512");
        check_ranges(&*layout, Format::Vhd, &disk, seed);
    }
}
