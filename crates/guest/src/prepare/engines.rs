//! Which engine changes which file system: an own writer where there is one that can, else the micro-VM.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use disk::error::{Error, ErrorKind, Result};
use disk::source::Source;

use super::ntfs;
use super::own::{self, cannot};
use crate::fields::{le16, le32};
use crate::place::{self, Place};
use crate::plan::{Change, Plan, RecordFile, State};
use crate::report::{FilesystemKind, Report};
use crate::vm::{self, Machine};
use crate::write::{ExtWriter, Overlay};

/// What is to be done.
pub(super) struct Work<'a> {
    pub(super) disk: &'a Arc<dyn Source>,
    pub(super) plan: &'a Plan,
    pub(super) record: Option<&'a str>,
    pub(super) now: u64,
    pub(super) machine: &'a Machine,
}

/// Who changes a file system.
enum Engine {
    /// The own writer of ext or FAT, in this range of the disk.
    Own(Range<u64>),
    /// The own writer of values of the registry, in an NTFS in this range.
    Registry(Range<u64>),
    /// The micro-VM; what the own writer said, if it was asked.
    Machine(Option<Error>),
}

/// A file system, its engine and its changes.
struct Task<'a> {
    device: &'a str,
    place: Place,
    engine: Engine,
    changes: Vec<&'a Change>,
    /// The record that is left here, and where.
    record: Option<(&'a RecordFile, &'a str)>,
}

/// Makes all changes of a plan on `overlay`, which has none yet.
///
/// # Errors
///
/// `overlay` may then hold some of the changes.
pub(super) fn apply(work: &Work<'_>, overlay: &mut Overlay) -> Result<()> {
    let mut by_device: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    for change in &work.plan.changes {
        by_device.entry(&change.device).or_default().push(change);
    }
    let record = work.plan.record.as_ref().zip(work.record);
    if let Some((file, _)) = record {
        by_device.entry(&file.device).or_default();
    }
    let devices: Vec<&str> = by_device.keys().copied().collect();
    let places = place::find(work.disk, &devices)?;
    let mut tasks = Vec::new();
    for ((device, changes), place) in by_device.into_iter().zip(places) {
        let engine = match engine(overlay, &place, work.now).and_then(|engine| fitting(engine, work, &changes)) {
            Ok(engine) => engine,
            // The record alone is not worth refusing the guest.
            Err(error) if changes.is_empty() && error.kind() != ErrorKind::Io => continue,
            Err(error) => return Err(cannot(&format!("change {device}"), &error)),
        };
        let record = record.filter(|(file, _)| file.device == device);
        tasks.push(Task { device, place, engine, changes: in_order(&changes), record });
    }
    // The machine reads the disk as it was; its file systems are not those of the own writer.
    let (mut machines, own): (Vec<_>, Vec<_>) =
        tasks.into_iter().partition(|task| matches!(task.engine, Engine::Machine(_)));
    // Nor is it worth starting the machine.
    if machines.iter().all(|task| task.changes.is_empty()) {
        machines.clear();
    }
    run_machine(work, &machines, overlay)?;
    for task in own {
        let done = match task.engine {
            Engine::Own(range) => {
                own::apply_all(overlay, (task.place.kind, range), &task.changes, task.record, work.now)
            }
            Engine::Registry(range) => own::set_values(overlay, work.disk, range, &task.changes, work.now),
            Engine::Machine(_) => Ok(()),
        };
        done.map_err(|error| cannot(&format!("change {}", task.device), &error))?;
    }
    Ok(())
}

fn run_machine(work: &Work<'_>, tasks: &[Task<'_>], overlay: &mut Overlay) -> Result<()> {
    if tasks.is_empty() {
        return Ok(());
    }
    let mut mounts = Vec::new();
    for (number, task) in tasks.iter().enumerate() {
        match task.place.range().filter(|_| task.place.kind == FilesystemKind::Ntfs) {
            Some(range) => mounts.push(
                ntfs::mount(number, work.disk, range, &task.changes, work.now)
                    .map_err(|error| cannot(&format!("change {}", task.device), &error))?,
            ),
            None => mounts.extend(vm::mounts(number, task.place.kind, &task.changes, task.record)?),
        }
    }
    let places = tasks.iter().map(|task| task.place.clone()).collect();
    let job = vm::Work { places, visit: None, mounts, now: work.now };
    vm::run(work.machine, work.disk, job, overlay).map(drop).map_err(|error| {
        let devices: Vec<&str> = tasks.iter().map(|task| task.device).collect();
        let reasons = tasks.iter().filter_map(|task| match &task.engine {
            Engine::Machine(Some(error)) => Some(format!("{error}; ")),
            _ => None,
        });
        let hint =
            error.hint().unwrap_or("make the changes that `molde guest prepare --dry-run` shows in the running system");
        let reasons: String = reasons.collect();
        Error::new(error.kind(), format!("cannot change {}: {reasons}{error}", devices.join(", "))).with_hint(hint)
    })
}

/// Replays in the micro-VM the journals that the readers left out, of file systems that the guest mounts; none where there
/// are none, or no micro-VM.
pub(super) fn replay(disk: &Arc<dyn Source>, report: &Report, now: u64, machine: &Machine) -> Result<Option<Overlay>> {
    let is_mounted =
        |device: &String| report.filesystems.iter().any(|found| found.device == *device && found.mounted_at.is_some());
    let devices: Vec<&str> = report.unreplayed.iter().filter(|device| is_mounted(device)).map(String::as_str).collect();
    if devices.is_empty() {
        return Ok(None);
    }
    let mut places = place::find(disk, &devices)?;
    places.retain(|place| !place.has_snapshots);
    if places.is_empty() {
        return Ok(None);
    }
    let mut mounts = Vec::new();
    for (number, place) in places.iter().enumerate() {
        mounts.extend(vm::mounts(number, place.kind, &[], None)?);
    }
    let mut overlay = Overlay::new(Arc::clone(disk));
    match vm::run(machine, disk, vm::Work { places, visit: None, mounts, now }, &mut overlay) {
        Ok(_) => Ok(Some(overlay)),
        // Whether that matters is seen when one of them has to be changed.
        Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
        Err(error) => Err(cannot(&format!("replay the journal of {}", devices.join(", ")), &error)),
    }
}

fn engine(overlay: &mut Overlay, place: &Place, now: u64) -> Result<Engine> {
    use FilesystemKind::{Btrfs, Ext2, Ext3, Ext4, Ntfs, Vfat, Xfs};
    refuse_snapshots(place)?;
    match place.kind {
        Xfs | Btrfs => return Ok(Engine::Machine(None)),
        Ntfs | Vfat => {
            let pieces = || Error::unsupported(format!("a {} that lies in pieces is not written", place.kind));
            let engine = if place.kind == Ntfs { Engine::Registry } else { Engine::Own };
            return place.range().map(engine).ok_or_else(pieces);
        }
        Ext2 | Ext3 | Ext4 => {}
        kind => {
            return Err(Error::unsupported(format!("there is no writer for {kind}"))
                .with_hint("make the changes that `molde guest prepare --dry-run` shows in the running system"));
        }
    }
    refuse_damage(overlay, place)?;
    let Some(range) = place.range() else { return Ok(Engine::Machine(None)) };
    match ExtWriter::open(overlay, range.clone(), now) {
        Ok(_) => Ok(Engine::Own(range)),
        // Features that are not known here, a journal, files to be deleted: all that a kernel does.
        Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::Refused | ErrorKind::TooLarge) => {
            Ok(Engine::Machine(Some(error)))
        }
        Err(error) => Err(error),
    }
}

/// Returns the engine for an NTFS according to what is changed there; any other as it is.
fn fitting(engine: Engine, work: &Work<'_>, changes: &[&Change]) -> Result<Engine> {
    let Engine::Registry(range) = engine else { return Ok(engine) };
    Ok(match ntfs::needs_driver(work.disk, range.clone(), changes, work.now)? {
        Some(why) => Engine::Machine(Some(why)),
        None => Engine::Registry(range),
    })
}

/// Refuses a volume of LVM past whose snapshots it would be written.
pub(super) fn refuse_snapshots(place: &Place) -> Result<()> {
    if !place.has_snapshots {
        return Ok(());
    }
    Err(Error::refused("its logical volume has LVM snapshots, which would lose what they keep")
        .with_hint("remove the snapshots (`lvremove`) or merge them (`lvconvert --merge`) in the running system"))
}

/// Refuses an ext that needs repair, which neither engine does: a kernel would write to it nevertheless.
pub(super) fn refuse_damage(disk: &dyn Source, place: &Place) -> Result<()> {
    let mut superblock = Vec::new();
    for (at, count) in place.parts(1024, 1024)? {
        let filled = superblock.len();
        superblock.resize(filled + count, 0);
        disk.read_at(&mut superblock[filled..], at)?;
    }
    let (state, needs_recovery) = (le16(&superblock, 58), le32(&superblock, 96) & 0x4 != 0);
    if state & 0x2 == 0 && (state & 0x1 != 0 || needs_recovery) {
        return Ok(());
    }
    Err(Error::refused("the file system is marked as having errors, or was not unmounted cleanly")
        .with_hint("let e2fsck check the file system"))
}

/// Returns the changes in the order in which they are made: what is put aside takes its rights from a file that goes after.
fn in_order<'a>(changes: &[&'a Change]) -> Vec<&'a Change> {
    let (last, first): (Vec<_>, Vec<_>) = changes.iter().copied().partition(|change| change.after == State::Absent);
    first.into_iter().chain(last).collect()
}
