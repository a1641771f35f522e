//! `molde disk`: work on local disk files, without a server.

mod convert;
mod input;
mod look;

use clap::Subcommand;

use crate::error::Result;
use crate::output::Output;

/// What can be done with a local disk file.
#[derive(Debug, Subcommand)]
pub enum Disk {
    /// Show the format and the size of a disk file
    Info(look::Info),
    /// Write the disk in one file to another in another format
    Convert(convert::Convert),
}

impl Disk {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        match self {
            Self::Info(info) => info.run(output),
            Self::Convert(convert) => convert.run(output),
        }
    }
}
