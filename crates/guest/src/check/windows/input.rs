//! Keyboard and mouse, without which the console of a server is of no use.

use super::hive::{Hive, Wanted};
use crate::check::doctor::Doctor;
use crate::check::kinds::INPUT_DRIVERS;
use crate::registry::ValueData;

const DRIVERS: [&str; 6] = ["i8042prt", "kbdclass", "mouclass", "kbdhid", "mouhid", "hidusb"];
/// The classes of keyboards and mice, and the driver that each cannot do without.
const CLASSES: [(&str, &str); 2] = [
    (r"Control\Class\{4D36E96B-E325-11CE-BFC1-08002BE10318}", "kbdclass"),
    (r"Control\Class\{4D36E96F-E325-11CE-BFC1-08002BE10318}", "mouclass"),
];
/// Filters of other hypervisors, in small letters.
const FILTERS: [&str; 6] = ["vmmouse", "vmkbd", "vboxmouse", "vboxmousent", "prl_mouf", "prl_kbdf"];
/// Starts when a device asks for it, and never.
const ON_DEMAND: u32 = 3;
const NEVER: u64 = 4;

pub(super) fn check(doctor: &mut Doctor<'_>, hive: &Hive<'_>) {
    let keys = DRIVERS.map(|name| format!(r"Services\{name}"));
    let never = keys.iter().filter(|key| hive.number(key, "Start") == Some(NEVER));
    let started = never.filter_map(|key| hive.wanted(key, "Start", ValueData::dword(ON_DEMAND)));
    let wanted: Vec<Wanted> = started.chain(CLASSES.iter().filter_map(|class| without_filters(hive, *class))).collect();
    if wanted.is_empty() {
        return;
    }
    let told = "Keyboard or mouse do not work on other hardware.";
    if doctor.found(&INPUT_DRIVERS, told, hive.evidence_for(&wanted)) {
        hive.set(doctor, wanted);
    }
}

/// Returns the list of filters of a class without those of other hypervisors, if it has any.
fn without_filters(hive: &Hive<'_>, (key, own): (&str, &str)) -> Option<Wanted> {
    let filters = hive.texts(key, "UpperFilters");
    let is_foreign = |name: &&String| FILTERS.contains(&name.to_ascii_lowercase().as_str());
    let kept: Vec<String> = filters.iter().filter(|name| !is_foreign(name)).cloned().collect();
    let is_whole = kept.iter().any(|name| name.eq_ignore_ascii_case(own));
    // Without its own driver the class has to be looked at by a person.
    (kept.len() < filters.len() && is_whole).then(|| hive.wanted(key, "UpperFilters", ValueData::texts(&kept)))?
}
