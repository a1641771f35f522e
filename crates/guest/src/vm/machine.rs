//! What the micro-VM is made of, and where that is missing.

use std::path::PathBuf;
use std::time::Duration;

use disk::error::Error;

/// What the micro-VM is made of, and how long it may run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// QEMU for x86-64.
    pub qemu: PathBuf,
    /// Folder of the kernels, `vmlinuz-VERSION`.
    pub kernels: PathBuf,
    /// Folder of the modules, in folders called by the version of their kernel.
    pub modules: PathBuf,
    /// ntfs-3g, the program that writes NTFS.
    pub ntfs_driver: PathBuf,
    /// Longest time of a run.
    pub time_limit: Duration,
    /// Longest time of a run of the guest's own programs.
    pub program_limit: Duration,
}

impl Default for Machine {
    /// QEMU and the newest kernel where Debian installs them; two minutes, of which some three seconds are used, and half an hour
    /// for programs, which install cloud-init in one or two minutes where a processor is emulated.
    fn default() -> Self {
        Self {
            qemu: "qemu-system-x86_64".into(),
            kernels: "/boot".into(),
            modules: "/lib/modules".into(),
            ntfs_driver: "/usr/bin/ntfs-3g".into(),
            time_limit: Duration::from_secs(120),
            program_limit: Duration::from_secs(1800),
        }
    }
}

/// Says that something needs the micro-VM and it cannot be had, with the way out.
pub(super) fn missing(what: &str) -> Error {
    Error::unsupported(format!("a micro-VM is needed for it, and there is no {what}"))
        .with_hint("install the Debian packages qemu-system-x86 and linux-image-cloud-amd64, and for NTFS ntfs-3g")
}
