//! A hive under examination: its values as evidence, and changes of them in the draft.

use crate::check::doctor::Doctor;
use crate::check::finding::Evidence;
use crate::os::windows::registry::{Registry, path};
use crate::os::windows::services;
use crate::registry::{Key, LOG_MAX, LOGS, Value, ValueChange, ValueData};
use crate::report::WindowsService;
use crate::text::clean_to;
use crate::tree::Tree;

/// Longest path of a key that is shown: those below `Control\Class` and `Interfaces` take some 120 letters.
const PATH_MAX: usize = 256;

pub(super) struct Hive<'h> {
    tree: &'h Tree,
    registry: Registry<'h>,
    /// The set of settings that keys are looked up in, with `\` behind it; empty where the hive has none.
    set: String,
}

/// A value that is to be changed.
pub(super) struct Wanted {
    key: String,
    name: String,
    data: ValueData,
}

impl<'h> Hive<'h> {
    pub(super) fn new(doctor: &Doctor<'h>, registry: Registry<'h>, set: &str) -> Self {
        let set = if set.is_empty() { String::new() } else { format!("{set}\\") };
        Self { tree: doctor.tree, registry, set }
    }

    /// Returns the hive itself, outside of all sets.
    pub(super) fn outside(&self) -> Self {
        Self { tree: self.tree, registry: self.registry, set: String::new() }
    }

    /// Returns the path of `key`, which begins in the set of settings, from the top of the hive on.
    fn inner(&self, key: &str) -> String {
        format!("{}{key}", self.set)
    }

    /// Looks up a key of the set of settings.
    pub(super) fn key(&self, key: &str) -> Option<Key<'h>> {
        self.registry.key(&self.inner(key))
    }

    /// Looks up a key at the top of the hive, outside of all sets.
    pub(super) fn top(&self, key: &str) -> Option<Key<'h>> {
        self.registry.key(key)
    }

    fn value(&self, key: &str, name: &str) -> Option<Value<'h>> {
        self.key(key)?.value(name).ok().flatten()
    }

    pub(super) fn data(&self, key: &str, name: &str) -> Option<ValueData> {
        ValueData::of(&self.value(key, name)?)
    }

    pub(super) fn number(&self, key: &str, name: &str) -> Option<u64> {
        self.value(key, name)?.number()
    }

    pub(super) fn text(&self, key: &str, name: &str) -> Option<String> {
        self.value(key, name)?.text()
    }

    pub(super) fn texts(&self, key: &str, name: &str) -> Vec<String> {
        self.value(key, name).and_then(|value| value.texts()).unwrap_or_default()
    }

    /// Returns the names of the keys below `key` that can be looked up by them, at most `most`.
    pub(super) fn names_below(&self, key: &str, most: usize) -> Vec<String> {
        let names = self.registry.subkeys(&self.inner(key), most).map(|key| key.name());
        names.filter(|name| !name.contains('\\') && self.key(&format!("{key}\\{name}")).is_some()).collect()
    }

    pub(super) fn service(&self, name: &str) -> Option<WindowsService> {
        services::find(&self.registry, self.set.trim_end_matches('\\'), name, self.tree)
    }

    /// Evidence for one value: its key, and what it holds.
    pub(super) fn evidence(&self, key: &str, name: &str) -> Evidence {
        let shown = match self.data(key, name) {
            Some(data) => format!("{name}: {data} ({})", data.kind.as_str()),
            None => format!("{name}: (none)"),
        };
        self.evidence_of(key, shown)
    }

    /// Evidence with other words than the value.
    pub(super) fn evidence_of(&self, key: &str, shown: String) -> Evidence {
        let path = format!("HKLM\\{}\\{}", self.registry.name(), self.inner(key));
        Evidence { path: clean_to(path.as_bytes(), PATH_MAX), line: None, value: Some(shown) }
    }

    /// Returns what is to be changed so that `name` holds `data`; none where it holds that, or is not there.
    pub(super) fn wanted(&self, key: &str, name: &str, data: ValueData) -> Option<Wanted> {
        let held = self.data(key, name)?;
        (held != data).then(|| Wanted { key: key.to_owned(), name: name.to_owned(), data })
    }

    /// Does the same for a value that is made where it is not there, and its key as well.
    pub(super) fn required(&self, key: &str, name: &str, data: ValueData) -> Option<Wanted> {
        let is_held = self.data(key, name).as_ref() == Some(&data);
        (!is_held).then(|| Wanted { key: key.to_owned(), name: name.to_owned(), data })
    }

    /// Tells what is wrong with the values that are to be changed.
    pub(super) fn evidence_for(&self, wanted: &[Wanted]) -> Vec<Evidence> {
        wanted.iter().map(|wanted| self.evidence(&wanted.key, &wanted.name)).collect()
    }

    /// Changes the values in the draft.
    pub(super) fn set(&self, doctor: &mut Doctor<'_>, wanted: Vec<Wanted>) {
        for Wanted { key, name, data } in wanted {
            let change = ValueChange { before: self.data(&key, &name), key: self.inner(&key), name, after: data };
            doctor.draft.set_value(&path(self.registry.name()), change);
        }
    }

    /// Returns whether Windows had not finished writing it, or its logs hold what it lacks.
    pub(super) fn is_pending(&self) -> bool {
        let log = |end| self.tree.head(&format!("{}.{end}", path(self.registry.name())), LOG_MAX).unwrap_or_default();
        self.registry.is_dirty() || LOGS.into_iter().any(|end| self.registry.is_pending(&log(end)))
    }
}
