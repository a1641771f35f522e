//! `cargo xtask bench`: the binary beside a tool that does the same work, in turn; timings are shown, never asserted.

mod disk;
mod guest;
mod index;
mod measure;
mod store;
mod versions;

use std::path::PathBuf;

use anyhow::Result;

use crate::{packages, workspace};

/// What can be timed.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum What {
    /// Conversion between disk formats, beside `qemu-img convert`
    Disk,
    /// Keeping and reading disks in the chunk store of a running server, beside `zstd` and `qemu-nbd`
    Store,
    /// Looking into guests and repairing them, beside `virt-inspector` and `virt-sysprep`
    Guest,
    /// The index of a store of 10 TiB, and its collection at 1 TiB, on SQLite and PostgreSQL
    Index,
    /// What ten versions of a disk take, beside restic and compressed qcow2 files; needs root
    Versions,
}

/// How it is timed.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Use this binary instead of building one
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Runs of each program that are counted; one more before them is not
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Only the pairs whose name contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// Times `what` and prints a table.
pub(crate) fn run_one(what: What, options: Options) -> Result<()> {
    packages::ensure(&packages::BENCH)?;
    let Options { binary, runs, only } = options;
    let (only, molde) = (only.as_deref(), || binary.map_or_else(workspace::build_release, Ok));
    match what {
        What::Disk => disk::run(&molde()?, runs, only),
        What::Store => store::run(&molde()?, runs, only),
        What::Guest => guest::run(&molde()?, runs, only),
        What::Index => index::run_all(only),
        What::Versions => versions::run_all(&molde()?),
    }
}
