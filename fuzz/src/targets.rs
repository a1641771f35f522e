//! What each target does with an input, by its name.

use disk::Format;

use crate::{guests, seal, sound};

/// What a target does.
pub type Target = fn(&[u8]);

/// Returns the target called `name`.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}

const TARGETS: &[(&str, Target)] = &[
    ("guest_btrfs", guest_btrfs),
    ("guest_disk", guest_disk),
    ("guest_ext", guest_ext),
    ("guest_ext_write", guest_ext_write),
    ("guest_fat", guest_fat),
    ("guest_fat_write", guest_fat_write),
    ("guest_hive", guest_hive),
    ("guest_initramfs", guest_initramfs),
    ("guest_iso", guest_iso),
    ("guest_ntfs", guest_ntfs),
    ("guest_rpm", guest_rpm),
    ("guest_texts", guest_texts),
    ("guest_xfs", guest_xfs),
    ("luks", luks),
    ("ova", ova),
    ("parallels", parallels),
    ("qcow1", qcow1),
    ("qcow2", qcow2),
    ("qed", qed),
    ("vdi", vdi),
    ("vhd", vhd),
    ("vhdx", vhdx),
    ("vmdk", vmdk),
    ("wrap", wrap),
];

/// btrfs, damaged.
pub fn guest_btrfs(data: &[u8]) {
    guests::read(sound!("btrfs", "btrfs-subvolumes", "btrfs-packed"), seal::nothing, data)
}

/// Whole disks with partitions, volumes and a guest, damaged: inspected, examined and prepared.
pub fn guest_disk(data: &[u8]) {
    guests::prepare(sound!("gpt", "mbr", "lvm"), data)
}

/// ext2, ext3 and ext4, damaged.
pub fn guest_ext(data: &[u8]) {
    guests::read(sound!("ext2", "ext4", "ext4-journal"), seal::nothing, data)
}

/// ext2 and ext4, damaged and then changed.
pub fn guest_ext_write(data: &[u8]) {
    guests::write_ext(sound!("ext2", "ext4", "ext4-sums"), data)
}

/// FAT12, FAT16 and FAT32, damaged.
pub fn guest_fat(data: &[u8]) {
    guests::read(sound!("fat12", "fat16", "fat32"), seal::nothing, data)
}

/// FAT12, FAT16 and FAT32, damaged and then changed.
pub fn guest_fat_write(data: &[u8]) {
    guests::write_fat(sound!("fat12", "fat16", "fat32"), data)
}

/// Registry hives, damaged: read, changed, and examined as those of a Windows.
pub fn guest_hive(data: &[u8]) {
    guests::hive(sound!("hive"), data)
}

/// Initramfs in every compression, damaged.
pub fn guest_initramfs(data: &[u8]) {
    guests::initramfs(data)
}

/// ISO 9660 with and without Rock Ridge, damaged.
pub fn guest_iso(data: &[u8]) {
    guests::read(sound!("iso", "iso-rock-ridge"), seal::nothing, data)
}

/// NTFS, damaged.
pub fn guest_ntfs(data: &[u8]) {
    guests::read(sound!("ntfs"), seal::nothing, data)
}

/// Databases of rpm in each of its stores, damaged.
pub fn guest_rpm(data: &[u8]) {
    guests::rpm(data)
}

/// Texts of a Linux, damaged: configuration, lists of packages, tables of modules.
pub fn guest_texts(data: &[u8]) {
    guests::texts(data)
}

/// XFS of version 4 and 5, damaged.
pub fn guest_xfs(data: &[u8]) {
    guests::read(sound!("xfs4", "xfs5", "xfs-log"), seal::xfs, data)
}

/// LUKS files, damaged.
pub fn luks(data: &[u8]) {
    crate::open_and_read(data, Format::Luks)
}

/// OVA files, damaged.
pub fn ova(data: &[u8]) {
    crate::open_and_read(data, Format::Ova)
}

/// Parallels files, damaged.
pub fn parallels(data: &[u8]) {
    crate::open_and_read(data, Format::Parallels)
}

/// qcow version 1 files, damaged.
pub fn qcow1(data: &[u8]) {
    crate::open_and_read(data, Format::Qcow1)
}

/// qcow2 files, damaged.
pub fn qcow2(data: &[u8]) {
    crate::open_and_read(data, Format::Qcow2)
}

/// QED files, damaged.
pub fn qed(data: &[u8]) {
    crate::open_and_read(data, Format::Qed)
}

/// VDI files, damaged.
pub fn vdi(data: &[u8]) {
    crate::open_and_read(data, Format::Vdi)
}

/// VHD files, damaged.
pub fn vhd(data: &[u8]) {
    crate::open_and_read(data, Format::Vhd)
}

/// VHDX files, damaged.
pub fn vhdx(data: &[u8]) {
    crate::open_and_read(data, Format::Vhdx)
}

/// VMDK files, damaged.
pub fn vmdk(data: &[u8]) {
    crate::open_and_read(data, Format::Vmdk)
}

/// Files that are compressed as a whole, damaged: gzip, xz, zstd, bzip2 and zip.
pub fn wrap(data: &[u8]) {
    crate::unpack(data)
}
