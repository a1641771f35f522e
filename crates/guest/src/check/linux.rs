//! The checks of a Linux guest.

mod boot_lines;
mod caches;
mod cloud_init;
mod crypttab;
mod devices;
mod efi;
mod fstab;
mod identity;
mod kernels;
mod leaks;
mod logs;
mod network;
mod persistent_net;
mod tools;
mod xorg;

pub(crate) use logs::RECORD;

use super::doctor::Doctor;

/// Runs all checks, in an order in which a later one sees what an earlier one repaired.
pub(super) fn run(doctor: &mut Doctor<'_>) {
    fstab::check(doctor);
    crypttab::check(doctor);
    boot_lines::check(doctor);
    kernels::check(doctor);
    efi::check(doctor);
    caches::check(doctor);
    // What cloud-init will do decides how the network is set.
    cloud_init::check(doctor);
    network::check(doctor);
    persistent_net::check(doctor);
    tools::check(doctor);
    xorg::check(doctor);
    identity::check(doctor);
    leaks::check(doctor);
    logs::check(doctor);
}
