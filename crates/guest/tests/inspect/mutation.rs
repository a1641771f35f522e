//! Thousands of damaged copies of small sound disks: never a panic, always an end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use disk::error::Result;
use disk::source::Source;
use guest::inspect;

use crate::disks::{Memory, Node, btrfs, debian, dirty, elf, ext, fat, fixture, iso, put, table, text, xfs};
use crate::lvm::{self, HEAD, IDS, group, segment, volume};
use crate::trees::seal_node;
use crate::volumes::rocky;

const ROUNDS: u32 = 2500;
const SEED: u64 = 0x6d6f_6c64_6500_0001;

/// A disk with some of its bytes replaced.
pub(crate) struct Damaged {
    pub(crate) sound: Arc<Memory>,
    pub(crate) bytes: Vec<(u64, u8)>,
}

impl Source for Damaged {
    fn len(&self) -> u64 {
        self.sound.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.sound.read_at(buf, offset)?;
        for (at, value) in &self.bytes {
            if let Some(byte) = at.checked_sub(offset).and_then(|at| buf.get_mut(usize::try_from(at).ok()?)) {
                *byte = *value;
            }
        }
        Ok(())
    }
}

/// xorshift64*: the same numbers at each run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % below
    }
}

fn check(name: &str, disk: Vec<u8>) {
    check_sealed(name, disk, |_, _| {});
}

/// Damages one to three bytes in about every twelfth sector that is not empty, as the readers were judged at first.
///
/// `seal` adds what makes the checksums of the damaged disk right again: whoever makes a hostile disk makes those too.
fn check_sealed(name: &str, disk: Vec<u8>, seal: impl Fn(&[u8], &mut Vec<(u64, u8)>)) {
    let sectors: Vec<usize> = disk
        .chunks(512)
        .enumerate()
        .filter(|(_, sector)| sector.iter().any(|byte| *byte != 0))
        .map(|(at, _)| at)
        .collect();
    let sound = Arc::new(Memory(disk));
    assert!(inspect(sound.clone()).unwrap().os.is_some(), "{name}: the sound disk must be read to its end");
    let mut random = Random(SEED);
    let (mut read, mut damaged) = (0, 0);
    for round in 0..ROUNDS {
        // Rounds differ in how much they damage: much stops the readers early, little lets them go deep.
        let rarity = [12, 60, 300][round as usize % 3];
        let mut bytes = Vec::new();
        for sector in &sectors {
            if random.next(rarity) == 0 {
                let special = [0, 0xff, 0x7f, 0x80];
                for _ in 0..=random.next(3) {
                    let value = if random.next(2) == 0 { special[random.next(4)] } else { random.next(256) as u8 };
                    bytes.push(((sector * 512 + random.next(512)) as u64, value));
                }
            }
        }
        damaged += bytes.len();
        seal(&sound.0, &mut bytes);
        let start = Instant::now();
        // A panic of `inspect` fails the test; those of a reader crate are contained and become notes.
        let report = inspect(Arc::new(Damaged { sound: sound.clone(), bytes })).unwrap();
        assert!(start.elapsed() < Duration::from_secs(12), "{name}, round {round}: {:?}", start.elapsed());
        read += u32::from(report.os.is_some());
    }
    // The damage must have reached all depths: some systems are still found, some are not.
    assert!(read > 0 && read < ROUNDS && damaged > ROUNDS as usize, "{name}: {read} of {ROUNDS}, {damaged} bytes");
}

/// Without checksums of metadata, damage gets past the doors of ext4-view.
#[test]
fn ext4_without_checksums() {
    let program = elf(62);
    let mut nodes = debian("/dev/sda1 / ext4\n", b"");
    nodes.push(("usr/bin/bash", Node::File(&program)));
    nodes.push(("boot/grub/grub.cfg", text("x")));
    check("ext4", ext(2, &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^has_journal", "-N", "128"], &nodes));
}

#[test]
fn ext2_with_block_maps() {
    let nodes = debian("/dev/sda1 / ext2\n", b"");
    check("ext2", ext(2, &["-t", "ext2", "-b", "1024", "-N", "128"], &nodes));
}

#[test]
fn tables_and_fat() {
    let mut disk = table(6, "label: gpt\nstart=2048, size=2048, type=U\nstart=4096, size=4096, type=L\n");
    let files =
        [("EFI/BOOT/BOOTX64.EFI", "x"), ("EFI/debian/grubx64.efi", "x"), ("EFI/a long name of a folder/x", "x")];
    put(&mut disk, 1, &fat(1, &["-n", "ESP"], &files));
    let nodes = debian("LABEL=ESP /boot vfat\n", b"");
    put(&mut disk, 2, &ext(2, &["-t", "ext4", "-N", "128", "-O", "^has_journal"], &nodes));
    check("gpt", disk);
}

#[test]
fn journal_that_was_not_replayed() {
    check("journal", dirty());
}

#[test]
fn xfs_without_checksums() {
    check("xfs", xfs(16, &["-m", "crc=0"], &rocky("", &elf(62))));
}

#[test]
fn xfs_with_a_log_to_replay() {
    check("xfs log", fixture("xfs-dirty.zst"));
}

/// Returns `length` bytes at `at` of the disk with its damage.
fn damaged(disk: &[u8], at: usize, length: usize, bytes: &[(u64, u8)]) -> Vec<u8> {
    let mut part = disk[at..at + length].to_vec();
    for (place, value) in bytes {
        if let Some(byte) = usize::try_from(*place).unwrap().checked_sub(at).and_then(|place| part.get_mut(place)) {
            *byte = *value;
        }
    }
    part
}

fn add(bytes: &mut Vec<(u64, u8)>, at: usize, values: &[u8]) {
    bytes.extend((at as u64..).zip(values.iter().copied()));
}

#[test]
fn btrfs_with_right_checksums() {
    const NODE: usize = 4096;
    let disk = btrfs(16, &["--mixed"], &rocky("", &elf(62)));
    check_sealed("btrfs", disk, |disk, bytes| {
        let superblock = 64 << 10;
        let id = disk[superblock + 32..superblock + 48].to_vec();
        let mut nodes: Vec<usize> = bytes.iter().map(|(at, _)| usize::try_from(*at).unwrap() / NODE * NODE).collect();
        nodes.sort_unstable();
        nodes.dedup();
        // File contents have no checksum in front of them.
        for at in nodes.into_iter().filter(|at| disk[at + 32..at + 48] == id) {
            let mut node = damaged(disk, at, NODE, bytes);
            seal_node(&mut node);
            add(bytes, at, &node[..4]);
        }
    });
}

#[test]
fn logical_volumes_with_right_checksums() {
    let volumes = [
        volume("root", &[segment(0, 1, &[("pv0", 1)]), segment(1, 2, &[("pv0", 2), ("pv0", 3)])]),
        volume("data", &[segment(0, 1, &[("pv0", 0)])]),
    ]
    .concat();
    let text = group("vg", &[(IDS[0], 5)], &volumes);
    let root = ext(3, &["-t", "ext2", "-b", "1024", "-N", "128"], &debian("/dev/vg/root / ext2\n", b""));
    let mut disk = lvm::physical_volume(IDS[0], 5, &text, 512);
    disk[HEAD + (1 << 20)..HEAD + (2 << 20)].copy_from_slice(&root[..1 << 20]);
    for (turn, stripe) in root[1 << 20..].chunks(64 << 10).enumerate() {
        let at = HEAD + (2 + turn % 2) * (1 << 20) + turn / 2 * stripe.len();
        disk[at..at + stripe.len()].copy_from_slice(stripe);
    }
    let (area, length) = (4096, text.len());
    check_sealed("lvm", disk, |disk, bytes| {
        let text = damaged(disk, area + 512, length, bytes);
        add(bytes, area + 56, &lvm::checksum(&text).to_le_bytes());
        let header = damaged(disk, area, 512, bytes);
        add(bytes, area, &lvm::checksum(&header[4..]).to_le_bytes());
        let label = damaged(disk, 512, 512, bytes);
        add(bytes, 512 + 16, &lvm::checksum(&label[20..]).to_le_bytes());
    });
}

#[test]
fn disc_beside_a_system() {
    let mut disk = table(8, "label: dos\nstart=2048, size=4096, type=83\nstart=6144, size=8192, type=83\n");
    let nodes = debian("LABEL=LIVE /boot iso9660\n", b"");
    put(&mut disk, 1, &ext(2, &["-t", "ext4", "-N", "128", "-O", "^has_journal"], &nodes));
    let long = "vmlinuz-6.1.0-".to_owned() + &"long-".repeat(40);
    let files = [
        ("vmlinuz-6.1.0-20-amd64", text("k")),
        (long.as_str(), text("k")),
        ("loader/entries/a.conf", text("x")),
        ("grub/grub.cfg", Node::Link("../loader/./entries/a.conf")),
    ];
    put(&mut disk, 3, &iso(&["-R", "-V", "LIVE"], &files));
    check("iso", disk);
}
