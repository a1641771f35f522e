//! `cargo xtask bench`: the binary beside a tool that does the same work, in turn; timings are shown, never asserted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command::{capture, run, shown};
use crate::{demo, packages, workspace};

/// What can be timed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum What {
    /// Conversion between disk formats, beside `qemu-img convert`
    Disk,
}

/// Counted runs of each program; one more before them is not counted.
const RUNS: usize = 5;

/// One measured run of a whole process.
#[derive(Debug, Clone, Copy)]
struct Run {
    wall_seconds: f64,
    cpu_seconds: f64,
    peak_mebibytes: f64,
}

/// One conversion that both programs do.
struct Conversion {
    name: &'static str,
    from: &'static str,
    to: &'static str,
    source: PathBuf,
}

/// Times `what` with `binary`, or with one that is built first, and prints a table.
pub(crate) fn run_one(what: What, binary: Option<PathBuf>) -> Result<()> {
    packages::ensure(&packages::BENCH)?;
    let molde = binary.map_or_else(workspace::build_release, Ok)?;
    match what {
        What::Disk => disk(&molde),
    }
}

fn disk(molde: &Path) -> Result<()> {
    let (disk, _) = demo::ensure_disk()?;
    let folder = workspace::target()?.join("bench");
    fs::create_dir_all(&folder)?;
    let qcow2 = folder.join("source.qcow2");
    run(Command::new("qemu-img").args(["convert", "-f", "raw", "-O", "qcow2"]).arg(&disk.raw).arg(&qcow2))?;
    let conversions = [
        Conversion { name: "raw -> qcow2", from: "raw", to: "qcow2", source: disk.raw },
        Conversion { name: "stream VMDK -> raw", from: "vmdk", to: "raw", source: disk.vmdk },
        Conversion { name: "qcow2 -> raw", from: "qcow2", to: "raw", source: qcow2 },
    ];
    println!("\n{RUNS} runs each in turn after one that is not counted; medians; a ratio below 1 is for molde");
    println!(
        "{:<20} {:>9} {:>9} {:>7} {:>9} {:>9} {:>7} {:>9} {:>9}",
        "conversion", "molde s", "qemu s", "ratio", "molde cpu", "qemu cpu", "ratio", "molde MiB", "qemu MiB"
    );
    for conversion in &conversions {
        println!("{}", compare(conversion, molde, &folder)?);
    }
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))
}

/// Both programs in turn, so that a change in the machine's speed meets both; both results must be the same disk.
fn compare(conversion: &Conversion, molde: &Path, folder: &Path) -> Result<String> {
    let outputs = [folder.join("molde.out"), folder.join("qemu.out")];
    let mut runs: [Vec<Run>; 2] = [Vec::new(), Vec::new()];
    for round in 0..=RUNS {
        for (program, output) in outputs.iter().enumerate() {
            let mut command = if program == 0 { molde_convert(molde) } else { qemu_convert() };
            command.args(["-f", conversion.from, "-O", conversion.to]).arg(&conversion.source).arg(output);
            // A file that is there already would be cut to nothing inside the time that is measured.
            let _ = fs::remove_file(output);
            let measured = measure(&command, &folder.join("time"))?;
            if round > 0 {
                runs[program].push(measured);
            }
        }
    }
    let mut same = Command::new("qemu-img");
    same.args(["compare", "-f", conversion.to, "-F", conversion.to]).args(&outputs);
    capture(&mut same).with_context(|| format!("{}: the two results differ", conversion.name))?;
    let of = |program: usize, figure: fn(&Run) -> f64| median(runs[program].iter().map(figure).collect());
    let (wall, cpu, peak) = (|run: &Run| run.wall_seconds, |run: &Run| run.cpu_seconds, |run: &Run| run.peak_mebibytes);
    Ok(format!(
        "{:<20} {:>9.2} {:>9.2} {:>7.2} {:>9.2} {:>9.2} {:>7.2} {:>9.0} {:>9.0}",
        conversion.name,
        of(0, wall),
        of(1, wall),
        of(0, wall) / of(1, wall),
        of(0, cpu),
        of(1, cpu),
        of(0, cpu) / of(1, cpu),
        of(0, peak),
        of(1, peak)
    ))
}

fn molde_convert(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.args(["disk", "convert"]);
    command
}

/// As fast as qemu-img goes: 16 requests at once, written in any order.
fn qemu_convert() -> Command {
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-m", "16", "-W"]);
    command
}

/// Runs `command` once under GNU time, which knows what the finished process cost.
fn measure(command: &Command, figures: &Path) -> Result<Run> {
    let mut timed = Command::new("/usr/bin/time");
    timed.args(["-q", "-f", "%U %S %M", "-o"]).arg(figures).arg(command.get_program()).args(command.get_args());
    let start = Instant::now();
    capture(&mut timed).with_context(|| format!("`{}` failed", shown(command)))?;
    let wall_seconds = start.elapsed().as_secs_f64();
    let text = fs::read_to_string(figures).context("GNU time left no figures")?;
    parse_figures(&text, wall_seconds)
}

fn parse_figures(text: &str, wall_seconds: f64) -> Result<Run> {
    let figures: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
    let Ok([user, system, peak_kibibytes]) = figures.as_deref() else { bail!("GNU time wrote `{}`", text.trim()) };
    ensure!(*peak_kibibytes > 0.0, "GNU time measured no memory");
    Ok(Run { wall_seconds, cpu_seconds: user + system, peak_mebibytes: peak_kibibytes / 1024.0 })
}

/// The middle one; of an even number, the mean of the two in the middle.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len() % 2 == 1 { figures[middle] } else { f64::midpoint(figures[middle - 1], figures[middle]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
    }

    #[test]
    fn figures_are_read_or_refused() {
        let run = parse_figures("0.50 0.25 20480\n", 1.0).unwrap();
        assert_eq!((run.cpu_seconds, run.peak_mebibytes), (0.75, 20.0));
        assert!(parse_figures("Command exited with non-zero status 1\n0.5 0.2\n", 1.0).is_err());
    }
}
