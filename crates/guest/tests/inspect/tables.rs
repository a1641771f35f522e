//! Partition tables: backups, sector sizes, chains, and tables that lie.

use guest::{FilesystemKind, PartitionTable};
use uuid::Uuid;

use crate::disks::{MIB, assert_note, ext, fat, put, report, table};

const LINUX: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";

fn gpt_by_sfdisk() -> Vec<u8> {
    let mut disk = table(8, "label: gpt\nstart=2048, size=4096, type=L, name=one\nstart=6144, size=2048, type=L\n");
    put(&mut disk, 1, &ext(2, &["-t", "ext4", "-L", "one"], &[]));
    disk
}

fn seal(header: &mut [u8]) {
    header[16..20].fill(0);
    let crc = crc32fast::hash(&header[..92]);
    header[16..20].copy_from_slice(&crc.to_le_bytes());
}

/// A disk of 8 MiB with one GPT of own making and no backup; `entry` gives first and last sector.
fn gpt_by_hand(sector: usize, count: u32, entry_size: u32, entry: (u64, u64)) -> Vec<u8> {
    let mut disk = vec![0; 8 * MIB];
    disk[450] = 0xee;
    disk[454] = 1;
    disk[458..462].fill(0xff);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    let entries = 2 * sector;
    disk[entries..entries + 16].copy_from_slice(&Uuid::parse_str(LINUX).unwrap().to_bytes_le());
    disk[entries + 32..entries + 40].copy_from_slice(&entry.0.to_le_bytes());
    disk[entries + 40..entries + 48].copy_from_slice(&entry.1.to_le_bytes());
    let length = (count as usize).saturating_mul(entry_size as usize).min(4 * MIB);
    let crc = crc32fast::hash(&disk[entries..entries + length]);
    let header = &mut disk[sector..sector + 512];
    header[..12].copy_from_slice(b"EFI PART\0\0\x01\0");
    header[12] = 92;
    header[24] = 1;
    header[72] = 2;
    header[80..84].copy_from_slice(&count.to_le_bytes());
    header[84..88].copy_from_slice(&entry_size.to_le_bytes());
    header[88..92].copy_from_slice(&crc.to_le_bytes());
    seal(header);
    disk
}

#[test]
fn backup_is_used_when_the_first_table_is_broken() {
    let sound = report(gpt_by_sfdisk());
    assert_eq!(sound.partition_table, Some(PartitionTable::Gpt));
    assert_eq!((sound.partitions.len(), sound.notes.len()), (2, 0));
    for (at, part) in
        [(512, "has no signature"), (512 + 24, "checksum of its header"), (1024 + 3, "checksum of its entries")]
    {
        let mut disk = gpt_by_sfdisk();
        disk[at] ^= 0xff;
        let broken = report(disk);
        // sfdisk invents other ids at each run.
        let places = |report: &guest::Report| {
            report.partitions.iter().map(|found| (found.offset, found.length)).collect::<Vec<_>>()
        };
        assert_eq!(places(&broken), places(&sound), "{part}");
        assert_note(&broken, part);
        assert_note(&broken, "its backup at the end of the disk was used");
        assert_eq!(broken.filesystems[0].label.as_deref(), Some("one"));
    }
}

#[test]
fn nothing_is_made_up_when_both_tables_are_broken() {
    let mut disk = gpt_by_sfdisk();
    let last = disk.len() - 512;
    disk[512] ^= 0xff;
    disk[last] ^= 0xff;
    let report = report(disk);
    assert_eq!((report.partition_table, report.partitions.len()), (Some(PartitionTable::Gpt), 0));
    assert_note(&report, "there is no good backup");
}

#[test]
fn sectors_of_4096_bytes_are_known() {
    let mut disk = gpt_by_hand(4096, 128, 128, (256, 1279));
    put(&mut disk, 1, &ext(4, &["-t", "ext4"], &[]));
    let report = report(disk);
    assert_eq!((report.partitions[0].offset, report.partitions[0].length), (1 << 20, 4 << 20));
    assert_eq!(report.filesystems[0].kind, FilesystemKind::Ext4);
    assert_eq!(report.notes, [] as [String; 0]);
}

#[test]
fn absurd_tables_are_refused() {
    for (count, entry_size) in [(u32::MAX, 128), (128, 1 << 31), (u32::MAX, 1 << 31), (128, 0), (128, 96), (128, 7)] {
        let report = report(gpt_by_hand(512, count, entry_size, (2048, 4095)));
        assert_eq!(report.partitions, [], "{count} x {entry_size}");
        assert_note(&report, "there is no good backup");
    }
}

#[test]
fn partitions_that_cannot_be_are_told_or_dropped() {
    for (entry, count) in [((5000, 4000), 0), ((0, u64::MAX), 0), ((u64::MAX - 1, u64::MAX), 0), ((2048, 1 << 40), 1)] {
        let report = report(gpt_by_hand(512, 128, 128, entry));
        assert_eq!(report.partitions.len(), count, "{entry:?}");
        if count == 1 {
            assert_note(&report, "Partition 1 ends past the end of the disk");
        }
    }
}

fn ebr(disk: &mut [u8], sector: usize, next: u32) {
    let bytes = &mut disk[sector * 512..sector * 512 + 512];
    bytes[446 + 4] = 0x83;
    bytes[446 + 8] = 1;
    bytes[446 + 12] = 8;
    bytes[462 + 4] = 0x05;
    bytes[462 + 8..462 + 12].copy_from_slice(&next.to_le_bytes());
    bytes[462 + 12] = 16;
    bytes[510..].copy_from_slice(&[0x55, 0xaa]);
}

#[test]
fn chain_of_logical_partitions_ends() {
    for (next, part) in
        [(0, "in a circle"), (64, "in a circle"), (1 << 30, "leaves the extended partition"), (128, "is broken")]
    {
        let mut disk = table(4, "label: dos\nstart=2048, size=4096, type=5\n");
        ebr(&mut disk, 2048, 64);
        ebr(&mut disk, 2048 + 64, next);
        let report = report(disk);
        assert_eq!(report.partitions.len(), 3, "{next}");
        assert_note(&report, part);
    }
}

/// A boot sector ends with the signature of a partition table; text of its boot code stands where the entries are.
#[test]
fn file_system_straight_on_the_disk_is_no_table() {
    let mut disk = fat(4, &["-n", "FLOPPY"], &[]);
    disk[446..510].copy_from_slice(&b"Press any key to try again, or not; this text is not a table. ..."[..64]);
    let report = report(disk);
    assert_eq!((report.partition_table, report.partitions.len()), (None, 0));
    assert_eq!(
        (report.filesystems[0].kind, report.filesystems[0].label.as_deref()),
        (FilesystemKind::Vfat, Some("FLOPPY"))
    );
}

#[test]
fn blank_and_tiny_disks_are_empty() {
    for length in [0, 1, 511, 512, 513, 4096, 70_000] {
        let report = report(vec![0; length]);
        assert_eq!((report.partition_table, report.filesystems.len(), report.os), (None, 0, None));
    }
}
