//! What the names of devices in a guest's files mean on this disk.

use crate::check::doctor::Doctor;
use crate::os::fstab::Spec;
use crate::report::{Filesystem, FilesystemKind};

/// What a device name leads to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'r> {
    /// A file system of this disk, by a name that another machine may give to another one.
    ByName(&'r Filesystem),
    /// A file system of this disk, by a name that stays.
    Stable(&'r Filesystem),
    /// Something that is not on this disk.
    Missing,
    /// No block device, or one of which nothing can be said.
    Other,
}

/// Names of disks by their drivers: SCSI, virtio, Xen, IDE, NVMe, SD card, and Compaq's controllers.
const DISKS: [&str; 7] = ["/dev/sd", "/dev/vd", "/dev/xvd", "/dev/hd", "/dev/nvme", "/dev/mmcblk", "/dev/cciss/"];
/// Tags and links that name one file system or partition.
const STABLE: [&str; 8] = [
    "UUID=",
    "LABEL=",
    "PARTUUID=",
    "PARTLABEL=",
    "/dev/disk/by-uuid/",
    "/dev/disk/by-label/",
    "/dev/disk/by-partuuid/",
    "/dev/disk/by-partlabel/",
];
/// Links that name hardware, of which this machine has other.
const HARDWARE: [&str; 2] = ["/dev/disk/by-id/", "/dev/disk/by-path/"];

impl Doctor<'_> {
    /// Returns what `device` means, as it is written in fstab or on a kernel's command line.
    pub(super) fn meaning(&self, device: &str) -> Meaning<'_> {
        let found = || {
            let spec = Spec::parse(device)?;
            self.report.filesystems.iter().find(|filesystem| spec.means(filesystem, &self.report.partitions))
        };
        let begins = |names: &[&str]| names.iter().any(|name| device.starts_with(name));
        if begins(&DISKS) {
            return found().map_or(Meaning::Missing, Meaning::ByName);
        }
        if begins(&STABLE) {
            return found().map_or(Meaning::Missing, Meaning::Stable);
        }
        if begins(&HARDWARE) { Meaning::Missing } else { self.mapped(device).unwrap_or(Meaning::Other) }
    }

    /// Returns what a name of the device-mapper means; none where it is not one.
    fn mapped(&self, device: &str) -> Option<Meaning<'_>> {
        let name = device.strip_prefix("/dev/mapper/")?;
        if let Some(found) = self.report.filesystems.iter().find(|found| found.device == device) {
            return Some(Meaning::Stable(found));
        }
        if let Some(beneath) = self.encrypted(name) {
            let is_mapped = beneath.starts_with("/dev/mapper/");
            let is_missing = !is_mapped && self.meaning(&beneath) == Meaning::Missing;
            return Some(if is_missing { Meaning::Missing } else { Meaning::Other });
        }
        // A group of this disk may have volumes that are not read here. Without one, the name is that of a volume, a RAID of
        // the firmware or a path to storage that other hardware has.
        let has_groups = self.report.filesystems.iter().any(|found| found.kind == FilesystemKind::Lvm2);
        Some(if has_groups { Meaning::Other } else { Meaning::Missing })
    }

    /// Returns what lies below the encrypted device that crypttab(5) calls `name`.
    fn encrypted(&self, name: &str) -> Option<String> {
        let text = self.draft.text("/etc/crypttab")?;
        let beneath = |line: &str| {
            let mut fields = line.split_ascii_whitespace();
            (fields.next()? == name).then(|| fields.next().map(str::to_owned))?
        };
        text.lines().find_map(beneath)
    }

    /// Returns the root file system.
    pub(super) fn root(&self) -> Option<&Filesystem> {
        let root = self.report.os.as_ref()?.root.as_deref()?;
        self.report.filesystems.iter().find(|found| found.device == root)
    }

    /// Returns the name of `filesystem` that stays on any machine: `UUID=...`, or that of its partition.
    pub(super) fn stable_name(&self, filesystem: &Filesystem) -> Option<String> {
        match &filesystem.uuid {
            Some(uuid) => Some(format!("UUID={uuid}")),
            None => self.partition_name(filesystem),
        }
    }

    /// Returns the name of the partition of `filesystem`, which a kernel knows without an initramfs: `PARTUUID=...`.
    pub(super) fn partition_name(&self, filesystem: &Filesystem) -> Option<String> {
        let number = filesystem.partition?;
        let uuid = self.report.partitions.iter().find(|partition| partition.number == number)?.uuid.as_ref()?;
        Some(format!("PARTUUID={uuid}"))
    }
}
