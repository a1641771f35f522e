//! fstab(5): file systems that are named by a device, or are not on this disk.

use super::devices::Meaning;
use crate::check::doctor::{Doctor, at_line};
use crate::check::kinds::{FSTAB_DEVICE_NAME, FSTAB_MISSING_DEVICE};
use crate::check::lines::{self, Line, MARK};
use crate::os::fstab::decode;

const PATH: &str = "/etc/fstab";
/// Longest table that is edited; a system has some ten lines.
const LINES_MAX: usize = 4096;

/// What is to be done with a line.
enum Fault {
    Name(String),
    Missing,
}

pub(super) fn check(doctor: &mut Doctor<'_>) {
    let Some(text) = doctor.draft.text(PATH) else { return };
    let faults: Vec<Option<Fault>> = text.lines().take(LINES_MAX).map(|line| fault(doctor, line)).collect();
    let evidence = |is_meant: fn(&Fault) -> bool| {
        let lines = text.lines().zip(&faults).enumerate();
        let meant = lines.filter(|(_, (_, fault))| fault.as_ref().is_some_and(is_meant));
        meant.map(|(index, (line, _))| at_line(PATH, index, line)).collect::<Vec<_>>()
    };
    let (named, missing) =
        (evidence(|fault| matches!(fault, Fault::Name(_))), evidence(|fault| matches!(fault, Fault::Missing)));
    let names = !named.is_empty()
        && doctor.found(
            &FSTAB_DEVICE_NAME,
            "/etc/fstab names file systems by devices, which have other names on other hardware, or by what is not there.",
            named,
        );
    let gone = !missing.is_empty()
        && doctor.found(
            &FSTAB_MISSING_DEVICE,
            "/etc/fstab mounts what is not on this disk; the guest would wait for it and then stop.",
            missing,
        );
    let edited = lines::edit(&text, |index, line| match faults.get(index) {
        Some(Some(Fault::Name(name))) if names => Line::Become(with_first_field(line, name)),
        Some(Some(Fault::Missing)) if gone => Line::Become(format!("{MARK}not in this image: {line}")),
        _ => Line::Keep,
    });
    if let Some(edited) = edited {
        doctor.draft.write(PATH, edited, None);
    }
}

fn fault(doctor: &Doctor<'_>, line: &str) -> Option<Fault> {
    let fields: Vec<&str> = line.split_ascii_whitespace().take(6).collect();
    let [device, path, ref rest @ ..] = fields[..] else { return None };
    if device.starts_with('#') {
        return None;
    }
    let options = rest.get(1).copied().unwrap_or_default();
    let is_optional = options.split(',').any(|option| matches!(option, "noauto" | "nofail"));
    match doctor.meaning(decode(device).as_str()) {
        Meaning::ByName(found) => doctor.stable_name(found).map(Fault::Name),
        // Which file system is the root was seen by what is in it.
        Meaning::Missing if path == "/" => doctor.root().and_then(|root| doctor.stable_name(root)).map(Fault::Name),
        Meaning::Missing if !is_optional => Some(Fault::Missing),
        Meaning::Missing | Meaning::Stable(_) | Meaning::Other => None,
    }
}

fn with_first_field(line: &str, name: &str) -> String {
    let mut is_first = true;
    lines::edit_words(line, |_| if std::mem::take(&mut is_first) { Line::Become(name.to_owned()) } else { Line::Keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_field_changes() {
        assert_eq!(with_first_field("/dev/sda1\t/  ext4 defaults 0 1", "UUID=x"), "UUID=x\t/  ext4 defaults 0 1");
    }
}
