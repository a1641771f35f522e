//! Thousands of damaged copies of small sound disks: never a panic, always an end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use disk::error::Result;
use disk::source::Source;
use guest::inspect;

use crate::disks::{Memory, Node, debian, dirty, elf, ext, fat, put, table, text};

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

/// Damages one to three bytes in about every twelfth sector that is not empty, as the readers were judged at first.
fn check(name: &str, disk: Vec<u8>) {
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
    let nodes = debian("LABEL=ESP /boot/efi vfat\n", b"");
    put(&mut disk, 2, &ext(2, &["-t", "ext4", "-N", "128", "-O", "^has_journal"], &nodes));
    check("gpt", disk);
}

#[test]
fn journal_that_was_not_replayed() {
    check("journal", dirty());
}
