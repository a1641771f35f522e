//! The index of a large store: the example `measure_index` of the service, once on each database.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{command, packages, workspace};

/// Chunks that are looked up: 10 TiB in chunks of 512 KiB; and those of the index that is collected: 1 TiB.
const LOOKED_UP: &str = "20000000";
const COLLECTED: &str = "2000000";

/// Measures on the databases whose name contains `only`.
pub(super) fn run_all(only: Option<&str>) -> Result<()> {
    packages::ensure(&[packages::POSTGRES])?;
    let build = ["build", "--release", "--locked", "--workspace", "--example", "measure_index"];
    command::run(workspace::cargo().args(build))?;
    let program = workspace::target()?.join("release/examples/measure_index");
    for database in ["sqlite", "postgres"] {
        if only.is_some_and(|text| !database.contains(text)) {
            continue;
        }
        let folder = workspace::target()?.join("bench-index");
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        println!("\n{database}");
        let mut measure = Command::new(&program);
        command::run(measure.arg(&folder).args([database, LOOKED_UP, COLLECTED]))?;
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}
