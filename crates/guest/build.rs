//! Builds `molde-agent`, which the library holds: a program for Linux on x86-64 that needs no libraries.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let agent = Path::new("../agent");
    for watched in ["src", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", agent.join(watched).display());
    }
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    let out = PathBuf::from(variable("OUT_DIR"));
    let program = out.join("molde-agent");
    // A copy of this folder by hard links shares the file, and must keep the program that it was built with.
    let _ = fs::remove_file(&program);
    let target = variable("TARGET").into_string().expect("a target has a plain name");
    if !target.starts_with("x86_64-") || !target.contains("-linux-") {
        // The micro-VM is one for x86-64; without an agent it is not offered.
        fs::write(program, b"").expect("the folder of the build script can be written");
        return;
    }
    // Its own folder: the outer cargo holds the lock of the other one.
    let folder = out.join("agent");
    let mut cargo = Command::new(variable("CARGO"));
    cargo
        .args(["build", "--locked", "--quiet", "--profile", "agent", "--bin", "molde-agent", "--target", &target])
        .arg("--manifest-path")
        .arg(agent.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&folder);
    // What the outer cargo is told for its own crates, such as to check instead of to build, is not for this one.
    let is_of_cargo = |name: &str| {
        let kept = ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_TERM_COLOR"];
        (name.starts_with("CARGO") && !kept.contains(&name)) || name.starts_with("RUSTC") || name.starts_with("CLIPPY")
    };
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_of_cargo) {
            cargo.env_remove(name);
        }
    }
    cargo.env("RUSTC", variable("RUSTC")).env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = cargo.status().expect("cargo can be started again");
    assert!(status.success(), "molde-agent cannot be built");
    fs::copy(folder.join(target).join("agent/molde-agent"), program).expect("the program is there");
}

fn variable(name: &str) -> OsString {
    env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"))
}
