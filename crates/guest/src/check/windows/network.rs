//! Adapters with fixed addresses, gateways or name servers of the network before.

use super::hive::{Hive, Wanted};
use crate::check::doctor::Doctor;
use crate::check::kinds::NETWORK_STATIC;
use crate::registry::ValueData;

const INTERFACES: &str = r"Services\Tcpip\Parameters\Interfaces";
const ADAPTERS_MAX: usize = 64;
/// What is emptied, as it would be mixed with what a server of addresses says.
const LISTS: [&str; 4] = ["IPAddress", "SubnetMask", "DefaultGateway", "DefaultGatewayMetric"];
const SERVERS: &str = "NameServer";

pub(super) fn check(doctor: &mut Doctor<'_>, hive: &Hive<'_>) {
    let mut wanted = Vec::new();
    for name in hive.names_below(INTERFACES, ADAPTERS_MAX) {
        wanted.extend(fixed(hive, &format!(r"{INTERFACES}\{name}")));
    }
    if wanted.is_empty() {
        return;
    }
    let told = "Network adapters have fixed settings of the network before.";
    if doctor.found(&NETWORK_STATIC, told, hive.evidence_for(&wanted)) {
        hive.set(doctor, wanted);
    }
}

/// Returns what makes an adapter ask for all that it needs; nothing where it does.
fn fixed(hive: &Hive<'_>, key: &str) -> Vec<Wanted> {
    // Windows writes 0.0.0.0 where there is none.
    let is_filled = |text: &String| !text.is_empty() && text != "0.0.0.0";
    let is_list = |name: &&&str| hive.texts(key, name).iter().any(is_filled);
    let is_server = hive.data(key, SERVERS).is_some_and(|data| data.bytes.iter().any(|byte| *byte != 0));
    let names: Vec<&'static str> = LISTS.iter().filter(is_list).chain(is_server.then_some(&SERVERS)).copied().collect();
    // A metric or a mask alone says nothing.
    if !names.iter().any(|name| ["IPAddress", "DefaultGateway", SERVERS].contains(name)) {
        return Vec::new();
    }
    let asks = hive.required(key, "EnableDHCP", ValueData::dword(1));
    let emptied = names.into_iter().filter_map(|name| {
        let kind = hive.data(key, name)?.kind;
        hive.wanted(key, name, ValueData::empty(kind))
    });
    asks.into_iter().chain(emptied).collect()
}
