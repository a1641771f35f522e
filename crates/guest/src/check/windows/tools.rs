//! Services and drivers of other hypervisors, which start with the guest.

use super::hive::{Hive, Wanted};
use crate::check::doctor::Doctor;
use crate::check::finding::Evidence;
use crate::check::kinds::{FOREIGN_DRIVERS, HYPERVISOR_TOOLS};
use crate::registry::ValueData;

/// Programs, and drivers without a device, that nothing else waits for.
const SAFE: [&str; 14] = [
    "VMTools",
    "VGAuthService",
    "VMUpgradeHelper",
    "VMware Physical Disk Helper Service",
    "vmmemctl",
    "vmhgfs",
    "VBoxService",
    "VBoxSF",
    "XenSvc",
    "xenagent",
    "xenlite",
    "xenvss",
    "prl_tools",
    "prl_fs",
];
/// Beginnings of names of all that belongs to another hypervisor, in small letters.
const FOREIGN: [&str; 13] = [
    "xen",
    "vmware",
    "vmtools",
    "vgauth",
    "vmci",
    "vmhgfs",
    "vmmouse",
    "vmxnet",
    "pvscsi",
    "vm3dmp",
    "vbox",
    "prl_",
    "parallels",
];
const NEVER: u32 = 4;

pub(super) fn check(doctor: &mut Doctor<'_>, hive: &Hive<'_>) {
    // What starts on demand waits for a device or a program that is not there.
    let starts = |name: &str| hive.number(&format!(r"Services\{name}"), "Start").is_some_and(|start| start <= 2);
    let safe = SAFE.iter().filter(|name| starts(name));
    let wanted: Vec<Wanted> =
        safe.filter_map(|name| hive.wanted(&format!(r"Services\{name}"), "Start", ValueData::dword(NEVER))).collect();
    let services = doctor.report.os.iter().filter_map(|os| os.windows.as_ref()).flat_map(|found| &found.services);
    let is_foreign = |name: &str| {
        let name = name.to_ascii_lowercase();
        FOREIGN.iter().any(|start| name.starts_with(start)) && !SAFE.iter().any(|safe| safe.eq_ignore_ascii_case(&name))
    };
    let others: Vec<Evidence> = services
        .filter(|service| is_foreign(&service.name) && starts(&service.name))
        .map(|service| hive.evidence(&format!(r"Services\{}", service.name), "Start"))
        .collect();
    if !others.is_empty() {
        let told = "Drivers of another hypervisor start with the guest. They may be part of its disks or network.";
        doctor.tell(&FOREIGN_DRIVERS, told, others);
    }
    if wanted.is_empty() {
        return;
    }
    let told = "Services of another hypervisor start with the guest.";
    if doctor.found(&HYPERVISOR_TOOLS, told, hive.evidence_for(&wanted)) {
        hive.set(doctor, wanted);
    }
}
