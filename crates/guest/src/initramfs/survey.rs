//! What is of interest in an initramfs: drivers, who made it, and what of the old machine it remembers.

use std::collections::BTreeSet;

use super::cpio::{Entry, Visitor, Wish};
use super::{Outline, read};
use crate::pieces::Pieces;
use crate::text::{clean, word};

/// Most names of each kind that are kept beside those of modules.
const NAMES_MAX: usize = 64;
/// Most modules: all that a distribution has are some 5,000, and what comes after more of them is not looked at.
const MODULES_MAX: usize = 16_384;

/// Files and folders that only one program leaves in what it makes.
const SIGNS: [(&str, &str); 13] = [
    ("usr/lib/dracut", "dracut"),
    ("lib/dracut", "dracut"),
    ("dracut-0", "dracut"),
    ("scripts/functions", "initramfs-tools"),
    ("init_functions", "mkinitcpio"),
    ("buildconfig", "mkinitcpio"),
    ("usr/sbin/nlplug-findfs", "mkinitfs"),
    ("sbin/nlplug-findfs", "mkinitfs"),
    ("bin/nash", "mkinitrd"),
    ("sbin/nash", "mkinitrd"),
    ("mkinitrd.config", "mkinitrd"),
    ("run_all.sh", "mkinitrd"),
    ("etc/booster.init.yaml", "booster"),
];

/// Where a program keeps its hooks.
const HOOKS: [&str; 4] = ["scripts/", "usr/lib/dracut/hooks/", "lib/dracut/hooks/", "hooks/"];

/// Where settings of the machine are written down: the command line of dracut and the files of initramfs-tools.
const SETTINGS: [&str; 2] = ["etc/cmdline.d/", "conf/conf.d/"];

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) outline: Outline,
    pub(crate) generator: Option<&'static str>,
    /// Modules of the kernel that was asked for, as it calls them: with `_`, never `-`.
    pub(crate) modules: BTreeSet<String>,
    /// The folder that they are in, such as `usr/lib/modules/6.1.0`.
    pub(crate) modules_folder: Option<String>,
    /// Rules that tie names of network interfaces to hardware.
    pub(crate) persistent_net_rules: Vec<String>,
    /// Scripts that are run at the start, by their path.
    pub(crate) hooks: Vec<String>,
    /// `path: content` of each short file with settings.
    pub(crate) settings: Vec<String>,
}

/// Reads the initramfs `file` of the kernel `version`.
pub(crate) fn survey(file: &dyn Pieces, version: &str) -> Contents {
    let mut survey = Survey { folder: format!("lib/modules/{version}/"), contents: Contents::default() };
    let outline = read(file, &mut survey);
    Contents { outline, ..survey.contents }
}

struct Survey {
    folder: String,
    contents: Contents,
}

impl Visitor for Survey {
    fn entry(&mut self, entry: &Entry) -> Wish {
        let Ok(name) = std::str::from_utf8(&entry.name) else { return Wish::Skip };
        let contents = &mut self.contents;
        if contents.generator.is_none() {
            contents.generator = SIGNS.iter().find(|(sign, _)| is_sign(name, sign)).map(|(_, generator)| *generator);
        }
        if !entry.is_file() {
            return Wish::Skip;
        }
        let below_usr = name.strip_prefix("usr/").unwrap_or(name);
        if let Some(module) = below_usr.strip_prefix(&self.folder).or_else(|| old_module(below_usr)) {
            if contents.modules_folder.is_none() && below_usr.starts_with(&self.folder) {
                contents.modules_folder = Some(name[..name.len() - module.len()].trim_end_matches('/').to_owned());
            }
            contents.modules.extend(module_name(module));
            if contents.modules.len() == MODULES_MAX {
                return Wish::Stop;
            }
        } else if is_persistent_net(name) {
            // A later file takes the place of an earlier one, and an empty one rules nothing.
            contents.persistent_net_rules.retain(|rule| *rule != clean(name.as_bytes()));
            if entry.length > 0 {
                keep(&mut contents.persistent_net_rules, name);
            }
        } else if HOOKS.iter().any(|folder| name.strip_prefix(folder).is_some_and(is_hook)) {
            keep(&mut contents.hooks, name);
        } else if SETTINGS.iter().any(|folder| name.starts_with(folder)) && contents.settings.len() < NAMES_MAX {
            return Wish::Show;
        }
        Wish::Skip
    }

    fn content(&mut self, entry: &Entry, content: Vec<u8>) {
        let text = clean(content.trim_ascii());
        self.contents.settings.push(format!("{}: {text}", clean(&entry.name)));
    }
}

fn is_sign(name: &str, sign: &str) -> bool {
    // A folder of dracut and its files begin with the sign; the others are one file.
    name == sign || (sign.contains("dracut") && name.starts_with(sign))
}

/// Modules of before 2006 lie in no folder of a version.
fn old_module(name: &str) -> Option<&str> {
    name.strip_prefix("lib/").filter(|rest| !rest.contains('/'))
}

/// A hook lies in the folder of a stage, or is one itself; `ORDER` of initramfs-tools only lists them.
fn is_hook(rest: &str) -> bool {
    !rest.ends_with("/ORDER") && rest != "functions"
}

fn is_persistent_net(name: &str) -> bool {
    let rule = name.strip_prefix("etc/udev/rules.d/").or_else(|| name.strip_prefix("usr/lib/udev/rules.d/"));
    rule.is_some_and(|rule| rule.contains("persistent") && rule.contains("net"))
}

fn keep(names: &mut Vec<String>, name: &str) {
    if names.len() < NAMES_MAX {
        names.push(clean(name.as_bytes()));
    }
}

/// Returns the name that the kernel gives a module, from the path of its file; none for another file.
pub(crate) fn module_name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let name = [".ko", ".ko.gz", ".ko.xz", ".ko.zst", ".ko.bz2"].iter().find_map(|end| file.strip_suffix(end))?;
    word(name).map(|name| name.replace('-', "_"))
}
