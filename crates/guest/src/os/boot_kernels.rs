//! What each kernel has to start with: its initramfs, and the drivers of a virtual machine.

use super::drivers::Modules;
use crate::initramfs::survey::{Contents, survey};
use crate::initramfs::unpack::Compression;
use crate::report::{Initramfs, Kernel};
use crate::text::clean;
use crate::tree::Tree;

/// Most kernels that are looked at, the newest: reading an initramfs takes some tenths of a second.
const KERNELS_MAX: usize = 4;
/// Most names looked at in `/boot`.
const NAMES_MAX: usize = 4096;

/// Modules that are told of where an initramfs has them: for disks, networks and file systems.
const OF_INTEREST: [&str; 28] = [
    "virtio_blk",
    "virtio_scsi",
    "virtio_net",
    "virtio_pci",
    "nvme",
    "ahci",
    "ata_piix",
    "ata_generic",
    "sd_mod",
    "mptspi",
    "mptsas",
    "megaraid_sas",
    "vmw_pvscsi",
    "vmxnet3",
    "e1000",
    "xen_blkfront",
    "xen_netfront",
    "hv_storvsc",
    "hv_netvsc",
    "dm_mod",
    "dm_crypt",
    "raid1",
    "ext4",
    "xfs",
    "btrfs",
    "vfat",
    "squashfs",
    "overlay",
];

/// Looks at the newest of the kernels `versions`, which are sorted.
pub(crate) fn read(tree: &Tree, versions: &[String]) -> Vec<Kernel> {
    let first = versions.len().saturating_sub(KERNELS_MAX);
    // The newest is read first, in case the time does not suffice for all.
    let mut kernels: Vec<_> = versions[first..].iter().rev().map(|version| read_one(tree, version)).collect();
    kernels.reverse();
    kernels
}

fn read_one(tree: &Tree, version: &str) -> Kernel {
    let found = candidates(tree, version).into_iter().find_map(|path| Some((tree.stream(&path)?, path)));
    let found = found.map(|(file, path)| (path, survey(&file, version)));
    let modules = Modules::read(tree, version);
    let drivers = modules.drivers(tree, found.as_ref().map(|(_, contents)| &contents.modules));
    let initramfs = found.map(|(path, contents)| tell(tree, path, contents));
    Kernel { version: version.to_owned(), xen_pv_only: modules.is_xen_pv_only(), initramfs, drivers }
}

fn tell(tree: &Tree, path: String, contents: Contents) -> Initramfs {
    let outline = contents.outline;
    if let Some(fault) = &outline.fault {
        tree.note(format!("{path} was not read to its end: {}.", clean(fault.as_bytes())));
    }
    let of_interest = |module: &String| OF_INTEREST.contains(&module.as_str());
    Initramfs {
        path,
        generator: contents.generator.map(str::to_owned),
        compression: outline.compression.map(|compression| compression.as_str().to_owned()),
        complete: outline.fault.is_none(),
        appendable: !matches!(outline.compression, Some(Compression::Lz4 | Compression::Lzo)),
        modules_folder: contents.modules_folder,
        modules: contents.modules.into_iter().filter(of_interest).collect(),
        persistent_net_rules: contents.persistent_net_rules,
        hooks: contents.hooks,
        settings: contents.settings,
    }
}

/// Returns where the initramfs of a kernel may be, the likeliest first.
fn candidates(tree: &Tree, version: &str) -> Vec<String> {
    let mut paths = vec![
        format!("/boot/initrd.img-{version}"),
        format!("/boot/initramfs-{version}.img"),
        format!("/boot/initrd-{version}"),
        format!("/boot/initrd-{version}.img"),
        format!("/boot/initramfs-{version}"),
    ];
    // Arch names it after the package, Alpine after the flavour at the end of the version.
    if let Some(name) = tree.config(&format!("/lib/modules/{version}/pkgbase")) {
        paths.push(format!("/boot/initramfs-{}.img", name.trim()));
    }
    if let Some((_, flavour)) = version.rsplit_once('-') {
        paths.push(format!("/boot/initramfs-{flavour}"));
    }
    // The Boot Loader Specification has a folder named after the machine, and in it one for each version.
    let is_machine = |name: &String| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    for base in ["/boot", "/efi", "/boot/efi"] {
        let machines = tree.names(base, NAMES_MAX).into_iter().filter(is_machine).take(4);
        paths.extend(machines.map(|machine| format!("{base}/{machine}/{version}/initrd")));
    }
    // A name out of a file of the guest leads nowhere else.
    paths.retain(|path| !path.contains("..") && path.len() < 512);
    paths
}
