//! Prepare: makes the changes of a plan on an overlay, and looks again whether they hold.
//!
//! disk -> plan -> overlay + writers (ext, NTFS) -> examined again: nothing is left to change -> overlay to be stored
//!
//! Invariants: the disk itself is never written; whatever fails, there is no overlay, so that nothing is half done; a guest
//! that needs nothing has an overlay without changes, so that preparing twice is preparing once.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use disk::error::{Error, Result};
use disk::source::Source;

use crate::check::{Choice, Finding, RECORD};
use crate::plan::{Change, Plan, State, plan};
use crate::report::{FilesystemKind, Report};
use crate::write::{Attributes, ExtWriter, NtfsWriter, Overlay};

/// How prepare runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareOptions {
    /// What is repaired.
    pub choice: Choice,
    /// The time that changed files get, in seconds since 1970.
    pub now: u64,
    /// Whether a record of what was done is left in the guest, in `/var/log/molde-prepare.log`.
    pub record: bool,
}

/// What prepare did.
#[derive(Debug)]
pub struct Prepared {
    /// What was found before, and each change.
    pub plan: Plan,
    /// What is found now, the worst first.
    pub after: Vec<Finding>,
    /// The disk with the changes.
    pub overlay: Overlay,
}

/// Repairs the guest on `disk`; nothing is written to it.
///
/// # Errors
/// As [`crate::plan()`]; `Refused` or `Unsupported` with the reason and a way out when a file system cannot be written here.
pub fn prepare(disk: Arc<dyn Source>, options: &PrepareOptions) -> Result<Prepared> {
    let plan = plan(Arc::clone(&disk), &options.choice)?;
    let base = Arc::clone(&disk);
    let mut overlay = Overlay::new(disk);
    if plan.changes.is_empty() {
        return Ok(Prepared { after: plan.findings.clone(), plan, overlay });
    }
    let mut by_device: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    for change in &plan.changes {
        by_device.entry(&change.device).or_default().push(change);
    }
    let record = if options.record { Some(record(&plan, options.now)) } else { None };
    for (device, changes) in by_device {
        let range = range_of(&plan.report, device)?;
        if kind_of(&plan.report, device) == Some(FilesystemKind::Ntfs) {
            let writer = NtfsWriter::open(Arc::clone(&base), range).map_err(|e| cannot(device, &e))?;
            for change in changes {
                set_values(&writer, &mut overlay, change, options.now).map_err(|e| cannot(&change.summary(), &e))?;
            }
            continue;
        }
        let mut writer = ExtWriter::open(&mut overlay, range, options.now).map_err(|e| cannot(device, &e))?;
        // What is put aside takes its rights from a file that goes after.
        let (last, first): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.after == State::Absent);
        for change in first.into_iter().chain(last) {
            apply(&mut writer, change).map_err(|e| cannot(&change.summary(), &e))?;
        }
        if let Some(record) = record.as_ref().filter(|_| is_root(&plan.report, device)) {
            append(&mut writer, RECORD, record).map_err(|e| cannot(RECORD, &e))?;
        }
    }
    let overlay = Arc::new(overlay);
    let again = crate::plan::plan(overlay.clone(), &options.choice)?;
    if let Some(change) = again.changes.first() {
        let told =
            format!("the guest was prepared, and afterwards there is still to {}; nothing was kept", change.summary());
        return Err(Error::refused(told).with_hint(
            "this is a fault of Molde: please report it with the output of `molde guest prepare --dry-run`",
        ));
    }
    let overlay = Arc::into_inner(overlay).ok_or_else(|| Error::refused("the overlay is still being read"))?;
    Ok(Prepared { plan, after: again.findings, overlay })
}

fn cannot(what: &str, error: &Error) -> Error {
    let hint = error.hint().map(str::to_owned);
    let told = Error::new(error.kind(), format!("cannot {what}: {error}"));
    match hint {
        Some(hint) => told.with_hint(hint),
        None => told,
    }
}

fn is_root(report: &Report, device: &str) -> bool {
    report.os.as_ref().and_then(|os| os.root.as_deref()) == Some(device)
}

fn kind_of(report: &Report, device: &str) -> Option<FilesystemKind> {
    report.filesystems.iter().find(|found| found.device == device).map(|found| found.kind)
}

/// Returns where the file system on `device` lies, if it can be written here.
fn range_of(report: &Report, device: &str) -> Result<Range<u64>> {
    let unsupported = |why: &str| {
        Error::unsupported(format!("{device} cannot be changed offline: {why}"))
            .with_hint("make the changes that `molde guest prepare --dry-run` shows in the running system")
    };
    let filesystem =
        report.filesystems.iter().find(|found| found.device == device).ok_or_else(|| unsupported("it is not there"))?;
    use FilesystemKind::{Ext2, Ext3, Ext4, Ntfs};
    if !matches!(filesystem.kind, Ext2 | Ext3 | Ext4 | Ntfs) {
        return Err(unsupported(&format!("there is no writer for {}", filesystem.kind)));
    }
    match filesystem.partition {
        // It lies straight on the disk, or in pieces on a logical volume.
        None if device == "/dev/sda" => Ok(0..u64::MAX),
        None => Err(unsupported("logical volumes are not written yet")),
        Some(number) => report
            .partitions
            .iter()
            .find(|partition| partition.number == number)
            .and_then(|partition| Some(partition.offset..partition.offset.checked_add(partition.length)?))
            .ok_or_else(|| unsupported("its partition is not there")),
    }
}

/// Makes one change. What the plan saw is looked at again where it is known, so that nothing else is overwritten.
fn apply(writer: &mut ExtWriter<'_>, change: &Change) -> Result<()> {
    let path = change.inner.as_bytes();
    match (&change.before, &change.after) {
        (State::Absent, State::File(bytes)) => {
            let like = change.like.as_deref().map(str::as_bytes);
            make_parents(writer, path)?;
            let attributes = match like {
                Some(like) => writer.attributes(like)?,
                None => Attributes { mode: 0o644, uid: 0, gid: 0 },
            };
            writer.create(path, bytes, attributes, like)
        }
        (State::File(_) | State::Unread { .. }, State::File(bytes)) => writer.replace(path, bytes),
        (State::File(_) | State::Unread { .. }, State::Appended(bytes)) => writer.append(path, bytes),
        (State::Absent, State::Link(target)) => {
            make_parents(writer, path)?;
            writer.symlink(path, target.as_bytes())
        }
        (State::Link(_) | State::File(_) | State::Unread { .. }, State::Link(target)) => {
            writer.remove(path)?;
            writer.symlink(path, target.as_bytes())
        }
        (State::Folder(below), State::Absent) => {
            for (inner, is_folder) in below {
                if *is_folder { writer.remove_folder(inner.as_bytes())? } else { writer.remove(inner.as_bytes())? }
            }
            writer.remove_folder(path)
        }
        (State::File(_) | State::Unread { .. } | State::Link(_), State::Absent) => writer.remove(path),
        (before, after) => {
            Err(Error::refused(format!("a {} there would have to become a {}", before.as_str(), after.as_str())))
        }
    }
}

/// Makes one change on NTFS, where values of hives are all that is changed.
fn set_values(writer: &NtfsWriter, overlay: &mut Overlay, change: &Change, now: u64) -> Result<()> {
    match &change.after {
        State::Values(values) => writer.set_values(overlay, &change.inner, values, now),
        after => Err(Error::unsupported(format!("on NTFS no {} is written", after.as_str()))),
    }
}

/// Makes the folders that lead to `path`, as far as they are not there.
fn make_parents(writer: &mut ExtWriter<'_>, path: &[u8]) -> Result<()> {
    let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    for end in ends {
        if !writer.exists(&path[..end])? {
            writer.make_folder(&path[..end], Attributes { mode: 0o755, uid: 0, gid: 0 }, None)?;
        }
    }
    Ok(())
}

fn append(writer: &mut ExtWriter<'_>, path: &str, text: &str) -> Result<()> {
    if writer.exists(path.as_bytes())? {
        return writer.append(path.as_bytes(), text.as_bytes());
    }
    make_parents(writer, path.as_bytes())?;
    writer.create(path.as_bytes(), text.as_bytes(), Attributes { mode: 0o600, uid: 0, gid: 0 }, None)
}

/// Describes what is done, for whoever looks into the guest later.
fn record(plan: &Plan, now: u64) -> String {
    let mut text = format!("Molde prepared this disk at {now} (seconds since 1970):\n");
    plan.changes.iter().for_each(|change| text.push_str(&format!("  {}\n", change.summary())));
    text
}
