//! `molde guest`: look inside a local disk file, without a server.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;
use disk::{Deny, FileSource, Format, Source};

use crate::error::{Failure, Result};
use crate::output::Output;
use crate::report;

/// What can be done with the guest in a local disk file.
#[derive(Debug, Subcommand)]
pub enum Guest {
    /// Show partitions, file systems and the operating system of a disk file
    Inspect {
        /// The file
        file: PathBuf,
        /// The file's format; found out where it is not told
        #[arg(short, long)]
        format: Option<Format>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Guest {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        let Self::Inspect { file, format, json } = self;
        let source: Arc<dyn Source> = Arc::new(FileSource::open(&file)?);
        let format = match format {
            Some(format) => format,
            None => disk::probe(&source)?,
        };
        let opened = disk::open(source, format, &Deny)?;
        let found = guest::inspect(opened.disk)
            .map_err(|error| Failure::new(format!("cannot look inside `{}`", file.display())).caused_by(&error))?;
        report::print(if json { Output::Json } else { output }, &report::to_json(&found))
    }
}
