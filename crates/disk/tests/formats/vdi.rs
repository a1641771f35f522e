//! The VDI writer, against qemu-img.

use std::sync::Arc;

use disk::{ErrorKind, Extent, ExtentKind, FileSource, Format, Source, WriteOptions};

use crate::common::{Folder, Striped, check_layout, check_ranges, open_bytes, qemu_img, seeded_disk, striped, text};

const MIB: u64 = 1 << 20;

fn vdi(disk: Arc<dyn Source>, subformat: &str) -> Arc<dyn Source> {
    let mut options = WriteOptions::default();
    options.set("subformat", subformat);
    disk::layout(disk, Format::Vdi, &options).unwrap()
}

#[test]
fn layouts_are_sound_for_qemu_img() {
    let folder = Folder::new();
    for (seed, size) in [0, 512, 8 << 20, (33 << 20) + 512, (5 << 20) + 100].into_iter().enumerate() {
        let raw = folder.write("raw", &seeded_disk(size, seed as u64));
        for subformat in ["dynamic", "fixed"] {
            let source: Arc<dyn Source> = Arc::new(FileSource::open(&raw).unwrap());
            let layout = vdi(source, subformat);
            let path = check_layout(&folder, &raw, &*layout, Format::Vdi);
            let report = qemu_img(&["check", "-f", "vdi", text(&path)]);
            assert!(report.contains("No errors were found"), "{report}");
            let opened = open_bytes(std::fs::read(&path).unwrap(), Format::Vdi).unwrap();
            assert_eq!(opened.disk.len(), size.next_multiple_of(512) as u64);
            assert_eq!(opened.variant, subformat);
        }
    }
}

#[test]
fn extents_are_long_and_sizes_have_a_limit() {
    let empty = |tail| Arc::new(Striped { runs: Vec::new(), tail });
    let layout = vdi(empty(8 << 40), "dynamic");
    assert_eq!(layout.len(), 4096 + (8 << 20) * 4, "a header and a table of 32 MiB");
    let layout = vdi(empty(8 << 40), "fixed");
    assert_eq!(layout.len(), 4096 + (8 << 20) * 4 + (8 << 40));
    let data = layout.extent_at(0).unwrap().end();
    let zeros = Extent { offset: data, length: 8 << 40, kind: ExtentKind::Zero };
    assert_eq!(layout.extent_at(data).unwrap(), zeros);
    let error = disk::layout(empty((8 << 40) + 1), Format::Vdi, &WriteOptions::default()).map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.hint().unwrap().contains("qcow2"));

    let disk = Striped { runs: vec![(100 * MIB, true), (4 * MIB, false)], tail: 0 };
    let layout = vdi(Arc::new(disk), "dynamic");
    assert_eq!(layout.extent_at(4096).unwrap(), Extent { offset: 4096, length: 100 * MIB, kind: ExtentKind::Data });
}

proptest::proptest! {
    #![proptest_config(crate::common::cases(12))]

    #[test]
    fn any_range_is_that_part_of_the_whole(disk in striped(3 * MIB), fixed: bool, seed: u64) {
        let layout = vdi(Arc::new(disk.clone()), if fixed { "fixed" } else { "dynamic" });
        check_ranges(&*layout, Format::Vdi, &disk, seed);
    }
}
