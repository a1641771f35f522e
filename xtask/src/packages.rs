//! What a task needs of Debian: looked for first, installed through apt only where it is missing.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt_sources;
use crate::command::{capture, find, run};

/// A Debian package, and the file or program by which it is known to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Package {
    name: &'static str,
    proof: Proof,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    Program(&'static str),
    File(&'static str),
    /// A kernel for clouds, whichever its version.
    Kernel,
    /// A program of QEMU, at least as new as [`QEMU_MAJOR`] where Debian has that to offer.
    Qemu(&'static str),
}

/// The QEMU that Molde is tested with: Debian 13 has it, and so have the backports of Debian 12.
const QEMU_MAJOR: u32 = 10;

const fn program(name: &'static str, program: &'static str) -> Package {
    Package { name, proof: Proof::Program(program) }
}

const fn file(name: &'static str, path: &'static str) -> Package {
    Package { name, proof: Proof::File(path) }
}

const QEMU: [Package; 2] = [
    Package { name: "qemu-utils", proof: Proof::Qemu("qemu-img") },
    Package { name: "qemu-system-x86", proof: Proof::Qemu("qemu-system-x86_64") },
];

/// What the demo's disk is made with.
pub(crate) const DISK: [Package; 4] = [
    QEMU[0],
    program("mmdebstrap", "mmdebstrap"),
    program("e2fsprogs", "mke2fs"),
    file("grub-pc-bin", "/usr/lib/grub/i386-pc/boot.img"),
];

/// What disks of real guests for UEFI, and on other file systems, are made with beyond that.
pub(crate) const GUESTS: [Package; 6] = [
    program("xfsprogs", "mkfs.xfs"),
    program("btrfs-progs", "mkfs.btrfs"),
    program("dosfstools", "mkfs.vfat"),
    program("mtools", "mcopy"),
    program("fdisk", "sfdisk"),
    file("grub-efi-amd64-bin", "/usr/lib/grub/x86_64-efi/normal.mod"),
];

/// What the demo needs beyond its disk.
pub(crate) const DEMO: [Package; 1] = [QEMU[1]];

/// What the tests need.
pub(crate) const TESTS: [Package; 35] = [
    QEMU[0],
    QEMU[1],
    POSTGRES,
    program("e2fsprogs", "mke2fs"),
    program("dosfstools", "mkfs.vfat"),
    program("mtools", "mcopy"),
    program("fdisk", "sfdisk"),
    program("xfsprogs", "mkfs.xfs"),
    program("btrfs-progs", "mkfs.btrfs"),
    program("attr", "setfattr"),
    program("ntfs-3g", "mkntfs"),
    program("libwin-hivex-perl", "hivexregedit"),
    program("libhivex-bin", "hivexget"),
    program("cryptsetup-bin", "cryptsetup"),
    program("lvm2", "pvck"),
    program("xorriso", "xorriso"),
    file("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd"),
    program("rclone", "rclone"),
    program("xz-utils", "xz"),
    program("zstd", "zstd"),
    program("python3", "python3"),
    program("strace", "strace"),
    program("libnbd-bin", "nbdcopy"),
    program("openssl", "openssl"),
    program("gnupg", "gpg"),
    program("cpio", "cpio"),
    file("busybox-static", "/var/lib/dpkg/info/busybox-static.list"),
    program("bzip2", "bzip2"),
    program("lz4", "lz4"),
    program("lzop", "lzop"),
    program("initramfs-tools-core", "lsinitramfs"),
    program("rpm", "rpmbuild"),
    program("sqlite3", "sqlite3"),
    program("db5.3-util", "db5.3_load"),
    Package { name: "linux-image-cloud-amd64", proof: Proof::Kernel },
];

/// What the slow tests need beyond that: Ceph with its S3 gateway, and npm for Azurite.
pub(crate) const SLOW: [Package; 5] = [
    program("radosgw", "radosgw"),
    program("ceph-mon", "ceph-mon"),
    program("ceph-osd", "ceph-osd"),
    program("ceph-mgr", "ceph-mgr"),
    program("npm", "npm"),
];

/// A second witness of what is in a guest.
pub(crate) const LIBGUESTFS: [Package; 1] = [program("libguestfs-tools", "virt-inspector")];

/// What makes a Python environment.
pub(crate) const PYTHON: [Package; 1] = [program("python3", "python3")];

/// Where a Python of Debian lacks the module that makes environments.
pub(crate) const PYTHON_VENV: &str = "python3-venv";

/// What the fuzzer is built with.
pub(crate) const FUZZ: [Package; 1] = [program("g++", "c++")];

/// What the benchmarks measure with.
pub(crate) const BENCH: [Package; 4] =
    [file("time", "/usr/bin/time"), QEMU[0], program("zstd", "zstd"), program("libnbd-bin", "nbdcopy")];

/// What the versions of a disk are kept with.
pub(crate) const VERSIONS: [Package; 1] = [program("restic", "restic")];

/// Where the catalog lies that is not in a file.
pub(crate) const POSTGRES: Package = file("postgresql-15", "/usr/lib/postgresql/15/bin/initdb");

/// Installs what is missing of `packages`; says so, and touches no network when nothing is.
pub(crate) fn ensure(packages: &[Package]) -> Result<()> {
    let missing: Vec<Package> = packages.iter().copied().filter(|package| !is_there(*package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (qemu, plain): (Vec<Package>, Vec<Package>) =
        missing.into_iter().partition(|package| matches!(package.proof, Proof::Qemu(_)) && is_debian_12());
    let plain: Vec<&str> = plain.iter().map(|package| package.name).collect();
    let qemu: Vec<&str> = qemu.iter().map(|package| package.name).collect();
    install_with_backports(&plain, &qemu)
}

/// Installs packages by name.
pub(crate) fn install(names: &[&str]) -> Result<()> {
    install_with_backports(names, &[])
}

/// A command that runs with an administrator's rights.
///
/// # Errors
///
/// Fails where the user is not root and has no `sudo`.
pub(crate) fn as_root(program: &str) -> Result<Command> {
    if rustix::process::geteuid().is_root() {
        return Ok(Command::new(program));
    }
    let Some(sudo) = find("sudo") else {
        bail!("`{program}` needs root: run this task as root, or install sudo");
    };
    let mut command = Command::new(sudo);
    command.arg("--").arg(program);
    Ok(command)
}

fn install_with_backports(plain: &[&str], backports: &[&str]) -> Result<()> {
    println!("installing: {}", [plain, backports].concat().join(", "));
    if !rustix::process::geteuid().is_root() && find("sudo").is_none() {
        let mut hint = String::new();
        if !plain.is_empty() {
            hint.push_str(&format!("\n  apt-get install --no-install-recommends {}", plain.join(" ")));
        }
        if !backports.is_empty() {
            let names = backports.join(" ");
            hint.push_str(&format!("\n  apt-get install --no-install-recommends -t {BACKPORTS} {names}"));
            hint.push_str(&format!("   (with {BACKPORTS} among the package sources)"));
        }
        bail!("packages are missing, and only root (or a user of sudo) can install them:{hint}");
    }
    if !backports.is_empty() {
        add_backports()?;
    }
    run(apt()?.arg("update"))?;
    for (names, suite) in [(plain, None), (backports, Some(BACKPORTS))] {
        if names.is_empty() {
            continue;
        }
        let mut command = apt()?;
        command.args(["install", "--yes", "--no-install-recommends"]);
        command.args(suite.into_iter().flat_map(|suite| ["--target-release", suite]));
        run(command.args(names))?;
    }
    Ok(())
}

/// `apt-get` that asks nothing and waits for its turn.
fn apt() -> Result<Command> {
    let mut command = as_root("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]);
    Ok(command)
}

const BACKPORTS: &str = "bookworm-backports";

/// Offers the backports of Debian 12 from wherever this machine gets Debian 12.
fn add_backports() -> Result<()> {
    let sources = apt_sources::of_this_machine()?;
    if sources.iter().any(|source| source.has_suite(BACKPORTS)) {
        return Ok(());
    }
    let own = sources
        .iter()
        .find(|source| source.has_suite("bookworm"))
        .context("no package source in /etc/apt offers bookworm, so there is none to copy for its backports")?;
    let path = format!("/etc/apt/sources.list.d/molde-backports.{}", own.form().extension());
    println!("adding {path}, a copy of this machine's source for bookworm");
    let mut tee = as_root("sh")?;
    tee.args(["-c", "printf %s \"$1\" > \"$2\"", "sh", &own.with_suite(BACKPORTS), &path]);
    capture(&mut tee).map(drop)
}

fn is_there(package: Package) -> bool {
    match package.proof {
        Proof::Program(name) => find(name).is_some(),
        Proof::File(path) => Path::new(path).exists(),
        Proof::Kernel => fs::read_dir("/boot").into_iter().flatten().flatten().any(|entry| {
            let name = entry.file_name();
            name.to_string_lossy().starts_with("vmlinuz-") && name.to_string_lossy().ends_with("-cloud-amd64")
        }),
        Proof::Qemu(name) => find(name).is_some_and(|file| {
            !is_debian_12()
                || capture(Command::new(file).arg("--version")).is_ok_and(|said| qemu_major(&said) >= Some(QEMU_MAJOR))
        }),
    }
}

/// The first number in what `--version` of a QEMU program says.
fn qemu_major(said: &str) -> Option<u32> {
    let version = said.split_once("version ")?.1;
    version.split('.').next()?.parse().ok()
}

fn is_debian_12() -> bool {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let has = |line: &str| text.lines().any(|own| own.replace('"', "") == line);
    has("ID=debian") && has("VERSION_ID=12")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_tells_its_version() {
        assert_eq!(qemu_major("qemu-img version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright"), Some(10));
        assert_eq!(qemu_major("QEMU emulator version 7.2.17 (Debian)"), Some(7));
        assert_eq!(qemu_major("nothing"), None);
    }

    #[test]
    fn a_package_is_known_by_its_proof() {
        assert!(is_there(program("dash", "sh")));
        assert!(!is_there(file("nothing", "/no/such/file")));
    }
}
