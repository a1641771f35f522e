//! Doors for `fuzz/`, which only it is built with: readers by themselves, without the disk that leads to them.
//!
//! What they promise is asserted here too: what was repaired is not found again. An inspection has one second in such a build.

mod memory;

use std::rc::Rc;
use std::sync::Arc;

use disk::source::Source;

pub use self::memory::MemoryFiles;
use crate::budget::Budget;
use crate::check::{Action, Choice, KINDS, examine};
pub use crate::contained::is_contained;
use crate::filesystems::btrfs::Subvolume;
use crate::filesystems::fat;
use crate::filesystems::files::{Files, NodeKind};
use crate::filesystems::ntfs::Ntfs;
use crate::filesystems::open::{open, subvolumes};
use crate::filesystems::recognise::recognise;
use crate::os::{self, command_line};
use crate::plan::{Change, State, changes};
use crate::registry::Editor;
use crate::report::{Filesystem, FilesystemKind, Os, Partition, Report, Windows};
use crate::tree::Tree;
use crate::window::Window;

const DEVICE: &str = "/dev/sda1";
/// Most things in a file system that are looked at, and most of them in one folder.
const LOOKED_MAX: usize = 40;
const NAMES_MAX: usize = 12;
/// What is read of each file.
const READ: usize = 4 << 10;

/// Returns a choice of all that can be repaired.
#[must_use]
pub fn everything() -> Choice {
    let with = KINDS.iter().filter(|kind| kind.action == Action::OnRequest).map(|kind| kind.id.to_owned());
    Choice { with: with.collect(), ..Choice::default() }
}

/// Opens the file system on `disk` and reads what is in it.
pub fn read_filesystem(disk: Arc<dyn Source>) {
    let window = Window::whole(disk, Rc::new(Budget::new()));
    let Some(found) = recognise(&window) else { return };
    match found.kind {
        FilesystemKind::Vfat => drop(fat::read_efi(&window)),
        FilesystemKind::Ntfs => drop(Ntfs::open(&window).map(|ntfs| ntfs.state().is_ok())),
        _ => {}
    }
    let others = subvolumes(&window, found.kind);
    for subvolume in [Subvolume::Default].into_iter().chain(others).take(4) {
        if let Ok(opened) = open(&window, found.kind, DEVICE, &subvolume) {
            read_all(&Tree::new(opened.files, DEVICE, Rc::clone(window.budget())));
        }
    }
}

fn read_all(tree: &Tree) {
    let mut pending = vec!["/".to_owned()];
    let mut looked = 0;
    while let Some(path) = pending.pop() {
        let Some(node) = tree.node(&path) else { continue };
        looked += 1;
        match node.kind {
            NodeKind::Folder if looked < LOOKED_MAX => {
                let base = path.trim_end_matches('/');
                let entries = tree.entries(&path, NAMES_MAX).into_iter().filter(|(name, _)| !name.contains('/'));
                pending.extend(entries.map(|(name, _)| format!("{base}/{name}")));
            }
            NodeKind::File => {
                let read = tree.read_range(&path, 0, READ);
                assert!(read.map_or(0, |bytes| bytes.len()) <= READ, "{path}: more is read than was asked for");
                // The end of a long file has another place in its map.
                if node.length > READ as u64 {
                    let _ = tree.read_range(&path, node.length - 100, READ);
                }
            }
            NodeKind::Link => drop((tree.link_target(&path), tree.resolve(&path))),
            _ => {}
        }
    }
}

fn tree(files: &MemoryFiles) -> Tree {
    let files: Rc<dyn Files> = Rc::new(files.clone());
    Tree::new(files, DEVICE, Rc::new(Budget::new()))
}

/// Lists the packages of a guest.
pub fn read_packages(files: &MemoryFiles) {
    os::packages::list(&tree(files));
}

/// Looks at what the kernels `versions` of a guest start with.
pub fn read_kernels(files: &MemoryFiles, versions: &[String]) {
    os::boot_kernels::read(&tree(files), versions);
}

/// Examines a Linux, repairs it, and asserts that nothing is left to be repaired.
pub fn repair_linux(files: &MemoryFiles) {
    repair(files, &|tree, report| {
        let line = command_line::read(tree, "/boot");
        (report.boot.command_line, report.boot.command_line_from) = line.map(|line| (line.text, line.path)).unzip();
        os::packages::list(tree);
        os::describe(tree)
    });
}

/// Examines a Windows, changes its registry, and asserts that nothing is left to be changed.
pub fn repair_windows(files: &MemoryFiles) {
    repair(files, &|tree, _| os::windows::describe(tree, Windows::default()));
}

fn repair(files: &MemoryFiles, describe: &dyn Fn(&Tree, &mut Report) -> Os) {
    let planned = |files: &MemoryFiles| {
        let tree = tree(files);
        let mut report = report();
        report.os = Some(Os { root: Some(DEVICE.to_owned()), ..describe(&tree, &mut report) });
        let drafted = examine(&report, Some(&tree), &everything()).drafted;
        changes(&tree, drafted)
    };
    let mut repaired = files.clone();
    for change in planned(files) {
        let _ = (change.summary(), change.diff());
        if !apply(&mut repaired, &change) {
            return;
        }
    }
    if let Some(change) = planned(&repaired).first() {
        panic!("after a repair there is still to {}:\n{}", change.summary(), change.diff().unwrap_or_default());
    }
}

/// Makes a change; false where the engines refuse it.
fn apply(files: &mut MemoryFiles, change: &Change) -> bool {
    match (&change.before, &change.after) {
        (State::Folder(_), State::Absent) => files.remove(&change.path),
        (State::Folder(_), _) | (_, State::Folder(_) | State::Unread { .. }) => return false,
        (_, State::Absent) => files.remove(&change.path),
        (_, State::File(bytes)) => files.put(&change.path, bytes),
        (_, State::Link(target)) => files.link(&change.path, target),
        (_, State::Appended(bytes)) => {
            let held = files.content(&change.path).unwrap_or_default();
            files.put(&change.path, &[held, bytes].concat());
        }
        (_, State::Values(values)) => {
            let held = files.content(&change.path).unwrap_or_default();
            let Ok(mut editor) = Editor::open(held.to_vec(), "HIVE", 0) else { return false };
            if editor.apply(values).is_err() {
                return false;
            }
            files.put(&change.path, &editor.finish().bytes);
        }
    }
    true
}

/// A root, and an EFI system partition.
fn report() -> Report {
    let partition = |number: u32, kind: &str| Partition {
        number,
        offset: u64::from(number) << 20,
        length: 1 << 20,
        type_id: "0x83".to_owned(),
        kind: kind.to_owned(),
        bootable: false,
        esp: number == 2,
        name: None,
        uuid: Some(format!("6d6f6c64-0{number}")),
    };
    let filesystem = |number: u32, kind, uuid: &str, label: &str, path: &str| Filesystem {
        device: format!("/dev/sda{number}"),
        partition: Some(number),
        kind,
        uuid: Some(uuid.to_owned()),
        label: Some(label.to_owned()),
        size: 1 << 20,
        used: None,
        mounted_at: Some(path.to_owned()),
    };
    Report {
        partitions: vec![partition(1, "Linux"), partition(2, "EFI System")],
        filesystems: vec![
            filesystem(1, FilesystemKind::Ext4, "6d6f6c64-6500-4465-6d6f-62726f6b656e", "root", "/"),
            filesystem(2, FilesystemKind::Vfat, "6D6F-6C64", "ESP", "/boot/efi"),
        ],
        ..Report::default()
    }
}
