//! The demo's disk: a small Debian 12 as VMware leaves it, which does not start elsewhere, as raw and as streamOptimized VMDK.
//!
//! mmdebstrap -> tree -> `mke2fs -d` into one partition -> boot record, GRUB -> raw -> VMDK
//! No loop device, no mount and no partition parser of the kernel is needed, so that it works in a container.

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{capture, find, run};
use crate::{apt_sources, packages, workspace};

/// The disk in its two forms.
pub(crate) struct DemoDisk {
    /// As the guest sees it.
    pub(crate) raw: PathBuf,
    /// As VMware exports it.
    pub(crate) vmdk: PathBuf,
}

const GUEST: &str = include_str!("guest.sh");
const SUITE: &str = "bookworm";
const INCLUDE: &str = "systemd-sysv,udev,dbus,cloud-init,linux-image-cloud-amd64,initramfs-tools,zstd,iproute2";
const ROOT_UUID: &str = "6d6f6c64-6500-4465-6d6f-646562313200";

const SECTOR: u64 = 512;
/// As large as the root disk of the smallest flavor.
const DISK_BYTES: u64 = 1 << 30;
/// Where the partition begins; GRUB's core lies between the boot record and here.
pub(crate) const PARTITION_START: u64 = 1 << 20;

/// What GRUB's core can do: find the root by its UUID and read its configuration from there.
const GRUB_MODULES: [&str; 11] = [
    "biosdisk",
    "part_msdos",
    "ext2",
    "search_fs_uuid",
    "linux",
    "normal",
    "configfile",
    "serial",
    "terminal",
    "echo",
    "boot",
];

/// The disk, made now unless one of the same recipe is there.
pub(crate) fn ensure_disk() -> Result<(DemoDisk, &'static str)> {
    packages::ensure(&packages::DISK)?;
    let folder = workspace::target()?.join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let disk = DemoDisk { raw: folder.join("debian-12.raw"), vmdk: folder.join("debian-12.vmdk") };
    let stamp = folder.join("debian-12.recipe");
    let recipe = recipe();
    if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe) && disk.raw.exists() && disk.vmdk.exists() {
        return Ok((disk, "cached"));
    }
    let machine = capture(Command::new("dpkg").arg("--print-architecture"))?;
    ensure!(machine.trim() == "amd64", "the demo's disk is an amd64 Debian, and this machine is {}", machine.trim());
    match fs::remove_file(&stamp) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let tree = folder.join("tree");
    let outcome = make_tree(&folder, &tree).and_then(|()| make_raw(&folder, &tree, &disk.raw));
    remove_tree(&tree)?;
    outcome?;
    make_vmdk(&disk)?;
    fs::write(&stamp, recipe)?;
    Ok((disk, "made"))
}

/// All that the disk is made from: another recipe makes another disk.
fn recipe() -> String {
    format!("{SUITE} {INCLUDE} {ROOT_UUID} {DISK_BYTES} {PARTITION_START} {GRUB_MODULES:?}\n{GUEST}")
}

/// A Debian tree owned by root, with the packages of this machine's own mirror.
fn make_tree(folder: &Path, tree: &Path) -> Result<()> {
    remove_tree(tree)?;
    let (script, sources) = (folder.join("guest.sh"), write_sources(folder)?);
    fs::write(&script, GUEST)?;
    let mut command = packages::as_root("mmdebstrap")?;
    command.args(["--mode=root", "--variant=minbase", &format!("--include={INCLUDE}")]);
    command.arg("--aptopt=APT::Install-Recommends \"false\"");
    command.args(apt_options()?.iter().map(|option| format!("--aptopt={option}")));
    for excluded in ["doc", "man", "info", "locale"] {
        command.arg(format!("--dpkgopt=path-exclude=/usr/share/{excluded}/*"));
    }
    command.arg(format!("--customize-hook=sh {} \"$1\"", quoted(&script)));
    command.arg(SUITE).arg(tree).arg(sources);
    run(&mut command)
}

/// This machine's own package source, for the guest's suite.
pub(crate) fn write_sources(folder: &Path) -> Result<PathBuf> {
    let host = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = host.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME=")).unwrap_or(SUITE);
    let sources = apt_sources::of_this_machine()?;
    let source =
        sources.iter().find(|source| source.has_suite(SUITE) || source.has_suite(codename)).with_context(|| {
            format!("no package source in /etc/apt offers {codename}: the demo's guest comes from there")
        })?;
    let file = folder.join(format!("guest.{}", source.form().extension()));
    fs::write(&file, source.with_suite(SUITE)).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// How this machine's apt reaches its mirror: proxies, and what it overlooks in a frozen snapshot.
pub(crate) fn apt_options() -> Result<Vec<String>> {
    const WANTED: [&str; 4] = ["::Proxy ", "::Check-Valid-Until ", "::Check-Date ", "::CaInfo "];
    let dump = capture(Command::new("apt-config").arg("dump"))?;
    let reaching = |line: &&str| line.starts_with("Acquire::") && WANTED.iter().any(|wanted| line.contains(wanted));
    Ok(dump.lines().filter(reaching).map(|line| line.trim_end_matches(';').to_owned()).collect())
}

fn make_raw(folder: &Path, tree: &Path, raw: &Path) -> Result<()> {
    let part = raw.with_extension("raw.part");
    File::create(&part)?.set_len(DISK_BYTES)?;
    // The file is made first, so that it belongs to the user even where mke2fs has to run as root.
    let mut mke2fs = packages::as_root("mke2fs")?;
    mke2fs.args(["-q", "-t", "ext4", "-L", "root", "-U", ROOT_UUID, "-N", "65536", "-m", "1", "-J", "size=16"]);
    // Newer defaults are switched off that GRUB cannot read.
    mke2fs.args(["-O", "^metadata_csum_seed,^orphan_file"]);
    mke2fs.args(["-E", &format!("offset={PARTITION_START},lazy_itable_init=0,lazy_journal_init=0")]);
    mke2fs.arg("-d").arg(tree).arg(&part).arg(format!("{}K", (DISK_BYTES - PARTITION_START) >> 10));
    run(&mut mke2fs)?;
    let disk = File::options().write(true).open(&part)?;
    write_boot_record(&disk)?;
    write_grub_core(folder, disk)?;
    fs::rename(&part, raw).with_context(|| format!("cannot keep {}", raw.display()))
}

/// GRUB's first 440 bytes, and one bootable Linux partition that reaches to the end.
fn write_boot_record(disk: &File) -> Result<()> {
    let boot = fs::read("/usr/lib/grub/i386-pc/boot.img").context("cannot read GRUB's boot.img")?;
    disk.write_all_at(boot.get(..440).context("GRUB's boot.img is too short")?, 0)?;
    let sector = |bytes: u64| u32::try_from(bytes / SECTOR).context("the disk is too large for a boot record");
    let mut table = Vec::with_capacity(66);
    table.extend([0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]);
    table.extend(sector(PARTITION_START)?.to_le_bytes());
    table.extend(sector(DISK_BYTES - PARTITION_START)?.to_le_bytes());
    table.resize(64, 0);
    table.extend([0x55, 0xaa]);
    disk.write_all_at(&table, 446)?;
    Ok(())
}

/// GRUB's core, from the second sector on.
fn write_grub_core(folder: &Path, mut disk: File) -> Result<()> {
    let (early, core) = (folder.join("grub-early.cfg"), folder.join("grub-core.img"));
    fs::write(
        &early,
        format!("search.fs_uuid {ROOT_UUID} root\nset prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"),
    )?;
    let mut mkimage = Command::new(find("grub-mkimage").context("`grub-mkimage` is not installed")?);
    mkimage.args(["--format=i386-pc", "--prefix=/boot/grub", "--config"]).arg(&early).arg("--output").arg(&core);
    capture(mkimage.args(GRUB_MODULES))?;
    let core = fs::read(&core)?;
    if core.len() as u64 > PARTITION_START - SECTOR {
        bail!("GRUB's core of {} bytes does not fit before the partition", core.len());
    }
    disk.seek(SeekFrom::Start(SECTOR))?;
    disk.write_all(&core)?;
    Ok(())
}

fn make_vmdk(disk: &DemoDisk) -> Result<()> {
    let part = disk.vmdk.with_extension("vmdk.part");
    let mut convert = Command::new("qemu-img");
    convert.args(["convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=streamOptimized"]);
    run(convert.arg(&disk.raw).arg(&part))?;
    fs::rename(&part, &disk.vmdk).with_context(|| format!("cannot keep {}", disk.vmdk.display()))
}

fn remove_tree(tree: &Path) -> Result<()> {
    if !tree.exists() {
        return Ok(());
    }
    capture(packages::as_root("rm")?.args(["-r", "-f", "--one-file-system"]).arg(tree)).map(drop)
}

/// `path` as one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        let path = Path::new("/tmp/it's a \"test\" $HOME");
        let said = capture(Command::new("sh").args(["-c", &format!("printf %s {}", quoted(path))])).unwrap();
        assert_eq!(said, path.display().to_string());
    }
}
