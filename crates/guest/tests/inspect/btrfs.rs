//! Files on btrfs as its kernel writes them: compressed, shared, with holes; subvolumes; nodes with copies and other sums.

use std::sync::Arc;

use guest::{Browser, Entry, EntryKind};

use crate::disks::{MIB, Memory, btrfs, elf, fixture, report};
use crate::volumes::rocky;

fn lines(count: usize) -> Vec<u8> {
    (1..=count).flat_map(|number| format!("line {number:07} of a file\n").into_bytes()).collect()
}

fn browser(disk: Vec<u8>) -> Browser {
    Browser::open(Arc::new(Memory(disk))).unwrap()
}

fn paths(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.path.as_str()).collect()
}

#[test]
fn files_of_every_compression() {
    let guest = browser(fixture("btrfs-packed.zst"));
    let read = |path: &str| guest.read(path, 0, MIB * 2).unwrap();
    let mut long = lines(20_000);
    long[200_000..200_013].copy_from_slice(b"in the middle");
    let clone = [&long[131_072..131_072 + 65_536], &long[4096..8192]].concat();
    for kind in ["zlib", "lzo", "zstd"] {
        assert!(read(&format!("/{kind}/long")) == long, "{kind}");
        assert!(read(&format!("/{kind}/short")) == lines(60), "{kind}");
        assert!(read(&format!("/{kind}/clone")) == clone, "{kind}");
        // Within one extent, over the end of two, and over the end of the file.
        for (offset, most) in [(5, 10), (131_070, 5), (199_999, 20), (262_000, 131_200), (459_990, 100)] {
            let part = guest.read(&format!("/{kind}/long"), offset as u64, most).unwrap();
            assert!(part == long[offset..long.len().min(offset + most)], "{kind} {offset}");
        }
    }
    assert!(read("/plain/long") == lines(3000) && read("/zlib/link") == lines(30));
    let mut holes = vec![0; MIB];
    holes[500_000..500_003].copy_from_slice(b"mid");
    holes.extend(b"end");
    assert!(read("/plain/holes") == holes && read("/plain/reserved") == vec![0; 100_000]);
    assert_eq!(guest.take_notes(), [] as [String; 0]);
}

#[test]
fn folders_and_subvolumes() {
    let guest = browser(fixture("btrfs-packed.zst"));
    let many = guest.list("/many").unwrap();
    assert_eq!(
        (many.len(), many[499].path.as_str(), many[499].target.as_deref()),
        (500, "/many/name-1499", Some("1499"))
    );
    assert_eq!(guest.entry("/many/name-1500", false), None);
    assert_eq!(paths(&guest.list("/sub").unwrap()), ["/sub/file", "/sub/inner"]);
    assert_eq!(guest.read("/sub/inner/file", 0, 10).unwrap(), b"inner\n");
    // A snapshot does not have what was another subvolume.
    assert_eq!(guest.read("/snap/file", 0, 10).unwrap(), b"sub\n");
    assert_eq!(guest.entry("/snap/inner", false).unwrap().kind, EntryKind::Folder);
    assert_eq!(guest.list("/snap/inner").unwrap(), []);
    assert_eq!(guest.entry("/snap/inner/file", false), None);
    assert_eq!(guest.take_notes(), [] as [String; 0]);
}

#[test]
fn other_sums_of_nodes() {
    for sum in ["xxhash", "sha256", "blake2"] {
        let found = report(btrfs(16, &["--mixed", "--csum", sum], &rocky("", &elf(62))));
        assert_eq!((found.os.unwrap().hostname.as_deref(), found.notes.len()), (Some("rocky-01"), 0), "{sum}");
    }
}

/// Of every node that lies twice on the device, the copy that comes first is damaged.
#[test]
fn damaged_nodes_are_read_from_their_copies() {
    for sum in ["crc32c", "sha256"] {
        let mut disk = btrfs(128, &["-m", "dup", "--csum", sum], &rocky("", &elf(62)));
        let id = disk[(64 << 10) + 32..(64 << 10) + 48].to_vec();
        let is_node = |node: &[u8]| node[32..48] == id && node[64..72] != *b"_BHRfS_M";
        let nodes: Vec<usize> = (0..disk.len()).step_by(4096).filter(|at| is_node(&disk[*at..])).collect();
        let address = |disk: &[u8], at: usize| disk[at + 48..at + 56].to_vec();
        let twice = |at: &&usize| {
            nodes.iter().any(|other| other > *at && disk[**at..**at + 4096] == disk[*other..*other + 4096])
        };
        let first: Vec<usize> = nodes.iter().filter(twice).copied().collect();
        assert!(first.len() > 5 && first.iter().all(|at| address(&disk, *at) != [0; 8]), "{first:?}");
        for at in first {
            disk[at + 4000] ^= 1;
        }
        let found = report(disk);
        assert_eq!((found.os.unwrap().hostname.as_deref(), found.notes.len()), (Some("rocky-01"), 0), "{sum}");
    }
}
