//! The Linux systems on a disk: file systems are opened, roots found among them, and each root gets its mounts.

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::boot;
use crate::contents::{Content, tell_unread};
use crate::filesystems::btrfs::Subvolume;
use crate::filesystems::open::{Opened, can_be_root, is_readable, open, subvolumes};
use crate::os;
use crate::os::command_line::{self, CommandLine};
use crate::os::fstab::{self, Entry};
use crate::report::{Filesystem, FilesystemKind, Os, Partition, Report};
use crate::text::clean;
use crate::tree::Tree;
use crate::window::Window;

/// Most contents that are opened; a system has some ten.
const OPENED_MAX: usize = 32;
/// Most file systems and subvolumes that one system mounts.
const MOUNTS_MAX: usize = 64;
/// Most systems that are described.
const SYSTEMS_MAX: usize = 8;

/// Folders that an EFI system partition is mounted on.
const EFI_MOUNTS: [&str; 3] = ["/efi", "/boot/efi", "/boot"];

/// What is told only when it is asked for, because it takes longer than all the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extras {
    /// The drivers of each kernel and what its initramfs holds: [`Os::boot_kernels`].
    pub boot_kernels: bool,
    /// The installed packages: [`Os::packages`].
    pub packages: bool,
}

/// The root of a system.
struct Root {
    /// Index of its content.
    at: usize,
    subvolume: Option<u64>,
    tree: Tree,
}

/// Opens the file systems, finds the roots among them, and describes the systems in them; returns the first root with its
/// mounts.
pub(crate) fn read(contents: &[Content], extras: Extras, report: &mut Report) -> Option<Tree> {
    let is_open = |content: &Content| is_readable(report.filesystems[content.index].kind);
    let readable: Vec<_> = (0..contents.len()).filter(|at| is_open(&contents[*at])).take(OPENED_MAX).collect();
    let (mut roots, mut boot_line) = (Vec::new(), None);
    for at in readable {
        let (content, filesystem) = (&contents[at], &report.filesystems[contents[at].index]);
        let device = filesystem.device.clone();
        let opened = match open(&content.window, filesystem.kind, &device, &Subvolume::Default) {
            Ok(opened) => opened,
            Err(fault) => {
                tell_unread(&content.window, filesystem, &fault);
                continue;
            }
        };
        let found = if can_be_root(filesystem.kind) { roots_in(at, content, filesystem, &opened) } else { Vec::new() };
        if found.iter().all(|root| root.subvolume != opened.subvolume) {
            // A boot partition of its own has at its top what is elsewhere below /boot.
            let tree = tree(content, opened, &device);
            boot::of_tree(&mut report.boot, &tree, "", &device);
            boot_line = boot_line.or_else(|| command_line::read(&tree, ""));
        }
        for root in &found {
            boot::of_tree(&mut report.boot, &root.tree, "/boot", &device);
        }
        roots.extend(found);
    }
    if roots.is_empty() {
        tell_command_line(report, boot_line);
    }
    describe(roots, contents, extras, report)
}

fn tree(content: &Content, opened: Opened, device: &str) -> Tree {
    Tree::new(opened.files, device, content.window.budget().clone())
}

/// Returns the roots in one file system: one, or with btrfs one for each system in a subvolume of its own.
///
/// A snapshot of a root is no other system. It has the root's fstab, which names another subvolume than this one.
fn roots_in(at: usize, content: &Content, filesystem: &Filesystem, opened: &Opened) -> Vec<Root> {
    let Filesystem { kind, device, .. } = filesystem;
    let mut all: Vec<Root> = Vec::new();
    let mut add = |opened: Opened| {
        let (subvolume, tree) = (opened.subvolume, tree(content, opened, device));
        if all.iter().all(|root| root.subvolume != subvolume) && os::is_root(&tree) {
            all.push(Root { at, subvolume, tree });
        }
    };
    add(Opened { files: Rc::clone(&opened.files), subvolume: opened.subvolume });
    for subvolume in subvolumes(&content.window, *kind) {
        open(&content.window, *kind, device, &subvolume).into_iter().for_each(&mut add);
    }
    if all.len() < 2 {
        return all;
    }
    let is_own = |root: &Root| {
        let entry = entries(&root.tree).into_iter().find(|entry| entry.path == "/");
        let named = entry.map(|entry| entry.subvolume()).unwrap_or_default();
        open(&content.window, *kind, device, &named).is_ok_and(|named| named.subvolume == root.subvolume)
    };
    let is_own: Vec<bool> = all.iter().map(is_own).collect();
    if is_own.contains(&true) {
        let mut is_own = is_own.into_iter();
        all.retain(|_| is_own.next() == Some(true));
    } else {
        all.truncate(1);
    }
    all
}

fn entries(tree: &Tree) -> Vec<Entry> {
    tree.config("/etc/fstab").map(|text| fstab::parse(&text)).unwrap_or_default()
}

fn describe(roots: Vec<Root>, contents: &[Content], extras: Extras, report: &mut Report) -> Option<Tree> {
    let count = roots.len();
    let mut first = None;
    for (number, mut root) in roots.into_iter().take(SYSTEMS_MAX).enumerate() {
        let device = report.filesystems[contents[root.at].index].device.clone();
        mount_others(&mut root, contents, report, number == 0);
        let mut os = Os { root: Some(device.clone()), ..os::describe(&root.tree) };
        if number > 0 {
            root.tree.note(format!("There is another Linux on {device}."));
            report.other_systems.push(os);
            continue;
        }
        if count > SYSTEMS_MAX {
            root.tree.note(format!("There are {count} systems; {SYSTEMS_MAX} of them were looked at."));
        }
        tell_command_line(report, command_line::read(&root.tree, "/boot"));
        tell_more(&mut os, &root.tree, report.boot.command_line.as_deref(), extras);
        report.os = Some(os);
        first = Some(root.tree);
    }
    first
}

fn tell_command_line(report: &mut Report, found: Option<CommandLine>) {
    (report.boot.command_line, report.boot.command_line_from) = found.map(|line| (line.text, line.path)).unzip();
}

/// Tells what depends on the kernel's command line, and what was asked for.
fn tell_more(os: &mut Os, tree: &Tree, command_line: Option<&str>, extras: Extras) {
    if let Some(cloud_init) = &mut os.cloud_init {
        let words = command_line.unwrap_or_default();
        cloud_init.disabled |= words.split_whitespace().any(|word| word == "cloud-init=disabled");
    }
    if extras.boot_kernels {
        os.boot_kernels = os::boot_kernels::read(tree, &os.kernels);
    }
    if extras.packages {
        os.packages = os::packages::list(tree);
    }
}

/// Follows fstab: mounts what can be opened, and tells where the first system mounts each file system.
fn mount_others(root: &mut Root, contents: &[Content], report: &mut Report, is_first: bool) {
    let index = contents[root.at].index;
    if is_first {
        report.filesystems[index].mounted_at = Some("/".to_owned());
    }
    let mut mounted: Vec<(usize, Option<u64>)> = vec![(index, root.subvolume)];
    for entry in entries(&root.tree) {
        let is_meant = |content: &&Content| entry.spec.means(&report.filesystems[content.index], &report.partitions);
        let Some(content) = contents.iter().find(is_meant) else { continue };
        let filesystem = &mut report.filesystems[content.index];
        if entry.path == "/" || mounted.len() > MOUNTS_MAX {
            continue;
        }
        let is_other = mounted.iter().all(|(index, _)| *index != content.index);
        if is_first && is_other && filesystem.mounted_at.is_none() {
            filesystem.mounted_at = Some(clean(entry.path.as_bytes()));
        }
        // Only subvolumes let one file system be mounted at several places.
        if !is_readable(filesystem.kind) || (!is_other && filesystem.kind != FilesystemKind::Btrfs) {
            continue;
        }
        match open(&content.window, filesystem.kind, &filesystem.device, &entry.subvolume()) {
            Ok(opened) if mounted.contains(&(content.index, opened.subvolume)) => {}
            Ok(opened) => {
                mounted.push((content.index, opened.subvolume));
                root.tree.mount(&entry.path, &filesystem.device, opened.files);
            }
            Err(fault) => tell_unmounted(&content.window, filesystem, &entry.path, &fault),
        }
    }
    if is_first {
        mount_efi(&mut root.tree, contents, report);
    }
}

/// Mounts an EFI system partition that fstab does not name, as systemd-gpt-auto-generator(8) does, or where it usually is.
fn mount_efi(tree: &mut Tree, contents: &[Content], report: &Report) {
    let is_efi = |filesystem: &Filesystem| {
        let is_it = |partition: &Partition| partition.esp && Some(partition.number) == filesystem.partition;
        filesystem.kind == FilesystemKind::Vfat && report.partitions.iter().any(is_it)
    };
    let filesystem = |content: &&Content| &report.filesystems[content.index];
    let mut found = contents.iter().filter(|content| is_efi(filesystem(content)));
    let (Some(content), None) = (found.next(), found.next()) else { return };
    let is_free = |path: &&str| tree.is_folder(path) && tree.names(path, 1).is_empty();
    let Some(path) = EFI_MOUNTS.into_iter().find(is_free) else { return };
    let Filesystem { kind, device, mounted_at, .. } = filesystem(&content);
    if mounted_at.is_some() {
        return;
    }
    if let Ok(opened) = open(&content.window, *kind, device, &Subvolume::Default) {
        tree.mount(path, device, opened.files);
    }
}

fn tell_unmounted(window: &Window, filesystem: &Filesystem, path: &str, fault: &str) {
    let (path, fault) = (clean(path.as_bytes()), clean(fault.as_bytes()));
    window.budget().note(format!("{path} on {} cannot be read: {fault}.", filesystem.device));
}
