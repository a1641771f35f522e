//! The formats a disk file can be in, and their names.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// What a file is.
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
    /// Hyper-V hard disk, second generation.
    Vhdx,
    /// QEMU copy-on-write, version 1.
    Qcow1,
    /// QEMU enhanced disk.
    Qed,
    /// Parallels and Virtuozzo disk.
    Parallels,
    /// Optical disc (ISO 9660 or UDF).
    Iso,
    /// Disk encrypted by LUKS.
    Luks,
    /// gzip-compressed file.
    Gzip,
    /// xz-compressed file.
    Xz,
    /// zstd-compressed file.
    Zstd,
    /// bzip2-compressed file.
    Bzip2,
    /// zip archive.
    Zip,
    /// tar archive with an OVF descriptor and disks, as virtual appliances come.
    Ova,
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
        Self::Ova,
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
            Self::Ova => "ova",
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
        // As QEMU calls them.
        let text = match text {
            "vpc" => "vhd",
            "qcow" => "qcow1",
            other => other,
        };
        Self::ALL.iter().copied().find(|format| format.as_str() == text).ok_or_else(|| {
            if matches!(text, "zvhd" | "zvhd2") {
                return Error::unsupported(format!("{text} is a format of Huawei Cloud whose layout is not public"))
                    .with_hint("export the image as qcow2, vhd, vmdk or raw there");
            }
            let names: Vec<_> = Self::ALL.iter().map(|format| format.as_str()).collect();
            Error::new(ErrorKind::Unsupported, format!("no disk format is called {text:?}"))
                .with_hint(format!("known names: {}", names.join(", ")))
        })
    }
}
