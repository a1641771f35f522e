//! Ten versions of one Debian disk, as Molde keeps them, beside restic and compressed qcow2 files: bytes, not seconds.
//!
//! How: packages are installed into the demo's disk, which is mounted by the kernel (root and a loop device are needed); after
//! each step its file is kept by all three, as a backup of a machine is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::command::{capture, run};
use crate::demo::server::Server;
use crate::{demo, guests, packages, workspace};

/// What the versions after the first have more than the one before.
const STEPS: [&[&str]; 9] = [
    &["curl", "ca-certificates"],
    &["vim"],
    &["git"],
    &["nginx-light"],
    &["postgresql-client"],
    &["tcpdump", "strace", "rsync"],
    &["php-cli"],
    &["redis-server", "tmux"],
    &["ruby"],
];

/// Bytes that the versions take so far.
#[derive(Debug, Default, Clone, Copy)]
struct Kept {
    molde: u64,
    restic: u64,
    zlib: u64,
    zstd: u64,
}

/// Keeps all versions and prints what they take after each.
pub(super) fn run_all(molde: &Path) -> Result<()> {
    packages::ensure(&packages::VERSIONS)?;
    let (disk, _) = demo::ensure_disk()?;
    let folder = workspace::target()?.join("bench-versions");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(folder.join("mnt"))?;
    let raw = folder.join("disk.raw");
    capture(Command::new("cp").args(["--sparse=always"]).args([&disk.raw, &raw]))?;
    let mut server = Server::start(molde, &folder.join("data"))?;
    capture(&mut server.command(&["bucket", "create", "bench"]))?;
    capture(restic(&folder).arg("init"))?;
    println!(
        "\n{:<8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7} {:>7}   MB; ratios of molde to each; new packages",
        "version", "disk", "molde", "restic", "zlib", "zstd", "restic", "zlib", "zstd"
    );
    let mut kept = Kept::default();
    for version in 0..=STEPS.len() {
        if let Some(step) = version.checked_sub(1) {
            install(&folder, &raw, STEPS[step])?;
        }
        kept = keep(&server, &folder, &raw, version, kept)?;
        print_line(version, &raw, kept)?;
    }
    server.stop()?;
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

fn print_line(version: usize, raw: &Path, kept: Kept) -> Result<()> {
    let used = fs::metadata(raw).map(|raw| std::os::unix::fs::MetadataExt::blocks(&raw) * 512)?;
    let (megabytes, ratio) = (|bytes: u64| bytes as f64 / 1e6, |peer: u64| kept.molde as f64 / peer as f64);
    let packages = version.checked_sub(1).map_or_else(|| "the demo's disk".to_owned(), |step| STEPS[step].join(" "));
    println!(
        "{:<8} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>7.2} {:>7.2} {:>7.2}   {packages}",
        version + 1,
        megabytes(used),
        megabytes(kept.molde),
        megabytes(kept.restic),
        megabytes(kept.zlib),
        megabytes(kept.zstd),
        ratio(kept.restic),
        ratio(kept.zlib),
        ratio(kept.zstd)
    );
    Ok(())
}

/// Keeps one version three times over.
fn keep(server: &Server, folder: &Path, raw: &Path, version: usize, before: Kept) -> Result<Kept> {
    capture(server.command(&["object", "put", &format!("bench/version-{version}")]).arg(raw))?;
    capture(restic(folder).args(["backup", "--quiet"]).arg(raw))?;
    let mut sizes = [0; 2];
    for (size, compression) in sizes.iter_mut().zip(["zlib", "zstd"]) {
        let file = folder.join("version.qcow2");
        let mut convert = Command::new("qemu-img");
        convert.args(["convert", "-f", "raw", "-O", "qcow2", "-c", "-o", &format!("compression_type={compression}")]);
        capture(convert.args([raw, &file]))?;
        *size = fs::metadata(&file)?.len();
        fs::remove_file(&file)?;
    }
    let [zlib, zstd] = sizes;
    Ok(Kept {
        molde: bytes_below(&server.data().join("store"))?,
        restic: bytes_below(&folder.join("restic"))?,
        zlib: before.zlib + zlib,
        zstd: before.zstd + zstd,
    })
}

/// restic with a repository of its own, whose compression is on from its version 2 on.
fn restic(folder: &Path) -> Command {
    let mut restic = Command::new("restic");
    restic.env("RESTIC_PASSWORD", "bench").env("RESTIC_REPOSITORY", folder.join("restic"));
    restic.args(["--cache-dir"]).arg(folder.join("restic-cache"));
    restic
}

/// The lengths of all files of a folder.
fn bytes_below(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let about = entry.metadata()?;
        sum += if about.is_dir() { bytes_below(&entry.path())? } else { about.len() };
    }
    Ok(sum)
}

/// Installs packages into the system on the disk, with this machine's mirror and way to it.
fn install(folder: &Path, raw: &Path, names: &[&str]) -> Result<()> {
    let mounted = Mounted::new(raw, folder.join("mnt"))?;
    let root = mounted.root.as_path();
    let sources = guests::write_sources(folder)?;
    let name = sources.file_name().context("a file has a name")?;
    let there = [root.join("etc/apt/sources.list.d").join(name), root.join("etc/resolv.conf")];
    for (from, to) in [sources.as_path(), Path::new("/etc/resolv.conf")].into_iter().zip(&there) {
        capture(packages::as_root("cp")?.args([from, to]))?;
    }
    let apt = |arguments: &[&str]| -> Result<()> {
        let mut command = packages::as_root("chroot")?;
        command.arg(root).args(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y"]);
        command.args(["-o", "Acquire::Languages=none", "--no-install-recommends"]);
        command.args(guests::apt_options()?.iter().flat_map(|option| ["-o".to_owned(), option.replacen(" ", "=", 1)]));
        capture(command.args(arguments)).map(drop)
    };
    apt(&["update"])?;
    apt(&[&["install"], names].concat())?;
    apt(&["clean"])?;
    mounted.end()
}

/// The disk's file system, mounted.
struct Mounted {
    root: PathBuf,
    ended: bool,
}

impl Mounted {
    fn new(raw: &Path, root: PathBuf) -> Result<Self> {
        let options = format!("loop,offset={}", guests::PARTITION_START);
        run(packages::as_root("mount")?.args(["-o", &options]).args([raw, &root]))?;
        Ok(Self { root, ended: false })
    }

    fn end(mut self) -> Result<()> {
        self.ended = true;
        let done = packages::as_root("umount")?.arg(&self.root).status()?;
        ensure!(done.success(), "cannot unmount {}", self.root.display());
        Ok(())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if !self.ended
            && let Ok(mut umount) = packages::as_root("umount")
        {
            // Lazily: what failed may still run in there.
            let _ = umount.arg("--lazy").arg(&self.root).status();
        }
    }
}
