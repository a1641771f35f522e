//! Network adapters: whether they ask for their addresses, and which ones are fixed.

use super::registry::Registry;
use super::{number, text};
use crate::registry::Key;
use crate::report::WindowsAdapter;
use crate::text::clean;

const ADAPTERS_MAX: usize = 64;
const ADDRESSES_MAX: usize = 32;
/// The class of network adapters.
const CLASS: &str = "{4D36E972-E325-11CE-BFC1-08002BE10318}";

/// Returns those of the control set `set` that ask for an address or have one.
pub(super) fn read(system: &Registry<'_>, set: &str) -> Vec<WindowsAdapter> {
    let keys = system.subkeys(&format!(r"{set}\Services\Tcpip\Parameters\Interfaces"), ADAPTERS_MAX);
    let all = keys.map(|key| {
        let id = key.name();
        let name = system.text(&format!(r"{set}\Control\Network\{CLASS}\{id}\Connection"), "Name");
        WindowsAdapter { id: clean(id.as_bytes()), name, ..describe(&key) }
    });
    all.filter(|adapter| adapter.dhcp || !adapter.addresses.is_empty()).collect()
}

fn describe(key: &Key<'_>) -> WindowsAdapter {
    let masks = list(key, "SubnetMask");
    let with_mask = |(at, address): (usize, String)| match masks.get(at) {
        Some(mask) => format!("{address}/{mask}"),
        None => address,
    };
    let servers = text(key, "NameServer").unwrap_or_default();
    let servers = servers.split([',', ' ']).filter(|server| !server.is_empty());
    WindowsAdapter {
        dhcp: number(key, "EnableDHCP").is_some_and(|number| number != 0),
        addresses: list(key, "IPAddress").into_iter().enumerate().map(with_mask).collect(),
        gateways: list(key, "DefaultGateway"),
        name_servers: servers.take(ADDRESSES_MAX).map(str::to_owned).collect(),
        ..WindowsAdapter::default()
    }
}

/// Returns a list of addresses; Windows writes 0.0.0.0 where there is none.
fn list(key: &Key<'_>, name: &str) -> Vec<String> {
    let texts = key.value(name).ok().flatten().and_then(|value| value.texts()).unwrap_or_default();
    let texts = texts.iter().map(|text| clean(text.trim().as_bytes()));
    texts.filter(|text| !text.is_empty() && text != "0.0.0.0").take(ADDRESSES_MAX).collect()
}
