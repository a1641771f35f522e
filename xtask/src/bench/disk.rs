//! Conversion between disk formats: `molde disk convert` beside `qemu-img convert`, on a real disk and a sparse one.
//!
//! Neither program waits until its file is on the disk: qemu-img does not by default, and Molde is told so. The pairs
//! called "saved" are those where both wait.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::measure::{Run, measure, median};
use crate::command::capture;
use crate::{demo, workspace};

const SPARSE_BYTES: u64 = 10 << 30;

/// A format as both programs know it, with the options that make the same kind of file.
struct Kind {
    name: &'static str,
    molde: &'static [&'static str],
    qemu: &'static [&'static str],
    qemu_format: &'static str,
}

const fn kind(
    name: &'static str,
    qemu_format: &'static str,
    molde: &'static [&'static str],
    qemu: &'static [&'static str],
) -> Kind {
    Kind { name, molde, qemu, qemu_format }
}

const RAW: Kind = kind("raw", "raw", &["-O", "raw"], &["-O", "raw"]);
const QCOW2: Kind = kind("qcow2", "qcow2", &["-O", "qcow2"], &["-O", "qcow2"]);
const QCOW2_ZLIB: Kind =
    kind("qcow2 zlib", "qcow2", &["-O", "qcow2", "-o", "compression=zlib"], &["-O", "qcow2", "-c"]);
const QCOW2_ZSTD: Kind = kind(
    "qcow2 zstd",
    "qcow2",
    &["-O", "qcow2", "-o", "compression=zstd"],
    &["-O", "qcow2", "-c", "-o", "compression_type=zstd"],
);
const VMDK: Kind = kind("vmdk", "vmdk", &["-O", "vmdk"], &["-O", "vmdk"]);
const VMDK_STREAM: Kind = kind(
    "vmdk stream",
    "vmdk",
    &["-O", "vmdk", "-o", "subformat=streamOptimized"],
    &["-O", "vmdk", "-o", "subformat=streamOptimized"],
);
const VHD: Kind = kind("vhd", "vpc", &["-O", "vhd"], &["-O", "vpc", "-o", "force_size=on"]);
const VHDX: Kind = kind("vhdx", "vhdx", &["-O", "vhdx"], &["-O", "vhdx"]);
const VDI: Kind = kind("vdi", "vdi", &["-O", "vdi"], &["-O", "vdi"]);

/// The formats with a file of the real disk each.
const KINDS: [&Kind; 9] = [&RAW, &QCOW2, &QCOW2_ZLIB, &QCOW2_ZSTD, &VMDK, &VMDK_STREAM, &VHD, &VHDX, &VDI];

/// One conversion that both programs do.
struct Pair<'a> {
    name: String,
    source: PathBuf,
    from: &'a Kind,
    to: &'a Kind,
    saved: bool,
}

/// Measures every pair whose name contains `only`, `runs` times each.
pub(super) fn run(molde: &Path, runs: u32, only: Option<&str>) -> Result<()> {
    let (disk, _) = demo::ensure_disk()?;
    let folder = workspace::target()?.join("bench");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let real = folder.join("real.raw");
    run_quietly(Command::new("cp").args(["--sparse=always"]).args([&disk.raw, &real]))?;
    let sparse = folder.join("sparse.raw");
    make_sparse(&sparse)?;
    println!(
        "\n{runs} runs each in turn after one that is not counted; medians; qemu is `qemu-img convert -m 16 -W`, qemu* \
         without the two; a ratio below 1 is for molde"
    );
    println!(
        "{:<26} {:>8} {:>8} {:>8} {:>7} {:>9} {:>8} {:>7} {:>9} {:>8}",
        "pair", "molde s", "qemu s", "qemu* s", "ratio", "molde cpu", "qemu cpu", "ratio", "molde MiB", "qemu MiB"
    );
    let (mut logarithms, mut worst, mut peak) = (Vec::new(), 0.0_f64, 0.0_f64);
    for pair in pairs(&folder, &real, &sparse) {
        if only.is_some_and(|text| !pair.name.contains(text)) {
            continue;
        }
        let (ratio, memory) = compare(&pair, molde, &folder, runs)?;
        logarithms.push(ratio.ln());
        (worst, peak) = (worst.max(ratio), peak.max(memory));
    }
    ensure!(!logarithms.is_empty(), "no pair is called so");
    let mean = (logarithms.iter().sum::<f64>() / logarithms.len() as f64).exp();
    println!(
        "{} pairs: geometric mean of the ratios {mean:.2}, the worst {worst:.2}, peak memory of molde {peak:.0} MiB",
        logarithms.len()
    );
    empty(molde, &folder, runs)?;
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// Every pair. The sources are made by qemu-img when their turn comes.
fn pairs<'a>(folder: &Path, real: &Path, sparse: &Path) -> Vec<Pair<'a>> {
    let mut pairs = Vec::new();
    let mut add = |disk: &str, raw: &Path, from: &'a Kind, to: &'a Kind, saved: bool| {
        let source = if from.name == "raw" {
            raw.to_path_buf()
        } else {
            folder.join(format!("{disk}.{}", from.name.replace(' ', "-")))
        };
        let mark = if saved { ", saved" } else { "" };
        pairs.push(Pair { name: format!("{disk}: {} -> {}{mark}", from.name, to.name), source, from, to, saved });
    };
    for to in KINDS {
        add("real", real, &RAW, to, false);
    }
    for from in &KINDS[1..] {
        add("real", real, from, &RAW, false);
    }
    for (from, to) in [(&VMDK_STREAM, &QCOW2), (&QCOW2_ZSTD, &VHDX), (&VHD, &QCOW2)] {
        add("real", real, from, to, false);
    }
    for (from, to) in [(&RAW, &RAW), (&RAW, &QCOW2)] {
        add("real", real, from, to, true);
    }
    for (from, to) in [(&RAW, &RAW), (&RAW, &QCOW2), (&RAW, &VHDX), (&QCOW2, &RAW), (&VHDX, &RAW), (&VDI, &QCOW2)] {
        add("sparse", sparse, from, to, false);
    }
    pairs
}

/// A disk of 10 GiB with a mebibyte of data every 64 MiB, half of it text.
fn make_sparse(path: &Path) -> Result<()> {
    let file = File::create(path)?;
    file.set_len(SPARSE_BYTES)?;
    let mut number = 1_u64;
    let mut piece = vec![0; 1 << 20];
    for offset in (0..SPARSE_BYTES).step_by(64 << 20) {
        for (index, bytes) in piece.chunks_mut(8).enumerate() {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let text = index / 512 % 2 == 0;
            bytes.copy_from_slice(&if text { *b"line of " } else { number.to_le_bytes() });
        }
        file.write_all_at(&piece, offset)?;
    }
    Ok(())
}

/// Both programs in turn, so that a change in the machine's speed meets both; both results must be the same disk.
/// Prints a line and returns the ratio of the times and Molde's peak memory.
fn compare(pair: &Pair<'_>, molde: &Path, folder: &Path, runs: u32) -> Result<(f64, f64)> {
    if !pair.source.exists() {
        let raw = folder.join(if pair.name.starts_with("real") { "real.raw" } else { "sparse.raw" });
        run_quietly(
            Command::new("qemu-img").args(["convert", "-f", "raw"]).args(pair.from.qemu).args([&raw, &pair.source]),
        )?;
    }
    let outputs = [folder.join("molde.out"), folder.join("qemu.out"), folder.join("qemu-default.out")];
    let commands = [
        molde_convert(molde, pair, &outputs[0]),
        qemu_convert(pair, &["-m", "16", "-W"], &outputs[1]),
        qemu_convert(pair, &[], &outputs[2]),
    ];
    let mut measured: [Vec<Run>; 3] = Default::default();
    for round in 0..=runs {
        for (program, command) in commands.iter().enumerate() {
            // A file that is there already would be cut to nothing inside the time that is measured.
            let _ = fs::remove_file(&outputs[program]);
            let run = measure(command, &folder.join("time"))?;
            if round > 0 {
                measured[program].push(run);
            }
        }
    }
    let mut same = Command::new("qemu-img");
    same.args(["compare", "-f", pair.to.qemu_format, "-F", pair.to.qemu_format]).args(&outputs[..2]);
    capture(&mut same).with_context(|| format!("{}: the two results differ", pair.name))?;
    for output in &outputs {
        fs::remove_file(output)?;
    }
    Ok(print_line(&pair.name, &measured))
}

fn print_line(name: &str, measured: &[Vec<Run>; 3]) -> (f64, f64) {
    let wall = |program: usize| median(&measured[program], |run| run.wall_seconds);
    let cpu = |program: usize| median(&measured[program], |run| run.cpu_seconds);
    let peak = |program: usize| median(&measured[program], |run| run.peak_mebibytes);
    let ratio = wall(0) / wall(1);
    println!(
        "{name:<26} {:>8.2} {:>8.2} {:>8.2} {ratio:>7.2} {:>9.2} {:>8.2} {:>7.2} {:>9.0} {:>8.0}",
        wall(0),
        wall(1),
        wall(2),
        cpu(0),
        cpu(1),
        cpu(0) / cpu(1),
        peak(0),
        peak(1)
    );
    (ratio, peak(0))
}

fn molde_convert(binary: &Path, pair: &Pair<'_>, output: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(["disk", "convert"]).args(pair.to.molde);
    if !pair.saved {
        command.arg("--no-sync");
    }
    command.args([&pair.source, output]);
    command
}

fn qemu_convert(pair: &Pair<'_>, parallel: &[&str], output: &Path) -> Command {
    let mut command = Command::new("qemu-img");
    command.arg("convert").args(parallel).args(["-f", pair.from.qemu_format]).args(pair.to.qemu);
    if pair.saved {
        command.args(["-t", "writeback"]);
    }
    command.args([&pair.source, output]);
    command
}

/// Time grows with data, not with the size of the disk: empty disks of 64 TiB.
fn empty(molde: &Path, folder: &Path, runs: u32) -> Result<()> {
    println!("\nempty disks of 64 TiB");
    for (format, options) in [("qcow2", &["-o", "cluster_size=2M"][..]), ("vhdx", &[])] {
        let image = folder.join("empty");
        run_quietly(Command::new("qemu-img").args(["create", "-f", format]).args(options).arg(&image).arg("64T"))?;
        let mut info = Command::new(molde);
        info.args(["disk", "info"]).arg(&image);
        let output = folder.join("empty.out");
        let mut convert = Command::new(molde);
        convert
            .args(["disk", "convert", "--no-sync", "-O", "qcow2", "-o", "cluster_size=2M", "--force"])
            .args([&image, &output]);
        for (name, command) in [("info", &info), ("to qcow2", &convert)] {
            let runs = (0..runs).map(|_| measure(command, &folder.join("time"))).collect::<Result<Vec<_>>>()?;
            let wall = median(&runs, |run| run.wall_seconds);
            println!("{format:<6} {name:<9} {wall:>6.3} s {:>4.0} MiB", median(&runs, |run| run.peak_mebibytes));
        }
        fs::remove_file(&image)?;
    }
    Ok(())
}

fn run_quietly(command: &mut Command) -> Result<()> {
    capture(command).map(|_| ())
}
