//! How the adapters of a Linux are set up: ifupdown, netplan, ifcfg, NetworkManager and systemd-networkd.
//!
//! Said as it stands in the files, for people who look at a disk; what is to be changed in them is for the checks.

use crate::report::{Network, NetworkStack};
use crate::text::{assignment, clean};
use crate::tree::Tree;

/// Most files of one stack, and most adapters of a system.
const FILES_MAX: usize = 64;
const NETWORKS_MAX: usize = 128;
/// Most addresses of an adapter.
const ADDRESSES_MAX: usize = 16;

/// What tells that a stack is installed: one of these programs.
const PROGRAMS: [(NetworkStack, &[&str]); 5] = [
    (NetworkStack::Ifupdown, &["/usr/sbin/ifup", "/sbin/ifup"]),
    (NetworkStack::Netplan, &["/usr/sbin/netplan"]),
    (NetworkStack::Ifcfg, &["/etc/sysconfig/network-scripts/ifup", "/usr/sbin/wicked"]),
    (NetworkStack::NetworkManager, &["/usr/sbin/NetworkManager"]),
    (NetworkStack::Networkd, &["/usr/lib/systemd/systemd-networkd", "/lib/systemd/systemd-networkd"]),
];

/// Returns the stacks that are installed.
pub(super) fn stacks(tree: &Tree) -> Vec<NetworkStack> {
    let is_there = |(stack, paths): &(NetworkStack, &[&str])| match stack {
        // Red Hat's ifcfg files bring an `ifup` of their own.
        NetworkStack::Ifupdown => tree.is_folder("/etc/network") && paths.iter().any(|path| tree.exists(path)),
        _ => paths.iter().any(|path| tree.exists(path)),
    };
    PROGRAMS.iter().filter(|program| is_there(program)).map(|(stack, _)| *stack).collect()
}

/// Returns what the files say of each adapter but the loopback.
pub(super) fn read(tree: &Tree) -> Vec<Network> {
    let mut found = Vec::new();
    for path in ["/etc/network/interfaces".to_owned()].into_iter().chain(files(tree, "/etc/network/interfaces.d", "")) {
        add(&mut found, tree, &path, ifupdown);
    }
    for path in files(tree, "/etc/netplan", ".yaml") {
        add(&mut found, tree, &path, netplan);
    }
    for folder in ["/etc/sysconfig/network-scripts", "/etc/sysconfig/network"] {
        for path in files(tree, folder, "").filter(|path| path.rsplit('/').next().is_some_and(is_ifcfg)) {
            add(&mut found, tree, &path, ifcfg);
        }
    }
    for path in files(tree, "/etc/NetworkManager/system-connections", "") {
        add(&mut found, tree, &path, keyfile);
    }
    for path in files(tree, "/etc/systemd/network", ".network") {
        add(&mut found, tree, &path, networkd);
    }
    found.retain(|network| network.name.as_deref() != Some("lo"));
    found.truncate(NETWORKS_MAX);
    found
}

fn files(tree: &Tree, folder: &str, end: &str) -> impl Iterator<Item = String> {
    let names = tree.names(folder, FILES_MAX).into_iter().filter(move |name| name.ends_with(end));
    names.map(move |name| format!("{folder}/{name}"))
}

/// Adds what `parse` finds in a regular file.
fn add(found: &mut Vec<Network>, tree: &Tree, path: &str, parse: fn(&str) -> Vec<Network>) {
    if found.len() >= NETWORKS_MAX || !tree.is_file(path) {
        return;
    }
    let Some(text) = tree.config(path) else { return };
    for mut network in parse(&text) {
        network.file = clean(path.as_bytes());
        network.addresses.truncate(ADDRESSES_MAX);
        found.push(network);
    }
}

/// Whether a file of sysconfig is one of an adapter, and none that a package or an editor left beside.
fn is_ifcfg(name: &str) -> bool {
    name.starts_with("ifcfg-") && !name.ends_with(['~']) && !name.contains(".rpm") && !name.ends_with(".bak")
}

fn new(stack: NetworkStack) -> Network {
    Network {
        stack,
        file: String::new(),
        name: None,
        mac: None,
        is_automatic: false,
        addresses: Vec::new(),
        gateway: None,
    }
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| clean(value.as_bytes()))
}

/// interfaces(5): stanzas that begin with `iface NAME FAMILY METHOD`.
fn ifupdown(all: &str) -> Vec<Network> {
    let mut found: Vec<Network> = Vec::new();
    let mut is_within = false;
    for line in all.lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().take(8).collect();
        match words[..] {
            ["iface", name, _, method, ..] => {
                is_within = true;
                let is_automatic = matches!(method, "dhcp" | "auto");
                found.push(Network { name: text(name), is_automatic, ..new(NetworkStack::Ifupdown) });
            }
            ["auto" | "mapping" | "source" | "source-directory", ..] => is_within = false,
            [word, ..] if word.starts_with("allow-") => is_within = false,
            [key, value, ..] if is_within => {
                let Some(network) = found.last_mut() else { continue };
                match key {
                    "address" => network.addresses.extend(text(value)),
                    "gateway" => network.gateway = text(value),
                    "hwaddress" => network.mac = text(words.last().copied().unwrap_or_default()),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    found
}

/// netplan's YAML, as people and installers write it: blocks, and lists in brackets.
fn netplan(all: &str) -> Vec<Network> {
    const KINDS: [&str; 7] = ["ethernets", "bonds", "bridges", "vlans", "wifis", "tunnels", "modems"];
    let mut found: Vec<Network> = Vec::new();
    // Keys that are open, each with its indentation.
    let mut open: Vec<(usize, String)> = Vec::new();
    for line in all.lines() {
        let content = line.trim_start_matches(' ');
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let depth = line.len() - content.len();
        if let Some(item) = content.strip_prefix("- ") {
            let key = open.last().map(|(_, key)| key.as_str());
            if let (Some("addresses"), Some(network)) = (key, found.last_mut().filter(|_| open.len() == 4)) {
                network.addresses.extend(text(unquoted(item.trim_end_matches(':'))));
            }
            continue;
        }
        let Some((key, value)) = content.split_once(':') else { continue };
        open.retain(|(outer, _)| *outer < depth);
        open.push((depth, unquoted(key).to_owned()));
        let value = value.trim();
        let keys: Vec<&str> = open.iter().map(|(_, key)| key.as_str()).collect();
        match (&keys[..], found.last_mut()) {
            (["network", kind, name], _) if KINDS.contains(kind) => {
                found.push(Network { name: text(name), ..new(NetworkStack::Netplan) });
            }
            (["network", _, _, "dhcp4" | "dhcp6"], Some(network)) => {
                network.is_automatic |= matches!(value, "true" | "yes" | "on");
            }
            (["network", _, _, "gateway4" | "gateway6"], Some(network)) => network.gateway = text(unquoted(value)),
            (["network", _, _, "macaddress"] | ["network", _, _, "match", "macaddress"], Some(network)) => {
                network.mac = text(unquoted(value));
            }
            (["network", _, _, "addresses"], Some(network)) => {
                let list = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or_default();
                network.addresses.extend(list.split(',').filter_map(|item| text(unquoted(item))));
            }
            _ => {}
        }
    }
    found
}

fn unquoted(value: &str) -> &str {
    value.trim().trim_matches(['"', '\''])
}

/// Lines `KEY=value`, of Red Hat and of wicked on SUSE.
fn ifcfg(all: &str) -> Vec<Network> {
    let mut network = new(NetworkStack::Ifcfg);
    for (key, value) in all.lines().filter_map(assignment) {
        let numbered = |known: &str| {
            key.strip_prefix(known)
                .is_some_and(|rest| rest.trim_start_matches('_').chars().all(|letter| letter.is_ascii_digit()))
        };
        match key {
            "DEVICE" | "NAME" if network.name.is_none() || key == "DEVICE" => network.name = text(value),
            "BOOTPROTO" => network.is_automatic = value.to_ascii_lowercase().starts_with("dhcp") || value == "bootp",
            "HWADDR" | "LLADDR" => network.mac = text(value),
            "GATEWAY" => network.gateway = text(value),
            _ if numbered("IPADDR") => network.addresses.extend(text(value)),
            _ => {}
        }
    }
    vec![network]
}

/// nm-settings-keyfile(5).
fn keyfile(all: &str) -> Vec<Network> {
    let mut network = new(NetworkStack::NetworkManager);
    for (section, key, value) in settings(all) {
        match (section, key) {
            ("connection", "id") if network.name.is_none() => network.name = text(value),
            ("connection", "interface-name") => network.name = text(value),
            ("ethernet" | "802-3-ethernet", "mac-address") => network.mac = text(value),
            ("ipv4" | "ipv6", "method") => network.is_automatic |= value == "auto",
            ("ipv4" | "ipv6", "gateway") => network.gateway = text(value),
            // `address1=10.0.0.2/24,10.0.0.1`: the gateway may come after.
            ("ipv4" | "ipv6", key) if key.starts_with("address") => {
                let mut parts = value.split(',').map(str::trim);
                network.addresses.extend(parts.next().and_then(text));
                network.gateway = network.gateway.take().or_else(|| parts.next().and_then(text));
            }
            _ => {}
        }
    }
    vec![network]
}

/// systemd.network(5).
fn networkd(all: &str) -> Vec<Network> {
    let mut network = new(NetworkStack::Networkd);
    for (section, key, value) in settings(all) {
        match (section, key) {
            ("Match", "Name") => network.name = text(value),
            ("Match", "MACAddress" | "PermanentMACAddress") => network.mac = text(value),
            ("Network", "DHCP") => network.is_automatic = !matches!(value, "no" | "false" | "none"),
            ("Network" | "Address", "Address") => network.addresses.extend(text(value)),
            ("Network" | "Route", "Gateway") => network.gateway = text(value),
            _ => {}
        }
    }
    vec![network]
}

/// Returns section, key and value of each line `key=value`.
fn settings(all: &str) -> Vec<(&str, &str, &str)> {
    let mut section = "";
    let mut found = Vec::new();
    for line in all.lines() {
        if let Some(name) = line.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        } else if let Some((key, value)) = assignment(line) {
            found.push((section, key, value));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(found: &[Network]) -> Vec<String> {
        let line = |network: &Network| {
            let [name, mac, gateway] =
                [&network.name, &network.mac, &network.gateway].map(|value| value.as_deref().unwrap_or("-"));
            format!("{name} {mac} {} {} {gateway}", network.is_automatic, network.addresses.join("+"))
        };
        found.iter().map(line).collect()
    }

    #[test]
    fn stanzas_of_ifupdown() {
        let text = "auto eth0\niface eth0 inet static\n  address 10.0.0.2/24\n  gateway 10.0.0.1\n  hwaddress ether 52:54:00:00:00:01\n\
                    allow-hotplug eth1\n  address 1.1.1.1\niface eth1 inet6 auto\n";
        assert_eq!(shown(&ifupdown(text)), ["eth0 52:54:00:00:00:01 false 10.0.0.2/24 10.0.0.1", "eth1 - true  -"]);
    }

    #[test]
    fn blocks_and_lists_of_netplan() {
        let text = "# by hand\nnetwork:\n  version: 2\n  ethernets:\n    ens3:\n      match:\n        macaddress: '52:54:00:00:00:02'\n      \
                    addresses:\n      - 10.0.0.2/24\n      - \"fd00::2/64\"\n      nameservers:\n        addresses: [8.8.8.8]\n      gateway4: 10.0.0.1\n    \
                    ens4: {}\n  bridges:\n    br0:\n      dhcp4: true\n      addresses: [10.1.0.2/24, '10.1.0.3/24']\n";
        assert_eq!(
            shown(&netplan(text)),
            [
                "ens3 52:54:00:00:00:02 false 10.0.0.2/24+fd00::2/64 10.0.0.1",
                "ens4 - false  -",
                "br0 - true 10.1.0.2/24+10.1.0.3/24 -"
            ]
        );
    }

    #[test]
    fn files_of_one_adapter() {
        let red = "NAME=\"System eth0\"\nDEVICE=eth0\nBOOTPROTO=none\nIPADDR0=10.0.0.2\nIPADDR_1=10.0.0.3\nHWADDR=52:54:00:00:00:03\n";
        assert_eq!(shown(&ifcfg(red)), ["eth0 52:54:00:00:00:03 false 10.0.0.2+10.0.0.3 -"]);
        let key = "[connection]\nid=Wired\ntype=ethernet\n[ipv4]\nmethod=manual\naddress1=10.0.0.2/24,10.0.0.1\n[ipv6]\nmethod=auto\n";
        assert_eq!(shown(&keyfile(key)), ["Wired - true 10.0.0.2/24 10.0.0.1"]);
        let unit =
            "[Match]\nName=en*\n[Network]\nDHCP=ipv4\n[Address]\nAddress=10.0.0.9/24\n[Route]\nGateway=10.0.0.1\n";
        assert_eq!(shown(&networkd(unit)), ["en* - true 10.0.0.9/24 10.0.0.1"]);
    }

    #[test]
    fn copies_of_files_are_left_out() {
        assert!(
            is_ifcfg("ifcfg-eth0") && !is_ifcfg("ifcfg-eth0.rpmsave") && !is_ifcfg("ifup-eth") && !is_ifcfg("ifcfg-a~")
        );
    }
}
