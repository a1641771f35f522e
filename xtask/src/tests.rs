//! `cargo xtask test`: what the tests need, then the tests; the runner's closing line is its own.
//!
//! Tests of the whole binary find it in `MOLDE_BIN` and its clients in `MOLDE_CLIENTS`. Slow are the test
//! targets of the package `molde-tests` named `slow_*`; they run only when asked for.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{self, find};
use crate::{clients, packages, workspace};

const PACKAGE: &str = "molde-tests";
const SLOW: &str = "slow_";

/// Runs every test but the slow ones.
pub(crate) fn run() -> Result<()> {
    let environment = prepare()?;
    let (slow, quick): (Vec<String>, Vec<String>) = targets()?.into_iter().partition(|target| target.starts_with(SLOW));
    if find("cargo-nextest").is_some() {
        let mut nextest = environment.cargo();
        nextest.args(["nextest", "run", "--locked", "--workspace"]);
        // nextest refuses a filter that names what does not exist, so there is none without a slow test.
        if !slow.is_empty() {
            let named: Vec<String> = slow.iter().map(|target| format!("binary_id(={PACKAGE}::{target})")).collect();
            nextest.args(["--filterset", &format!("not ({})", named.join(" | "))]);
        }
        return command::run(&mut nextest);
    }
    println!("cargo-nextest is not installed: `cargo test` runs the tests");
    command::run(environment.cargo().args(["test", "--locked", "--workspace", "--exclude", PACKAGE]))?;
    command::run(environment.cargo().args(["test", "--locked", "--package", PACKAGE, "--lib"]).args(named(quick)))
}

/// Runs the slow tests.
pub(crate) fn run_slow() -> Result<()> {
    let slow: Vec<String> = targets()?.into_iter().filter(|target| target.starts_with(SLOW)).collect();
    if slow.is_empty() {
        bail!("no file `tests/tests/{SLOW}*.rs` exists, so there is no slow test to run");
    }
    let environment = prepare()?;
    let runner: &[&str] = if find("cargo-nextest").is_some() { &["nextest", "run"] } else { &["test"] };
    command::run(environment.cargo().args(runner).args(["--locked", "--package", PACKAGE]).args(named(slow)))
}

/// What the tests read from the environment.
struct Environment {
    binary: std::path::PathBuf,
    clients: std::path::PathBuf,
}

impl Environment {
    fn cargo(&self) -> Command {
        let mut cargo = workspace::cargo();
        cargo.env("MOLDE_BIN", &self.binary).env("MOLDE_CLIENTS", &self.clients);
        cargo
    }
}

fn prepare() -> Result<Environment> {
    packages::ensure(&packages::TESTS)?;
    let clients = clients::install()?;
    command::run(workspace::cargo().args(["build", "--locked", "--package", "molde"]))?;
    Ok(Environment { binary: workspace::target()?.join("debug/molde"), clients })
}

/// The test targets of `molde-tests`: the files and folders in `tests/tests`.
fn targets() -> Result<Vec<String>> {
    let folder = workspace::root().join("tests/tests");
    let mut names = Vec::new();
    if !folder.exists() {
        return Ok(names);
    }
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").exists() {
            names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
        }
    }
    names.sort();
    Ok(names)
}

fn named(targets: impl IntoIterator<Item = String>) -> Vec<String> {
    targets.into_iter().flat_map(|target| ["--test".to_owned(), target]).collect()
}
