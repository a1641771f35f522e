//! One hive of the guest, with notes of what is broken in it.

use std::rc::Rc;

use super::{number, text};
use crate::registry::{Hive, Key, LOGS, is_log_newer, is_pending};
use crate::text::clean;
use crate::tree::Tree;

const FOLDER: &str = "/Windows/System32/config";
/// What is read of a log: its head, and that of its first entry.
const LOG_HEAD: usize = 4096;
/// Largest hives that are read: `SOFTWARE` of an old server has some 100 MiB.
const SYSTEM_MAX: usize = 96 << 20;
const SOFTWARE_MAX: usize = 192 << 20;

/// Returns where the hive `name` lies.
pub(crate) fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// Reads the hive `name`, up to a limit, once for all who ask.
pub(crate) fn load(tree: &Tree, name: &str) -> Option<Rc<Vec<u8>>> {
    let most = if name == "SYSTEM" { SYSTEM_MAX } else { SOFTWARE_MAX };
    let bytes = tree.head_kept(&path(name), most);
    if bytes.is_none() {
        tree.note(format!("The registry hive {name} cannot be read."));
    }
    bytes
}

/// An open hive.
#[derive(Clone, Copy)]
pub(crate) struct Registry<'h> {
    hive: Hive<'h>,
    name: &'h str,
    tree: &'h Tree,
}

impl<'h> Registry<'h> {
    /// Opens a hive, and tells when it is not whole.
    pub(crate) fn open(tree: &'h Tree, name: &'h str, bytes: &'h [u8]) -> Option<Self> {
        let tell = |why: &str| tree.note(format!("The registry hive {name} {why}."));
        let hive = match Hive::open(bytes) {
            Ok(hive) => hive,
            Err(error) => {
                tell(&format!("cannot be read: {error}"));
                return None;
            }
        };
        if hive.is_cut() {
            tell("is cut, or over the limit; what lies behind its end is not told");
        }
        if hive.is_dirty() {
            let log = |end: &str| tree.head(&format!("{}.{end}", path(name)), LOG_HEAD).unwrap_or_default();
            let is_newer = LOGS.iter().any(|end| is_log_newer(bytes, &log(end)));
            let newer = if is_newer { ", and its logs hold what was changed last" } else { "" };
            tell(&format!("was not written to its end{newer}"));
        }
        Some(Self { hive, name, tree })
    }

    /// Returns the name of the set of settings that the next start begins with.
    pub(crate) fn control_set(&self) -> String {
        let number = self.number("Select", "Default").or_else(|| self.number("Select", "Current")).unwrap_or(1);
        format!("ControlSet{number:03}")
    }

    pub(crate) fn name(&self) -> &'h str {
        self.name
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.hive.is_dirty()
    }

    /// Returns whether the log in `log` has what the hive lacks.
    pub(crate) fn is_pending(&self, log: &[u8]) -> bool {
        is_pending(self.hive.bytes(), log)
    }

    /// Looks up a key; what is broken is told, and nothing is found once the time is over.
    pub(crate) fn key(&self, path: &str) -> Option<Key<'h>> {
        let tell = |error: &disk::error::Error| {
            let path = clean(path.as_bytes());
            self.tree.note(format!(r"The registry hive {} is broken on the way to {path}: {error}.", self.name));
        };
        self.tree.has_time().then(|| self.hive.key(path).inspect_err(tell).ok().flatten()).flatten()
    }

    pub(crate) fn text(&self, path: &str, name: &str) -> Option<String> {
        text(&self.key(path)?, name)
    }

    pub(crate) fn number(&self, path: &str, name: &str) -> Option<u32> {
        number(&self.key(path)?, name)
    }

    /// Iterates over at most `most` keys below `path`, until the time is over.
    pub(crate) fn subkeys<'s>(&'s self, path: &str, most: usize) -> impl Iterator<Item = Key<'h>> + use<'s, 'h> {
        let keys = self.key(path).and_then(|key| key.subkeys(most).ok()).unwrap_or_default();
        keys.into_iter().take_while(|_| self.tree.has_time())
    }
}
