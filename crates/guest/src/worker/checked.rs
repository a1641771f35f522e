//! What the parent makes sure of in an answer, as if the disk had taken the worker over.
//!
//! Such a worker can lie about its own disk, and does no more by that: what is found and planned is about this disk alone,
//! the writers and the micro-VM look at the disk again, and write to it alone. So what is checked is what reaches further:
//! texts that go to a terminal or a log, and paths and devices that others join to something.

use std::collections::HashSet;

use disk::error::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::process::fault;
use crate::plan::{Branch, Change, Plan, RecordFile, State};
use crate::report::Report;
use crate::text::visible;

/// Longest path of Linux (`PATH_MAX`), with room for where the file system is mounted.
const PATH_MAX: usize = 8192;
/// Most programs of a plan: one for each kernel, and those that install.
const PROGRAMS_MAX: usize = 64;

/// What a worker answers.
pub(super) trait Answer: Serialize + DeserializeOwned {
    /// Adds a note for people.
    fn note(&mut self, note: String);

    /// Returns the answer safe to use, or refuses it.
    fn checked(self) -> Result<Self>;
}

impl Answer for Report {
    fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    fn checked(self) -> Result<Self> {
        safe(self)
    }
}

impl Answer for Plan {
    fn note(&mut self, note: String) {
        self.report.notes.push(note);
    }

    fn checked(mut self) -> Result<Self> {
        self.report = safe(self.report)?;
        self.findings = safe(self.findings)?;
        let devices: HashSet<&str> = self.report.filesystems.iter().map(|found| found.device.as_str()).collect();
        let is_sound = |change: &Change| devices.contains(change.device.as_str()) && has_sound_paths(change);
        let is_record_sound = |file: &RecordFile| devices.contains(file.device.as_str()) && self::is_sound(&file.inner);
        let is_branch_sound = |branch: &Branch| {
            devices.contains(branch.device.as_str()) && (branch.at == "/" || self::is_sound(&branch.at))
        };
        let are_programs_sound = self.programs.len() <= PROGRAMS_MAX && self.branches.iter().all(is_branch_sound);
        let all_sound =
            are_programs_sound && self.changes.iter().all(is_sound) && self.record.iter().all(is_record_sound);
        if all_sound { Ok(self) } else { Err(fault("its plan has a path that none may have")) }
    }
}

fn has_sound_paths(change: &Change) -> bool {
    let below: &[(String, bool)] = match &change.before {
        State::Folder(below) => below,
        _ => &[],
    };
    let below = below.iter().map(|(path, _)| path);
    [&change.path, &change.inner].into_iter().chain(&change.like).chain(below).all(|path| is_sound(path))
}

/// Returns whether `path` leads from a root to something below it, and nowhere else.
fn is_sound(path: &str) -> bool {
    path.len() <= PATH_MAX
        && !path.contains('\0')
        && path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|name| !matches!(name, "" | "." | "..")))
}

/// Escapes in all texts of `found` what would steer a terminal, as the worker itself has done.
fn safe<T: Serialize + DeserializeOwned>(found: T) -> Result<T> {
    let strange = |_| fault("its answer cannot be understood");
    let mut value = serde_json::to_value(&found).map_err(strange)?;
    if escape(&mut value) { serde_json::from_value(value).map_err(strange) } else { Ok(found) }
}

/// Returns whether something had to be escaped.
fn escape(value: &mut Value) -> bool {
    match value {
        Value::String(text) => {
            let shown = visible(text);
            let is_changed = shown != *text;
            *text = shown;
            is_changed
        }
        Value::Array(values) => values.iter_mut().fold(false, |changed, value| escape(value) | changed),
        Value::Object(fields) => fields.values_mut().fold(false, |changed, value| escape(value) | changed),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::programs::Program;
    use crate::report::{Filesystem, FilesystemKind, Os, OsKind};

    fn plan(path: &str, device: &str) -> Plan {
        let filesystem = Filesystem {
            device: "/dev/sda1".into(),
            partition: Some(1),
            kind: FilesystemKind::Ext4,
            uuid: None,
            label: None,
            size: u64::MAX,
            used: None,
            mounted_at: None,
        };
        let change = Change {
            path: "/etc/fstab".into(),
            device: device.into(),
            subvolume: None,
            inner: path.into(),
            before: State::Absent,
            after: State::Link("../\u{1b}".into()),
            like: None,
        };
        let report = Report { filesystems: vec![filesystem], ..Report::default() };
        Plan { report, changes: vec![change], ..Plan::default() }
    }

    #[test]
    fn plans_name_paths_below_a_root_on_devices_of_the_disk() {
        for path in ["/etc/fstab", "/a\u{1b}b", "/...", "/ "] {
            assert_eq!(plan(path, "/dev/sda1").checked().unwrap(), plan(path, "/dev/sda1"));
        }
        for path in
            ["", "/", "etc", "//etc", "/etc/", "/../etc", "/a/./b", "/a\0", &format!("/{}", "a".repeat(PATH_MAX))]
        {
            assert!(plan(path, "/dev/sda1").checked().is_err(), "{path:?}");
        }
        assert!(plan("/etc/fstab", "/dev/sdb1").checked().is_err());
        let mut folder = plan("/etc/fstab", "/dev/sda1");
        folder.changes[0].before = State::Folder(vec![("/a/..".into(), false)]);
        assert!(folder.checked().is_err());
    }

    #[test]
    fn texts_do_not_steer_a_terminal() {
        let mut report = plan("/a", "/dev/sda1").report;
        report.os = Some(Os { name: Some("Debian".into()), ..Os::new(OsKind::Linux) });
        let sound = report.clone();
        assert_eq!(report.clone().checked().unwrap(), sound);
        report.os = Some(Os { name: Some("De\u{1b}[2Jbian".into()), ..Os::new(OsKind::Linux) });
        let told = report.checked().unwrap();
        assert_eq!(told.os.unwrap().name.unwrap(), "De\\u{1b}[2Jbian");
        assert_eq!(told.filesystems, sound.filesystems);
    }

    #[test]
    fn programs_are_few_and_see_file_systems_of_the_disk() {
        let checked = |at: &str, device: &str, count: usize| {
            let branch = Branch { at: at.into(), device: device.into(), subvolume: None };
            let program = Program { finding: "x".into(), arguments: vec!["x".into()], packages: Vec::new() };
            let programs = vec![program; count];
            Plan { programs, branches: vec![branch], ..plan("/etc/fstab", "/dev/sda1") }.checked()
        };
        assert!(checked("/", "/dev/sda1", 1).is_ok() && checked("/boot/efi", "/dev/sda1", PROGRAMS_MAX).is_ok());
        assert!(checked("/../x", "/dev/sda1", 1).is_err() && checked("", "/dev/sda1", 1).is_err());
        assert!(checked("/", "/dev/sdb1", 1).is_err() && checked("/", "/dev/sda1", PROGRAMS_MAX + 1).is_err());
    }
}
