//! Services of other hypervisors, which wait for what is not there.

use crate::check::doctor::{Doctor, at};
use crate::check::kinds::HYPERVISOR_TOOLS;

/// Services of VMware, VirtualBox, Xen, Parallels and Azure, as systemd and older systems name them.
const SERVICES: [&str; 14] = [
    "vmware-tools",
    "vmware-tools-thinprint",
    "vmtoolsd",
    "open-vm-tools",
    "vgauthd",
    "vboxadd",
    "vboxadd-service",
    "vboxservice",
    "virtualbox-guest-utils",
    "xe-linux-distribution",
    "xe-daemon",
    "prltoolsd",
    "walinuxagent",
    "waagent",
];
const DECIDED: &str = "/etc/systemd/system";
const UNITS: [&str; 3] = [DECIDED, "/usr/lib/systemd/system", "/lib/systemd/system"];
const TARGETS: [&str; 3] = ["multi-user.target.wants", "graphical.target.wants", "basic.target.wants"];
/// Folders of start links, for the levels in which a network is there.
const LEVELS: [&str; 8] = [
    "/etc/rc2.d",
    "/etc/rc3.d",
    "/etc/rc4.d",
    "/etc/rc5.d",
    "/etc/rc.d/rc2.d",
    "/etc/rc.d/rc3.d",
    "/etc/rc.d/rc4.d",
    "/etc/rc.d/rc5.d",
];

pub(super) fn check(doctor: &mut Doctor<'_>) {
    let units: Vec<String> =
        SERVICES.iter().map(|name| format!("{name}.service")).filter(|name| starts(doctor, name)).collect();
    let links: Vec<String> = LEVELS
        .iter()
        .flat_map(|folder| doctor.tree.names(folder, 1024).into_iter().map(move |name| format!("{folder}/{name}")))
        .filter(|path| path.rsplit('/').next().is_some_and(is_start_link))
        .collect();
    if units.is_empty() && links.is_empty() {
        return;
    }
    let evidence =
        units.iter().map(|name| at(&format!("{DECIDED}/{name}"))).chain(links.iter().map(|path| at(path))).collect();
    let told = "Services of another hypervisor start with the guest.";
    if doctor.found(&HYPERVISOR_TOOLS, told, evidence) {
        units.iter().for_each(|name| doctor.draft.link(&format!("{DECIDED}/{name}"), "/dev/null"));
        links.iter().for_each(|path| doctor.draft.remove(path));
    }
}

/// Returns whether a unit is enabled, not masked, and starts on any hardware.
fn starts(doctor: &Doctor<'_>, name: &str) -> bool {
    let is_wanted = TARGETS.iter().any(|target| doctor.tree.node(&format!("{DECIDED}/{target}/{name}")).is_some());
    let is_masked = doctor.tree.link_target(&format!("{DECIDED}/{name}")).is_some_and(|target| target == "/dev/null");
    let text = UNITS.iter().find_map(|folder| doctor.draft.text(&format!("{folder}/{name}")));
    // Most packages of today ask systemd first on which hypervisor they are.
    is_wanted && !is_masked && !text.is_some_and(|text| text.contains("\nConditionVirtualization="))
}

/// Returns whether a name is `S`, two digits and one of the services.
fn is_start_link(name: &str) -> bool {
    name.strip_prefix('S').and_then(|rest| rest.get(2..)).is_some_and(|service| SERVICES.contains(&service))
}
