//! Kernels and their initramfs: drivers of virtio disks, and rules for adapters of the machine before.
//!
//! What an initramfs lacks is appended as an archive of its own, which the kernel unpacks over the rest (kernel documentation,
//! "initramfs buffer format"). The tables of modules go along: without them nothing in there would find the new files.

mod remake;

use std::collections::BTreeMap;

use crate::check::doctor::{Doctor, at};
use crate::check::finding::{Evidence, Kind};
use crate::check::kinds::{INITRAMFS_NET, INITRAMFS_SEALED, INITRAMFS_VIRTIO, KERNEL_VIRTIO, KERNEL_XEN};
use crate::initramfs::write::{InitramfsEntry, initramfs_segment};
use crate::os::boot_kernels;
use crate::report::{Driver, DriverState, Initramfs, Kernel};

/// Drivers without which a virtio disk is not found, and those that go along.
const DISK: [&str; 2] = ["virtio_pci", "virtio_blk"];
const MORE: [&str; 1] = ["virtio_scsi"];
/// Tables that modprobe reads, of kmod and of busybox.
const TABLES: [&str; 4] = ["modules.dep", "modules.dep.bin", "modules.alias", "modules.alias.bin"];
/// Largest file, and most bytes in all, that are put into an initramfs: drivers and tables take some 4 MiB.
const FILE_MAX: u64 = 8 << 20;
const SEGMENT_MAX: usize = 16 << 20;
const FOLDER: u32 = 0o040_755;

/// Files by their path in the initramfs.
type Files = BTreeMap<String, Vec<u8>>;

pub(super) fn check(doctor: &mut Doctor<'_>) {
    let versions = doctor.report.os.as_ref().map(|os| os.kernels.clone()).unwrap_or_default();
    for kernel in boot_kernels::read(doctor.tree, &versions) {
        check_kernel(doctor, &kernel);
    }
}

fn check_kernel(doctor: &mut Doctor<'_>, kernel: &Kernel) {
    let version = &kernel.version;
    // Modules alone are what an uninstalled kernel leaves.
    let Some(initramfs) = &kernel.initramfs else { return };
    if kernel.xen_pv_only == Some(true) {
        doctor.tell(
            &KERNEL_XEN,
            format!("The kernel {version} starts under Xen in paravirtual mode only."),
            Vec::new(),
        );
        return;
    }
    let disk: Vec<&Driver> = kernel.drivers.iter().filter(|driver| DISK.contains(&driver.name.as_str())).collect();
    if disk.iter().any(|driver| driver.state == DriverState::Missing) {
        doctor.tell(&KERNEL_VIRTIO, format!("The kernel {version} has no driver for virtio disks."), Vec::new());
        return;
    }
    let lacking: Vec<&&Driver> = disk.iter().filter(|driver| driver.state == DriverState::Module).collect();
    let mut files = Files::new();
    if !lacking.is_empty() {
        let evidence = || -> Vec<Evidence> {
            let named = lacking.iter().map(|driver| driver.name.clone());
            vec![Evidence { value: Some(named.collect::<Vec<_>>().join(", ")), ..at(&initramfs.path) }]
        };
        let told = format!(
            "The initramfs of the kernel {version} has no drivers for virtio disks, so that it does not find its root there."
        );
        let kind: &'static Kind =
            if initramfs.appendable && initramfs.complete { &INITRAMFS_VIRTIO } else { &INITRAMFS_SEALED };
        if doctor.found(kind, told, evidence()) {
            if kind == &INITRAMFS_SEALED {
                remake::run(doctor, kernel, initramfs);
            } else {
                add_drivers(doctor, kernel, initramfs, &mut files);
            }
        }
    }
    if initramfs.appendable && !initramfs.persistent_net_rules.is_empty() {
        check_rules(doctor, initramfs, &mut files);
    }
    append(doctor, initramfs, &files);
}

/// Rules that an empty file does not cover yet.
fn check_rules(doctor: &mut Doctor<'_>, initramfs: &Initramfs, files: &mut Files) {
    let rules = &initramfs.persistent_net_rules;
    let evidence = rules.iter().map(|rule| Evidence { value: Some(rule.clone()), ..at(&initramfs.path) }).collect();
    let told = "The initramfs names network adapters by the addresses of the machine before.";
    if doctor.found(&INITRAMFS_NET, told, evidence) {
        files.extend(rules.iter().map(|rule| (rule.clone(), Vec::new())));
    }
}

fn add_drivers(doctor: &Doctor<'_>, kernel: &Kernel, initramfs: &Initramfs, files: &mut Files) {
    let from = format!("/lib/modules/{}", kernel.version);
    let is_merged = doctor.tree.link_target("/lib").is_some();
    let usual = if is_merged { format!("usr{from}") } else { from.trim_start_matches('/').to_owned() };
    let to = initramfs.modules_folder.clone().unwrap_or(usual);
    let is_wanted = |driver: &&Driver| DISK.contains(&driver.name.as_str()) || MORE.contains(&driver.name.as_str());
    let modules = kernel.drivers.iter().filter(is_wanted).flat_map(|driver| driver.files.iter().cloned());
    let tables = TABLES.iter().map(|table| format!("{from}/{table}"));
    let mut total = 0;
    for path in modules.chain(tables) {
        // One that is too large is not appended; what a guest claims to need is not read on for that.
        if total > SEGMENT_MAX {
            return;
        }
        let Some(inside) = path.strip_prefix(&from) else { continue };
        if let Some(bytes) = doctor.tree.bytes(&path, FILE_MAX) {
            total += bytes.len();
            files.insert(format!("{to}{inside}"), bytes);
        }
    }
}

fn append(doctor: &mut Doctor<'_>, initramfs: &Initramfs, files: &Files) {
    let total: usize = files.values().map(Vec::len).sum();
    let Some(node) = doctor.tree.resolve(&initramfs.path).and_then(|path| doctor.tree.node(&path)) else { return };
    if files.is_empty() || total > SEGMENT_MAX {
        return;
    }
    // The kernel makes no folders that have no entry.
    let mut folders: Vec<&str> =
        files.keys().flat_map(|path| path.match_indices('/').map(|(end, _)| &path[..end])).collect();
    folders.sort_unstable();
    folders.dedup();
    let folders = folders.into_iter().map(|path| InitramfsEntry { path, mode: FOLDER, bytes: &[] });
    let files = files.iter().map(|(path, bytes)| InitramfsEntry { path, mode: 0o644, bytes });
    let entries: Vec<InitramfsEntry<'_>> = folders.chain(files).collect();
    if let Some(segment) = initramfs_segment(node.length, &entries, 0) {
        doctor.draft.append(&initramfs.path, segment);
    }
}
