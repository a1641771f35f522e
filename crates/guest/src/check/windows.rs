//! The checks of a Windows guest. What they repair are values of its registry; where drivers were supplied, they are put in.

mod cloud;
mod drivers;
mod hive;
mod input;
mod leaks;
mod network;
mod settings;
mod storage;
mod tools;
mod virtio_win;
mod volumes;

use self::hive::Hive;
use super::doctor::Doctor;
use crate::os::windows::registry::{Registry, load};

/// Runs all checks.
pub(super) fn run(doctor: &mut Doctor<'_>) {
    let tree = doctor.tree;
    volumes::check(doctor);
    let (system, software) = (load(tree, "SYSTEM"), load(tree, "SOFTWARE"));
    let software = software.as_ref().and_then(|bytes| Registry::open(tree, "SOFTWARE", bytes));
    let software = software.map(|software| Hive::new(doctor, software, ""));
    if let Some(system) = system.as_ref().and_then(|bytes| Registry::open(tree, "SYSTEM", bytes)) {
        let set = system.control_set();
        let hive = Hive::new(doctor, system, &set);
        volumes::check_hive(doctor, &hive);
        storage::check(doctor, &hive, software.as_ref());
        drivers::check_network(doctor, &hive, software.as_ref());
        network::check(doctor, &hive);
        input::check(doctor, &hive);
        tools::check(doctor, &hive);
        drivers::check_scanners(doctor, &hive);
        cloud::check_cloudbase(doctor, &hive);
        settings::check(doctor, &hive);
    }
    if let Some(software) = &software {
        drivers::check_policy(doctor, software);
        cloud::check_image_state(doctor, software);
        leaks::check_logon(doctor, software);
    }
    leaks::check_files(doctor);
}
