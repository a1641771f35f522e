//! The database of pacman: a folder for each package, with its description in a file.

use super::found::{Found, PACKAGES_MAX};
use crate::tree::Tree;

const FOLDER: &str = "/var/lib/pacman/local";
/// Largest description.
const FILE_MAX: u64 = 1 << 20;

/// Reads all descriptions, or that of the package that is wanted.
pub(super) fn read(tree: &Tree, found: &mut Found<'_>) {
    // One more, so that a list that is cut can be told.
    for folder in tree.names(FOLDER, PACKAGES_MAX + 1) {
        let Some((name, version)) = split(&folder) else { continue };
        if !found.wants(name) {
            continue;
        }
        let text = tree.text(&format!("{FOLDER}/{folder}/desc"), true, FILE_MAX);
        if found.add(name, version, text.as_deref().and_then(arch)).is_break() {
            return;
        }
    }
}

/// Parts `NAME-VERSION-RELEASE`; neither version nor release has a `-`.
fn split(folder: &str) -> Option<(&str, &str)> {
    let (rest, _) = folder.rsplit_once('-')?;
    let (name, _) = rest.rsplit_once('-')?;
    Some((name, &folder[name.len() + 1..]))
}

fn arch(text: &str) -> Option<&str> {
    let mut lines = text.lines().skip_while(|line| *line != "%ARCH%");
    lines.nth(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_folders_are_parted() {
        assert_eq!(split("linux-lts-6.6.14-1"), Some(("linux-lts", "6.6.14-1")));
        assert_eq!(split("dbus-1:2.3-4"), Some(("dbus", "1:2.3-4")));
        assert_eq!(split("ALPM_DB_VERSION"), None);
        assert_eq!(arch("%NAME%\nx\n\n%ARCH%\nx86_64\n"), Some("x86_64"));
        assert_eq!(arch("%ARCH%"), None);
    }
}
