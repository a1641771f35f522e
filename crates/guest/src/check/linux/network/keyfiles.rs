//! Connections of NetworkManager (nm-settings-keyfile(5)).

use super::{Settings, judge, keep};
use crate::check::doctor::{Doctor, at_line};
use crate::check::lines::{self, Line};
use crate::text::assignment;

const FOLDER: &str = "/etc/NetworkManager/system-connections";

/// Returns whether addresses were fixed.
pub(super) fn check(doctor: &mut Doctor<'_>) -> bool {
    let mut was_fixed = false;
    for path in doctor.files(FOLDER, "") {
        if let Some(text) = doctor.draft.text(&path) {
            was_fixed |= check_file(doctor, &path, &text);
        }
    }
    was_fixed
}

fn check_file(doctor: &mut Doctor<'_>, path: &str, text: &str) -> bool {
    let lines = sections(text);
    let kind = lines.iter().zip(text.lines()).find_map(|(section, line)| match assignment(line) {
        Some(("type", value)) if *section == "connection" => Some(value),
        _ => None,
    });
    let is_slave = lines.iter().zip(text.lines()).any(|(section, line)| {
        *section == "connection"
            && assignment(line).is_some_and(|(key, value)| matches!(key, "master" | "controller") && !value.is_empty())
    });
    let is_manual = |section: &str, line: &str| {
        matches!(section, "ipv4" | "ipv6") && assignment(line) == Some(("method", "manual"))
    };
    let of = |is_meant: &dyn Fn(&str, &str) -> bool| {
        let meant = lines.iter().zip(text.lines()).enumerate().filter(|(_, (section, line))| is_meant(section, line));
        meant.map(|(index, (_, line))| at_line(path, index, line)).collect::<Vec<_>>()
    };
    let fixed = of(&is_manual);
    if is_slave || !matches!(kind, Some("ethernet" | "802-3-ethernet")) {
        if !fixed.is_empty() {
            keep(doctor, path, kind.map_or("something else than an adapter", |_| "no plain adapter"));
        }
        return false;
    }
    let manual: Vec<&str> = lines
        .iter()
        .zip(text.lines())
        .filter(|(section, line)| is_manual(section, line))
        .map(|(section, _)| *section)
        .collect();
    let was_fixed = !fixed.is_empty();
    let repair = judge(doctor, path, Settings { fixed, bound: of(&is_bound) });
    let edited = lines::edit(text, |index, line| {
        let section = lines.get(index).copied().unwrap_or_default();
        let key = assignment(line).map(|(key, _)| key).unwrap_or_default();
        if repair.any() && (is_bound(section, line) || (section == "connection" && key == "interface-name")) {
            return Line::Drop;
        }
        if !repair.fixed || !manual.contains(&section) {
            return Line::Keep;
        }
        match key {
            "method" => Line::Become("method=auto".to_owned()),
            "gateway" | "dns" | "dns-search" => Line::Drop,
            _ if key.starts_with("address") || key.starts_with("route") => Line::Drop,
            _ => Line::Keep,
        }
    });
    if let Some(edited) = edited {
        doctor.draft.write(path, edited, None);
    }
    was_fixed
}

fn is_bound(section: &str, line: &str) -> bool {
    let is_key =
        |(key, value): (&str, &str)| matches!(key, "mac-address" | "cloned-mac-address") && value.contains(':');
    matches!(section, "ethernet" | "802-3-ethernet") && assignment(line).is_some_and(is_key)
}

/// Returns for each line the section that it stands in.
fn sections(text: &str) -> Vec<&str> {
    let mut section = "";
    text.lines()
        .map(|line| {
            if let Some(name) = line.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name;
            }
            section
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_know_their_section() {
        assert_eq!(sections("a\n[ipv4]\nmethod=auto\n [ipv6] \n"), ["", "ipv4", "ipv4", "ipv6"]);
        assert!(
            is_bound("ethernet", "mac-address=52:54:00:00:00:01") && !is_bound("ethernet", "cloned-mac-address=random")
        );
    }
}
