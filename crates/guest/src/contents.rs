//! What lies on the disk: in its partitions, straight on it, and on its logical volumes.

use crate::boot;
use crate::filesystems::recognise::recognise;
use crate::report::{Filesystem, FilesystemKind, Report};
use crate::text::clean;
use crate::volumes::lvm2;
use crate::window::Window;

/// A recognised content and where it lies.
pub(crate) struct Content {
    pub(crate) window: Window,
    /// Index in [`Report::filesystems`].
    pub(crate) index: usize,
    /// Whether it lies on a volume with snapshots, which lose what they hold when it is written past them.
    pub(crate) has_snapshots: bool,
}

/// Recognises what lies in each place, and tells of it in `report`.
pub(crate) fn find(disk: &Window, report: &mut Report) -> Vec<Content> {
    let mut contents = Vec::new();
    let is_divided = !report.partitions.is_empty();
    let mut places: Vec<_> = report
        .partitions
        .iter()
        .filter(|partition| partition.kind != "Extended")
        .map(|partition| (partition.offset, partition.length, Some(partition.number)))
        .chain([(0, disk.len(), None)])
        .collect();
    places.sort_by_key(|(offset, _, number)| (*offset, *number));
    for (offset, length, number) in places {
        let device = number.map_or_else(|| "/dev/sda".to_owned(), |number| format!("/dev/sda{number}"));
        // The signature of a file system that was there before the disk was divided is often left.
        let is_left = |kind| number.is_none() && is_divided && kind != FilesystemKind::Iso9660;
        add(&mut contents, report, disk.part(offset, length), device, number, is_left);
    }
    let is_physical = |content: &&Content| report.filesystems[content.index].kind == FilesystemKind::Lvm2;
    let physical = contents.iter().filter(is_physical);
    let physical: Vec<_> =
        physical.map(|content| (content.window.clone(), report.filesystems[content.index].device.clone())).collect();
    for volume in lvm2::logical_volumes(&physical) {
        let known = contents.len();
        add(&mut contents, report, volume.window, volume.device, None, |_| false);
        contents[known..].iter_mut().for_each(|content| content.has_snapshots = volume.has_snapshots);
    }
    contents
}

fn add(
    contents: &mut Vec<Content>,
    report: &mut Report,
    window: Window,
    device: String,
    partition: Option<u32>,
    is_left_out: impl Fn(FilesystemKind) -> bool,
) {
    let Some(found) = recognise(&window) else { return };
    if is_left_out(found.kind) {
        return;
    }
    // A boot record that cannot be read is told by what follows.
    let _ = boot::of_volume(&mut report.boot, &window, &device, found.kind);
    report.filesystems.push(Filesystem {
        device,
        partition,
        kind: found.kind,
        uuid: found.uuid,
        label: found.label,
        size: found.size.unwrap_or(window.len()),
        used: found.used,
        mounted_at: None,
    });
    contents.push(Content { window, index: report.filesystems.len() - 1, has_snapshots: false });
}

/// Adds the note that a file system cannot be read.
pub(crate) fn tell_unread(window: &Window, filesystem: &Filesystem, fault: &str) {
    let (kind, device) = (filesystem.kind, &filesystem.device);
    window.budget().note(format!("The {kind} file system on {device} cannot be read: {}.", clean(fault.as_bytes())));
}
