//! Drivers of disks: whether one that fits other hardware starts at boot, when nothing can be loaded yet.

use super::hive::{Hive, Wanted};
use super::virtio_win;
use crate::check::doctor::Doctor;
use crate::check::kinds::{BOOT_DRIVERS, FALLBACK_DRIVERS, VIRTIO_DISK};
use crate::registry::ValueData;
use crate::report::WindowsService;

pub(super) const VIRTIO: [&str; 2] = ["viostor", "vioscsi"];
/// What Windows itself has for IDE and SATA.
const COMMON: [&str; 5] = ["atapi", "intelide", "pciide", "storahci", "msahci"];

pub(super) fn check(doctor: &mut Doctor<'_>, hive: &Hive<'_>, software: Option<&Hive<'_>>) {
    // A driver that starts at boot and has no file stops the start, so only those with one count, and are touched.
    let there = |name: &&str| hive.service(name).filter(|service| service.is_file_there == Some(true));
    let virtio: Vec<WindowsService> = VIRTIO.iter().filter_map(there).collect();
    let common: Vec<WindowsService> = COMMON.iter().filter_map(there).collect();
    if virtio.is_empty() {
        let evidence = VIRTIO.map(|name| match hive.service(name) {
            Some(_) => hive.evidence(&format!(r"Services\{name}"), "ImagePath"),
            None => hive.evidence_of("Services", format!("{name}: (no such key)")),
        });
        let told =
            "There is no driver for virtio disks, so that Windows stops with INACCESSIBLE_BOOT_DEVICE (0x7B) on them";
        let told = format!("{told}{}.", virtio_win::supplied(doctor, &VIRTIO));
        if doctor.found(&VIRTIO_DISK, told, evidence.into()) {
            virtio_win::add_disk_drivers(doctor, hive, software);
        }
    }
    let wanted: Vec<Wanted> = virtio.iter().chain(&common).flat_map(|service| at_boot(hive, service)).collect();
    if wanted.is_empty() {
        return;
    }
    let (kind, told) = if virtio.iter().any(starts_at_boot) {
        (&FALLBACK_DRIVERS, "It starts on virtio disks, but not on every other kind that Windows has a driver for.")
    } else {
        (
            &BOOT_DRIVERS,
            "Drivers of disks do not start at boot, so that Windows cannot read its disk on other hardware.",
        )
    };
    if doctor.found(kind, told, hive.evidence_for(&wanted)) {
        hive.set(doctor, wanted);
    }
}

fn starts_at_boot(service: &WindowsService) -> bool {
    service.start == Some(0) && service.start_override.unwrap_or(0) == 0
}

/// Returns what lets a driver start at boot; `StartOverride` stands in for `Start` on the hardware that was.
fn at_boot(hive: &Hive<'_>, service: &WindowsService) -> impl Iterator<Item = Wanted> {
    let key = format!(r"Services\{}", service.name);
    let own = hive.wanted(&key, "Start", ValueData::dword(0));
    let instead = hive.wanted(&format!(r"{key}\StartOverride"), "0", ValueData::dword(0));
    own.into_iter().chain(instead)
}
