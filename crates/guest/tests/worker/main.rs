//! Disks are looked into in a process of their own, which can do nothing else: each test starts a real one.

mod confined;
mod equal;
mod traced;

use std::path::PathBuf;

use guest::Sandbox;

/// Workers of this kind: the example `worker`, which is built with the tests.
fn workers(crime: &str) -> Sandbox {
    Sandbox::of(program(), &[crime])
}

fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(|folder| folder.parent()).unwrap().join("examples/worker");
    assert!(program.exists(), "{} is missing: cargo build -p molde-guest --example worker", program.display());
    program
}
