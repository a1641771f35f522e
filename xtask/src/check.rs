//! `cargo xtask check`: everything that can be said of the source without running the product.

use std::time::Instant;

use anyhow::{Result, bail};

use crate::command::{self, capture, find};
use crate::{tidy, workspace};

/// One check, as it is run.
type Check = fn() -> Result<Outcome>;

/// Every check runs, even after one has failed, so that one run shows all there is to mend.
fn run_all() -> Vec<(&'static str, Outcome)> {
    let checks: [(&str, Check); 6] = [
        ("lock file", lock_file),
        ("format", || cargo(&["fmt", "--all", "--check"])),
        ("house rules", house_rules),
        ("lints", || cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"])),
        ("documentation", documentation),
        ("licences and bans", licences),
    ];
    checks.map(|(name, check)| (name, timed(name, check))).into()
}

/// How one check ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    /// It did not run, for the reason given; that is not a pass.
    Skipped(String),
}

/// Runs the checks and fails unless all that ran passed.
pub(crate) fn run() -> Result<()> {
    let outcomes = run_all();
    println!();
    for (name, outcome) in &outcomes {
        match outcome {
            Outcome::Passed => println!("{name}: passed"),
            Outcome::Failed => println!("{name}: FAILED"),
            Outcome::Skipped(reason) => println!("{name}: SKIPPED, {reason}"),
        }
    }
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().filter(|(_, outcome)| wanted(outcome)).count();
    let failed = count(|outcome| *outcome == Outcome::Failed);
    let passed = count(|outcome| *outcome == Outcome::Passed);
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    println!("check: {passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 {
        bail!("{failed} of {} checks failed", outcomes.len());
    }
    Ok(())
}

fn timed(name: &str, check: Check) -> Outcome {
    println!("== {name}");
    let start = Instant::now();
    let outcome = check().unwrap_or_else(|error| {
        command::report(&error);
        Outcome::Failed
    });
    println!("== {name}: {:.1} s", start.elapsed().as_secs_f64());
    outcome
}

fn cargo(arguments: &[&str]) -> Result<Outcome> {
    run_command(workspace::cargo().args(arguments))
}

fn run_command(command: &mut std::process::Command) -> Result<Outcome> {
    command::run(command).map(|()| Outcome::Passed)
}

/// Fails when `Cargo.lock` would have to change.
fn lock_file() -> Result<Outcome> {
    capture(workspace::cargo().args(["metadata", "--locked", "--format-version", "1"]))?;
    Ok(Outcome::Passed)
}

fn house_rules() -> Result<Outcome> {
    let violations = tidy::violations(workspace::root())?;
    if violations.is_empty() {
        return Ok(Outcome::Passed);
    }
    bail!("{} breaches of the house rules:\n{}", violations.len(), violations.join("\n"));
}

fn documentation() -> Result<Outcome> {
    let mut command = workspace::cargo();
    command.env("RUSTDOCFLAGS", "--deny warnings");
    run_command(command.args(["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"]))
}

fn licences() -> Result<Outcome> {
    if find("cargo-deny").is_none() {
        return Ok(Outcome::Skipped("cargo-deny is not installed".into()));
    }
    // Advisories are left out: their list is fetched from a network that a check cannot count on.
    cargo(&["deny", "--locked", "check", "bans", "licenses", "sources"])
}
