//! Where the workspace lies, where cargo builds, and what cargo knows of its packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A cargo command that runs in the workspace's folder.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// What `cargo metadata` says of the workspace's own packages.
pub(crate) fn metadata() -> Result<Value> {
    let text = crate::command::capture(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    serde_json::from_str(&text).context("cargo's metadata is not JSON")
}

/// Builds the binary as it is released, and returns where it is.
pub(crate) fn build_release() -> Result<PathBuf> {
    crate::command::run(cargo().args(["build", "--locked", "--release", "--package", "molde"]))?;
    Ok(target()?.join("release/molde"))
}

/// Builds an example of a package as it would be released, and returns where it is.
pub(crate) fn build_example(package: &str, name: &str) -> Result<PathBuf> {
    let arguments = ["build", "--locked", "--release", "--package", package, "--example", name];
    crate::command::run(cargo().args(arguments))?;
    Ok(target()?.join("release/examples").join(name))
}

/// Where cargo builds, which the environment or a configuration file may have moved.
pub(crate) fn target() -> Result<PathBuf> {
    let metadata = metadata()?;
    let folder = metadata["target_directory"].as_str().context("cargo names no target directory")?;
    Ok(PathBuf::from(folder))
}
