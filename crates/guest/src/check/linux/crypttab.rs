//! crypttab(5): encrypted devices that are named by a device, or are not on this disk.

use super::devices::Meaning;
use crate::check::doctor::{Doctor, at_line};
use crate::check::kinds::{CRYPTTAB_DEVICE_NAME, CRYPTTAB_MISSING_DEVICE};
use crate::check::lines::{self, Line};

const PATH: &str = "/etc/crypttab";

pub(super) fn check(doctor: &mut Doctor<'_>) {
    let Some(text) = doctor.draft.text(PATH) else { return };
    let (mut named, mut missing) = (Vec::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        match device(line).map(|device| doctor.meaning(device)) {
            Some(Meaning::ByName(_)) => named.push(at_line(PATH, index, line)),
            Some(Meaning::Missing) => missing.push(at_line(PATH, index, line)),
            _ => {}
        }
    }
    if !missing.is_empty() {
        doctor.tell(&CRYPTTAB_MISSING_DEVICE, "/etc/crypttab opens a device that is not on this disk.", missing);
    }
    let told = "/etc/crypttab names an encrypted device by a name that it does not have on other hardware.";
    if named.is_empty() || !doctor.found(&CRYPTTAB_DEVICE_NAME, told, named) {
        return;
    }
    let edited = lines::edit(&text, |_, line| match device(line).map(|device| doctor.meaning(device)) {
        Some(Meaning::ByName(found)) => doctor.stable_name(found).map_or(Line::Keep, |name| {
            let mut field = 0;
            Line::Become(lines::edit_words(line, |_| {
                field += 1;
                if field == 2 { Line::Become(name.clone()) } else { Line::Keep }
            }))
        }),
        _ => Line::Keep,
    });
    if let Some(edited) = edited {
        doctor.draft.write(PATH, edited, None);
    }
}

/// Returns the device of a line: its second field.
fn device(line: &str) -> Option<&str> {
    let mut fields = line.split_ascii_whitespace();
    let name = fields.next()?;
    (!name.starts_with('#')).then(|| fields.next())?
}
