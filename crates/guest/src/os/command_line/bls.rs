//! Entries of the Boot Loader Specification, type 1: a file for each, of lines with a key and a value.

use super::super::kernels::by_version;
use super::{Environment, expand};
use crate::tree::Tree;

/// Most entries that are read.
const ENTRIES_MAX: usize = 256;

/// Returns the command line of the default entry below `base`, and the file that has it.
///
/// The default is what GRUB saved, or what `loader.conf` of systemd-boot names, or the last in the order of versions.
pub(super) fn default_line(tree: &Tree, base: &str, environment: &Environment) -> Option<(String, String)> {
    let folder = format!("{base}/loader/entries");
    let names = tree.names(&folder, ENTRIES_MAX);
    let mut names: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".conf")).collect();
    names.sort_by(|left, right| by_version(left, right));
    let config = tree.config(&format!("{base}/loader/loader.conf"));
    let pattern = config.as_deref().and_then(|text| values(text, "default").last());
    let wanted = environment.get("saved_entry").map(String::as_str).or(pattern);
    let name = wanted.and_then(|wanted| names.iter().rev().find(|name| is_meant(name, wanted))).or(names.last())?;
    let path = format!("{folder}/{name}.conf");
    let text = tree.config(&path)?;
    // Several lines add up.
    let options = values(&text, "options").flat_map(str::split_whitespace);
    Some((expand(options, environment), path))
}

/// Returns whether `wanted`, a name with or without `.conf` that may end with `*`, means the entry `name`.
fn is_meant(name: &str, wanted: &str) -> bool {
    match wanted.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => wanted.strip_suffix(".conf").unwrap_or(wanted) == name,
    }
}

fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let of_line = move |line: &'a str| line.trim().strip_prefix(key)?.strip_prefix([' ', '\t']).map(str::trim);
    text.lines().filter_map(of_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_found() {
        assert!(is_meant("m-6.1", "m-6.1") && is_meant("m-6.1", "m-6.1.conf") && is_meant("m-6.1", "m-*"));
        assert!(!is_meant("m-6.1", "m-6") && !is_meant("m-6.1", "x*"));
        let text = "title x\noptions root=a\noptionsx no\n  options\tro quiet \n";
        assert_eq!(values(text, "options").collect::<Vec<_>>(), ["root=a", "ro quiet"]);
    }
}
