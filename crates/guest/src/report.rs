//! What an inspection finds, as plain values.
//!
//! Every text that comes from the guest is cut to a length and has its control characters escaped, so that it
//! may be printed to a terminal as it is.

mod kernel;
mod network;
mod windows;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use kernel::{Driver, DriverState, Initramfs, Kernel};
pub use network::{Network, NetworkStack};
pub use windows::{CloudbaseInit, Windows, WindowsAdapter, WindowsProgram, WindowsService, WindowsVolume};

/// All that was found on one disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The partition table, unless the disk has none.
    pub partition_table: Option<PartitionTable>,
    /// Partitions in the order of their numbers.
    pub partitions: Vec<Partition>,
    /// File systems and other recognised contents (swap, LVM, LUKS), in the order of their place on the disk; those on
    /// logical volumes come last.
    pub filesystems: Vec<Filesystem>,
    /// The operating system, where one was found and its root could be read.
    pub os: Option<Os>,
    /// The others, where several systems share the disk; a snapshot of one is not another.
    pub other_systems: Vec<Os>,
    /// How the disk starts.
    pub boot: Boot,
    /// What was odd, broken, or left out: one sentence each, for people.
    pub notes: Vec<String>,
    /// Devices with a journal that could not be replayed in memory; a note tells of each.
    pub unreplayed: Vec<String>,
}

/// How a disk is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum PartitionTable {
    /// Master boot record, with logical partitions.
    Mbr,
    /// GUID partition table.
    Gpt,
}

impl PartitionTable {
    /// Returns `mbr` or `gpt`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mbr => "mbr",
            Self::Gpt => "gpt",
        }
    }
}

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Number as Linux counts it: 1 to 4 primary, from 5 logical; the place in the table for a GPT.
    pub number: u32,
    /// First byte on the disk.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// Type as it is stored: `0x83`, or a GUID in small letters.
    pub type_id: String,
    /// Type in words, such as `Linux` or `EFI System`; the same as `type_id` where it is not known.
    pub kind: String,
    /// Whether firmware is told to start from it: the active flag (MBR) or "legacy BIOS bootable" (GPT).
    pub bootable: bool,
    /// Whether it is typed as an EFI system partition.
    pub esp: bool,
    /// Name in the table (GPT only).
    pub name: Option<String>,
    /// What Linux calls PARTUUID: the GUID in small letters, or `<disk id>-<number>`.
    pub uuid: Option<String>,
}

/// Something recognised by its superblock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    /// Where it lies, as if the disk were the first one: `/dev/sda1`, `/dev/sda` for the whole disk, or
    /// `/dev/mapper/group-volume` for a logical volume.
    pub device: String,
    /// Number of its partition; none when it lies straight on the disk or on a logical volume.
    pub partition: Option<u32>,
    /// What it is.
    pub kind: FilesystemKind,
    /// UUID or serial number, as blkid writes it.
    pub uuid: Option<String>,
    /// Label.
    pub label: Option<String>,
    /// Size in bytes that its superblock claims, or that of the partition where the superblock does not say.
    pub size: u64,
    /// Bytes in use, where the superblock tells.
    pub used: Option<u64>,
    /// Where the guest's fstab mounts it.
    pub mounted_at: Option<String>,
}

/// Kinds of contents that are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FilesystemKind {
    /// Second extended file system.
    Ext2,
    /// The same with a journal.
    Ext3,
    /// The same with extents and their kin.
    Ext4,
    /// FAT12, FAT16 or FAT32.
    Vfat,
    /// Extended FAT.
    Exfat,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// NTFS.
    Ntfs,
    /// ISO 9660.
    Iso9660,
    /// Linux swap area.
    Swap,
    /// LUKS encrypted container.
    Luks,
    /// LVM2 physical volume.
    Lvm2,
}

impl FilesystemKind {
    /// Returns the name that blkid and libguestfs use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Vfat => "vfat",
            Self::Exfat => "exfat",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Ntfs => "ntfs",
            Self::Iso9660 => "iso9660",
            Self::Swap => "swap",
            Self::Luks => "crypto_LUKS",
            Self::Lvm2 => "LVM2_member",
        }
    }
}

impl fmt::Display for FilesystemKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The operating system of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Os {
    /// The family.
    pub kind: OsKind,
    /// Device of its root file system, as in [`Filesystem::device`].
    pub root: Option<String>,
    /// Distribution: `ID` of os-release, such as `debian`; `windows` for a Windows.
    pub distro: Option<String>,
    /// Version: `VERSION_ID` of os-release, such as `12` or `3.19.1`; `10.0` or `6.1` for a Windows.
    pub version: Option<String>,
    /// Name for people: `PRETTY_NAME` of os-release, or the name of the product.
    pub name: Option<String>,
    /// Architecture of its programs as `uname -m` says it: `x86_64`, `aarch64`, ...
    pub arch: Option<String>,
    /// Host name, when it is a valid one.
    pub hostname: Option<String>,
    /// What installs packages: `apt`, `dpkg`, `dnf`, `yum`, `zypper`, `rpm`, `apk` or `pacman`.
    pub package_manager: Option<String>,
    /// Versions of kernels, from the files in `/boot` and the folders of modules, newest last.
    pub kernels: Vec<String>,
    /// What each kernel that can be started has of drivers, newest last; empty unless it was asked for.
    pub boot_kernels: Vec<Kernel>,
    /// What sets up network adapters and is installed.
    pub network_stacks: Vec<NetworkStack>,
    /// What their files say of each adapter but the loopback.
    pub networks: Vec<Network>,
    /// cloud-init; none where it is not installed.
    pub cloud_init: Option<CloudInit>,
    /// Installed packages, sorted by name; empty unless they were asked for.
    pub packages: Vec<Package>,
    /// What only a Windows has.
    pub windows: Option<Box<Windows>>,
}

impl Os {
    pub(crate) fn new(kind: OsKind) -> Self {
        Self {
            kind,
            root: None,
            distro: None,
            version: None,
            name: None,
            arch: None,
            hostname: None,
            package_manager: None,
            kernels: Vec::new(),
            boot_kernels: Vec::new(),
            network_stacks: Vec::new(),
            networks: Vec::new(),
            cloud_init: None,
            packages: Vec::new(),
            windows: None,
        }
    }
}

/// Families of operating systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum OsKind {
    /// Linux.
    Linux,
    /// Windows.
    Windows,
}

impl OsKind {
    /// Returns `linux` or `windows`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Linux => "linux",
            Self::Windows => "windows",
        }
    }
}

/// An installed cloud-init.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudInit {
    /// Version of the package.
    pub version: Option<String>,
    /// Whether `/etc/cloud/cloud-init.disabled` or the kernel's command line switches it off.
    pub disabled: bool,
    /// Its `datasource_list`, in order; empty where it is not configured.
    pub datasources: Vec<String>,
}

/// An installed package.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Name.
    pub name: String,
    /// Version as its manager writes it, with epoch and release where it has them: `1:2.3-4.el9`.
    pub version: String,
    /// Architecture as its manager calls it; none where it has none.
    pub arch: Option<String>,
}

/// How a disk starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Whether there is something that a BIOS can start.
    pub bios: bool,
    /// Whether there is something that UEFI firmware can start.
    pub uefi: bool,
    /// The loader: `grub2`, `grub1`, `systemd-boot`, `syslinux` or `windows`.
    pub loader: Option<String>,
    /// What led to the above: one phrase each, for people.
    pub evidence: Vec<String>,
    /// The kernel's command line of the entry that is started by default; longer ones than 2048 characters are cut.
    pub command_line: Option<String>,
    /// The file of the guest that has it.
    pub command_line_from: Option<String>,
}
