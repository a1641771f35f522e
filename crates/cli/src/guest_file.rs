//! `molde guest`: look inside a disk file, without a Molde server.

mod browse;
mod check;
mod compare;
mod prepare;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use disk::Source;
use guest::Sandbox;

use crate::disk_file::{DiskFile, Input};
use crate::error::{Failure, Result};
use crate::output::Output;
use crate::report;

/// What can be done with the guest in a disk file.
#[derive(Debug, Subcommand)]
pub enum Guest {
    /// Show partitions, file systems and the operating system of a disk file
    Inspect(Inspect),
    /// Tell what keeps the guest from starting elsewhere, from being a cloud's server, or from being shared
    Check(check::Check),
    /// Make the guest start elsewhere and fit for a cloud: write the changed disk to a new file
    Prepare(prepare::Prepare),
    /// List all kinds of findings, and what prepare does about each
    Findings(check::Findings),
    /// List a folder of the guest
    Ls(browse::Ls),
    /// Print files of the guest
    Cat(browse::Cat),
    /// List everything below a folder of the guest
    Find(browse::Find),
    /// Tell which files differ between the guests in two disk files
    Diff(compare::Compare),
}

/// Shows partitions, file systems and the operating system of a disk file.
#[derive(Debug, Args)]
pub struct Inspect {
    #[command(flatten)]
    from: From,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The disk that is looked into.
#[derive(Debug, Args)]
struct From {
    /// The file, its address (http, https), or - for standard input
    file: PathBuf,
    #[command(flatten)]
    input: Input,
}

/// Where disks are looked into: the program of these commands starts itself for it.
pub(crate) fn sandbox() -> Sandbox {
    Sandbox::of_this_program().or_none()
}

impl From {
    /// Opens the disk and gives it to `look`.
    fn look<T>(&self, look: impl FnOnce(Arc<dyn Source>) -> disk::error::Result<T>) -> Result<T> {
        let file = DiskFile::find(&self.file)?;
        look_inside(&file, self.input.open(&file)?.disk, look)
    }
}

/// Gives the disk that was opened from `file` to `look`.
fn look_inside<T>(
    file: &DiskFile,
    disk: Arc<dyn Source>,
    look: impl FnOnce(Arc<dyn Source>) -> disk::error::Result<T>,
) -> Result<T> {
    look(disk).map_err(|error| Failure::new(format!("cannot look inside `{}`", file.name())).caused_by(&error))
}

impl Guest {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        match self {
            Self::Inspect(Inspect { from, json }) => {
                let found = from.look(|disk| sandbox().inspect(disk))?;
                report::print(if json { Output::Json } else { output }, &found.to_json())
            }
            Self::Check(check) => check.run(output),
            Self::Prepare(prepare) => prepare.run(output),
            Self::Findings(findings) => findings.run(output),
            Self::Ls(ls) => ls.run(output),
            Self::Cat(cat) => cat.run(),
            Self::Find(find) => find.run(output),
            Self::Diff(compare) => compare.run(output),
        }
    }
}
