//! Thousands of damaged copies of small file systems: never a panic, always an end, and all or nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use disk::source::Source;
use guest::{Attributes, ExtWriter, Overlay};

use crate::images::{Image, NOW, Node, Random, Tree, noise};

const ROUNDS: usize = 600;
const SEED: u64 = 0x6d6f_6c64_6500_0003;
const ROOT: Attributes = Attributes { mode: 0o644, uid: 0, gid: 0 };
/// Longest time for one operation, which takes milliseconds where the machine does nothing else.
const TIME_MAX: Duration = Duration::from_secs(3);

fn tree() -> Tree {
    let mut tree = Tree::new();
    for folder in ["/boot", "/etc", "/many"] {
        tree.insert(folder.to_owned(), Node::Folder);
    }
    for (path, length) in [("/boot/initrd", 60_000), ("/etc/hostname", 7), ("/etc/fstab", 3000)] {
        tree.insert(path.to_owned(), Node::File(noise(length as u64, length)));
    }
    tree.insert("/etc/long".to_owned(), Node::Link("../etc/".repeat(20) + "hostname"));
    for number in 0..60 {
        tree.insert(format!("/many/a name with some length {number:05}"), Node::File(vec![b'x'; 10]));
    }
    tree
}

type Operation = fn(&mut ExtWriter<'_>) -> disk::error::Result<()>;

const OPERATIONS: [Operation; 10] = [
    |writer| writer.replace(b"/etc/hostname", b"new"),
    |writer| writer.replace(b"/boot/initrd", b"short"),
    |writer| writer.append(b"/boot/initrd", &[7; 30_000]),
    |writer| writer.create(b"/many/a new name in a folder with an index", b"x", ROOT, Some(b"/etc/hostname")),
    |writer| writer.create(b"/etc/new", &[1; 5000], ROOT, None),
    |writer| writer.symlink(b"/etc/link", &[b'l'; 100]),
    |writer| writer.make_folder(b"/etc/made", ROOT, None),
    |writer| writer.remove(b"/etc/long"),
    |writer| writer.remove(b"/many/a name with some length 00007"),
    |writer| writer.rename(b"/etc/fstab", b"/etc/fstab.saved"),
];

fn bytes(overlay: &Overlay) -> Vec<u8> {
    let mut bytes = vec![0; overlay.len() as usize];
    overlay.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Replaces some bytes of a sound file system: whole fields that are large, small or random.
fn damage(sound: &[u8], sectors: &[usize], rarity: usize, random: &mut Random) -> Vec<u8> {
    let mut damaged = sound.to_vec();
    for sector in sectors {
        if random.next(rarity) != 0 {
            continue;
        }
        for _ in 0..=random.next(3) {
            let value = match random.next(4) {
                0 => 0_u32,
                1 => u32::MAX >> random.next(32),
                2 => random.next(5000) as u32,
                _ => random.next(1 << 31) as u32,
            };
            let (at, length) = (random.next(128) * 4 + random.next(2) * 2, [1, 2, 4][random.next(3)]);
            let place = sector * 512 + at.min(508);
            damaged[place..place + length].copy_from_slice(&value.to_le_bytes()[..length]);
        }
    }
    damaged
}

fn check(options: &[&str]) {
    let commands = "ea_set /etc/hostname security.selinux system_u:object_r:etc_t:s0\n";
    let mut image = Image::new(options, "2M", &tree(), commands);
    let sound = image.bytes();
    // On a sound file system all of them can be done, and e2fsck has nothing to say.
    for operation in OPERATIONS {
        operation(&mut image.writer()).unwrap();
    }
    image.check(&format!("{options:?}"));
    // Damage to the content of a file proves nothing.
    let content = noise(60_000, 60_000);
    let is_content = |sector: &[u8]| content.chunks(512).any(|part| part == sector);
    let sectors: Vec<usize> = sound
        .chunks(512)
        .enumerate()
        .filter(|(_, sector)| sector.iter().any(|byte| *byte != 0) && !is_content(sector))
        .map(|(at, _)| at)
        .collect();
    let mut random = Random(SEED);
    let (mut done, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let rarity = [4, 15, 60][round % 3];
        let disk = damage(&sound, &sectors, rarity, &mut random);
        let mut overlay = Overlay::new(Arc::new(disk));
        let length = overlay.len();
        for (number, operation) in OPERATIONS.iter().enumerate() {
            let before = (round % 16 == 0).then(|| bytes(&overlay));
            let start = Instant::now();
            let result = ExtWriter::open(&mut overlay, 0..length, NOW).and_then(|mut writer| operation(&mut writer));
            assert!(start.elapsed() < TIME_MAX, "{options:?}, round {round}, {number}: {:?}", start.elapsed());
            match result {
                Ok(()) => done += 1,
                Err(_) => {
                    refused += 1;
                    assert!(before.is_none_or(|before| before == bytes(&overlay)), "round {round}, {number}");
                }
            }
        }
    }
    assert!(done > ROUNDS && refused > ROUNDS / 2, "{options:?}: {done} done, {refused} refused");
}

#[test]
fn ext2() {
    check(&["-t", "ext2", "-b", "1024", "-N", "128"]);
}

#[test]
fn ext4_without_checksums() {
    check(&["-t", "ext4", "-b", "1024", "-N", "128", "-O", "^metadata_csum,^has_journal"]);
}

#[test]
fn ext4_with_checksums() {
    check(&["-t", "ext4", "-b", "1024", "-N", "128", "-O", "^has_journal"]);
}
