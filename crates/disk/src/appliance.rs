//! What a virtual appliance asks for: its disks, and the machine that its descriptor (OVF) wants for them.

use std::fmt;

/// An appliance as its descriptor tells it. Everything but the disks is a wish that whoever runs it may overrule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Appliance {
    /// The name of the virtual machine; may be empty.
    pub name: String,
    /// Product, version and vendor in one line, if the descriptor has them.
    pub product: Option<String>,
    /// What starts the guest, if the descriptor says so. VirtualBox and VMware take BIOS if it does not.
    pub firmware: Option<Firmware>,
    /// Virtual processors.
    pub vcpus: Option<u32>,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// The type of each network card, such as "E1000"; empty where none is named.
    pub nics: Vec<String>,
    /// The disk controllers.
    pub controllers: Vec<Controller>,
    /// The guest operating system.
    pub os: Option<GuestOs>,
    /// The disks, in the order of the descriptor.
    pub disks: Vec<ApplianceDisk>,
    /// Sentences for people about what was passed over.
    pub notes: Vec<String>,
}

/// What starts the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// The BIOS of a PC.
    Bios,
    /// UEFI.
    Efi,
}

impl Firmware {
    /// Returns the name used on command lines and in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Efi => "efi",
        }
    }
}

/// A disk controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// How disks are attached to it.
    pub bus: Bus,
    /// Its model, such as "lsilogic"; empty if none is named.
    pub model: String,
}

/// How a disk is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bus {
    /// Parallel ATA.
    Ide,
    /// SCSI of any kind.
    Scsi,
    /// Serial ATA (AHCI).
    Sata,
    /// NVM Express.
    Nvme,
    /// Another storage controller.
    Other,
}

impl Bus {
    /// Returns the name used on command lines and in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ide => "ide",
            Self::Scsi => "scsi",
            Self::Sata => "sata",
            Self::Nvme => "nvme",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The guest operating system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestOs {
    /// Its number in `CIM_OperatingSystem.OSType` of DMTF, such as 96 for Debian of 64 bits.
    pub cim_id: Option<u16>,
    /// What VMware or VirtualBox calls it, such as "debian12_64Guest"; empty if neither is named.
    pub kind: String,
    /// Its description for people; may be empty.
    pub description: String,
}

/// A disk of an appliance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApplianceDisk {
    /// Its name in the descriptor.
    pub id: String,
    /// The file in the archive that holds it; a disk without one begins blank.
    pub file: Option<String>,
    /// Bytes of that file.
    pub file_size: u64,
    /// The size of the disk in bytes, unless it is left to a property that the user sets.
    pub capacity_bytes: Option<u64>,
    /// What its file is said to be: the address of a specification; empty if it is not said.
    pub format: String,
    /// How it is attached, if the descriptor attaches it.
    pub bus: Option<Bus>,
}

/// Which files of an archive have the digest that its manifest gives for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Files whose digest is right; none if the archive has no manifest.
    pub files: Vec<String>,
    /// Files that the manifest does not list.
    pub unlisted: Vec<String>,
}
