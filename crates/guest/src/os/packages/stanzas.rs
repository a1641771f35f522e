//! Lists of packages in stanzas that are parted by empty lines: those of dpkg and apk.

use std::ops::ControlFlow;

use super::found::Found;
use crate::tree::Tree;

/// Largest list that is read; that of a full desktop has some 8 MiB.
const LIST_MAX: u64 = 64 << 20;
/// Most files of a folder with one stanza each.
const FILES_MAX: usize = 4096;
/// Largest of these.
const FILE_MAX: u64 = 1 << 20;

/// What the lines begin with.
struct Keys {
    name: &'static str,
    version: &'static str,
    arch: &'static str,
}

const DPKG: Keys = Keys { name: "Package: ", version: "Version: ", arch: "Architecture: " };
const APK: Keys = Keys { name: "P:", version: "V:", arch: "A:" };

/// Reads the list of dpkg, and the folder that images without dpkg have instead.
pub(super) fn dpkg(tree: &Tree, found: &mut Found<'_>) {
    if let Some(list) = tree.text("/var/lib/dpkg/status", true, LIST_MAX) {
        let _ = read(&list, &DPKG, found);
    }
    let folder = "/var/lib/dpkg/status.d";
    for name in tree.names(folder, FILES_MAX).iter().filter(|name| !name.ends_with(".md5sums")) {
        let Some(stanza) = tree.text(&format!("{folder}/{name}"), true, FILE_MAX) else { continue };
        if read(&stanza, &DPKG, found).is_break() {
            return;
        }
    }
}

/// Reads the list of apk.
pub(super) fn apk(tree: &Tree, found: &mut Found<'_>) {
    let paths = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];
    if let Some(list) = paths.iter().find_map(|path| tree.text(path, true, LIST_MAX)) {
        let _ = read(&list, &APK, found);
    }
}

fn read(list: &str, keys: &Keys, found: &mut Found<'_>) -> ControlFlow<()> {
    let (mut name, mut version, mut arch, mut is_installed) = (None, None, None, true);
    for line in list.lines().chain([""]) {
        if line.is_empty() {
            if let (Some(name), Some(version), true) = (name, version, is_installed) {
                found.add(name, version, arch)?;
            }
            (name, version, arch, is_installed) = (None, None, None, true);
        } else if let Some(text) = line.strip_prefix(keys.name) {
            name = Some(text);
        } else if let Some(text) = line.strip_prefix(keys.version) {
            version = Some(text);
        } else if let Some(text) = line.strip_prefix(keys.arch) {
            arch = Some(text);
        } else if line.starts_with("Status: ") && !line.ends_with(" installed") {
            // Removed packages that keep their configuration stay in the list.
            is_installed = false;
        }
    }
    ControlFlow::Continue(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str, keys: &Keys, mut found: Found<'_>) -> Vec<String> {
        let _ = read(text, keys, &mut found);
        let show = |package: &crate::report::Package| {
            format!("{} {} {}", package.name, package.version, package.arch.as_deref().unwrap_or("-"))
        };
        found.into_packages().iter().map(show).collect()
    }

    #[test]
    fn packages_are_found_whatever_the_order_of_fields() {
        let dpkg = "Package: z\nVersion: 9\nArchitecture: all\n\nPackage: cloud-init\n\
                    Status: install ok installed\nVersion: 22.4.2-1+deb12u3\nDescription: x\n Package: no\n\n\
                    Version: 1\nPackage: a\nStatus: install ok installed\nArchitecture: amd64\n\n\
                    Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: b\u{1b}\nVersion: 1\n";
        assert_eq!(list(dpkg, &DPKG, Found::all()), ["a 1 amd64", "cloud-init 22.4.2-1+deb12u3 -", "z 9 all"]);
        assert_eq!(list(dpkg, &DPKG, Found::one("cloud-init")), ["cloud-init 22.4.2-1+deb12u3 -"]);
        assert_eq!(list(dpkg, &DPKG, Found::one("gone")), [] as [&str; 0]);
        assert_eq!(list("C:Q1\nP:musl\nV:1.2.4-r2\nA:x86_64", &APK, Found::all()), ["musl 1.2.4-r2 x86_64"]);
    }

    #[test]
    fn lists_that_are_too_long_are_cut() {
        let list: String = (0..50_002).map(|at| format!("P:p{at}\nV:1\n\n")).collect();
        let mut found = Found::all();
        assert!(read(&list, &APK, &mut found).is_break() && found.is_over());
        assert_eq!(found.into_packages().len(), 50_000);
    }
}
