//! One inspection, from the disk to its report.

use std::rc::Rc;
use std::sync::Arc;

use disk::error::Result;
use disk::source::Source;

use crate::boot;
use crate::budget::Budget;
use crate::filesystems::fat;
use crate::filesystems::open::{is_readable, open};
use crate::filesystems::recognise::recognise;
use crate::os;
use crate::os::fstab::{self, Spec};
use crate::partitions;
use crate::report::{Filesystem, FilesystemKind, Os, OsKind, Partition, Report};
use crate::text::clean;
use crate::tree::Tree;
use crate::window::Window;

/// Most contents that are opened; a system has some ten.
const OPENED_MAX: usize = 32;

/// Finds out what is on `disk`, without writing to it.
///
/// Never panics on what the disk holds; a broken file system is a note in the report. Reads at most 512 MiB in at
/// most about 10 seconds; a disk that needs more is described as far as it was read, and a note says so.
///
/// # Errors
/// When the disk itself cannot be read ([`disk::error::ErrorKind::Io`]): a report of failed reads would be wrong.
pub fn inspect(disk: Arc<dyn Source>) -> Result<Report> {
    let budget = Rc::new(Budget::new());
    let disk = Window::whole(disk, budget.clone());
    let found = look(&disk);
    if let Some(failure) = budget.take_failure() {
        return Err(failure);
    }
    // What is left are limits and ranges past the end, which are told by notes.
    let mut report = found.unwrap_or_default();
    if budget.is_exhausted() {
        budget.note("The inspection reached its limit of reads, bytes or time; what is told here is not all.");
    }
    report.notes = budget.take_notes();
    Ok(report)
}

/// A recognised content and where it lies.
struct Volume {
    window: Window,
    /// Index in [`Report::filesystems`].
    index: usize,
}

fn look(disk: &Window) -> Result<Report> {
    let straight = recognise(disk)?;
    // A disc image that also starts as a disk has both; its file system is the whole.
    let found = partitions::read(disk, straight.is_some())?;
    let mut report = Report { partition_table: found.table, partitions: found.partitions, ..Report::default() };
    let volumes = volumes(disk, &mut report);
    boot::of_disk(&mut report.boot, disk, report.partition_table, &report.partitions)?;
    read_efi(&volumes, &mut report);
    read_linux(&volumes, &mut report);
    os::windows::read(volumes.iter().map(|volume| (volume.index, &volume.window)), &mut report);
    if report.os.is_none() {
        explain_absence(&mut report, disk);
    }
    Ok(report)
}

/// Recognises what lies on the disk and in its partitions.
fn volumes(disk: &Window, report: &mut Report) -> Vec<Volume> {
    let whole = Partition { offset: 0, length: disk.len(), ..no_partition() };
    let mut places: Vec<&Partition> = vec![&whole];
    places.extend(report.partitions.iter().filter(|partition| partition.kind != "Extended"));
    places.sort_by_key(|place| (place.offset, place.number));
    let mut volumes = Vec::new();
    for place in places {
        let window = disk.part(place.offset, place.length);
        let Ok(Some(found)) = recognise(&window) else { continue };
        // The signature of a file system that was there before the disk was divided is often left.
        if place.number == 0 && !report.partitions.is_empty() && found.kind != FilesystemKind::Iso9660 {
            continue;
        }
        let device = if place.number == 0 { "/dev/sda".to_owned() } else { format!("/dev/sda{}", place.number) };
        // A boot record that cannot be read is told by what follows.
        let _ = boot::of_volume(&mut report.boot, &window, &device, found.kind);
        report.filesystems.push(Filesystem {
            device,
            partition: (place.number != 0).then_some(place.number),
            kind: found.kind,
            uuid: found.uuid,
            label: found.label,
            size: found.size.unwrap_or(window.len()),
            used: found.used,
            mounted_at: None,
        });
        volumes.push(Volume { window, index: report.filesystems.len() - 1 });
    }
    volumes
}

fn no_partition() -> Partition {
    Partition {
        number: 0,
        offset: 0,
        length: 0,
        type_id: String::new(),
        kind: String::new(),
        bootable: false,
        esp: false,
        name: None,
        uuid: None,
    }
}

fn read_efi(volumes: &[Volume], report: &mut Report) {
    let of_fat = |volume: &&Volume| report.filesystems[volume.index].kind == FilesystemKind::Vfat;
    let fats: Vec<&Volume> = volumes.iter().filter(of_fat).take(OPENED_MAX).collect();
    for volume in fats {
        let filesystem = &mut report.filesystems[volume.index];
        match fat::read_efi(&volume.window) {
            Ok(efi) => {
                filesystem.label = efi.label.or(filesystem.label.take());
                boot::of_efi(&mut report.boot, &efi.loaders, &filesystem.device);
            }
            Err(fault) => cannot_read(&volume.window, filesystem, &fault),
        }
    }
}

fn cannot_read(window: &Window, filesystem: &Filesystem, fault: &str) {
    let (kind, device) = (filesystem.kind, &filesystem.device);
    window.budget().note(format!("The {kind} file system on {device} cannot be read: {}.", clean(fault.as_bytes())));
}

/// Opens the file systems, finds the root among them, and describes the system in it.
fn read_linux(volumes: &[Volume], report: &mut Report) {
    let readable = volumes.iter().filter(|volume| is_readable(report.filesystems[volume.index].kind));
    let mut trees = Vec::new();
    for volume in readable.take(OPENED_MAX) {
        let filesystem = &report.filesystems[volume.index];
        match open(&volume.window, filesystem.kind, &filesystem.device) {
            Ok(files) => trees.push((volume.index, Tree::new(files, volume.window.budget().clone()))),
            Err(fault) => cannot_read(&volume.window, filesystem, &fault),
        }
    }
    let roots: Vec<usize> = (0..trees.len()).filter(|at| os::is_root(&trees[*at].1)).collect();
    for (at, (index, tree)) in trees.iter().enumerate() {
        let device = &report.filesystems[*index].device;
        // A boot partition of its own has at its top what is elsewhere below /boot.
        boot::of_tree(&mut report.boot, tree, if roots.contains(&at) { "/boot" } else { "" }, device);
    }
    let Some(root) = roots.first() else { return };
    for other in &roots[1..] {
        let device = &report.filesystems[trees[*other].0].device;
        trees[*root].1.note(format!("There is another Linux on {device}; the first one is described."));
    }
    let (index, mut tree) = trees.swap_remove(*root);
    mount_others(&mut tree, index, volumes, report);
    let root = Some(report.filesystems[index].device.clone());
    report.os = Some(Os { root, ..os::describe(&tree) });
}

/// Follows fstab: tells where each file system is mounted, and mounts those that can be opened.
fn mount_others(tree: &mut Tree, root: usize, volumes: &[Volume], report: &mut Report) {
    report.filesystems[root].mounted_at = Some("/".to_owned());
    let Some(text) = tree.config("/etc/fstab") else { return };
    for entry in fstab::parse(&text) {
        let Some(volume) = volumes.iter().find(|volume| {
            let filesystem = &report.filesystems[volume.index];
            is_meant(&entry.spec, filesystem, &report.partitions)
        }) else {
            continue;
        };
        let filesystem = &mut report.filesystems[volume.index];
        if filesystem.mounted_at.is_some() || entry.path == "/" {
            continue;
        }
        filesystem.mounted_at = Some(clean(entry.path.as_bytes()));
        if is_readable(filesystem.kind)
            && let Ok(files) = open(&volume.window, filesystem.kind, &filesystem.device)
        {
            tree.mount(&entry.path, files);
        }
    }
}

fn is_meant(spec: &Spec, filesystem: &Filesystem, partitions: &[Partition]) -> bool {
    let is =
        |found: &Option<String>, text: &str| found.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(text));
    let partition = partitions.iter().find(|partition| Some(partition.number) == filesystem.partition);
    match spec {
        Spec::Uuid(uuid) => is(&filesystem.uuid, uuid),
        Spec::Label(label) => filesystem.label.as_ref() == Some(label),
        Spec::PartitionUuid(uuid) => partition.is_some_and(|partition| is(&partition.uuid, uuid)),
        Spec::PartitionName(name) => partition.is_some_and(|partition| partition.name.as_ref() == Some(name)),
        Spec::Number(number) => filesystem.partition == *number,
    }
}

/// Says what stood in the way of finding a system, and recognises Windows by its loader.
fn explain_absence(report: &mut Report, disk: &Window) {
    let budget = disk.budget();
    let of_kind = |kind| report.filesystems.iter().find(|filesystem| filesystem.kind == kind);
    let unread = [FilesystemKind::Xfs, FilesystemKind::Btrfs, FilesystemKind::Lvm2, FilesystemKind::Luks];
    for filesystem in unread.into_iter().filter_map(of_kind) {
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
