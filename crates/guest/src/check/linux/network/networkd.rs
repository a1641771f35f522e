//! systemd.network(5) and systemd.link(5): a file is for the adapters that its `[Match]` names.

use super::{Settings, judge, keep};
use crate::check::doctor::{Doctor, at_line};
use crate::check::kinds::NETWORK_MAC;
use crate::text::assignment;

const FOLDER: &str = "/etc/systemd/network";
const SAVED: &str = ".molde-saved";
const GENERIC: &str = "# molde: every Ethernet adapter asks for its address\n[Match]\nName=e*\n\n[Network]\nDHCP=yes\n";
/// Keys of what is no plain adapter, in `[Network]`.
const OTHER: [&str; 7] = ["Bridge", "Bond", "VLAN", "VRF", "MACVLAN", "Tunnel", "BatmanAdvanced"];

/// Returns whether addresses were fixed.
pub(super) fn check(doctor: &mut Doctor<'_>) -> bool {
    check_links(doctor);
    let mut was_fixed = false;
    for path in doctor.files(FOLDER, ".network") {
        if let Some(text) = doctor.draft.text(&path) {
            was_fixed |= check_file(doctor, &path, &text);
        }
    }
    was_fixed
}

fn check_file(doctor: &mut Doctor<'_>, path: &str, text: &str) -> bool {
    let of = |keys: &[&str]| {
        let meant = |line: &str| assignment(line).is_some_and(|(key, value)| keys.contains(&key) && !value.is_empty());
        let lines = text.lines().enumerate().filter(|(_, line)| meant(line));
        lines.map(|(index, line)| at_line(path, index, line)).collect::<Vec<_>>()
    };
    let (fixed, bound) = (of(&["Address", "Gateway"]), of(&["MACAddress", "PermanentMACAddress"]));
    let is_loopback = text.lines().filter_map(assignment).any(|(key, value)| key == "Name" && value == "lo");
    if is_loopback || (fixed.is_empty() && bound.is_empty()) {
        return false;
    }
    if !of(&OTHER).is_empty() {
        keep(doctor, path, "a bridge, a bond or a VLAN");
        return false;
    }
    let was_fixed = !fixed.is_empty();
    if judge(doctor, path, Settings { fixed, bound }).any() {
        doctor.draft.write(&format!("{path}{SAVED}"), text, Some(path));
        doctor.draft.write(path, GENERIC, None);
    }
    was_fixed
}

/// A `.link` file that names an adapter by its address names none on the new machine; one without its name gets no settings.
fn check_links(doctor: &mut Doctor<'_>) {
    for path in doctor.files(FOLDER, ".link") {
        let Some(text) = doctor.draft.text(&path) else { continue };
        let is_bound = |line: &str| {
            assignment(line)
                .is_some_and(|(key, value)| matches!(key, "MACAddress" | "PermanentMACAddress") && !value.is_empty())
        };
        let bound: Vec<_> = text
            .lines()
            .enumerate()
            .filter(|(_, line)| is_bound(line))
            .map(|(index, line)| at_line(&path, index, line))
            .collect();
        let told = format!("{path} names an adapter by its hardware address, which the new machine does not have.");
        if !bound.is_empty() && doctor.found(&NETWORK_MAC, told, bound) {
            doctor.draft.write(&format!("{path}{SAVED}"), text, Some(&path));
            doctor.draft.remove(&path);
        }
    }
}
