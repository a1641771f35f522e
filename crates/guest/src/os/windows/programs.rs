//! Installed programs, as the list of what can be uninstalled tells them.

use super::registry::Registry;
use super::text;
use crate::report::WindowsProgram;

/// Most that are looked at in each list, and most that are told.
const KEYS_MAX: usize = 2048;
const PROGRAMS_MAX: usize = 512;

/// The list, and that of 32-bit programs beside 64-bit ones.
const LISTS: [&str; 2] =
    [r"Microsoft\Windows\CurrentVersion\Uninstall", r"WOW6432Node\Microsoft\Windows\CurrentVersion\Uninstall"];

/// Returns the programs by name.
pub(super) fn read(software: &Registry<'_>) -> Vec<WindowsProgram> {
    let keys = LISTS.iter().flat_map(|list| software.subkeys(list, KEYS_MAX));
    let programs = keys.filter_map(|key| {
        let (version, publisher) = (text(&key, "DisplayVersion"), text(&key, "Publisher"));
        Some(WindowsProgram { name: text(&key, "DisplayName")?, version, publisher })
    });
    let mut programs: Vec<WindowsProgram> = programs.take(PROGRAMS_MAX).collect();
    programs.sort();
    programs.dedup();
    programs
}
