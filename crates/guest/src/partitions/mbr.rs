//! Master boot record: four primary entries, and a chain of logical ones inside an extended partition.

use std::collections::HashSet;

use disk::error::Result;

use crate::fields::{le32, stands_at};
use crate::report::Partition;
use crate::window::Window;

const SECTOR: u64 = 512;
/// Most logical partitions; Linux itself stops at 256 for all.
const LOGICAL_MAX: u32 = 124;

/// The first sector, read.
pub(super) struct Mbr {
    /// The non-empty primary entries, extended ones too.
    pub(super) partitions: Vec<Partition>,
    /// Whether all four entries are such as a partitioning tool writes.
    pub(super) is_sane: bool,
    /// Whether all four entries are zero.
    pub(super) is_empty: bool,
    disk_id: u32,
}

impl Mbr {
    /// Returns whether an entry says that the real table is a GPT.
    pub(super) fn is_protective(&self) -> bool {
        self.partitions.iter().any(|partition| partition.type_id == "0xee")
    }
}

struct Entry {
    flag: u8,
    kind: u8,
    start: u64,
    sectors: u64,
}

impl Entry {
    fn read(sector: &[u8], index: usize) -> Self {
        let at = 446 + index * 16;
        Self {
            flag: sector[at],
            kind: sector[at + 4],
            start: le32(sector, at + 8).into(),
            sectors: le32(sector, at + 12).into(),
        }
    }

    fn is_used(&self) -> bool {
        self.kind != 0 && self.sectors != 0
    }

    fn is_sane(&self, disk_sectors: u64) -> bool {
        let is_possible = matches!(self.flag, 0 | 0x80) && self.start > 0 && self.start < disk_sectors;
        if self.is_used() { is_possible } else { self.flag == 0 && self.kind == 0 && self.sectors == 0 }
    }

    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0f | 0x85)
    }

    fn partition(&self, number: u32, start: u64, disk_id: u32) -> Partition {
        Partition {
            number,
            offset: start * SECTOR,
            length: self.sectors * SECTOR,
            type_id: format!("{:#04x}", self.kind),
            kind: type_name(self.kind).map_or_else(|| format!("{:#04x}", self.kind), str::to_owned),
            bootable: self.flag == 0x80,
            esp: self.kind == 0xef,
            name: None,
            uuid: (disk_id != 0).then(|| format!("{disk_id:08x}-{number:02x}")),
        }
    }
}

fn read_sector(disk: &Window, sector: u64) -> Result<Option<Vec<u8>>> {
    let found = disk.bytes(sector * SECTOR, SECTOR as usize)?;
    Ok(found.filter(|bytes| stands_at(bytes, 510, &[0x55, 0xaa])))
}

/// Reads the first sector of `disk`; none where it has no boot signature.
pub(super) fn read(disk: &Window) -> Result<Option<Mbr>> {
    let Some(sector) = read_sector(disk, 0)? else { return Ok(None) };
    let disk_id = le32(&sector, 440);
    let entries: Vec<_> = (0..4).map(|index| Entry::read(&sector, index)).collect();
    let numbered = (1..).zip(&entries).filter(|(_, entry)| entry.is_used());
    Ok(Some(Mbr {
        partitions: numbered.map(|(number, entry)| entry.partition(number, entry.start, disk_id)).collect(),
        is_sane: entries.iter().all(|entry| entry.is_sane(disk.len() / SECTOR)),
        is_empty: sector[446..510].iter().all(|byte| *byte == 0),
        disk_id,
    }))
}

/// Returns the partitions of `mbr` with the logical ones of its extended partition, from number 5.
///
/// The chain is followed inside the extended partition only, to each place once.
pub(super) fn with_logical(disk: &Window, mbr: Mbr) -> Result<Vec<Partition>> {
    let mut partitions = mbr.partitions;
    let is_extended = |partition: &&Partition| matches!(partition.type_id.as_str(), "0x05" | "0x0f" | "0x85");
    let Some(extended) = partitions.iter().find(is_extended) else { return Ok(partitions) };
    let first = extended.offset / SECTOR;
    let end = first + extended.length / SECTOR;
    let mut visited = HashSet::new();
    let mut at = first;
    let mut number = 5;
    while number < 5 + LOGICAL_MAX {
        if !visited.insert(at) {
            disk.budget().note("The chain of logical partitions runs in a circle; it was left there.");
            break;
        }
        let Some(sector) = read_sector(disk, at)? else {
            disk.budget().note("The chain of logical partitions is broken; the rest of it was not read.");
            break;
        };
        let logical = Entry::read(&sector, 0);
        if logical.is_used() && !logical.is_extended() {
            partitions.push(logical.partition(number, at + logical.start, mbr.disk_id));
            number += 1;
        }
        let next = Entry::read(&sector, 1);
        if !next.is_used() || !next.is_extended() {
            break;
        }
        at = first + next.start;
        if at >= end {
            disk.budget().note("The chain of logical partitions leaves the extended partition; it was left there.");
            break;
        }
    }
    Ok(partitions)
}

fn type_name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        0x01 => "FAT12",
        0x04 | 0x06 | 0x0e => "FAT16",
        0x05 | 0x0f | 0x85 => "Extended",
        0x07 => "NTFS or exFAT",
        0x0b | 0x0c => "FAT32",
        0x11 | 0x14 | 0x16 | 0x1b | 0x1c | 0x1e => "Hidden FAT",
        0x27 => "Windows recovery",
        0x42 => "Windows dynamic disk",
        0x82 => "Linux swap",
        0x83 => "Linux",
        0x8e => "Linux LVM",
        0xa5 => "FreeBSD",
        0xa6 => "OpenBSD",
        0xa9 => "NetBSD",
        0xee => "GPT protective",
        0xef => "EFI System",
        0xfb => "VMware VMFS",
        0xfd => "Linux RAID",
        _ => return None,
    })
}
