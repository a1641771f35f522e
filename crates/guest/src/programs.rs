//! The guest's own programs that prepare may run in a micro-VM, and the packages that they are given.
//!
//! A folder of packages has those of one distribution, or folders called as `debian-12` with those of that one. Nothing of
//! them is fetched, and what a package says is for the guest's own package manager to believe.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use agent::GIVEN;
use disk::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::check::Kind;
use crate::report::Os;
use crate::text::clean;

/// Most packages of a folder, and most bytes of those that one guest gets: the micro-VM holds them in memory.
const PACKAGES_MAX: usize = 1000;
const BYTES_MAX: u64 = 60 << 20;

/// That prepare may run programs of the guest itself, and the packages that it may give them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {
    folder: Option<PathBuf>,
    /// Names of packages by the name of their folder, which is empty for those in the folder itself.
    packages: BTreeMap<String, Vec<String>>,
}

/// A program of the guest, with what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The finding that it repairs.
    pub finding: String,
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// The packages that it is given, in the folder of packages.
    pub packages: Vec<String>,
}

/// How a package manager installs files.
struct Manager {
    /// What a [`Report`](crate::Report) calls it.
    names: &'static [&'static str],
    ends: &'static [&'static str],
    command: &'static [&'static str],
}

const MANAGERS: [Manager; 4] = [
    Manager {
        names: &["apt", "dpkg"],
        ends: &[".deb"],
        command: &[
            "dpkg",
            "--install",
            "--skip-same-version",
            "--refuse-downgrade",
            "--force-confdef",
            "--force-confold",
        ],
    },
    Manager {
        names: &["dnf", "yum", "zypper", "rpm"],
        ends: &[".rpm"],
        command: &["rpm", "--upgrade", "--replacepkgs"],
    },
    // Signed by whoever made them, whose keys the guest may not have.
    Manager { names: &["apk"], ends: &[".apk"], command: &["apk", "add", "--no-network", "--allow-untrusted"] },
    Manager { names: &["pacman"], ends: &[".pkg.tar.zst", ".pkg.tar.xz"], command: &["pacman", "-U", "--noconfirm"] },
];

impl Programs {
    /// Finds the packages in `folder`, and in the folders in it.
    ///
    /// # Errors
    ///
    /// Where it cannot be read, or one has a name that no package has.
    pub fn with_packages(folder: &Path) -> Result<Self> {
        let mut packages = BTreeMap::from([(String::new(), packages_in(folder)?)]);
        for entry in list(folder)? {
            if let (true, Some(name)) = (folder.join(&entry).is_dir(), entry.to_str()) {
                packages.insert(name.to_owned(), packages_in(&folder.join(&entry))?);
            }
        }
        if packages.values().all(Vec::is_empty) {
            let told = format!("there is no package in `{}`", folder.display());
            return Err(Error::unsupported(told).with_hint("put .deb, .rpm, .apk or .pkg.tar.zst files there"));
        }
        Ok(Self { folder: Some(folder.to_owned()), packages })
    }

    /// Returns whether there are any packages.
    pub(crate) fn has_packages(&self) -> bool {
        !self.packages.is_empty()
    }

    /// Returns the program that installs all packages for a guest with `os`, if `package` is among them.
    ///
    /// # Errors
    ///
    /// A sentence that says why they are not installed.
    pub(crate) fn install(&self, finding: &Kind, package: &str, os: &Os) -> std::result::Result<Program, String> {
        let manager = os.package_manager.as_deref().unwrap_or("none");
        let Some(manager) = MANAGERS.iter().find(|known| known.names.contains(&manager)) else {
            return Err(format!(
                "{package} is not installed: how the package manager `{manager}` does that is not known."
            ));
        };
        let name = |version: &str| format!("{}-{version}", os.distro.as_deref().unwrap_or_default());
        let version = os.version.as_deref().unwrap_or_default();
        let major = version.split('.').next().unwrap_or_default();
        let folders = [name(version), name(major), String::new()];
        let of_manager = |folder: &String| {
            let is_its = |file: &&String| manager.ends.iter().any(|end| file.ends_with(end));
            let files: Vec<&String> = self.packages.get(folder)?.iter().filter(is_its).collect();
            let is_it = |file: &&String| {
                file.strip_prefix(package).is_some_and(|rest| {
                    rest.starts_with('_')
                        || rest.strip_prefix('-').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                })
            };
            files.iter().any(is_it).then(|| (folder.clone(), files))
        };
        let Some((folder, files)) = folders.iter().find_map(of_manager) else {
            let looked = clean(folders[0].as_bytes());
            return Err(format!(
                "{package} is not installed: it is not among the packages ({}) in the folder, nor in `{looked}` there.",
                manager.ends.join(", ")
            ));
        };
        let given = files.iter().map(|file| format!("{GIVEN}/{file}"));
        let arguments = manager.command.iter().map(|word| (*word).to_owned()).chain(given).collect();
        let path = |file: &&String| if folder.is_empty() { (*file).clone() } else { format!("{folder}/{file}") };
        let packages = files.iter().map(path).collect();
        Ok(Program { finding: finding.id.to_owned(), arguments, packages })
    }

    /// Reads the packages of `program`, each with its name.
    pub(crate) fn read(&self, program: &Program) -> Result<Vec<(String, Vec<u8>)>> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let mut left = BYTES_MAX;
        let mut files = Vec::new();
        for path in &program.packages {
            let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
            // A worker that was taken over must not name other files.
            if !self.packages.get(above).is_some_and(|known| known.iter().any(|known| known == name)) {
                return Err(Error::refused(format!("`{}` is none of the packages", clean(path.as_bytes()))));
            }
            let path = folder.join(path);
            let cannot = |error| Error::io(format!("read the package `{}`", path.display()), error);
            let length = fs::metadata(&path).map_err(cannot)?.len();
            left = left.checked_sub(length).ok_or_else(|| {
                let told = format!("the packages in `{}` have more than {} MiB", folder.display(), BYTES_MAX >> 20);
                Error::new(ErrorKind::TooLarge, told).with_hint("leave there only what the guest needs")
            })?;
            files.push((name.to_owned(), fs::read(&path).map_err(cannot)?));
        }
        Ok(files)
    }
}

impl Program {
    /// Returns what is run, in a few words.
    #[must_use]
    pub fn summary(&self) -> String {
        let is_package = |argument: &&String| argument.starts_with(GIVEN);
        let words: Vec<String> =
            self.arguments.iter().filter(|argument| !is_package(argument)).map(|word| clean(word.as_bytes())).collect();
        let command = words.join(" ");
        match self.packages.len() {
            0 => format!("run `{command}`"),
            1 => format!("run `{command}` with 1 package"),
            count => format!("run `{command}` with {count} packages"),
        }
    }
}

fn list(folder: &Path) -> Result<Vec<std::ffi::OsString>> {
    let cannot = |error| Error::io(format!("list the folder of packages `{}`", folder.display()), error);
    let names = fs::read_dir(folder).map_err(cannot)?.map(|entry| entry.map(|entry| entry.file_name()));
    names.collect::<std::io::Result<_>>().map_err(cannot)
}

fn packages_in(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for name in list(folder)? {
        let shown = name.to_string_lossy();
        if !MANAGERS.iter().any(|manager| manager.ends.iter().any(|end| shown.ends_with(end))) {
            continue;
        }
        // They become arguments of programs.
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "._+~:%=^-".contains(letter);
        if !shown.chars().all(is_plain) || shown.starts_with(['-', '.']) {
            let told = format!("`{}` in `{}` is no name of a package", clean(shown.as_bytes()), folder.display());
            return Err(Error::unsupported(told).with_hint("take it out of the folder"));
        }
        found.push(shown.into_owned());
    }
    if found.len() > PACKAGES_MAX {
        let told = format!("there are more than {PACKAGES_MAX} packages in `{}`", folder.display());
        return Err(Error::new(ErrorKind::TooLarge, told).with_hint("leave there only what guests need"));
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::KINDS;
    use crate::report::OsKind;

    fn os(distro: &str, version: &str, manager: &str) -> Os {
        let text = |text: &str| Some(text.to_owned());
        Os { distro: text(distro), version: text(version), package_manager: text(manager), ..Os::new(OsKind::Linux) }
    }

    #[test]
    fn packages_are_those_of_the_guest() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["cloud-init_22_all.deb", "python3-yaml_6_amd64.deb", "notes.txt", "centos-7/cloud-init-19.4.rpm"] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        let programs = Programs::with_packages(folder.path()).unwrap();
        let install = |os: &Os| programs.install(KINDS[0], "cloud-init", os);
        let debian = install(&os("debian", "12", "apt")).unwrap();
        let expected = [
            "dpkg",
            "--install",
            "--skip-same-version",
            "--refuse-downgrade",
            "--force-confdef",
            "--force-confold",
            "/tmp/molde/cloud-init_22_all.deb",
            "/tmp/molde/python3-yaml_6_amd64.deb",
        ];
        assert_eq!(debian.arguments, expected);
        assert_eq!(
            debian.summary(),
            "run `dpkg --install --skip-same-version --refuse-downgrade --force-confdef --force-confold` with 2 packages"
        );
        let files = programs.read(&debian).unwrap();
        assert_eq!(files[0], ("cloud-init_22_all.deb".to_owned(), b"cloud-init_22_all.deb".to_vec()));
        let centos = install(&os("centos", "7", "yum")).unwrap();
        assert_eq!(centos.packages, ["centos-7/cloud-init-19.4.rpm"]);
        assert_eq!(programs.read(&centos).unwrap()[0].0, "cloud-init-19.4.rpm");
        assert!(install(&os("fedora", "40", "dnf")).unwrap_err().contains("fedora-40"));
        assert!(install(&os("gentoo", "1", "portage")).unwrap_err().contains("portage"));
        // What no plan may name.
        for path in ["../secret.deb", "/etc/shadow", "centos-7/cloud-init_22_all.deb", "notes.txt"] {
            let stranger = Program { packages: vec![path.to_owned()], ..debian.clone() };
            assert!(programs.read(&stranger).is_err(), "{path}");
        }
    }

    #[test]
    fn names_that_are_no_names_of_packages_are_told() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Programs::with_packages(folder.path()).unwrap_err().hint().is_some());
        assert!(Programs::with_packages(&folder.path().join("none")).is_err());
        fs::write(folder.path().join("--root=.deb"), "").unwrap();
        let error = Programs::with_packages(folder.path()).unwrap_err();
        assert!(error.to_string().contains("--root=.deb"), "{error}");
    }
}
