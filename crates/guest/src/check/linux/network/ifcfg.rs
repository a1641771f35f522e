//! ifcfg files: of Red Hat and its kin, and of wicked on SUSE.

use super::{Settings, judge, keep};
use crate::check::doctor::{Doctor, at_line};
use crate::check::lines::{self, Line};
use crate::text::assignment;

const FOLDERS: [&str; 2] = ["/etc/sysconfig/network-scripts", "/etc/sysconfig/network"];
/// Where Red Hat keeps a gateway for all adapters, and SUSE its routes.
const GATEWAY: &str = "/etc/sysconfig/network";
const ROUTES: &str = "/etc/sysconfig/network/routes";
/// Beginnings of keys of fixed addresses.
const FIXED: [&str; 9] =
    ["IPADDR", "PREFIX", "NETMASK", "GATEWAY", "DNS", "NETWORK", "BROADCAST", "IPV6ADDR", "IPV6_DEFAULTGW"];
/// Keys of addresses of hardware, and of a connection that was made for it.
const BOUND: [&str; 4] = ["HWADDR", "MACADDR", "LLADDR", "UUID"];
/// Keys of what is no plain adapter.
const OTHER: [&str; 9] =
    ["BRIDGE", "MASTER", "SLAVE", "TEAM_MASTER", "VLAN", "ETHERDEVICE", "BONDING_MASTER", "BRIDGE_PORTS", "TUNNEL"];

/// Returns whether addresses were fixed.
pub(super) fn check(doctor: &mut Doctor<'_>) -> bool {
    let mut was_fixed = false;
    for path in FOLDERS.iter().flat_map(|folder| doctor.files(folder, "")).collect::<Vec<_>>() {
        let name = path.rsplit('/').next().unwrap_or_default();
        // Editors and packages leave copies beside, which nobody reads.
        if name.starts_with("ifcfg-")
            && name != "ifcfg-lo"
            && !name.ends_with(['~'])
            && !name.contains(".rpm")
            && !name.ends_with(".bak")
        {
            was_fixed |= check_file(doctor, &path);
        }
    }
    if was_fixed {
        check_gateway(doctor);
    }
    was_fixed
}

fn check_file(doctor: &mut Doctor<'_>, path: &str) -> bool {
    let Some(text) = doctor.draft.text(path) else { return false };
    let is_other = |(key, value): (&str, &str)| match key {
        "TYPE" => !value.eq_ignore_ascii_case("ethernet"),
        _ => OTHER.contains(&key) && !value.is_empty() && !value.eq_ignore_ascii_case("no"),
    };
    let is_fixed = |line: &str| {
        assignment(line)
            .is_some_and(|(key, value)| is_fixed_key(key) && !value.is_empty() || is_fixed_method(key, value))
    };
    if text.lines().filter_map(assignment).any(is_other) {
        if text.lines().any(is_fixed) {
            keep(doctor, path, "a bridge, a bond or a VLAN");
        }
        return false;
    }
    // An address makes it fixed; `BOOTPROTO=none` alone is an adapter that something else sets up.
    let has_address =
        text.lines().filter_map(assignment).any(|(key, value)| key.starts_with("IPADDR") && !value.is_empty());
    let lines_that = |is_meant: &dyn Fn(&str) -> bool| {
        text.lines()
            .enumerate()
            .filter(|(_, line)| is_meant(line))
            .map(|(index, line)| at_line(path, index, line))
            .collect()
    };
    let is_bound = |line: &str| {
        assignment(line).is_some_and(|(key, value)| BOUND.contains(&key) && key != "UUID" && !value.is_empty())
    };
    let found =
        Settings { fixed: if has_address { lines_that(&is_fixed) } else { Vec::new() }, bound: lines_that(&is_bound) };
    let repair = judge(doctor, path, found);
    let mut has_method = false;
    let edited = lines::edit(&text, |_, line| match assignment(line) {
        Some((key, _)) if repair.fixed && is_fixed_key(key) => Line::Drop,
        Some((key, _)) if repair.any() && BOUND.contains(&key) => Line::Drop,
        Some(("BOOTPROTO", _)) if repair.fixed => {
            has_method = true;
            Line::Become("BOOTPROTO=dhcp".to_owned())
        }
        _ => Line::Keep,
    });
    if let Some(mut edited) = edited {
        if repair.fixed && !has_method {
            if !edited.ends_with('\n') && !edited.is_empty() {
                edited.push('\n');
            }
            edited.push_str("BOOTPROTO=dhcp\n");
        }
        doctor.draft.write(path, edited, None);
    }
    has_address
}

fn is_fixed_key(key: &str) -> bool {
    FIXED.iter().any(|known| {
        key.strip_prefix(known).is_some_and(|rest| rest.chars().all(|letter| letter.is_ascii_digit() || letter == '_'))
    })
}

fn is_fixed_method(key: &str, value: &str) -> bool {
    key == "BOOTPROTO" && matches!(value.to_ascii_lowercase().as_str(), "static" | "none")
}

/// Takes away the gateway that goes with fixed addresses.
fn check_gateway(doctor: &mut Doctor<'_>) {
    drop_lines(doctor, GATEWAY, |line| {
        assignment(line).is_some_and(|(key, value)| matches!(key, "GATEWAY" | "GATEWAYDEV") && !value.is_empty())
    });
    drop_lines(doctor, ROUTES, |line| {
        matches!(line.split_ascii_whitespace().next(), Some("default" | "0.0.0.0/0" | "0/0" | "::/0"))
    });
}

fn drop_lines(doctor: &mut Doctor<'_>, path: &str, is_meant: impl Fn(&str) -> bool) {
    let Some(text) = doctor.draft.text(path) else { return };
    let meant = text.lines().enumerate().filter(|(_, line)| is_meant(line));
    let fixed = meant.map(|(index, line)| at_line(path, index, line)).collect();
    let repair = judge(doctor, path, Settings { fixed, bound: Vec::new() });
    let edited = lines::edit(&text, |_, line| if repair.fixed && is_meant(line) { Line::Drop } else { Line::Keep });
    if let Some(edited) = edited {
        doctor.draft.write(path, edited, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_keys_are_of_the_kind() {
        assert!(is_fixed_key("IPADDR") && is_fixed_key("IPADDR0") && is_fixed_key("DNS2") && is_fixed_key("IPADDR_1"));
        assert!(!is_fixed_key("NETWORKING") && !is_fixed_key("DNSDOMAIN"));
        assert!(is_fixed_method("BOOTPROTO", "STATIC") && !is_fixed_method("BOOTPROTO", "dhcp"));
    }
}
