//! How the disk starts: signs of loaders in sectors, partitions and files.

use disk::error::Result;

use crate::report::{Boot, FilesystemKind, Partition, PartitionTable};
use crate::tree::Tree;
use crate::window::Window;

/// Most names in a folder of boot loader entries.
const ENTRIES_MAX: usize = 1024;

/// Configuration files by the loader that reads them, below `/boot` or on a boot partition of their own.
const CONFIGS: [(&str, &str); 7] = [
    ("grub/grub.cfg", "grub2"),
    ("grub2/grub.cfg", "grub2"),
    ("grub/menu.lst", "grub1"),
    ("grub/grub.conf", "grub1"),
    ("extlinux/extlinux.conf", "syslinux"),
    ("extlinux.conf", "syslinux"),
    ("syslinux/syslinux.cfg", "syslinux"),
];

/// Loaders on an EFI system partition by the end of their name.
const EFI_LOADERS: [(&str, &str); 4] =
    [("SYSTEMD-BOOT", "systemd-boot"), ("/SHIM", "grub2"), ("/GRUB", "grub2"), ("/BOOTMGFW.EFI", "windows")];

/// Looks at the boot sector and the table of partitions.
pub(crate) fn of_disk(
    boot: &mut Boot,
    disk: &Window,
    table: Option<PartitionTable>,
    partitions: &[Partition],
) -> Result<()> {
    let Some(sector) = disk.bytes(0, 512)? else { return Ok(()) };
    let code = &sector[..440];
    let has_code = code.iter().any(|byte| *byte != 0);
    let says = |text: &str| code.windows(text.len()).any(|part| part == text.as_bytes());
    if says("GRUB") {
        // GRUB 1 has the version of its stages where GRUB 2 has room for a table of the file system.
        let name = if code[0x3e..0x40] == [3, 2] { "grub1" } else { "grub2" };
        boot.bios = true;
        boot.evidence.push("GRUB in the boot sector".to_owned());
        boot.loader.get_or_insert_with(|| name.to_owned());
    }
    if let Some(partition) = partitions.iter().find(|partition| partition.bootable)
        && has_code
        && table == Some(PartitionTable::Mbr)
    {
        boot.bios = true;
        boot.evidence.push(format!("boot code, and partition {} is active", partition.number));
    }
    if let Some(partition) = partitions.iter().find(|partition| partition.kind == "BIOS boot") {
        boot.bios |= has_code;
        boot.evidence.push(format!("partition {} is a BIOS boot partition", partition.number));
    }
    if let Some(partition) = partitions.iter().find(|partition| partition.esp) {
        boot.evidence.push(format!("partition {} is an EFI system partition", partition.number));
    }
    Ok(())
}

/// Looks at the boot record of one file system, where a loader is put for a chain from the master boot record.
pub(crate) fn of_volume(boot: &mut Boot, window: &Window, device: &str, kind: FilesystemKind) -> Result<()> {
    let Some(sector) = window.bytes(0, 512)? else { return Ok(()) };
    let says = |text: &[u8]| sector.windows(text.len()).any(|part| part == text);
    // Every partition that mkfs.vfat or Windows formats has a boot record; only these loaders name themselves in it.
    let is_linux = matches!(kind, FilesystemKind::Ext2 | FilesystemKind::Ext3 | FilesystemKind::Ext4);
    if says(b"SYSLINUX") || says(b"EXTLINUX") {
        boot.bios = true;
        boot.evidence.push(format!("SYSLINUX in the boot record of {device}"));
        boot.loader.get_or_insert_with(|| "syslinux".to_owned());
    } else if is_linux && says(b"GRUB") {
        boot.bios = true;
        boot.evidence.push(format!("GRUB in the boot record of {device}"));
        boot.loader.get_or_insert_with(|| "grub2".to_owned());
    }
    Ok(())
}

/// Adds the loaders of an EFI system partition.
pub(crate) fn of_efi(boot: &mut Boot, loaders: &[String], device: &str) {
    for loader in loaders {
        boot.uefi = true;
        boot.evidence.push(format!("{loader} on {device}"));
    }
    let named = EFI_LOADERS.iter().find(|(part, _)| loaders.iter().any(|loader| loader.contains(part)));
    if let Some((_, name)) = named {
        boot.loader = Some((*name).to_owned());
    }
}

/// Looks for configuration files in `tree`; `base` is the folder that the guest knows as `/boot`.
///
/// They tell GRUB 1 from GRUB 2, which write the same word into the boot sector. Entries of the Boot Loader Specification
/// are read by GRUB 2 and by systemd-boot: which of them is there is told by what else there is.
pub(crate) fn of_tree(boot: &mut Boot, tree: &Tree, base: &str, device: &str) {
    if let Some((path, name)) = CONFIGS.iter().find(|(path, _)| tree.exists(&format!("{base}/{path}"))) {
        boot.evidence.push(format!("{base}/{path} on {device}"));
        if boot.loader.as_deref().is_none_or(|known| known == "grub2") {
            boot.loader = Some((*name).to_owned());
        }
    }
    let folder = format!("{base}/loader/entries");
    let entries = tree.names(&folder, ENTRIES_MAX).into_iter().filter(|name| name.ends_with(".conf")).count();
    if entries > 0 {
        let plural = if entries == 1 { "entry" } else { "entries" };
        boot.evidence.push(format!("{entries} boot loader {plural} in {folder} on {device}"));
    }
    // Both files are of systemd-boot alone: its settings, and what its installer writes.
    let signs = ["loader/loader.conf", "loader/entries.srel"];
    if let Some(path) = signs.iter().find(|path| tree.exists(&format!("{base}/{path}"))) {
        boot.evidence.push(format!("{base}/{path} on {device}"));
        boot.loader.get_or_insert_with(|| "systemd-boot".to_owned());
    }
}
