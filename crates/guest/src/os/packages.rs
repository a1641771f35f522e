//! Which packages a guest has, and what manages them.

mod found;
mod pacman;
mod rpm;
mod stanzas;

use self::found::Found;
use crate::report::Package;
use crate::tree::Tree;

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

/// Returns the version of `package`, as its manager records it.
pub(super) fn version(tree: &Tree, package: &str) -> Option<String> {
    let mut found = Found::one(package);
    read(tree, &mut found);
    found.into_packages().pop().map(|package| package.version)
}

/// Returns all packages, sorted by name; a note tells where there are too many.
pub(crate) fn list(tree: &Tree) -> Vec<Package> {
    let mut found = Found::all();
    read(tree, &mut found);
    if found.is_over() {
        tree.note(format!("There are more than {} packages; not all are told.", found::PACKAGES_MAX));
    }
    found.into_packages()
}

/// Looks into the databases of all formats: some systems have a second one, for what they install beside their own.
fn read(tree: &Tree, found: &mut Found<'_>) {
    stanzas::dpkg(tree, found);
    stanzas::apk(tree, found);
    pacman::read(tree, found);
    rpm::read(tree, found);
}
