//! The demo's disk: a small Debian 12 as VMware leaves it, which does not start elsewhere, as raw and as streamOptimized VMDK.
//!
//! tree -> raw disk -> VMDK

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::run;
use crate::guests::{Firmware, Layout, Recipe, Root, remove_tree};
use crate::{packages, workspace};

/// The disk in its two forms.
pub(crate) struct DemoDisk {
    /// As the guest sees it.
    pub(crate) raw: PathBuf,
    /// As VMware exports it.
    pub(crate) vmdk: PathBuf,
}

const ROOT_UUID: &str = "6d6f6c64-6500-4465-6d6f-646562313200";
const TREE: Recipe = Recipe {
    include: "systemd-sysv,udev,dbus,cloud-init,linux-image-cloud-amd64,initramfs-tools,zstd,iproute2",
    script: include_str!("guest.sh"),
};
/// As large as the root disk of the smallest flavor.
const LAYOUT: Layout = Layout { firmware: Firmware::Bios, root: Root::Ext4, bytes: 1 << 30, root_uuid: ROOT_UUID };

/// The disk, made now unless one of the same recipe is there.
pub(crate) fn ensure_disk() -> Result<(DemoDisk, &'static str)> {
    packages::ensure(&packages::DISK)?;
    let folder = workspace::target()?.join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let disk = DemoDisk { raw: folder.join("debian-12.raw"), vmdk: folder.join("debian-12.vmdk") };
    let stamp = folder.join("debian-12.recipe");
    let recipe = LAYOUT.text() + &TREE.text();
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) && disk.raw.exists() && disk.vmdk.exists() {
        return Ok((disk, "cached"));
    }
    match fs::remove_file(&stamp) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let tree = folder.join("tree");
    let outcome = TREE.make(&folder, &tree).and_then(|()| LAYOUT.make(&folder, &tree, &disk.raw));
    remove_tree(&tree)?;
    outcome?;
    make_vmdk(&disk)?;
    fs::write(&stamp, recipe)?;
    Ok((disk, "made"))
}

fn make_vmdk(disk: &DemoDisk) -> Result<()> {
    let part = disk.vmdk.with_extension("vmdk.part");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]);
    run(convert.arg(&disk.raw).arg(&part))?;
    fs::rename(&part, &disk.vmdk).with_context(|| format!("cannot keep {}", disk.vmdk.display()))
}
