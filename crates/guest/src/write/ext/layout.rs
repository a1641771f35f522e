//! What the superblock says, and whether a file system in that state and with those features may be written.
//!
//! Layout: the kernel's "ext4 Data Structures and Algorithms", Super Block and Block Group Descriptors.

use std::ops::Range;

use disk::error::{Error, ErrorKind, Result};

use super::checksum::{Sums, crc16, crc32c};
use crate::fields::{le16, le32, put_le32};

pub(super) const SUPERBLOCK_AT: u64 = 1024;
pub(super) const SUPERBLOCK_SIZE: usize = 1024;

pub(super) const BLOCK_SIZE_MAX: u64 = 64 << 10;
/// Most block groups, whose descriptors are read at once: 32 TiB with usual groups.
const GROUPS_MAX: u64 = 256 << 10;

const STATE_CLEAN: u16 = 0x1;
const STATE_ERRORS: u16 = 0x2;

const COMPAT_SPARSE_SUPER2: u32 = 0x200;
pub(super) const COMPAT_DIR_INDEX: u32 = 0x20;
pub(super) const INCOMPAT_FILETYPE: u32 = 0x2;
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_META_BG: u32 = 0x10;
pub(super) const INCOMPAT_EXTENTS: u32 = 0x40;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_CHECKSUM_SEED: u32 = 0x2000;
const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
pub(super) const RO_COMPAT_LARGE_FILE: u32 = 0x2;
const RO_COMPAT_GDT_CSUM: u32 = 0x10;
pub(super) const RO_COMPAT_DIR_NLINK: u32 = 0x20;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;

/// Features that change what a reader must know, and are known here.
const INCOMPAT_KNOWN: u32 = INCOMPAT_FILETYPE
    | INCOMPAT_META_BG
    | INCOMPAT_EXTENTS
    | INCOMPAT_64BIT
    | 0x200 // flex_bg
    | 0x400 // ea_inode: refused where an inode has such a value
    | INCOMPAT_CHECKSUM_SEED
    | 0x4000 // large_dir: a third level of an index is refused where it is met
    | 0x8000; // inline_data: refused where an inode has it
/// Features that change what a writer must know, and are known here.
const RO_COMPAT_KNOWN: u32 = RO_COMPAT_SPARSE_SUPER
    | RO_COMPAT_LARGE_FILE
    | 0x8 // huge_file
    | RO_COMPAT_GDT_CSUM
    | RO_COMPAT_DIR_NLINK
    | 0x40 // extra_isize
    | RO_COMPAT_METADATA_CSUM
    | 0x2000; // project: ids are kept; nothing is counted by them

/// Names of features for people; bits without a name are told as numbers.
const INCOMPAT_NAMES: [(u32, &str); 6] = [
    (0x1, "compression"),
    (0x8, "journal_dev"),
    (0x100, "mmp"),
    (0x1000, "dirdata"),
    (0x1_0000, "encrypt"),
    (0x2_0000, "casefold"),
];
const RO_COMPAT_NAMES: [(u32, &str); 7] = [
    (0x80, "has_snapshot"),
    (0x100, "quota"),
    (0x200, "bigalloc"),
    (0x800, "replica"),
    (0x1000, "read-only"),
    (0x4000, "shared_blocks"),
    (0x8000, "verity"),
];
const RO_COMPAT_ORPHAN_PRESENT: u32 = 0x1_0000;

/// The numbers of a file system that no operation changes.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) block_size: usize,
    pub(super) first_block: u64,
    pub(super) blocks: u64,
    pub(super) blocks_per_group: u32,
    pub(super) groups: u32,
    pub(super) inodes: u32,
    pub(super) inodes_per_group: u32,
    pub(super) first_inode: u32,
    pub(super) inode_size: usize,
    pub(super) extra_size: u16,
    pub(super) descriptor_size: usize,
    pub(super) sums: Sums,
    pub(super) compat: u32,
    pub(super) incompat: u32,
    pub(super) ro_compat: u32,
    pub(super) hash_seed: [u32; 4],
    pub(super) is_hash_unsigned: bool,
    /// Inodes without a name that the superblock points at.
    pub(super) special: [u32; 3],
    reserved_descriptor_blocks: u64,
    first_meta_group: u32,
    backups: [u32; 2],
}

impl Layout {
    /// Reads the superblock of a file system in a place of `length` bytes.
    ///
    /// # Errors
    ///
    /// Tells why the file system may not be written, and the way out.
    pub(super) fn parse(bytes: &[u8], length: u64) -> Result<Self> {
        if bytes.len() < SUPERBLOCK_SIZE || le16(bytes, 56) != 0xef53 {
            return Err(Error::new(ErrorKind::WrongFormat, "there is no superblock of ext2, ext3 or ext4"));
        }
        let is_first_revision = le32(bytes, 76) == 0;
        let feature = |at: usize| if is_first_revision { 0 } else { le32(bytes, at) };
        let (compat, incompat, ro_compat) = (feature(92), feature(96), feature(100));
        let sums = check_sum(bytes, incompat, ro_compat)?;
        check_features(incompat, ro_compat)?;
        check_state(bytes, incompat, ro_compat)?;
        if le32(bytes, 76) > 1 || le32(bytes, 72) == 1 {
            return Err(Error::unsupported("the file system is of an unknown revision or of the Hurd"));
        }
        let is_wide = incompat & INCOMPAT_64BIT != 0;
        let high = if is_wide { u64::from(le32(bytes, 0x150)) } else { 0 };
        let blocks = u64::from(le32(bytes, 4)) | high << 32;
        let block_size = 1024_u64.checked_shl(le32(bytes, 24)).unwrap_or(0);
        let layout = Self {
            block_size: block_size as usize,
            first_block: le32(bytes, 20).into(),
            blocks,
            blocks_per_group: le32(bytes, 32),
            groups: 0,
            inodes: le32(bytes, 0),
            inodes_per_group: le32(bytes, 40),
            first_inode: if is_first_revision { 11 } else { le32(bytes, 84) },
            inode_size: if is_first_revision { 128 } else { le16(bytes, 88).into() },
            extra_size: le16(bytes, 0x15e),
            descriptor_size: if is_wide { le16(bytes, 0xfe).into() } else { 32 },
            sums,
            compat,
            incompat,
            ro_compat,
            hash_seed: [0xec, 0xf0, 0xf4, 0xf8].map(|at| le32(bytes, at)),
            is_hash_unsigned: le32(bytes, 0x160) & 0x2 != 0,
            special: [0xe0, 0x26c, 0x280].map(|at| le32(bytes, at)),
            reserved_descriptor_blocks: le16(bytes, 0xce).into(),
            first_meta_group: le32(bytes, 0x104),
            backups: [0x24c, 0x250].map(|at| le32(bytes, at)),
        };
        layout.checked(le32(bytes, 28) == le32(bytes, 24), length)
    }

    fn checked(mut self, is_cluster_a_block: bool, length: u64) -> Result<Self> {
        let bits = self.block_size as u64 * 8;
        let is_first_right = self.first_block == u64::from(self.block_size == 1024);
        let is_sound = (1024..=BLOCK_SIZE_MAX).contains(&(self.block_size as u64))
            && is_cluster_a_block
            && is_first_right
            && self.blocks > self.first_block
            && (8..=bits).contains(&u64::from(self.blocks_per_group))
            && self.blocks_per_group.is_multiple_of(8)
            && (8..=bits).contains(&u64::from(self.inodes_per_group))
            && self.inodes_per_group.is_multiple_of(8)
            && (128..=self.block_size).contains(&self.inode_size)
            && self.inode_size.is_power_of_two()
            && (32..=self.block_size).contains(&self.descriptor_size)
            && self.descriptor_size.is_power_of_two()
            && (self.descriptor_size >= 64 || self.incompat & INCOMPAT_64BIT == 0)
            && (3..=self.inodes_per_group).contains(&self.first_inode);
        if !is_sound {
            return Err(Error::corrupt("the sizes in the superblock do not fit each other").with_hint(CHECK));
        }
        if self.blocks.checked_mul(self.block_size as u64).is_none_or(|size| size > length) {
            return Err(Error::corrupt("the file system is larger than the place it lies in"));
        }
        let groups = (self.blocks - self.first_block).div_ceil(self.blocks_per_group.into());
        if groups > GROUPS_MAX {
            let told = format!("the file system has {groups} block groups; {GROUPS_MAX} is the limit");
            return Err(Error::new(ErrorKind::TooLarge, told));
        }
        self.groups = groups as u32;
        if u64::from(self.inodes) != groups * u64::from(self.inodes_per_group) {
            return Err(Error::corrupt("the superblock counts more or fewer inodes than its groups").with_hint(CHECK));
        }
        let extra = usize::from(self.extra_size);
        if extra < 4 || !extra.is_multiple_of(4) || 128 + extra > self.inode_size {
            self.extra_size = if self.inode_size >= 160 { 32 } else { 0 };
        }
        Ok(self)
    }

    /// Puts the checksum into `superblock`.
    pub(super) fn sum_superblock(&self, superblock: &mut [u8]) {
        if let Sums::All(_) = self.sums {
            let sum = crc32c(u32::MAX, &superblock[..1020]);
            put_le32(superblock, 1020, sum);
        }
    }

    pub(super) fn has_extents(&self) -> bool {
        self.incompat & INCOMPAT_EXTENTS != 0
    }

    /// Returns whether groups may have bitmaps that were never written.
    pub(super) fn has_lazy_groups(&self) -> bool {
        self.sums != Sums::None
    }

    pub(super) fn group_start(&self, group: u32) -> u64 {
        self.first_block + u64::from(group) * u64::from(self.blocks_per_group)
    }

    /// Returns how many blocks `group` has: the last one may be shorter.
    pub(super) fn group_length(&self, group: u32) -> u32 {
        (self.blocks - self.group_start(group)).min(self.blocks_per_group.into()) as u32
    }

    /// Returns the group of `block`, which must be one of the file system and not the boot block.
    pub(super) fn group_of(&self, block: u64) -> u32 {
        ((block.saturating_sub(self.first_block)) / u64::from(self.blocks_per_group)) as u32
    }

    /// Returns whether `count` blocks from `block` on lie in the file system, past its first superblock.
    pub(super) fn holds(&self, block: u64, count: u64) -> bool {
        block > self.first_block && block.checked_add(count).is_some_and(|end| end <= self.blocks)
    }

    fn descriptors_per_block(&self) -> u32 {
        (self.block_size / self.descriptor_size) as u32
    }

    /// Returns the block and the place in it where the descriptor of `group` lies.
    pub(super) fn descriptor_place(&self, group: u32) -> (u64, usize) {
        let number = group / self.descriptors_per_block();
        let at = (group % self.descriptors_per_block()) as usize * self.descriptor_size;
        if !self.is_meta(number) {
            return (self.first_block + 1 + u64::from(number), at);
        }
        let first = number * self.descriptors_per_block();
        (self.group_start(first) + u64::from(self.has_superblock(first)), at)
    }

    fn is_meta(&self, descriptor_block: u32) -> bool {
        self.incompat & INCOMPAT_META_BG != 0 && descriptor_block >= self.first_meta_group
    }

    /// Returns whether `group` begins with the superblock or a copy of it.
    fn has_superblock(&self, group: u32) -> bool {
        let is_power = |base: u32| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        if group == 0 {
            true
        } else if self.compat & COMPAT_SPARSE_SUPER2 != 0 {
            self.backups.contains(&group)
        } else if self.ro_compat & RO_COMPAT_SPARSE_SUPER != 0 {
            group == 1 || is_power(3) || is_power(5) || is_power(7)
        } else {
            true
        }
    }

    /// Returns the blocks at the start of `group` that hold copies of the superblock and of descriptors.
    pub(super) fn head_of_group(&self, group: u32) -> Range<u64> {
        let start = self.group_start(group);
        let mut length = u64::from(self.has_superblock(group));
        let per_block = self.descriptors_per_block();
        if self.is_meta(group / per_block) {
            // A meta group has its descriptors in its first, second and last group.
            length += u64::from([0, 1, per_block - 1].contains(&(group % per_block)));
        } else if length > 0 {
            let all = self.groups.div_ceil(per_block);
            let is_mixed = self.incompat & INCOMPAT_META_BG != 0;
            let plain = if is_mixed { all.min(self.first_meta_group) } else { all };
            length += u64::from(plain) + if is_mixed { 0 } else { self.reserved_descriptor_blocks };
        }
        start..(start + length).min(self.blocks)
    }
}

/// What to do about damage.
pub(super) const CHECK: &str = "repair the file system with e2fsck first";

fn check_sum(bytes: &[u8], incompat: u32, ro_compat: u32) -> Result<Sums> {
    if ro_compat & RO_COMPAT_METADATA_CSUM == 0 {
        let is_summed = ro_compat & RO_COMPAT_GDT_CSUM != 0;
        return Ok(if is_summed { Sums::Groups(crc16(u16::MAX, &bytes[0x68..0x78])) } else { Sums::None });
    }
    if bytes[0x175] != 1 {
        return Err(Error::unsupported("the checksums of the file system are of an unknown kind"));
    }
    if crc32c(u32::MAX, &bytes[..1020]) != le32(bytes, 1020) {
        return Err(Error::corrupt("the checksum of the superblock is wrong").with_hint(CHECK));
    }
    let has_seed = incompat & INCOMPAT_CHECKSUM_SEED != 0;
    Ok(Sums::All(if has_seed { le32(bytes, 0x270) } else { crc32c(u32::MAX, &bytes[0x68..0x78]) }))
}

fn check_features(incompat: u32, ro_compat: u32) -> Result<()> {
    let unknown = incompat & !INCOMPAT_KNOWN & !INCOMPAT_RECOVER;
    let unknown_to_writers = ro_compat & !RO_COMPAT_KNOWN & !RO_COMPAT_ORPHAN_PRESENT;
    let names = [told(unknown, &INCOMPAT_NAMES), told(unknown_to_writers, &RO_COMPAT_NAMES)].concat();
    if names.is_empty() {
        return Ok(());
    }
    let error = format!("the file system has features that are not written offline: {}", names.join(", "));
    Err(Error::unsupported(error).with_hint(if ro_compat & 0x100 != 0 {
        // Their files would not fit what is used any more, and e2fsck finds that an error.
        "change the files in a running system, or turn quotas off with `tune2fs -O ^quota`"
    } else {
        "change the files in a running system"
    }))
}

fn told(bits: u32, names: &[(u32, &str)]) -> Vec<String> {
    let set = (0..32).map(|shift| 1_u32 << shift).filter(|bit| bits & bit != 0);
    set.map(|bit| match names.iter().find(|(known, _)| *known == bit) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("{bit:#x}"),
    })
    .collect()
}

fn check_state(bytes: &[u8], incompat: u32, ro_compat: u32) -> Result<()> {
    let state = le16(bytes, 58);
    let (reason, hint) = if incompat & INCOMPAT_RECOVER != 0 {
        let hint = "start the system once and shut it down, or run e2fsck, so that the journal is replayed";
        ("the file system was not shut down cleanly: its journal holds changes", hint)
    } else if state & STATE_ERRORS != 0 {
        ("the file system is marked as having errors", CHECK)
    } else if state & STATE_CLEAN == 0 {
        ("the file system was not unmounted cleanly", CHECK)
    } else if le32(bytes, 0xe8) != 0 || ro_compat & RO_COMPAT_ORPHAN_PRESENT != 0 {
        let hint = "start the system once and shut it down, or run e2fsck";
        ("the file system has files that wait to be deleted", hint)
    } else {
        return Ok(());
    };
    Err(Error::refused(reason).with_hint(hint))
}
