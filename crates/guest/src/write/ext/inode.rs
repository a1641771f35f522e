//! Inodes: reading them checked, changing their fields, writing them summed.
//!
//! Layout: the kernel's "ext4 Data Structures and Algorithms", Index Nodes.

use disk::error::{Error, Result};

use super::change::{Change, damaged};
use super::checksum::crc32c;
use crate::fields::{le16, le32, put, put_le16, put_le32};

pub(super) const ROOT: u32 = 2;

pub(super) const FLAG_INDEX: u32 = 0x1000;
const FLAG_HUGE_FILE: u32 = 0x4_0000;
pub(super) const FLAG_EXTENTS: u32 = 0x8_0000;
const FLAG_INHERIT_PROJECT: u32 = 0x2000_0000;
/// What is not written, because its bytes mean more than they say.
const FLAGS_REFUSED: [(u32, &str); 6] = [
    (0x4, "compressed"),
    (0x800, "encrypted"),
    (0x10_0000, "protected by verity"),
    (0x20_0000, "the value of an attribute"),
    (0x1000_0000, "stored in its inode"),
    (0x4000_0000, "indifferent to case"),
];

/// The type of a file, with its number in folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    Special(u8),
}

impl Kind {
    /// Returns the bits of a mode that stand for it.
    pub(super) fn mode(self) -> u16 {
        match self {
            Self::File => 0o100_000,
            Self::Folder => 0o040_000,
            Self::Link => 0o120_000,
            Self::Special(_) => 0,
        }
    }

    /// Returns the number that entries of folders have for it.
    pub(super) fn in_folder(self) -> u8 {
        match self {
            Self::File => 1,
            Self::Folder => 2,
            Self::Link => 7,
            Self::Special(number) => number,
        }
    }
}

/// An inode as it lies in the table, with its number.
#[derive(Clone)]
pub(super) struct Inode {
    pub(super) number: u32,
    pub(super) bytes: Vec<u8>,
}

impl Inode {
    pub(super) fn kind(&self) -> Option<Kind> {
        Some(match le16(&self.bytes, 0) >> 12 {
            0o10 => Kind::File,
            0o4 => Kind::Folder,
            0o12 => Kind::Link,
            0o2 => Kind::Special(3),
            0o6 => Kind::Special(4),
            0o1 => Kind::Special(5),
            0o14 => Kind::Special(6),
            _ => return None,
        })
    }

    pub(super) fn size(&self) -> u64 {
        // The upper half of what is neither file nor folder was something else once.
        let has_upper = matches!(self.kind(), Some(Kind::File | Kind::Folder));
        u64::from(le32(&self.bytes, 4)) | if has_upper { u64::from(le32(&self.bytes, 108)) << 32 } else { 0 }
    }

    pub(super) fn set_size(&mut self, size: u64) {
        put_le32(&mut self.bytes, 4, size as u32);
        put_le32(&mut self.bytes, 108, (size >> 32) as u32);
    }

    pub(super) fn set_mode(&mut self, mode: u16) {
        put_le16(&mut self.bytes, 0, mode);
    }

    pub(super) fn mode(&self) -> u16 {
        le16(&self.bytes, 0)
    }

    pub(super) fn set_owner(&mut self, uid: u32, gid: u32) {
        for (id, low, high) in [(uid, 2, 120), (gid, 24, 122)] {
            put_le16(&mut self.bytes, low, id as u16);
            put_le16(&mut self.bytes, high, (id >> 16) as u16);
        }
    }

    /// Returns user and group.
    pub(super) fn owner(&self) -> (u32, u32) {
        let id = |low, high| u32::from(le16(&self.bytes, low)) | u32::from(le16(&self.bytes, high)) << 16;
        (id(2, 120), id(24, 122))
    }

    pub(super) fn links(&self) -> u16 {
        le16(&self.bytes, 26)
    }

    pub(super) fn set_links(&mut self, links: u16) {
        put_le16(&mut self.bytes, 26, links);
    }

    pub(super) fn flags(&self) -> u32 {
        le32(&self.bytes, 32)
    }

    pub(super) fn set_flags(&mut self, flags: u32) {
        put_le32(&mut self.bytes, 32, flags);
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags() & flag != 0
    }

    pub(super) fn generation(&self) -> u32 {
        le32(&self.bytes, 100)
    }

    /// Returns the 60 bytes that hold the map of the file, or the target of a short link.
    pub(super) fn map(&self) -> &[u8] {
        self.bytes.get(40..100).unwrap_or_default()
    }

    pub(super) fn set_map(&mut self, map: &[u8]) {
        put(&mut self.bytes, 40, map);
    }

    /// Returns the block of attributes; zero where there is none.
    pub(super) fn attribute_block(&self) -> u64 {
        u64::from(le32(&self.bytes, 104)) | u64::from(le16(&self.bytes, 118)) << 32
    }

    pub(super) fn set_attribute_block(&mut self, block: u64) {
        put_le32(&mut self.bytes, 104, block as u32);
        put_le16(&mut self.bytes, 118, (block >> 32) as u16);
    }

    /// Returns whether any block belongs to the file.
    pub(super) fn has_blocks(&self) -> bool {
        le32(&self.bytes, 28) != 0 || le16(&self.bytes, 116) != 0
    }

    /// Returns how many blocks belong to the file, as it counts them.
    fn blocks(&self, block_size: usize) -> Option<u64> {
        let units = u64::from(le32(&self.bytes, 28)) | u64::from(le16(&self.bytes, 116)) << 32;
        let per_block = if self.has(FLAG_HUGE_FILE) { 1 } else { block_size as u64 / 512 };
        units.is_multiple_of(per_block).then_some(units / per_block)
    }

    pub(super) fn add_blocks(&mut self, block_size: usize, change: i64) -> Result<()> {
        let sum = self.blocks(block_size).and_then(|blocks| blocks.checked_add_signed(change));
        let sum = sum.ok_or_else(|| damaged(format!("inode {} counts its blocks wrong", self.number)))?;
        // Files that a change may touch are far below where units become blocks.
        let units = if self.has(FLAG_HUGE_FILE) { Some(sum) } else { sum.checked_mul(block_size as u64 / 512) };
        let units = units.filter(|units| *units >> 48 == 0);
        let units = units.ok_or_else(|| damaged(format!("inode {} counts its blocks wrong", self.number)))?;
        put_le32(&mut self.bytes, 28, units as u32);
        put_le16(&mut self.bytes, 116, (units >> 32) as u16);
        Ok(())
    }

    /// Returns how many bytes past the first 128 are fields.
    pub(super) fn extra(&self) -> usize {
        if self.bytes.len() > 128 { le16(&self.bytes, 128).into() } else { 0 }
    }

    /// Sets the time of change, and of modification where the content changed.
    pub(super) fn touch(&mut self, now: u64, is_modified: bool) {
        self.set_time(12, 132, now);
        if is_modified {
            self.set_time(16, 136, now);
        }
    }

    /// Sets all times of a new inode.
    fn set_times(&mut self, now: u64) {
        for (at, extra_at) in [(8, 140), (12, 132), (16, 136)] {
            self.set_time(at, extra_at, now);
        }
        if self.extra() >= 24 {
            self.set_time(144, 148, now);
        }
    }

    /// Sets one time: 32 bits, and two more in the extra field, where there is one.
    fn set_time(&mut self, at: usize, extra_at: usize, now: u64) {
        let has_extra = self.bytes.len() > 128 && 128 + self.extra() >= extra_at + 4;
        // Those 32 bits are signed, so that the two begin to count in 2038.
        let epoch = (now.wrapping_add(1 << 31) >> 32) as u32 & 3;
        let low = if has_extra { now as u32 } else { now.min(i32::MAX as u64) as u32 };
        put_le32(&mut self.bytes, at, low);
        if has_extra {
            put_le32(&mut self.bytes, extra_at, epoch);
        }
    }

    fn sum(&self, seed: u32) -> u32 {
        let mut bytes = self.bytes.clone();
        put_le16(&mut bytes, 124, 0);
        if self.extra() >= 4 {
            put_le16(&mut bytes, 130, 0);
        }
        crc32c(seed, &bytes)
    }
}

impl Change<'_> {
    /// Returns the block of the inode `number`, and where in it.
    fn inode_place(&mut self, number: u32) -> Result<(u64, usize)> {
        let layout = self.layout;
        let index = number.checked_sub(1).filter(|index| *index < layout.inodes);
        let index = index.ok_or_else(|| damaged(format!("there is no inode {number}")))?;
        let table = self.inode_table(index / layout.inodes_per_group)?;
        let at = u64::from(index % layout.inodes_per_group) * layout.inode_size as u64;
        let size = layout.block_size as u64;
        Ok((table + at / size, (at % size) as usize))
    }

    fn inode_bytes(&mut self, number: u32) -> Result<Vec<u8>> {
        let (block, at) = self.inode_place(number)?;
        let size = self.layout.inode_size;
        Ok(self.read(block)?.get(at..at + size).unwrap_or_default().to_vec())
    }

    /// Reads an inode that a name leads to.
    pub(super) fn inode(&mut self, number: u32) -> Result<Inode> {
        let layout = self.layout;
        if (number < layout.first_inode && number != ROOT) || layout.special.contains(&number) {
            return Err(damaged(format!("a name leads to the inode {number} of the file system itself")));
        }
        let inode = Inode { number, bytes: self.inode_bytes(number)? };
        if let Some(seed) = layout.sums.of_inode(number, inode.generation()) {
            let has_upper = inode.extra() >= 4;
            let stored = u32::from(le16(&inode.bytes, 124)) | u32::from(le16(&inode.bytes, 130)) << 16;
            let sum = inode.sum(seed);
            if if has_upper { sum != stored } else { sum as u16 != stored as u16 } {
                return Err(damaged(format!("the checksum of inode {number} is wrong")));
            }
        }
        let extra = inode.extra();
        if extra + 128 > layout.inode_size.max(128) || !extra.is_multiple_of(4) || inode.links() == 0 {
            return Err(damaged(format!("a name leads to inode {number}, which is not sound")));
        }
        if let Some((_, told)) = FLAGS_REFUSED.iter().find(|(flag, _)| inode.has(*flag)) {
            let error = Error::unsupported(format!("inode {number} is {told}, which is not written offline"));
            return Err(error.with_hint("change it in the running system"));
        }
        Ok(inode)
    }

    /// Writes an inode with its checksum.
    pub(super) fn write_inode(&mut self, inode: &Inode) -> Result<()> {
        let mut bytes = inode.bytes.clone();
        if let Some(seed) = self.layout.sums.of_inode(inode.number, inode.generation()) {
            let sum = inode.sum(seed);
            put_le16(&mut bytes, 124, sum as u16);
            if inode.extra() >= 4 {
                put_le16(&mut bytes, 130, (sum >> 16) as u16);
            }
        }
        let (place, at) = self.inode_place(inode.number)?;
        let mut block = self.read(place)?;
        put(&mut block, at, &bytes);
        self.write(place, block)
    }

    /// Takes a free inode near `parent` and makes it an empty one of `kind`.
    pub(super) fn new_inode(&mut self, parent: &Inode, kind: Kind) -> Result<Inode> {
        let number = self.take_inode(parent.number, kind == Kind::Folder)?;
        if self.layout.special.contains(&number) {
            return Err(damaged(format!("inode {number} of the file system itself is marked free")));
        }
        let old = le32(&self.inode_bytes(number)?, 100);
        let mut inode = Inode { number, bytes: vec![0; self.layout.inode_size] };
        // Another generation than the file that had the number before: handles of NFS must not reach the new one.
        put_le32(&mut inode.bytes, 100, old.wrapping_add(1));
        if inode.bytes.len() > 128 {
            put_le16(&mut inode.bytes, 128, self.layout.extra_size);
        }
        if parent.has(FLAG_INHERIT_PROJECT) && parent.extra() >= 32 && inode.extra() >= 32 {
            put_le32(&mut inode.bytes, 156, le32(&parent.bytes, 156));
            if kind == Kind::Folder {
                inode.set_flags(FLAG_INHERIT_PROJECT);
            }
        }
        inode.set_times(self.now);
        inode.set_links(1);
        Ok(inode)
    }

    /// Writes an inode whose last name is gone, and frees it.
    pub(super) fn delete_inode(&mut self, mut inode: Inode) -> Result<()> {
        inode.touch(self.now, false);
        inode.set_links(0);
        inode.set_size(0);
        // The time of deletion must not look like the number of an inode, as lists of orphans have it there.
        let deleted = self.now.clamp(self.layout.inodes.into(), u32::MAX.into()) as u32;
        put_le32(&mut inode.bytes, 20, deleted);
        self.write_inode(&inode)?;
        self.free_inode(inode.number)
    }
}
