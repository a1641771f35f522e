//! Which Windows it is.

use super::registry::Registry;
use super::{number, text};
use crate::report::{Os, Windows};
use crate::text::word;

/// The first build of Windows 11, which calls itself 10 in the registry.
const BUILD_11: u32 = 22_000;

pub(super) fn read(software: &Registry<'_>, os: &mut Os, windows: &mut Windows) {
    let Some(key) = software.key(r"Microsoft\Windows NT\CurrentVersion") else { return };
    let as_word = |name: &str| text(&key, name).and_then(|text| word(&text).map(str::to_owned));
    // `CurrentVersion` has been 6.3 since Windows 8.1; the numbers came with Windows 10.
    let numbers = number(&key, "CurrentMajorVersionNumber").zip(number(&key, "CurrentMinorVersionNumber"));
    os.version = numbers.map(|(major, minor)| format!("{major}.{minor}")).or_else(|| as_word("CurrentVersion"));
    let build = as_word("CurrentBuildNumber").or_else(|| as_word("CurrentBuild"));
    let is_11 = build.as_ref().and_then(|build| build.parse().ok()).is_some_and(|build: u32| build >= BUILD_11);
    os.name =
        text(&key, "ProductName").map(|name| if is_11 { name.replacen("Windows 10", "Windows 11", 1) } else { name });
    windows.build = build.map(|build| match number(&key, "UBR") {
        Some(update) => format!("{build}.{update}"),
        None => build,
    });
    windows.edition = as_word("EditionID");
    windows.release = as_word("DisplayVersion").or_else(|| as_word("ReleaseId"));
}

/// Returns the architecture as `uname -m` says it.
pub(super) fn arch(processor: &str) -> Option<&'static str> {
    Some(match processor.to_ascii_uppercase().as_str() {
        "AMD64" => "x86_64",
        "X86" => "i686",
        "ARM64" => "aarch64",
        "ARM" => "armv7l",
        "IA64" => "ia64",
        _ => return None,
    })
}
