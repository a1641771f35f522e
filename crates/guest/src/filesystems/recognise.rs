//! Recognition by superblock: a few small reads, no file system is opened.
//!
//! Places of the fields: the kernel's headers and the public on-disk descriptions of each file system.

use super::recognised::{Recognised, uuid_text};
use super::{ext, fat};
use crate::fields::{be16, be32, be64, le16, le32, le64, stands_at};
use crate::report::FilesystemKind;
use crate::text::clean_padded;
use crate::window::Window;

/// A recogniser looks for its signature at one place.
struct Signature {
    offset: u64,
    length: usize,
    recognise: fn(&[u8]) -> Option<Recognised>,
}

/// In order: containers that hide what they hold come first, FAT with its weak signature last.
const SIGNATURES: &[Signature] = &[
    Signature { offset: 0, length: 512, recognise: luks },
    Signature { offset: 0, length: 2048, recognise: lvm2 },
    Signature { offset: 0, length: 512, recognise: xfs },
    Signature { offset: 64 << 10, length: 1024, recognise: btrfs },
    Signature { offset: 0, length: 4096, recognise: |bytes| swap(bytes, 4096) },
    Signature { offset: 0, length: 65536, recognise: |bytes| swap(bytes, 65536) },
    Signature { offset: 1024, length: 1024, recognise: ext::recognise },
    Signature { offset: 32 << 10, length: 2048, recognise: iso9660 },
    Signature { offset: 0, length: 512, recognise: ntfs },
    Signature { offset: 0, length: 512, recognise: exfat },
    Signature { offset: 0, length: 512, recognise: fat::recognise },
];

/// Returns what `window` holds; none where nothing is known.
///
/// What cannot be read is as if it were not there: half of a logical volume may be on another disk.
pub(crate) fn recognise(window: &Window) -> Option<Recognised> {
    SIGNATURES.iter().find_map(|signature| {
        let bytes = window.bytes(signature.offset, signature.length).ok().flatten()?;
        (signature.recognise)(&bytes)
    })
}

fn luks(bytes: &[u8]) -> Option<Recognised> {
    let version = be16(bytes, 6);
    if !stands_at(bytes, 0, b"LUKS\xba\xbe") || !(1..=2).contains(&version) {
        return None;
    }
    Some(Recognised {
        uuid: clean_padded(&bytes[168..208]),
        label: (version == 2).then(|| clean_padded(&bytes[24..72])).flatten(),
        ..Recognised::new(FilesystemKind::Luks)
    })
}

fn lvm2(bytes: &[u8]) -> Option<Recognised> {
    // The label is in one of the first four sectors.
    let label = bytes
        .chunks_exact(512)
        .find(|sector| stands_at(sector, 0, b"LABELONE") && stands_at(sector, 24, b"LVM2 001"))?;
    let id = std::str::from_utf8(&label[32..64]).ok().filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let groups = [(0, 6), (6, 10), (10, 14), (14, 18), (18, 22), (22, 26), (26, 32)];
    let uuid = id.map(|id| groups.map(|(from, to)| &id[from..to]).join("-"));
    Some(Recognised { uuid, size: Some(le64(label, 64)), ..Recognised::new(FilesystemKind::Lvm2) })
}

fn xfs(bytes: &[u8]) -> Option<Recognised> {
    let block_size = u64::from(be32(bytes, 4));
    if !stands_at(bytes, 0, b"XFSB") || !(512..=65536).contains(&block_size) || !block_size.is_power_of_two() {
        return None;
    }
    let (blocks, free) = (be64(bytes, 8), be64(bytes, 144));
    Some(Recognised {
        uuid: uuid_text(bytes, 32),
        label: clean_padded(&bytes[108..120]),
        size: blocks.checked_mul(block_size),
        used: blocks.checked_sub(free).and_then(|used| used.checked_mul(block_size)),
        ..Recognised::new(FilesystemKind::Xfs)
    })
}

fn btrfs(bytes: &[u8]) -> Option<Recognised> {
    if !stands_at(bytes, 0x40, b"_BHRfS_M") {
        return None;
    }
    Some(Recognised {
        uuid: uuid_text(bytes, 0x20),
        label: clean_padded(&bytes[0x12b..0x22b]),
        size: Some(le64(bytes, 0x70)),
        used: Some(le64(bytes, 0x78)),
        ..Recognised::new(FilesystemKind::Btrfs)
    })
}

fn swap(bytes: &[u8], page: u64) -> Option<Recognised> {
    let magic = &bytes[page as usize - 10..];
    // A hibernated guest replaces the magic by its own.
    if ![b"SWAPSPACE2", b"SWAP-SPACE", b"S1SUSPEND\0", b"S2SUSPEND\0"].iter().any(|known| magic == *known) {
        return None;
    }
    Some(Recognised {
        uuid: uuid_text(bytes, 1036),
        label: clean_padded(&bytes[1052..1068]),
        // Cannot overflow: the last page is 32 bits wide.
        size: (le32(bytes, 1028) != 0).then(|| (u64::from(le32(bytes, 1028)) + 1) * page),
        ..Recognised::new(FilesystemKind::Swap)
    })
}

fn iso9660(bytes: &[u8]) -> Option<Recognised> {
    if bytes[0] != 1 || !stands_at(bytes, 1, b"CD001") {
        return None;
    }
    // blkid uses the time of modification, or of creation, as the UUID: YYYYMMDDHHMMSScc.
    let time = |at: usize| {
        let digits = std::str::from_utf8(&bytes[at..at + 16]).ok()?;
        let is_time = digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.bytes().any(|byte| byte != b'0');
        let groups = [(0, 4), (4, 6), (6, 8), (8, 10), (10, 12), (12, 14), (14, 16)];
        is_time.then(|| groups.map(|(from, to)| &digits[from..to]).join("-"))
    };
    Some(Recognised {
        uuid: time(830).or_else(|| time(813)),
        label: clean_padded(&bytes[40..72]),
        size: Some(u64::from(le32(bytes, 80)) * u64::from(le16(bytes, 128))),
        ..Recognised::new(FilesystemKind::Iso9660)
    })
}

fn ntfs(bytes: &[u8]) -> Option<Recognised> {
    let sector = u64::from(le16(bytes, 11));
    if !stands_at(bytes, 3, b"NTFS    ") || !(256..=4096).contains(&sector) || !sector.is_power_of_two() {
        return None;
    }
    Some(Recognised {
        uuid: Some(format!("{:016X}", le64(bytes, 72))),
        size: le64(bytes, 40).checked_mul(sector),
        ..Recognised::new(FilesystemKind::Ntfs)
    })
}

fn exfat(bytes: &[u8]) -> Option<Recognised> {
    let shift = bytes[108];
    if !stands_at(bytes, 3, b"EXFAT   ") || !(9..=12).contains(&shift) {
        return None;
    }
    let serial = le32(bytes, 100);
    Some(Recognised {
        uuid: Some(format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)),
        size: le64(bytes, 72).checked_mul(1 << shift),
        ..Recognised::new(FilesystemKind::Exfat)
    })
}
