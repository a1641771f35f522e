//! `molde guest`: look inside a disk file, without a Molde server.

use std::path::PathBuf;

use clap::Subcommand;

use crate::disk_file::{DiskFile, Input};
use crate::error::{Failure, Result};
use crate::output::Output;
use crate::report;

/// What can be done with the guest in a local disk file.
#[derive(Debug, Subcommand)]
pub enum Guest {
    /// Show partitions, file systems and the operating system of a disk file
    Inspect {
        /// The file, its address (http, https), or - for standard input
        file: PathBuf,
        #[command(flatten)]
        input: Input,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Guest {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let Self::Inspect { file, input, json } = self;
        let file = DiskFile::find(&file)?;
        let found = guest::inspect(input.open(&file)?.disk)
            .map_err(|error| Failure::new(format!("cannot look inside `{}`", file.name())).caused_by(&error))?;
        report::print(if json { Output::Json } else { output }, &report::to_json(&found))
    }
}
