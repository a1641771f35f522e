//! What a kernel has to start with on another machine.

use serde::{Deserialize, Serialize};

/// A kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Version, as in [`Os::kernels`](super::Os::kernels).
    pub version: String,
    /// Whether it starts under Xen in paravirtual mode only; none where its configuration is not there.
    pub xen_pv_only: Option<bool>,
    /// Its initramfs; none where none was found.
    pub initramfs: Option<Initramfs>,
    /// What a virtual machine with virtio devices needs.
    pub drivers: Vec<Driver>,
}

/// An initramfs, or what stands in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Initramfs {
    /// Where it is in the guest.
    pub path: String,
    /// What made it: `dracut`, `initramfs-tools`, `mkinitcpio`, `mkinitfs`, `mkinitrd` or `booster`.
    pub generator: Option<String>,
    /// What its last part is compressed with: `gzip`, `bzip2`, `lzma`, `xz`, `lzop`, `lz4` or `zstd`.
    pub compression: Option<String>,
    /// Whether it was read to its end; a note says why not.
    pub complete: bool,
    /// Whether the kernel finds what is appended to it: after lz4 and lzop it does not.
    pub appendable: bool,
    /// Modules for disks, networks and file systems, as the kernel calls them, sorted.
    pub modules: Vec<String>,
    /// The folder that the kernel's modules are in there, such as `usr/lib/modules/6.1.0`; none where it has none.
    pub modules_folder: Option<String>,
    /// Rules of udev that tie the names of network interfaces to the hardware.
    pub persistent_net_rules: Vec<String>,
    /// Scripts that run at the start.
    pub hooks: Vec<String>,
    /// `path: content` of files in which its maker wrote down settings, such as `root=`.
    pub settings: Vec<String>,
}

/// A driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// Name of the module.
    pub name: String,
    /// Where it is.
    pub state: DriverState,
    /// Files that an initramfs lacks for it, in the order in which they are loaded ([`DriverState::Module`]).
    pub files: Vec<String>,
}

/// Where a driver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DriverState {
    /// In the kernel itself.
    Builtin,
    /// In the initramfs, with all that it depends on.
    Initramfs,
    /// Among the modules of the root file system only.
    Module,
    /// Nowhere.
    Missing,
    /// Nothing tells.
    Unknown,
}

impl DriverState {
    /// Returns `builtin`, `initramfs`, `module`, `missing` or `unknown`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Initramfs => "initramfs",
            Self::Module => "module",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }
}
