//! What programs remember of the disks of the machine before.

use crate::check::doctor::{Doctor, at};
use crate::check::kinds::{DEVICE_CACHE, DEVICES_FILE};

/// Maps of GRUB, caches of blkid and LVM; each is made again when it is needed.
const CACHES: [&str; 7] = [
    "/boot/grub/device.map",
    "/boot/grub2/device.map",
    "/etc/blkid.tab",
    "/etc/blkid/blkid.tab",
    "/etc/blkid.tab.old",
    "/etc/lvm/cache/.cache",
    "/etc/lvm/.cache",
];
const DEVICES: &str = "/etc/lvm/devices/system.devices";

pub(super) fn check(doctor: &mut Doctor<'_>) {
    let there: Vec<&str> = CACHES.into_iter().filter(|path| doctor.draft.exists(path)).collect();
    let evidence = there.iter().map(|path| at(path)).collect();
    let told = "Programs remember disks of the machine that the guest ran on.";
    if !there.is_empty() && doctor.found(&DEVICE_CACHE, told, evidence) {
        there.iter().for_each(|path| doctor.draft.remove(path));
    }
    let told = "LVM uses only the disks on a list, which names those of the machine before.";
    if doctor.draft.exists(DEVICES) && doctor.found(&DEVICES_FILE, told, vec![at(DEVICES)]) {
        doctor.draft.remove(DEVICES);
    }
}
