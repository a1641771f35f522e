//! The clients and the S3 service that the tests drive, unmodified, in one Python environment at pinned versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{capture, find, run};
use crate::{packages, workspace};

/// The pinned versions, which are also the stamp of a finished installation.
const PINNED: &str = include_str!("../clients.txt");

/// What shows that each client starts: a program and its arguments, in the environment's `bin`.
const PROOFS: [(&str, &[&str]); 5] = [
    ("openstack", &["--version"]),
    ("glance", &["--version"]),
    ("aws", &["--version"]),
    ("moto_server", &["--help"]),
    ("python", &["-c", "import boto3, dissect.hypervisor, huaweicloudsdkcore, huaweicloudsdkims.v2"]),
];

/// Installs the clients under `target/clients` unless they stand there already, and returns that folder.
pub(crate) fn install() -> Result<PathBuf> {
    let folder = workspace::target()?.join("clients");
    let stamp = folder.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == PINNED) {
        return Ok(folder);
    }
    println!("installing the clients of the tests into {}", folder.display());
    make_environment(&folder)?;
    let pinned = folder.join("pinned.txt");
    fs::write(&pinned, PINNED).with_context(|| format!("cannot write {}", pinned.display()))?;
    run(Command::new(folder.join("bin/pip"))
        .args(["install", "--quiet", "--no-input", "--disable-pip-version-check", "--requirement"])
        .arg(&pinned))?;
    for (program, arguments) in PROOFS {
        capture(Command::new(folder.join("bin").join(program)).args(arguments))?;
    }
    fs::write(&stamp, PINNED).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(folder)
}

/// A new, empty environment; what a broken-off run left there is dropped.
fn make_environment(folder: &Path) -> Result<()> {
    packages::ensure(&packages::PYTHON)?;
    let python = find("python3").context("`python3` is not on the PATH")?;
    // Debian keeps the half of `venv` that brings pip in a package of its own.
    if capture(Command::new(&python).args(["-c", "import ensurepip, venv"])).is_err() {
        packages::install(&[packages::PYTHON_VENV])?;
    }
    run(Command::new(python).args(["-m", "venv", "--clear"]).arg(folder))
}
