//! The kernel's command line, as the loader gives it with the entry that is started by default.

mod bls;
mod grub;
mod legacy;

use std::collections::HashMap;

use crate::text::clean_to;
use crate::tree::Tree;

/// Longest line that is told: what the kernel takes on most machines.
const LINE_MAX: usize = 2048;
/// Length of an environment block of GRUB.
const ENVIRONMENT_MAX: usize = 64 << 10;

/// A command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct CommandLine {
    pub(crate) text: String,
    /// The file that has it.
    pub(crate) path: String,
}

/// Values that GRUB keeps between starts.
type Environment = HashMap<String, String>;

/// Looks for the configuration of a loader below `base`, the folder that the guest knows as `/boot`.
pub(crate) fn read(tree: &Tree, base: &str) -> Option<CommandLine> {
    let found = of_grub(tree, base)
        .or_else(|| of_legacy(tree, base))
        .or_else(|| of_entries(tree, base, &Environment::new()))
        .or_else(|| of_kernel_install(tree));
    found.map(|(text, path)| CommandLine { text: clean_to(text.as_bytes(), LINE_MAX), path })
}

/// Reads GRUB 2: entries in its own file, or those that `blscfg` takes from a folder.
fn of_grub(tree: &Tree, base: &str) -> Option<(String, String)> {
    let folders = [format!("{base}/grub2"), format!("{base}/grub")];
    folders.iter().find_map(|folder| {
        let path = format!("{folder}/grub.cfg");
        let config = tree.config(&path)?;
        let environment = environment(tree, &format!("{folder}/grubenv"));
        if grub::takes_entries(&config) {
            let environment = grub::with_defaults(&config, environment);
            return of_entries(tree, base, &environment);
        }
        Some((grub::default_line(&config, &environment)?, path))
    })
}

fn of_legacy(tree: &Tree, base: &str) -> Option<(String, String)> {
    type Parse = fn(&str) -> Option<String>;
    let files: [(&str, Parse); 5] = [
        ("grub/menu.lst", legacy::of_grub1),
        ("grub/grub.conf", legacy::of_grub1),
        ("extlinux/extlinux.conf", legacy::of_syslinux),
        ("extlinux.conf", legacy::of_syslinux),
        ("syslinux/syslinux.cfg", legacy::of_syslinux),
    ];
    files.iter().find_map(|(name, parse)| {
        let path = format!("{base}/{name}");
        let config = tree.config(&path)?;
        Some((parse(&config)?, path))
    })
}

/// Reads the entries of the Boot Loader Specification, for GRUB and systemd-boot.
fn of_entries(tree: &Tree, base: &str, environment: &Environment) -> Option<(String, String)> {
    let bases = [base.to_owned(), format!("{base}/efi"), "/efi".to_owned()];
    bases.iter().find_map(|base| bls::default_line(tree, base, environment))
}

/// Reads what kernel-install(8) puts into new entries. A link could bring the first line of any other file here.
fn of_kernel_install(tree: &Tree) -> Option<(String, String)> {
    ["/etc/kernel/cmdline", "/usr/lib/kernel/cmdline"].iter().find_map(|path| {
        let text = tree.config_not_link(path)?;
        Some((join(text.split_whitespace()), (*path).to_owned()))
    })
}

/// Reads an environment block: lines of `name=value`, padded with `#`.
fn environment(tree: &Tree, path: &str) -> Environment {
    let block = tree.head(path, ENVIRONMENT_MAX).unwrap_or_default();
    let text = String::from_utf8_lossy(&block).into_owned();
    let lines = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    lines.map(|(name, value)| (name.to_owned(), value.replace('\\', ""))).collect()
}

/// Puts words together; those that are variables are replaced by what `environment` has for them.
fn expand<'a>(words: impl Iterator<Item = &'a str>, environment: &Environment) -> String {
    let known = |word: &'a str| match word.strip_prefix('$') {
        None => word.to_owned(),
        Some(name) => environment.get(name.trim_matches(['{', '}'])).cloned().unwrap_or_default(),
    };
    let words: Vec<String> = words.map(known).collect();
    join(words.iter().flat_map(|text| text.split_whitespace()))
}

fn join<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_or_dropped() {
        let environment = Environment::from([("kernelopts".to_owned(), "root=/dev/x  ro".to_owned())]);
        let words = ["$kernelopts", "quiet", "${tuned_params}", "a=$b"];
        assert_eq!(expand(words.into_iter(), &environment), "root=/dev/x ro quiet a=$b");
    }
}
