//! The formats a disk file can be in, and their names.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// What a file is. Some are only recognised, so that they are refused by name and not taken for raw disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Format {
    /// The disk itself, byte for byte.
    Raw,
    /// QEMU copy-on-write, version 2 or 3.
    Qcow2,
    /// Virtual PC and Hyper-V hard disk, fixed or dynamic.
    Vhd,
    /// VirtualBox disk.
    Vdi,
    /// VMware disk.
    Vmdk,
    /// Hyper-V hard disk, second generation. Recognised only.
    Vhdx,
    /// QEMU copy-on-write, version 1. Recognised only.
    Qcow1,
    /// QEMU enhanced disk. Recognised only.
    Qed,
    /// Parallels and Virtuozzo disk. Recognised only.
    Parallels,
    /// Optical disc (ISO 9660 or UDF). Recognised only.
    Iso,
    /// Disk encrypted by LUKS. Recognised only.
    Luks,
    /// gzip-compressed file. Recognised only.
    Gzip,
    /// xz-compressed file. Recognised only.
    Xz,
    /// zstd-compressed file. Recognised only.
    Zstd,
    /// bzip2-compressed file. Recognised only.
    Bzip2,
    /// zip archive. Recognised only.
    Zip,
    /// tar archive, such as an OVA. Recognised only.
    Tar,
}

impl Format {
    /// Every format, in the order of declaration.
    pub const ALL: &'static [Self] = &[
        Self::Raw,
        Self::Qcow2,
        Self::Vhd,
        Self::Vdi,
        Self::Vmdk,
        Self::Vhdx,
        Self::Qcow1,
        Self::Qed,
        Self::Parallels,
        Self::Iso,
        Self::Luks,
        Self::Gzip,
        Self::Xz,
        Self::Zstd,
        Self::Bzip2,
        Self::Zip,
        Self::Tar,
    ];

    /// Returns the name used on command lines and in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vhd => "vhd",
            Self::Vdi => "vdi",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
            Self::Qcow1 => "qcow1",
            Self::Qed => "qed",
            Self::Parallels => "parallels",
            Self::Iso => "iso",
            Self::Luks => "luks",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Zip => "zip",
            Self::Tar => "tar",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::ALL.iter().copied().find(|format| format.as_str() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|format| format.as_str()).collect();
            Error::new(ErrorKind::Unsupported, format!("no disk format is called {text:?}"))
                .with_hint(format!("known names: {}", names.join(", ")))
        })
    }
}
