//! `cargo xtask fuzz`: damaged disk files and guests against every parser, by coverage, on the stable toolchain.
//!
//! `cargo fuzz` wants a nightly compiler for its sanitizers. The crates forbid unsafe code, so coverage is all that is
//! needed, and the pass that counts it is in every compiler.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::command::{self, capture};
use crate::{packages, workspace};

/// What cargo-fuzz gives the compiler, without a sanitizer.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];
/// What one input may take: seconds, and MiB of its process, some of which are the fuzzer's own.
const LIMITS_OF_DISKS: (u32, u32) = (5, 1024);
/// The same for the targets `guest_*`, as an inspection promises it.
const LIMITS_OF_GUESTS: (u32, u32) = (10, 512);

/// How long, and what.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only this target
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Inputs for each target, however long they take, instead of seconds
    #[arg(long, conflicts_with = "seconds")]
    runs: Option<u64>,
    /// Make inputs by chance, without coverage: a multiple of them in the same time
    #[arg(long, requires = "runs", conflicts_with = "keep")]
    by_chance: bool,
    /// Targets at once; as many as there are processors if not given
    #[arg(long)]
    jobs: Option<usize>,
    /// Keep what was found to be new in `fuzz/corpus`
    #[arg(long)]
    keep: bool,
}

impl Options {
    /// What each target gets, in words.
    fn share(&self) -> String {
        self.runs.map_or_else(|| format!("{} s", self.seconds), |runs| format!("{runs} inputs"))
    }
}

/// Builds the targets and runs them; fails if any input makes one panic, hang or take too much memory.
pub(crate) fn run(options: &Options) -> Result<()> {
    packages::ensure(&packages::FUZZ)?;
    let folder = workspace::root().join("fuzz");
    let programs = if options.by_chance { build_mutate(&folder)? } else { build(&folder)? };
    let targets: VecDeque<String> = targets(&folder)?
        .into_iter()
        .filter(|target| options.target.as_ref().is_none_or(|wanted| wanted == target))
        .collect();
    if targets.is_empty() {
        bail!("no target is called `{}`", options.target.as_deref().unwrap_or(""));
    }
    let total = targets.len();
    let jobs = options.jobs.unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from));
    let (queue, failed) = (Mutex::new(targets), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(target) = next else { return };
                    let done = if options.by_chance { mutate } else { fuzz }(&target, &programs, &folder, options);
                    if let Err(error) = done {
                        command::report(&error.context(format!("target `{target}`")));
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(target);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    if !failed.is_empty() {
        bail!("{} of {total} targets found a fault: {}", failed.len(), failed.join(", "));
    }
    println!("{total} targets, {} each: no fault", options.share());
    Ok(())
}

/// Builds every target with counters of its coverage; returns the folder of the programs.
fn build(folder: &Path) -> Result<PathBuf> {
    let target = workspace::target()?.join("fuzz");
    let version = capture(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let mut cargo = workspace::cargo();
    cargo.current_dir(folder).env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\u{1f}"));
    cargo.args(["build", "--release", "--locked", "--bins", "--target", host, "--target-dir"]).arg(&target);
    command::run(&mut cargo)?;
    Ok(target.join(host).join("release"))
}

/// Builds `mutate` without counters; returns its folder.
fn build_mutate(folder: &Path) -> Result<PathBuf> {
    let target = workspace::target()?.join("fuzz-by-chance");
    let mut cargo = workspace::cargo();
    cargo
        .current_dir(folder)
        .env("CARGO_ENCODED_RUSTFLAGS", "--cfg=fuzzing")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3");
    cargo.args(["build", "--release", "--locked", "--example", "mutate", "--target-dir"]).arg(&target);
    command::run(&mut cargo)?;
    Ok(target.join("release/examples"))
}

fn targets(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.join("fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        names.extend(entry?.path().file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Folders of the inputs of a target: those that are kept, those that were found to be new, and those that made a fault.
fn inputs(target: &str, folder: &Path) -> Result<[PathBuf; 3]> {
    let work = workspace::target()?.join("fuzz");
    let all = [folder.join("corpus").join(target), work.join("corpus").join(target), work.join("found").join(target)];
    for folder in &all {
        fs::create_dir_all(folder)?;
    }
    Ok(all)
}

/// Seconds and MiB that one input of a target may take.
fn limits(target: &str) -> (u32, u32) {
    if target.starts_with("guest_") { LIMITS_OF_GUESTS } else { LIMITS_OF_DISKS }
}

fn mutate(target: &str, programs: &Path, folder: &Path, options: &Options) -> Result<()> {
    let [kept, new, found] = inputs(target, folder)?;
    let (seconds, mebibytes) = limits(target);
    let runs = options.runs.unwrap_or_default().to_string();
    // Its address space holds all of its memory.
    let mut command = Command::new("prlimit");
    command.arg(format!("--as={}", u64::from(mebibytes) << 20)).arg(programs.join("mutate"));
    command.args([target, &runs, &seconds.to_string()]).args([&found, &kept, &new]);
    let output = command.output().with_context(|| format!("cannot run {}", command::shown(&command)))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let end: Vec<&str> = text.lines().rev().take(60).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        bail!("{}\n{}", end.join("\n"), output.status);
    }
    print!("{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

fn fuzz(target: &str, programs: &Path, folder: &Path, options: &Options) -> Result<()> {
    let [kept, new, found] = inputs(target, folder)?;
    let (seconds, mebibytes) = limits(target);
    let mut command = Command::new(programs.join(target));
    command
        .arg(match options.runs {
            Some(runs) => format!("-runs={runs}"),
            None => format!("-max_total_time={}", options.seconds),
        })
        .arg(format!("-timeout={seconds}"))
        .arg(format!("-rss_limit_mb={mebibytes}"))
        .arg(format!("-artifact_prefix={}/", found.display()))
        .args(["-print_final_stats=1", "-max_len=65536", "-reload=0"]);
    // What is new goes to the first folder.
    command.args(if options.keep { [&kept, &new] } else { [&new, &kept] });
    let output = command.output().with_context(|| format!("cannot run {}", command::shown(&command)))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let end: Vec<&str> = text.lines().rev().take(60).collect();
        let end: Vec<&str> = end.into_iter().rev().collect();
        bail!("{}\nthe input is in {}", end.join("\n"), found.display());
    }
    let figure = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map_or("?", str::trim);
    let coverage = text.lines().rev().find_map(|line| line.split_once("cov: ")?.1.split(' ').next()).unwrap_or("?");
    println!("{target}: {} inputs, {coverage} edges, no fault", figure("stat::number_of_executed_units:"));
    Ok(())
}
