//! Real guests: Debian trees, disks around them, and those that are broken as guests of another hypervisor are.
//!
//! mmdebstrap -> tree (kept) -> `broken.sh` -> file system of the tree -> one raw disk for each layout, in seconds

mod raw;
mod root;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::command::capture;
use crate::{packages, workspace};
pub(crate) use raw::{Firmware, Layout, PARTITION_START};
pub(crate) use root::Root;
pub(crate) use tree::{Recipe, apt_options, remove as remove_tree, write_sources};

const ROOT_UUID: &str = "6d6f6c64-6500-4465-6d6f-62726f6b656e";
const TREE: Recipe = Recipe {
    include: "systemd-sysv,udev,dbus,cloud-init,linux-image-cloud-amd64,initramfs-tools,zstd,lz4,iproute2,ifupdown,\
              isc-dhcp-client,openssh-server",
    script: include_str!("guests/guest.sh"),
};
/// Each with the name of its disk; GRUB reads each file system, with either firmware.
const GUESTS: [(&str, Firmware, Root); 4] = [
    ("bios", Firmware::Bios, Root::Ext4),
    ("uefi", Firmware::Uefi, Root::Ext4),
    ("bios-xfs", Firmware::Bios, Root::Xfs),
    ("uefi-btrfs", Firmware::Uefi, Root::Btrfs),
];
/// One without cloud-init and with a sealed initramfs, of a tree of its own.
const BARE: (&str, Firmware, Root) = ("bare", Firmware::Bios, Root::Ext4);
/// Makes that of a tree: `sh bare.sh TREE`.
const BARE_SCRIPT: &str = include_str!("guests/bare.sh");
/// Breaks a tree: `sh broken.sh TREE bios|uefi ext4|xfs|btrfs`.
const BROKEN: &str = include_str!("guests/broken.sh");

/// Makes the broken guests that are not there yet, and returns their folder: `bios.raw`, `uefi-btrfs.raw` and so on, and
/// `packages` with what the one without cloud-init lacks.
pub(crate) fn ensure_broken() -> Result<PathBuf> {
    packages::ensure(&packages::DISK)?;
    packages::ensure(&packages::GUESTS)?;
    let folder = workspace::target()?.join("guests");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let tree = folder.join("tree");
    once(&folder.join("tree.recipe"), &TREE.text(), &tree, || TREE.make(&folder, &tree))?;
    for guest in GUESTS {
        make(&folder, guest, &TREE.text(), || Ok(tree.clone()))?;
    }
    let bare = folder.join("bare-tree");
    make(&folder, BARE, &(TREE.text() + BARE_SCRIPT), || {
        remove_tree(&bare)?;
        capture(packages::as_root("cp")?.args(["-a", "--reflink=auto"]).args([&tree, &bare]))?;
        run_script(&folder, BARE_SCRIPT, &bare, &[])?;
        Ok(bare.clone())
    })?;
    remove_tree(&bare)?;
    Ok(folder)
}

/// Makes the disk of one guest if it is not there yet, of the tree that `tree` returns and `text` describes.
fn make(
    folder: &Path,
    (name, firmware, root): (&str, Firmware, Root),
    text: &str,
    tree: impl FnOnce() -> Result<PathBuf>,
) -> Result<()> {
    // mkfs.btrfs wants room for more than it fills.
    let bytes = if root == Root::Btrfs { 3 << 29 } else { 1 << 30 };
    let layout = Layout { firmware, root, bytes, root_uuid: ROOT_UUID };
    let disk = folder.join(name).with_extension("raw");
    let recipe = text.to_owned() + BROKEN + &layout.text();
    once(&disk.with_extension("recipe"), &recipe, &disk, || {
        let tree = tree()?;
        let firmware = if firmware == Firmware::Bios { "bios" } else { "uefi" };
        run_script(folder, BROKEN, &tree, &[firmware, root.as_str()])?;
        layout.make(folder, &tree, &disk)
    })
}

/// Makes what is at `path` unless it was made by the same recipe, which is kept at `stamp`.
fn once(stamp: &Path, recipe: &str, path: &Path, make: impl FnOnce() -> Result<()>) -> Result<()> {
    if path.exists() && fs::read_to_string(stamp).is_ok_and(|made| made == recipe) {
        return Ok(());
    }
    // What is interrupted is made again.
    fs::write(stamp, "")?;
    make()?;
    fs::write(stamp, recipe).with_context(|| format!("cannot write {}", stamp.display()))
}

fn run_script(folder: &Path, text: &str, tree: &Path, words: &[&str]) -> Result<()> {
    let script = folder.join("script.sh");
    fs::write(&script, text)?;
    capture(packages::as_root("sh")?.arg(&script).arg(tree).args(words)).map(drop)
}

/// The environment for libguestfs: no KVM, the kernel of the guests in `folder`, and its cache there too.
pub(crate) fn libguestfs(folder: &Path) -> Result<[(&'static str, PathBuf); 5]> {
    let modules = folder.join("tree/usr/lib/modules");
    let entry = fs::read_dir(&modules)?.next().with_context(|| format!("{} is empty", modules.display()))??;
    let kernel = folder.join("tree/boot").join(format!("vmlinuz-{}", entry.file_name().display()));
    let cache = folder.join("cache");
    fs::create_dir_all(&cache)?;
    Ok([
        ("LIBGUESTFS_BACKEND", "direct".into()),
        ("LIBGUESTFS_BACKEND_SETTINGS", "force_tcg".into()),
        ("LIBGUESTFS_CACHEDIR", cache),
        ("SUPERMIN_KERNEL", kernel),
        ("SUPERMIN_MODULES", entry.path()),
    ])
}
