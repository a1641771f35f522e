//! A raw disk around a root tree: its file system at 1 MiB, and GRUB where a BIOS or an installed UEFI system has it.
//!
//! BIOS: boot record with GRUB's first 440 bytes, GRUB's core, the root to the end. UEFI: GPT, the root, the EFI system
//! partition behind it. No loop device, no mount and no partition parser of the kernel is needed, so that it works in a container.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use super::root::{self, Root};
use crate::command::{capture, find};

const SECTOR: u64 = 512;
/// Where the root begins, on every disk; GRUB's core for a BIOS lies between the boot record and here.
pub(crate) const PARTITION_START: u64 = 1 << 20;
/// The EFI system partition, and the second table of a GPT behind it.
const ESP_BYTES: u64 = 32 << 20;
const GPT_END: u64 = 1 << 20;

/// What starts the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Firmware {
    Bios,
    Uefi,
}

/// How a disk is made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) firmware: Firmware,
    pub(crate) root: Root,
    pub(crate) bytes: u64,
    pub(crate) root_uuid: &'static str,
}

/// What GRUB's core can do beside reading the root: find it by its UUID, and take its configuration from there.
const GRUB_MODULES: [&str; 8] =
    ["search_fs_uuid", "linux", "normal", "configfile", "serial", "terminal", "echo", "boot"];

impl Layout {
    /// All that a disk is made from beside its tree.
    pub(crate) fn text(&self) -> String {
        format!("{self:?} {PARTITION_START} {ESP_BYTES} {GRUB_MODULES:?}\n")
    }

    /// Makes the disk `raw` of `tree`; `folder` is for what it takes on the way.
    pub(crate) fn make(&self, folder: &Path, tree: &Path, raw: &Path) -> Result<()> {
        let part = raw.with_extension("raw.part");
        // The file is made first, so that it belongs to the user even where mke2fs has to run as root.
        File::create(&part)?.set_len(self.bytes)?;
        let mut disk = File::options().write(true).open(&part)?;
        match self.firmware {
            Firmware::Bios => self.write_boot_record(&disk)?,
            Firmware::Uefi => self.write_gpt(&part)?,
        }
        root::make(self, folder, tree, &part)?;
        let core = self.make_grub_core(folder)?;
        match self.firmware {
            Firmware::Bios => write_grub_core(&core, &mut disk)?,
            Firmware::Uefi => write_esp(folder, &core, &mut disk, PARTITION_START + self.root_bytes())?,
        }
        fs::rename(&part, raw).with_context(|| format!("cannot keep {}", raw.display()))
    }

    pub(super) fn root_bytes(&self) -> u64 {
        let behind = if self.firmware == Firmware::Uefi { ESP_BYTES + GPT_END } else { 0 };
        self.bytes - PARTITION_START - behind
    }

    /// GRUB's first 440 bytes, and one bootable Linux partition that reaches to the end.
    fn write_boot_record(&self, disk: &File) -> Result<()> {
        let boot = fs::read("/usr/lib/grub/i386-pc/boot.img").context("cannot read GRUB's boot.img")?;
        disk.write_all_at(boot.get(..440).context("GRUB's boot.img is too short")?, 0)?;
        let sector = |bytes: u64| u32::try_from(bytes / SECTOR).context("the disk is too large for a boot record");
        let mut table = Vec::with_capacity(66);
        table.extend([0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]);
        table.extend(sector(PARTITION_START)?.to_le_bytes());
        table.extend(sector(self.root_bytes())?.to_le_bytes());
        table.resize(64, 0);
        table.extend([0x55, 0xaa]);
        disk.write_all_at(&table, 446)?;
        Ok(())
    }

    /// The root first, so that it has the same name with either firmware.
    fn write_gpt(&self, disk: &Path) -> Result<()> {
        let (start, size) = (PARTITION_START / SECTOR, self.root_bytes() / SECTOR);
        let table = format!("label: gpt\nstart={start}, size={size}, type=L\nsize={}, type=U\n", ESP_BYTES / SECTOR);
        let mut sfdisk = Command::new(find("sfdisk").context("`sfdisk` is not installed")?);
        sfdisk.args(["--quiet", "--no-reread", "--no-tell-kernel"]).arg(disk);
        let mut child = sfdisk.stdin(Stdio::piped()).spawn().context("cannot start `sfdisk`")?;
        child.stdin.take().context("`sfdisk` has no input")?.write_all(table.as_bytes())?;
        let status = child.wait()?;
        ensure!(status.success(), "`sfdisk` ended with {status}");
        Ok(())
    }

    fn make_grub_core(&self, folder: &Path) -> Result<Vec<u8>> {
        let (early, core) = (folder.join("grub-early.cfg"), folder.join("grub-core.img"));
        let search = format!("search.fs_uuid {} root\n", self.root_uuid);
        fs::write(&early, search + "set prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n")?;
        let (format, own): (_, &[&str]) = match self.firmware {
            Firmware::Bios => ("i386-pc", &["biosdisk", "part_msdos"]),
            Firmware::Uefi => ("x86_64-efi", &["part_gpt", "fat"]),
        };
        let mut mkimage = Command::new(find("grub-mkimage").context("`grub-mkimage` is not installed")?);
        mkimage.arg(format!("--format={format}")).args(["--prefix=/boot/grub", "--config"]).arg(&early);
        capture(mkimage.arg("--output").arg(&core).args(own).arg(self.root.grub_module()).args(GRUB_MODULES))?;
        fs::read(&core).with_context(|| format!("cannot read {}", core.display()))
    }
}

/// GRUB's core, from the second sector on.
fn write_grub_core(core: &[u8], disk: &mut File) -> Result<()> {
    if core.len() as u64 > PARTITION_START - SECTOR {
        bail!("GRUB's core of {} bytes does not fit before the partition", core.len());
    }
    disk.seek(SeekFrom::Start(SECTOR))?;
    disk.write_all(core)?;
    Ok(())
}

/// The EFI system partition as Debian's installer fills it: firmware starts that by an entry, which stays on the old machine.
fn write_esp(folder: &Path, core: &[u8], disk: &mut File, start: u64) -> Result<()> {
    let (esp, grub) = (folder.join("esp.img"), folder.join("grubx64.efi"));
    fs::write(&grub, core)?;
    let _ = fs::remove_file(&esp);
    let mkfs = find("mkfs.vfat").context("`mkfs.vfat` is not installed")?;
    let kib = (ESP_BYTES >> 10).to_string();
    capture(Command::new(mkfs).args(["-n", "ESP", "-i", "6D6F6C64", "-C"]).arg(&esp).arg(kib))?;
    let mtools = |program: &str| {
        let mut command = Command::new(program);
        command.env("MTOOLS_SKIP_CHECK", "1").arg("-i").arg(&esp);
        command
    };
    for name in ["::EFI", "::EFI/debian"] {
        capture(mtools("mmd").arg(name))?;
    }
    capture(mtools("mcopy").arg(&grub).arg("::EFI/debian/grubx64.efi"))?;
    disk.seek(SeekFrom::Start(start))?;
    std::io::copy(&mut File::open(&esp)?, disk)?;
    Ok(())
}
