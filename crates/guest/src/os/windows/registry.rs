//! One hive of the guest, with notes of what is broken in it.

use super::{number, text};
use crate::registry::{Hive, Key, is_log_newer};
use crate::text::clean;
use crate::tree::Tree;

const FOLDER: &str = "/Windows/System32/config";
/// What is read of a log: its head, and that of its first entry.
const LOG_HEAD: usize = 4096;

/// Returns where the hive `name` lies.
pub(super) fn path(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// Reads at most `most` bytes of the hive `name`.
pub(super) fn load(tree: &Tree, name: &str, most: usize) -> Option<Vec<u8>> {
    let bytes = tree.head(&path(name), most);
    if bytes.is_none() {
        tree.note(format!("The registry hive {name} cannot be read."));
    }
    bytes
}

/// An open hive.
pub(super) struct Registry<'h> {
    hive: Hive<'h>,
    name: &'h str,
    tree: &'h Tree,
}

impl<'h> Registry<'h> {
    /// Opens a hive, and tells when it is not whole.
    pub(super) fn open(tree: &'h Tree, name: &'h str, bytes: &'h [u8]) -> Option<Self> {
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
            let is_newer = ["LOG1", "LOG2", "LOG"].iter().any(|end| is_log_newer(bytes, &log(end)));
            let newer = if is_newer { ", and its logs hold what was changed last" } else { "" };
            tell(&format!("was not written to its end{newer}"));
        }
        Some(Self { hive, name, tree })
    }

    /// Looks up a key; what is broken is told, and nothing is found once the time is over.
    pub(super) fn key(&self, path: &str) -> Option<Key<'h>> {
        let tell = |error: &disk::error::Error| {
            let path = clean(path.as_bytes());
            self.tree.note(format!(r"The registry hive {} is broken on the way to {path}: {error}.", self.name));
        };
        self.tree.has_time().then(|| self.hive.key(path).inspect_err(tell).ok().flatten()).flatten()
    }

    pub(super) fn text(&self, path: &str, name: &str) -> Option<String> {
        text(&self.key(path)?, name)
    }

    pub(super) fn number(&self, path: &str, name: &str) -> Option<u32> {
        number(&self.key(path)?, name)
    }

    /// Iterates over at most `most` keys below `path`, until the time is over.
    pub(super) fn subkeys<'s>(&'s self, path: &str, most: usize) -> impl Iterator<Item = Key<'h>> + use<'s, 'h> {
        let keys = self.key(path).and_then(|key| key.subkeys(most).ok()).unwrap_or_default();
        keys.into_iter().take_while(|_| self.tree.has_time())
    }
}
