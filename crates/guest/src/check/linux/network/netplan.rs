//! netplan's YAML. It merges all files, so that one that is not wanted has to go out of the folder.

use super::{Settings, has_cloud_init, judge, keep};
use crate::check::doctor::{Doctor, at_line};

const FOLDERS: [&str; 1] = ["/etc/netplan"];
const SAVED: &str = ".molde-saved";
/// Asks for addresses on every adapter whose name is that of an Ethernet one.
const GENERIC: &str = "# molde: every Ethernet adapter asks for its address\nnetwork:\n  version: 2\n  ethernets:\n    all:\n      match:\n        \
                       name: \"e*\"\n      dhcp4: true\n      dhcp6: true\n";
const OTHER: [&str; 8] = ["bonds", "bridges", "vlans", "wifis", "tunnels", "modems", "vrfs", "openvswitch"];

/// Returns whether addresses were fixed.
pub(super) fn check(doctor: &mut Doctor<'_>) -> bool {
    let mut was_fixed = false;
    for path in FOLDERS.iter().flat_map(|folder| doctor.files(folder, ".yaml")).collect::<Vec<_>>() {
        let Some(text) = doctor.draft.text(&path) else { continue };
        let keys: Vec<(usize, String)> =
            text.lines().enumerate().filter_map(|(index, line)| Some((index, key(line)?))).collect();
        if let Some((_, other)) = keys.iter().find(|(_, key)| OTHER.contains(&key.as_str())) {
            keep(doctor, &path, other);
            continue;
        }
        let evidence = |wanted: &[&str]| {
            let meant = keys.iter().filter(|(_, key)| wanted.contains(&key.as_str()));
            meant.map(|(index, _)| at_line(&path, *index, text.lines().nth(*index).unwrap_or_default())).collect()
        };
        let found =
            Settings { fixed: evidence(&["addresses", "gateway4", "gateway6"]), bound: evidence(&["macaddress"]) };
        was_fixed |= !found.fixed.is_empty();
        if judge(doctor, &path, found).any() {
            doctor.draft.write(&format!("{path}{SAVED}"), text, Some(&path));
            // cloud-init writes a file of its own; nobody else would.
            if has_cloud_init(doctor) {
                doctor.draft.remove(&path);
            } else {
                doctor.draft.write(&path, GENERIC, None);
            }
        }
    }
    was_fixed
}

/// Returns the key that a line of YAML has, in block or flow style the first one.
fn key(line: &str) -> Option<String> {
    let line = line.trim_start().trim_start_matches("- ").trim_start();
    let (key, _) = line.split_once(':')?;
    (!key.starts_with('#')).then(|| key.trim_matches(['"', '\'']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_instead_is_not_found_again() {
        let keys: Vec<String> = GENERIC.lines().filter_map(key).collect();
        assert_eq!(keys, ["network", "version", "ethernets", "all", "match", "name", "dhcp4", "dhcp6"]);
        assert_eq!(key("      - addresses: [10.0.0.1]").as_deref(), Some("addresses"));
        assert_eq!(key("  # addresses: x"), None);
    }
}
