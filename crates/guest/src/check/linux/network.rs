//! Networks: settings that fit the machine before, in each of the ways in which Linux systems keep them.
//!
//! Plain Ethernet adapters are set to ask for their address. With cloud-init in the guest, settings that it would write
//! itself are put out of its way. Bridges, bonds, VLANs, tunnels and radio stay as they are and are told.

mod ifcfg;
mod ifupdown;
mod keyfiles;
mod netplan;
mod networkd;

use crate::check::doctor::{Doctor, at, at_line};
use crate::check::finding::Evidence;
use crate::check::kinds::{NETWORK_KEPT, NETWORK_MAC, NETWORK_STATIC, RESOLV_CONF};

const RESOLV: &str = "/etc/resolv.conf";

/// What was found in one file.
#[derive(Default)]
struct Settings {
    /// Lines that give fixed addresses.
    fixed: Vec<Evidence>,
    /// Lines that bind to the address of an adapter.
    bound: Vec<Evidence>,
}

/// What is to be repaired in one file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Repair {
    fixed: bool,
    bound: bool,
}

impl Repair {
    fn any(self) -> bool {
        self.fixed || self.bound
    }
}

pub(super) fn check(doctor: &mut Doctor<'_>) {
    let was_fixed = [
        ifupdown::check(doctor),
        netplan::check(doctor),
        ifcfg::check(doctor),
        keyfiles::check(doctor),
        networkd::check(doctor),
    ];
    if was_fixed.contains(&true) {
        check_resolv_conf(doctor);
    }
}

/// Returns whether cloud-init is there, which sets up networks for each new server.
fn has_cloud_init(doctor: &Doctor<'_>) -> bool {
    doctor.report.os.as_ref().is_some_and(|os| os.cloud_init.is_some())
}

/// Tells what is in the file at `path`.
fn judge(doctor: &mut Doctor<'_>, path: &str, found: Settings) -> Repair {
    let fixed = format!("{path} gives an adapter the addresses of the network that the machine was in.");
    let bound = format!("{path} is for an adapter of one hardware address, which the new machine does not have.");
    Repair {
        fixed: !found.fixed.is_empty() && doctor.found(&NETWORK_STATIC, fixed, found.fixed),
        bound: !found.bound.is_empty() && doctor.found(&NETWORK_MAC, bound, found.bound),
    }
}

/// Tells of settings that stay.
fn keep(doctor: &mut Doctor<'_>, path: &str, what: &str) {
    doctor.tell(&NETWORK_KEPT, format!("{path} sets up {what}, which is left as it is."), vec![at(path)]);
}

/// Name servers of the network before, where the file is one of its own.
fn check_resolv_conf(doctor: &mut Doctor<'_>) {
    if !doctor.tree.is_file(RESOLV) {
        return;
    }
    let Some(text) = doctor.draft.text(RESOLV) else { return };
    let servers: Vec<Evidence> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| line.trim_start().starts_with("nameserver"))
        .map(|(index, line)| at_line(RESOLV, index, line))
        .collect();
    let told = "The name servers are those of the network that the machine was in.";
    if !servers.is_empty() && doctor.found(&RESOLV_CONF, told, servers) {
        doctor.draft.write(RESOLV, "# molde: emptied, DHCP fills it\n", None);
    }
}
