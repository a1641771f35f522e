//! A configuration of X that asks for the graphics of another hypervisor.

use crate::check::doctor::{Doctor, at_line};
use crate::check::kinds::XORG_DRIVER;

const PATH: &str = "/etc/X11/xorg.conf";
const SAVED: &str = "/etc/X11/xorg.conf.molde-saved";
const DRIVERS: [&str; 5] = ["vmware", "vboxvideo", "xen", "fglrx", "prlvideo"];

pub(super) fn check(doctor: &mut Doctor<'_>) {
    let Some(text) = doctor.draft.text(PATH) else { return };
    let is_foreign = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let is_driver = words.next().is_some_and(|word| word.eq_ignore_ascii_case("driver"));
        is_driver
            && words.next().is_some_and(|name| DRIVERS.contains(&name.trim_matches('"').to_ascii_lowercase().as_str()))
    };
    let Some((index, line)) = text.lines().enumerate().find(|(_, line)| is_foreign(line)) else { return };
    let told = "X is told to use a graphics driver of another hypervisor.";
    if doctor.found(&XORG_DRIVER, told, vec![at_line(PATH, index, line)]) {
        doctor.draft.write(SAVED, text, Some(PATH));
        doctor.draft.remove(PATH);
    }
}
