//! `cargo xtask test`: what the tests need, then the tests; the runner's closing line is its own.
//!
//! Tests of the whole binary find it in `MOLDE_BIN` and its clients in `MOLDE_CLIENTS`. Slow are the test targets
//! named `slow_*`; they run only when asked for, and find in `MOLDE_PEERS` and `MOLDE_GUESTS` what only they start.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{self, find};
use crate::{clients, guests, packages, peers, workspace};

const SLOW: &str = "slow_";
/// The examples that tests start as processes of their own.
const EXAMPLES: [&str; 2] = ["boot", "worker"];

/// Runs every test but the slow ones.
pub(crate) fn run() -> Result<()> {
    run_targets(|name| !name.starts_with(SLOW), &["--lib", "--bins"], None)
}

/// Runs the slow tests.
pub(crate) fn run_slow() -> Result<()> {
    peers::install()?;
    packages::ensure(&packages::LIBGUESTFS)?;
    let guests = guests::ensure_broken()?;
    run_targets(|name| name.starts_with(SLOW), &[], Some(&guests))
}

/// Runs the unit tests that `units` names and the test targets for which `wanted` is true, of the whole workspace:
/// with one choice of packages for all that is built, cargo builds each of them once.
fn run_targets(wanted: fn(&str) -> bool, units: &[&str], guests: Option<&Path>) -> Result<()> {
    let targets: Vec<String> = targets()?.into_iter().filter(|name| wanted(name)).collect();
    if targets.is_empty() {
        bail!("no test target is called so, and that is not what was asked for");
    }
    let environment = prepare()?;
    let mut tests = environment.cargo();
    if let Some(folder) = guests {
        tests.env("MOLDE_GUESTS", folder).envs(guests::libguestfs(folder)?);
    }
    if find("cargo-nextest").is_some() {
        tests.args(["nextest", "run"]);
    } else {
        println!("cargo-nextest is not installed: `cargo test` runs the tests");
        tests.args(["test", "--no-fail-fast"]);
    }
    tests.args(["--locked", "--workspace"]).args(units);
    command::run(tests.args(targets.iter().flat_map(|target| ["--test", target])))
}

/// What the tests read from the environment.
struct Environment {
    binary: std::path::PathBuf,
    clients: std::path::PathBuf,
    peers: std::path::PathBuf,
}

impl Environment {
    fn cargo(&self) -> Command {
        let mut cargo = workspace::cargo();
        cargo.env("MOLDE_BIN", &self.binary).env("MOLDE_CLIENTS", &self.clients).env("MOLDE_PEERS", &self.peers);
        cargo
    }
}

fn prepare() -> Result<Environment> {
    packages::ensure(&packages::TESTS)?;
    let clients = clients::install()?;
    let mut build = workspace::cargo();
    build.args(["build", "--locked", "--workspace", "--bins", "--tests"]);
    command::run(build.args(EXAMPLES.iter().flat_map(|example| ["--example", example])))?;
    let target = workspace::target()?;
    Ok(Environment { binary: target.join("debug/molde"), clients, peers: target.join("peers") })
}

/// The names of the workspace's test targets.
fn targets() -> Result<Vec<String>> {
    let metadata = workspace::metadata()?;
    let targets =
        metadata["packages"].as_array().into_iter().flatten().filter_map(|package| package["targets"].as_array());
    let tests = targets.flatten().filter(|target| target["kind"][0] == "test");
    let mut names: Vec<String> = tests.filter_map(|target| target["name"].as_str().map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    Ok(names)
}
