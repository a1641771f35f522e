//! What prepare will change: each file with what it was and what it becomes, for people to review and for writers to apply.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use disk::error::Result;
use disk::source::Source;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use similar::TextDiff;

use crate::check::{After, Choice, Examination, Finding, RECORD, examine};
use crate::inspect::open_disk;
use crate::programs::Program;
use crate::registry::{ValueChange, ValueData, hive_name};
use crate::report::{FilesystemKind, Report};
use crate::text::{assignment, clean};
use crate::tree::{CONFIG_MAX, Tree};

const SELINUX: &str = "/etc/selinux/config";
/// Most entries below a folder that is taken away.
const BELOW_MAX: usize = 20_000;
/// Lines around a change that a diff shows.
const CONTEXT: usize = 3;
/// How long the shortest diff of a file is looked for; after that it is a correct one that may be longer.
const DIFF_TIME: Duration = Duration::from_secs(1);

/// The result of an examination.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What the disk holds.
    pub report: Report,
    /// What was found, the worst first.
    pub findings: Vec<Finding>,
    /// Programs of the guest that prepare runs before it changes anything, where it may.
    pub programs: Vec<Program>,
    /// The file systems that these programs see, the root first.
    pub(crate) branches: Vec<Branch>,
    /// Whether the guest's files have labels of SELinux.
    pub(crate) has_labels: bool,
    /// What prepare changes, by path.
    pub changes: Vec<Change>,
    /// Where prepare leaves its record, if it can leave one.
    pub(crate) record: Option<RecordFile>,
}

/// A file system of the guest's tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Branch {
    /// Where the guest mounts it.
    pub(crate) at: String,
    /// The file system, as in [`crate::Filesystem::device`].
    pub(crate) device: String,
    /// The subvolume of it, by number, where it has subvolumes.
    pub(crate) subvolume: Option<u64>,
}

/// The file in the guest that tells what prepare did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RecordFile {
    /// The file system that holds it, as in [`crate::Filesystem::device`].
    pub(crate) device: String,
    /// The subvolume of it, by number, where it has subvolumes.
    pub(crate) subvolume: Option<u64>,
    /// Path inside that file system or subvolume.
    pub(crate) inner: String,
}

/// A change of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Path in the guest.
    pub path: String,
    /// The file system that holds it, as in [`crate::Filesystem::device`].
    pub device: String,
    /// The subvolume of it, by number, where it has subvolumes.
    pub subvolume: Option<u64>,
    /// Path inside that file system or subvolume.
    pub inner: String,
    /// What stands there.
    pub before: State,
    /// What will stand there.
    pub after: State,
    /// Path inside the same file system of a file whose owner, mode and label a new one takes.
    pub like: Option<String>,
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Nothing.
    Absent,
    /// A file of which the content is known.
    File(#[serde(with = "crate::worker::bytes")] Vec<u8>),
    /// A file that goes; its content may be a secret and was not read.
    Unread {
        /// Its length in bytes.
        length: u64,
    },
    /// The file that was there, with these bytes behind it.
    Appended(#[serde(with = "crate::worker::bytes")] Vec<u8>),
    /// The registry hive that was there, with these values changed.
    Values(Vec<ValueChange>),
    /// A symbolic link.
    Link(String),
    /// A folder, with the paths of all that is in it inside the file system, deepest first, and whether each is a folder.
    Folder(Vec<(String, bool)>),
}

/// Examines `disk` and plans the repair of what `choice` takes. Writes nothing.
///
/// # Errors
/// As [`crate::inspect()`].
pub fn plan(disk: Arc<dyn Source>, choice: &Choice) -> Result<Plan> {
    let (mut report, tree, budget) = open_disk(disk)?;
    let Examination { findings, drafted, programs } = examine(&report, tree.as_ref(), choice);
    let branches = tree.as_ref().filter(|_| !programs.is_empty()).map_or_else(Vec::new, branches);
    let changes = tree.as_ref().map_or_else(Vec::new, |tree| changes(tree, drafted));
    // What the checks could not read is worth a note too.
    if let Some(failure) = budget.take_failure() {
        return Err(failure);
    }
    if budget.is_exhausted() {
        budget.note("The examination reached its limit of reads, bytes or time; what is told here is not all.");
    }
    report.notes.extend(budget.take_notes());
    let record = tree.as_ref().and_then(|tree| record(tree, &report));
    let has_labels = tree.as_ref().is_some_and(has_labels);
    Ok(Plan { report, findings, programs, branches, has_labels, changes, record })
}

/// Returns whether SELinux is more than switched off (selinux_config(5)).
fn has_labels(tree: &Tree) -> bool {
    let text = tree.exists(SELINUX).then(|| tree.config(SELINUX)).flatten().unwrap_or_default();
    let mode = text.lines().filter_map(assignment).find(|(key, _)| *key == "SELINUX");
    mode.is_some_and(|(_, mode)| mode != "disabled")
}

fn branches(tree: &Tree) -> Vec<Branch> {
    let branch = |(at, device, subvolume)| Branch { at, device, subvolume };
    tree.branches().into_iter().map(branch).collect()
}

/// Returns where the record goes: where `/var/log` leads to, and nowhere if a file cannot be written there.
fn record(tree: &Tree, report: &Report) -> Option<RecordFile> {
    use FilesystemKind::{Btrfs, Ext2, Ext3, Ext4, Xfs};
    let path = tree.resolve_parent(RECORD);
    let is_free = tree.is_writable(&path) && (tree.is_file(&path) || tree.node(&path).is_none());
    let (device, inner) = tree.place(&path);
    let kind = report.filesystems.iter().find(|filesystem| filesystem.device == device)?.kind;
    let is_kept = is_free && matches!(kind, Ext2 | Ext3 | Ext4 | Xfs | Btrfs);
    is_kept.then(|| RecordFile { device, subvolume: tree.subvolume(&path), inner })
}

pub(crate) fn changes(tree: &Tree, drafted: BTreeMap<String, After>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (path, after) in drafted {
        if !tree.is_writable(&path) {
            let path = clean(path.as_bytes());
            tree.note(format!("{path} is left as it is: what leads to it is no folder, or it is a pipe or a device."));
            continue;
        }
        let (device, inner) = tree.place(&path);
        let subvolume = tree.subvolume(&path);
        let before = before(tree, &path, &after);
        let like = match &after {
            After::File { like: Some(like), .. } => {
                let is_here = |place: &(String, String)| place.0 == device && tree.subvolume(like) == subvolume;
                Some(tree.place(like)).filter(is_here).map(|(_, inner)| inner)
            }
            _ => None,
        };
        let after = match after {
            After::File { bytes, .. } => State::File(bytes),
            After::Appended(bytes) => State::Appended(bytes),
            After::Values(values) => State::Values(values),
            After::Link(target) => State::Link(target),
            After::Absent => State::Absent,
        };
        if before != after {
            changes.push(Change { path, device, subvolume, inner, before, after, like });
        }
    }
    changes
}

fn before(tree: &Tree, path: &str, after: &After) -> State {
    let Some(node) = tree.node(path) else { return State::Absent };
    if let Some(target) = tree.link_target(path) {
        return State::Link(target);
    }
    if tree.is_folder_itself(path) {
        return State::Folder(below(tree, path));
    }
    let is_read = matches!(after, After::File { bytes, .. } if !bytes.is_empty());
    let content = if is_read { tree.bytes(path, CONFIG_MAX) } else { None };
    content.map_or(State::Unread { length: node.length }, State::File)
}

/// Lists all that is in a folder, deepest first.
fn below(tree: &Tree, folder: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for name in tree.names(&folder, BELOW_MAX) {
            let path = format!("{folder}/{name}");
            let is_folder = tree.is_folder_itself(&path);
            found.push((tree.place(&path).1, is_folder));
            if is_folder && found.len() < BELOW_MAX {
                pending.push(path);
            }
        }
    }
    // What is in a folder was found after it.
    found.reverse();
    found
}

impl Change {
    /// Returns what happens in a few words, such as `edit /etc/fstab`.
    #[must_use]
    pub fn summary(&self) -> String {
        let path = clean(self.path.as_bytes());
        match (&self.before, &self.after) {
            (State::Absent, State::File(_)) => format!("create {path}"),
            (State::Folder(below), State::Absent) => format!("delete {path} and the {} things in it", below.len()),
            (_, State::Absent) => format!("delete {path}"),
            (_, State::Appended(bytes)) => format!("append {} bytes to {path}", bytes.len()),
            (_, State::Values(values)) => {
                let plural = if values.len() == 1 { "" } else { "s" };
                format!("set {} value{plural} in {path}", values.len())
            }
            (_, State::Link(target)) => format!("link {path} to {}", clean(target.as_bytes())),
            (_, State::File(bytes)) if bytes.is_empty() => format!("empty {path}"),
            _ => format!("edit {path}"),
        }
    }

    /// Returns the changes of a registry hive, each with the path of its key as Windows has it; none of another file.
    #[must_use]
    pub fn values(&self) -> Option<impl Iterator<Item = (String, &ValueChange)>> {
        let State::Values(values) = &self.after else { return None };
        let hive = hive_name(&self.path);
        Some(values.iter().map(move |value| (format!("{hive}\\{}", visible(&value.key)), value)))
    }

    fn values_diff(&self) -> String {
        let path = clean(self.path.as_bytes());
        let mut diff = format!("--- a{path}\n+++ b{path}\n");
        for (key, value) in self.values().into_iter().flatten() {
            let name = if value.name.is_empty() { "(default)".to_owned() } else { clean(value.name.as_bytes()) };
            let mut side = |sign, data: &ValueData| {
                diff.push_str(&format!("{sign}{key} {name}: {data} ({})\n", data.kind.as_str()));
            };
            if let Some(before) = &value.before {
                side('-', before);
            }
            side('+', &value.after);
        }
        diff
    }

    /// Returns the change as a unified diff; none where there is no text to show, as of what goes unread.
    #[must_use]
    pub fn diff(&self) -> Option<String> {
        let text = |state: &State| match state {
            State::Absent => Some(String::new()),
            // Programs, such as loaders, are no text whatever their bytes are.
            State::File(bytes) if bytes.len() as u64 <= CONFIG_MAX => {
                std::str::from_utf8(bytes).ok().map(str::to_owned)
            }
            _ => None,
        };
        match &self.after {
            State::Absent => return None,
            State::Values(_) => return Some(self.values_diff()),
            _ => {}
        }
        let (before, after) = (text(&self.before)?, text(&self.after)?);
        let path = clean(self.path.as_bytes());
        let old = if self.before == State::Absent { "/dev/null".to_owned() } else { format!("a{path}") };
        let diff = TextDiff::configure().timeout(DIFF_TIME).diff_lines(&before, &after);
        let shown = diff.unified_diff().context_radius(CONTEXT).header(&old, &format!("b{path}")).to_string();
        // Control characters of the guest stay out of terminals.
        Some(shown.lines().map(|line| format!("{}\n", visible(line))).collect())
    }
}

/// Escapes what would steer a terminal, except tabs.
fn visible(line: &str) -> String {
    line.split('\t').map(crate::text::visible).collect::<Vec<_>>().join("\t")
}

impl State {
    /// Returns the SHA-256 of a file that is known.
    #[must_use]
    pub fn sha256(&self) -> Option<[u8; 32]> {
        match self {
            Self::File(bytes) => Some(Sha256::digest(bytes).into()),
            _ => None,
        }
    }

    /// Returns `absent`, `file`, `link` or `folder`.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::File(_) | Self::Appended(_) | Self::Values(_) | Self::Unread { .. } => "file",
            Self::Link(_) => "link",
            Self::Folder(_) => "folder",
        }
    }
}
