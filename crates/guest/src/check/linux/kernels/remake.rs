//! An initramfs to which nothing can be appended: the guest's own tool makes it anew, where it may be run.
//!
//! Sources: update-initramfs(8), dracut(8), mkinitcpio(8), mkinitfs of Alpine.

use crate::check::doctor::Doctor;
use crate::check::kinds::INITRAMFS_SEALED;
use crate::programs::Program;
use crate::report::{Initramfs, Kernel};
use crate::text::assignment;

/// Drivers that are added where the tool would take those of the machine that it runs on.
const DRIVERS: &str = "virtio_pci virtio_blk virtio_scsi virtio_net";
const MKINITFS: &str = "/etc/mkinitfs/mkinitfs.conf";

/// Lets the tool run that made `initramfs`.
pub(super) fn run(doctor: &mut Doctor<'_>, kernel: &Kernel, initramfs: &Initramfs) {
    let (version, path) = (kernel.version.as_str(), initramfs.path.as_str());
    let arguments: Vec<&str> = match initramfs.generator.as_deref() {
        Some("initramfs-tools") => vec!["update-initramfs", "-u", "-k", version],
        // Those of before 2011 know no other way, and have no word for it.
        Some("dracut") if version.starts_with("2.") => {
            vec!["dracut", "--force", "--add-drivers", DRIVERS, path, version]
        }
        Some("dracut") => vec!["dracut", "--force", "--no-hostonly", "--add-drivers", DRIVERS, path, version],
        Some("mkinitcpio") => vec!["mkinitcpio", "-S", "autodetect", "-k", version, "-g", path],
        Some("mkinitfs") => return make_for_alpine(doctor, version, path),
        other => {
            let maker = other.unwrap_or("what made it, which is not known,");
            doctor.leave_because(format!("{path} is not made anew: {maker} is not run by prepare."));
            return;
        }
    };
    start(doctor, arguments);
}

fn make_for_alpine(doctor: &mut Doctor<'_>, version: &str, path: &str) {
    let text = doctor.tree.config(MKINITFS).unwrap_or_default();
    let known = text.lines().filter_map(assignment).find(|(key, _)| *key == "features");
    let features = format!("{} virtio", known.map_or("base ext4", |(_, value)| value).trim_matches('"'));
    start(doctor, vec!["mkinitfs", "-F", &features, "-o", path, version]);
}

fn start(doctor: &mut Doctor<'_>, arguments: Vec<&str>) {
    let arguments = arguments.into_iter().map(str::to_owned).collect();
    doctor.run(Program { finding: INITRAMFS_SEALED.id.to_owned(), arguments, packages: Vec::new() });
}
