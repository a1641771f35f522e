//! GUID partition table (UEFI specification, chapter 5), with its backup and both sector sizes.

use disk::error::Result;
use uuid::Uuid;

use crate::fields::{le32, le64, stands_at, uuid16};
use crate::report::Partition;
use crate::text::clean;
use crate::window::Window;

const SECTOR_SIZES: [u64; 2] = [512, 4096];
/// Most bytes of entries; 16 KiB is usual.
const ENTRIES_BYTES_MAX: u64 = 1 << 20;

struct Header {
    entries_lba: u64,
    entries_count: u32,
    entry_size: u32,
    entries_crc: u32,
}

/// Why a copy of the table is not used.
enum Flaw {
    Absent,
    Header(&'static str),
}

/// Reads the table, from the end of the disk where the one at the beginning is damaged.
///
/// None where there is no table; where the protective record says that there is one, a note tells what is wrong.
pub(super) fn read(disk: &Window, is_protective: bool) -> Result<Option<Vec<Partition>>> {
    let mut flaws = Vec::new();
    for sector in SECTOR_SIZES {
        match copy_at(disk, sector, sector)? {
            Ok(partitions) => return Ok(Some(partitions)),
            Err(Flaw::Header(flaw)) => flaws.push(flaw),
            Err(Flaw::Absent) => {}
        }
    }
    // A backup alone may be left over from another life of the disk: it counts where something points to a GPT.
    if !is_protective && flaws.is_empty() {
        return Ok(None);
    }
    let flaw = flaws.first().copied().unwrap_or("has no signature");
    for sector in SECTOR_SIZES {
        let last = (disk.len() / sector).saturating_sub(1) * sector;
        if let Ok(partitions) = copy_at(disk, sector, last)? {
            disk.budget().note(format!("The first GPT {flaw}; its backup at the end of the disk was used."));
            return Ok(Some(partitions));
        }
    }
    disk.budget().note(format!("The GPT {flaw}, and there is no good backup at the end of the disk."));
    Ok(None)
}

fn copy_at(disk: &Window, sector: u64, at: u64) -> Result<std::result::Result<Vec<Partition>, Flaw>> {
    let Some(bytes) = disk.bytes(at, sector as usize)? else { return Ok(Err(Flaw::Absent)) };
    let header = match header(&bytes, at / sector) {
        Ok(header) => header,
        Err(flaw) => return Ok(Err(flaw)),
    };
    // Cannot overflow: both factors are 32 bits wide.
    let length = u64::from(header.entries_count) * u64::from(header.entry_size);
    if length > ENTRIES_BYTES_MAX {
        return Ok(Err(Flaw::Header("claims an absurd number of entries")));
    }
    let start = header.entries_lba.checked_mul(sector);
    let Some(entries) = start.map(|start| disk.bytes(start, length as usize)).transpose()?.flatten() else {
        return Ok(Err(Flaw::Header("has its entries outside of the disk")));
    };
    if crc32fast::hash(&entries) != header.entries_crc && !cfg!(fuzzing) {
        return Ok(Err(Flaw::Header("has a wrong checksum of its entries")));
    }
    let entries = entries.chunks_exact(header.entry_size as usize);
    Ok(Ok((1..).zip(entries).filter_map(|(number, entry)| partition(number, entry, sector)).collect()))
}

fn header(bytes: &[u8], lba: u64) -> std::result::Result<Header, Flaw> {
    if !stands_at(bytes, 0, b"EFI PART") {
        return Err(Flaw::Absent);
    }
    let size = le32(bytes, 12) as usize;
    let Some(covered) = bytes.get(..size).filter(|_| size >= 92) else {
        return Err(Flaw::Header("has a header of a wrong size"));
    };
    let mut zeroed = covered.to_vec();
    zeroed[16..20].fill(0);
    if crc32fast::hash(&zeroed) != le32(bytes, 16) && !cfg!(fuzzing) {
        return Err(Flaw::Header("has a wrong checksum of its header"));
    }
    if le64(bytes, 24) != lba {
        return Err(Flaw::Header("stands at a place that it does not name"));
    }
    let entry_size = le32(bytes, 84);
    if entry_size < 128 || !entry_size.is_power_of_two() {
        return Err(Flaw::Header("has entries of a wrong size"));
    }
    Ok(Header {
        entries_lba: le64(bytes, 72),
        entries_count: le32(bytes, 80),
        entry_size,
        entries_crc: le32(bytes, 88),
    })
}

fn partition(number: u32, entry: &[u8], sector: u64) -> Option<Partition> {
    let type_guid = Uuid::from_bytes_le(uuid16(entry, 0));
    let (first, last) = (le64(entry, 32), le64(entry, 40));
    if type_guid.is_nil() {
        return None;
    }
    let sectors = last.checked_sub(first)?.checked_add(1)?;
    let type_id = type_guid.to_string();
    let units: Vec<u16> = entry[56..128].chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
    let end = units.iter().position(|unit| *unit == 0).unwrap_or(units.len());
    let name = String::from_utf16_lossy(&units[..end]);
    Some(Partition {
        number,
        offset: first.checked_mul(sector)?,
        length: sectors.checked_mul(sector)?,
        kind: type_name(&type_id).map_or_else(|| type_id.clone(), str::to_owned),
        bootable: le64(entry, 48) & 4 != 0,
        esp: type_id == ESP,
        name: (!name.is_empty()).then(|| clean(name.as_bytes())),
        uuid: Some(Uuid::from_bytes_le(uuid16(entry, 16)).to_string()),
        type_id,
    })
}

const ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// Type of the partition in which GRUB puts its core for a BIOS.
const BIOS_BOOT: &str = "21686148-6449-6e6f-744e-656564454649";

fn type_name(guid: &str) -> Option<&'static str> {
    Some(match guid {
        ESP => "EFI System",
        BIOS_BOOT => "BIOS boot",
        "0fc63daf-8483-4772-8e79-3d69d8477de4" => "Linux filesystem",
        "4f68bce3-e8cd-4db1-96e7-fbcaf984b709" => "Linux root (x86-64)",
        "b921b045-1df0-41c3-af44-4c6f280d3fae" => "Linux root (ARM 64)",
        "44479540-f297-41b2-9af7-d131d5f0458a" => "Linux root (x86)",
        "bc13c2ff-59e6-4262-a352-b275fd6f7172" => "Linux extended boot",
        "933ac7e1-2eb4-4f13-b844-0e14e2aef915" => "Linux home",
        "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f" => "Linux swap",
        "e6d6d379-f507-44c2-a23c-238f2a3df928" => "Linux LVM",
        "a19d880f-05fc-4d3b-a006-743f0f84911e" => "Linux RAID",
        "ca7d7ccb-63ed-4c53-861c-1742536059cc" => "Linux LUKS",
        "9e1a2d38-c612-4316-aa26-8b49521e5a8b" => "PowerPC PReP boot",
        "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7" => "Microsoft basic data",
        "e3c9e316-0b5c-4db8-817d-f92df00215ae" => "Microsoft reserved",
        "de94bba4-06d1-4d40-a16a-bfd50179d6ac" => "Windows recovery",
        "516e7cb6-6ecf-11d6-8ff8-00022d09712b" => "FreeBSD UFS",
        "83bd6b9d-7f41-11dc-be0b-001560b84f0f" => "FreeBSD boot",
        _ => return None,
    })
}
