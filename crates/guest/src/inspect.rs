//! One inspection, from the disk to its report.

use std::rc::Rc;
use std::sync::Arc;

use disk::error::Result;
use disk::source::Source;

use crate::boot;
use crate::budget::Budget;
use crate::contents::{self, Content, tell_unread};
use crate::filesystems::fat;
use crate::filesystems::recognise::recognise;
use crate::os;
use crate::partitions;
use crate::report::{FilesystemKind, Os, OsKind, Partition, Report};
use crate::systems::{self, Extras};
use crate::tree::Tree;
use crate::window::Window;

/// Most FAT file systems that are searched for loaders.
const FATS_MAX: usize = 32;

/// Finds out what is on `disk`, without writing to it.
///
/// Never panics on what the disk holds; a broken file system is a note in the report. Reads at most 512 MiB in at
/// most about 8 seconds; a disk that needs more is described as far as it was read, and a note says so.
///
/// # Errors
/// When the disk itself cannot be read ([`disk::error::ErrorKind::Io`]): a report of failed reads would be wrong.
pub fn inspect(disk: Arc<dyn Source>) -> Result<Report> {
    inspect_with(disk, Extras::default())
}

/// Does the same as [`inspect()`], and tells `extras` too.
///
/// # Errors
/// As [`inspect()`].
pub fn inspect_with(disk: Arc<dyn Source>, extras: Extras) -> Result<Report> {
    Ok(open_with(disk, Budget::new(), extras)?.0)
}

/// A report, the root of the system that was found, and what goes on counting what is read of it.
type Opened = (Report, Option<Tree>, Rc<Budget>);

/// Does the same as [`inspect()`], and returns the root of the system that was found with its file systems mounted, and
/// the budget which goes on counting what is read of it.
pub(crate) fn open_disk(disk: Arc<dyn Source>) -> Result<Opened> {
    open_within(disk, Budget::new())
}

/// Does the same within another budget.
pub(crate) fn open_within(disk: Arc<dyn Source>, budget: Budget) -> Result<Opened> {
    open_with(disk, budget, Extras::default())
}

fn open_with(disk: Arc<dyn Source>, budget: Budget, extras: Extras) -> Result<Opened> {
    let budget = Rc::new(budget);
    let disk = Window::whole(disk, budget.clone());
    let found = look(&disk, extras);
    if let Some(failure) = budget.take_failure() {
        return Err(failure);
    }
    // What is left are limits and ranges past the end, which are told by notes.
    let (mut report, tree) = found.unwrap_or_default();
    if budget.is_exhausted() {
        budget.note("The inspection reached its limit of reads, bytes or time; what is told here is not all.");
    }
    report.notes = budget.take_notes();
    report.unreplayed = budget.take_unreplayed();
    Ok((report, tree, budget))
}

fn look(disk: &Window, extras: Extras) -> Result<(Report, Option<Tree>)> {
    let straight = recognise(disk);
    // A disc image that also starts as a disk has both; its file system is the whole.
    let found = partitions::read(disk, straight.is_some())?;
    let mut report = Report { partition_table: found.table, partitions: found.partitions, ..Report::default() };
    let contents = contents::find(disk, &mut report);
    boot::of_disk(&mut report.boot, disk, report.partition_table, &report.partitions)?;
    read_efi(&contents, &mut report);
    let tree = systems::read(&contents, extras, &mut report);
    let places = contents.iter().map(|content| (content.index, &content.window));
    let tree = tree.or(os::windows::read(places, &mut report));
    if report.os.is_none() {
        explain_absence(&mut report, disk);
    }
    Ok((report, tree))
}

fn read_efi(contents: &[Content], report: &mut Report) {
    let of_fat = |content: &&Content| report.filesystems[content.index].kind == FilesystemKind::Vfat;
    let fats: Vec<&Content> = contents.iter().filter(of_fat).take(FATS_MAX).collect();
    for content in fats {
        let filesystem = &mut report.filesystems[content.index];
        match fat::read_efi(&content.window) {
            Ok(efi) => {
                filesystem.label = efi.label.or(filesystem.label.take());
                boot::of_efi(&mut report.boot, &efi.loaders, &filesystem.device);
            }
            Err(fault) => tell_unread(&content.window, filesystem, &fault),
        }
    }
}

/// Says what stood in the way of finding a system, and recognises Windows by its loader.
fn explain_absence(report: &mut Report, disk: &Window) {
    let budget = disk.budget();
    let of_kind = |kind| report.filesystems.iter().find(|filesystem| filesystem.kind == kind);
    if let Some(filesystem) = of_kind(FilesystemKind::Luks) {
        let (kind, device) = (filesystem.kind, &filesystem.device);
        budget.note(format!("The system may be on {device}: {kind} is recognised, but not opened."));
    }
    let Some(ntfs) = of_kind(FilesystemKind::Ntfs) else { return };
    let active = |partition: &Partition| partition.bootable && Some(partition.number) == ntfs.partition;
    if report.boot.loader.as_deref() == Some("windows") || report.partitions.iter().any(active) {
        report.boot.loader.get_or_insert_with(|| "windows".to_owned());
        budget.note(format!("This is a Windows by its loader, but its folder was not found on {}.", ntfs.device));
        report.os = Some(Os::new(OsKind::Windows));
    }
}
