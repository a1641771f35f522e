//! Which package manager a guest has, and the version of one package of it.

use crate::text::word;
use crate::tree::Tree;

/// Largest package list that is read; that of a full desktop has some 8 MiB.
const LIST_MAX: u64 = 64 << 20;

/// A format of packages.
struct Format {
    /// Its database, at one of these places.
    databases: &'static [&'static str],
    /// Programs that fetch packages of this format and what they are called, the preferred first.
    fronts: &'static [(&'static str, &'static str)],
    /// The name where there is none of them.
    plain: &'static str,
}

const FORMATS: &[Format] = &[
    Format { databases: &["/var/lib/dpkg/status"], fronts: &[("/usr/bin/apt-get", "apt")], plain: "dpkg" },
    Format {
        databases: &["/usr/lib/sysimage/rpm", "/var/lib/rpm"],
        fronts: &[
            ("/usr/bin/zypper", "zypper"),
            ("/usr/bin/dnf", "dnf"),
            ("/usr/bin/dnf5", "dnf"),
            ("/usr/bin/microdnf", "dnf"),
            ("/usr/bin/yum", "yum"),
        ],
        plain: "rpm",
    },
    Format { databases: &["/lib/apk/db/installed", "/usr/lib/apk/db/installed"], fronts: &[], plain: "apk" },
    Format { databases: &["/var/lib/pacman/local"], fronts: &[], plain: "pacman" },
];

/// Returns the name of the package manager, from the presence of its database.
pub(super) fn manager(tree: &Tree) -> Option<&'static str> {
    let format = FORMATS.iter().find(|format| format.databases.iter().any(|path| tree.exists(path)))?;
    let front = format.fronts.iter().find(|(program, _)| tree.exists(program));
    Some(front.map_or(format.plain, |(_, name)| *name))
}

/// Returns the version of `package` as dpkg or apk records it.
pub(super) fn version(tree: &Tree, package: &str) -> Option<String> {
    let read = |path: &str| tree.exists(path).then(|| tree.text(path, true, LIST_MAX)).flatten();
    if let Some(list) = read("/var/lib/dpkg/status") {
        return in_list(&list, "Package: ", "Version: ", package);
    }
    in_list(&read("/lib/apk/db/installed")?, "P:", "V:", package)
}

/// Looks through stanzas that are parted by empty lines.
fn in_list(list: &str, name_key: &str, version_key: &str, package: &str) -> Option<String> {
    let mut is_found = false;
    let mut version = None;
    for line in list.lines().chain([""]) {
        if line.is_empty() {
            if is_found {
                return version;
            }
            version = None;
        } else if let Some(name) = line.strip_prefix(name_key) {
            is_found = name == package;
        } else if let Some(found) = line.strip_prefix(version_key) {
            version = word(found).map(str::to_owned);
        } else if line.starts_with("Status: ") && !line.ends_with(" installed") {
            // Removed packages that keep their configuration stay in the list.
            is_found = false;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_whatever_the_order_of_fields() {
        let dpkg = "Package: a\nStatus: install ok installed\nVersion: 1\n\nPackage: cloud-init\n\
                    Status: install ok installed\nVersion: 22.4.2-1+deb12u3\nDescription: x\n\nPackage: z\nVersion: 9\n";
        assert_eq!(in_list(dpkg, "Package: ", "Version: ", "cloud-init").as_deref(), Some("22.4.2-1+deb12u3"));
        let removed = "Package: cloud-init\nStatus: deinstall ok config-files\nVersion: 1\n";
        assert_eq!(in_list(removed, "Package: ", "Version: ", "cloud-init"), None);
        assert_eq!(in_list("C:Q1\nP:cloud-init\nV:24.3-r0", "P:", "V:", "cloud-init").as_deref(), Some("24.3-r0"));
    }
}
