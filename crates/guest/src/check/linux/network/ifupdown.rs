//! interfaces(5): the stanzas of ifupdown, on Debian and its kin and on Alpine.

use std::collections::BTreeSet;

use super::{Repair, Settings, has_cloud_init, judge, keep};
use crate::check::doctor::{Doctor, at_line};
use crate::check::lines::{self, Line, MARK};

const MAIN: &str = "/etc/network/interfaces";
const FOLDER: &str = "/etc/network/interfaces.d";
/// Where cloud-init writes its own, which the main file has to read.
const SOURCE: &str = "source /etc/network/interfaces.d/*";
/// Options that only fixed addresses have.
const FIXED: [&str; 11] = [
    "address",
    "netmask",
    "gateway",
    "network",
    "broadcast",
    "pointopoint",
    "metric",
    "dns-nameservers",
    "dns-nameserver",
    "dns-search",
    "dns-domain",
];
/// Options of what is no plain adapter.
const OTHER: [&str; 6] = ["bridge_ports", "bridge-ports", "bond-master", "bond-slaves", "vlan-raw-device", "wpa-ssid"];

/// The stanza of one adapter.
#[derive(Debug, PartialEq, Eq)]
struct Stanza {
    name: String,
    method: String,
    /// Its lines, the first with `iface`.
    lines: std::ops::Range<usize>,
    is_plain: bool,
}

/// Returns whether addresses were fixed.
pub(super) fn check(doctor: &mut Doctor<'_>) -> bool {
    let mut paths = vec![MAIN.to_owned()];
    paths.extend(doctor.files(FOLDER, ""));
    let mut was_fixed = false;
    for path in paths {
        let Some(text) = doctor.draft.text(&path) else { continue };
        was_fixed |= check_file(doctor, &path, &text);
    }
    was_fixed
}

fn check_file(doctor: &mut Doctor<'_>, path: &str, text: &str) -> bool {
    let all: Vec<&str> = text.lines().collect();
    let stanzas = stanzas(&all);
    if stanzas.iter().any(|stanza| !stanza.is_plain && stanza.method == "static") {
        keep(doctor, path, "a bridge, a bond or a VLAN");
    }
    let fixed: Vec<&Stanza> = stanzas.iter().filter(|stanza| stanza.is_plain && stanza.method == "static").collect();
    let plain = stanzas.iter().filter(|stanza| stanza.is_plain);
    let bound = plain.flat_map(|stanza| stanza.lines.clone()).filter(|index| first(all[*index]) == Some("hwaddress"));
    let found = Settings {
        fixed: fixed.iter().map(|stanza| at_line(path, stanza.lines.start, all[stanza.lines.start])).collect(),
        bound: bound.map(|index| at_line(path, index, all[index])).collect(),
    };
    let was_fixed = !fixed.is_empty();
    let names: BTreeSet<&str> = fixed.iter().map(|stanza| stanza.name.as_str()).collect();
    let repair = judge(doctor, path, found);
    if repair.any() {
        let is_given_up = repair.fixed && has_cloud_init(doctor);
        let edited =
            if is_given_up { without(text, &all, &stanzas, &names) } else { with_dhcp(text, &stanzas, &names, repair) };
        doctor.draft.write(path, edited, None);
        if is_given_up {
            read_folder(doctor);
        }
    }
    was_fixed
}

/// Lets the main file read the folder of the others.
fn read_folder(doctor: &mut Doctor<'_>) {
    let Some(text) = doctor.draft.text(MAIN) else { return };
    let reads =
        text.lines().any(|line| matches!(first(line), Some("source" | "source-directory")) && line.contains(FOLDER));
    if !reads {
        let gap = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
        doctor.draft.write(MAIN, format!("{text}{gap}{SOURCE}\n"), None);
    }
}

fn first(line: &str) -> Option<&str> {
    line.split_ascii_whitespace().next()
}

fn stanzas(all: &[&str]) -> Vec<Stanza> {
    let begins = |line: &str| {
        let word = first(line).unwrap_or_default();
        matches!(word, "iface" | "auto" | "mapping" | "source" | "source-directory" | "rename" | "template")
            || word.starts_with("allow-")
            || word.starts_with("no-")
    };
    let mut found = Vec::new();
    for (start, line) in all.iter().enumerate() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let ["iface", name, ref rest @ ..] = words[..] else { continue };
        let method = rest.get(1).copied().unwrap_or_default().to_owned();
        let length = all[start + 1..].iter().take_while(|line| !begins(line)).count();
        // Empty lines and comments at the end belong to what follows.
        let is_own = |index: &usize| first(all[*index]).is_some_and(|word| !word.starts_with('#'));
        let end = (start..start + 1 + length).rev().find(is_own).unwrap_or(start) + 1;
        let is_plain = name != "lo"
            && !name.contains(['.', ':'])
            && !["br", "bond", "vlan", "wl", "tun", "tap", "wg", "vmbr"].iter().any(|kind| name.starts_with(kind))
            && !all[start..end].iter().any(|line| first(line).is_some_and(|word| OTHER.contains(&word)));
        found.push(Stanza { name: name.to_owned(), method, lines: start..end, is_plain });
    }
    found
}

/// Turns all that is said of the adapters `names` into comments.
fn without(text: &str, all: &[&str], stanzas: &[Stanza], names: &BTreeSet<&str>) -> String {
    let is_given_up = |index: usize| {
        stanzas.iter().any(|stanza| stanza.lines.contains(&index) && names.contains(stanza.name.as_str()))
    };
    let edited = lines::edit(text, |index, line| {
        if is_given_up(index) {
            return Line::Become(format!("{MARK}{line}"));
        }
        if !first(all[index]).is_some_and(|word| word == "auto" || word.starts_with("allow-")) {
            return Line::Keep;
        }
        let rest = lines::edit_words(line, |word| if names.contains(word) { Line::Drop } else { Line::Keep });
        match rest.split_ascii_whitespace().count() {
            1 => Line::Become(format!("{MARK}{line}")),
            _ => Line::Become(rest),
        }
    });
    edited.unwrap_or_else(|| text.to_owned())
}

/// Lets the adapters `names` ask for their addresses.
fn with_dhcp(text: &str, stanzas: &[Stanza], names: &BTreeSet<&str>, repair: Repair) -> String {
    let edited = lines::edit(text, |index, line| {
        let Some(stanza) = stanzas.iter().find(|stanza| stanza.is_plain && stanza.lines.contains(&index)) else {
            return Line::Keep;
        };
        let word = first(line).unwrap_or_default();
        if repair.bound && word == "hwaddress" {
            return Line::Drop;
        }
        let is_fixed = stanza.method == "static" && names.contains(stanza.name.as_str());
        if !repair.fixed || !is_fixed {
            return Line::Keep;
        }
        if word == "iface" {
            let is_six = line.split_ascii_whitespace().nth(2) == Some("inet6");
            let method = if is_six { "auto" } else { "dhcp" };
            return Line::Become(lines::edit_words(line, |word| {
                if word == "static" { Line::Become(method.to_owned()) } else { Line::Keep }
            }));
        }
        if FIXED.contains(&word) { Line::Drop } else { Line::Keep }
    });
    edited.unwrap_or_else(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "auto lo eth0\niface lo inet loopback\n\n# the LAN\nallow-hotplug eth1\niface eth0 inet static\n  address 10.0.0.2/24\n\
                        \tgateway 10.0.0.1\n  mtu 1400\n\niface eth1 inet dhcp\n  hwaddress 52:54:00:00:00:01\niface br0 inet static\n  address 10.1.0.1\n  bridge_ports eth2\n";

    #[test]
    fn stanzas_end_where_the_next_one_begins() {
        let all: Vec<&str> = TEXT.lines().collect();
        let found: Vec<_> =
            stanzas(&all).into_iter().map(|stanza| (stanza.name, stanza.lines, stanza.is_plain)).collect();
        let expected = [("lo", 1..2, false), ("eth0", 5..9, true), ("eth1", 10..12, true), ("br0", 12..15, false)];
        assert_eq!(found, expected.map(|(name, lines, is_plain)| (name.to_owned(), lines, is_plain)));
    }

    #[test]
    fn an_adapter_is_given_up_or_asks() {
        let all: Vec<&str> = TEXT.lines().collect();
        let found = stanzas(&all);
        let names = BTreeSet::from(["eth0"]);
        let given = without(TEXT, &all, &found, &names);
        assert!(
            given.contains("auto lo\n")
                && given.contains("# molde: iface eth0 inet static\n# molde:   address 10.0.0.2/24\n")
        );
        assert!(given.contains("\niface eth1 inet dhcp\n"));
        let asks = with_dhcp(TEXT, &found, &names, Repair { fixed: true, bound: true });
        assert!(
            asks.contains(
                "iface eth0 inet dhcp\n  mtu 1400\n\niface eth1 inet dhcp\niface br0 inet static\n  address 10.1.0.1\n"
            ),
            "{asks}"
        );
        let all: Vec<&str> = asks.lines().collect();
        assert!(!stanzas(&all).iter().any(|stanza| stanza.is_plain && stanza.method == "static"), "it stays so");
    }
}
