//! `molde disk`: work on disk files, here or at any HTTP server, without a Molde server.

mod check;
mod compare;
mod convert;
mod info;
mod input;
mod map;
mod remote;
mod serve;

use clap::Subcommand;
use disk::Format;

pub(crate) use self::input::{DiskFile, Input};
use crate::error::Result;
use crate::output::Output;

/// What can be done with a local disk file.
#[derive(Debug, Subcommand)]
pub enum Disk {
    /// Show the format and the size of a disk file
    Info(info::Info),
    /// List which parts of a disk hold data and which are zero
    Map(map::Map),
    /// Read a whole disk file and report what is damaged
    Check(check::Check),
    /// Write the disk in one file to another in another format
    Convert(convert::Convert),
    /// Find out whether two files hold the same disk
    Compare(compare::Compare),
    /// Serve a disk read-only to NBD clients, such as QEMU
    Serve(serve::Serve),
}

/// Lists the options of each format that is written.
pub(crate) fn options_help() -> String {
    let mut text = String::from("Options of the formats, for -o:\n");
    for format in Format::ALL.iter().copied().filter(|format| disk::writable(*format)) {
        text.push_str(&format!("\n  {format}\n"));
        for (name, what) in disk::options_of(format) {
            text.push_str(&format!("    {name:<14} {what}\n"));
        }
    }
    text
}

impl Disk {
    pub(crate) fn run(self, output: Output) -> Result<()> {
        match self {
            Self::Info(info) => info.run(output),
            Self::Map(map) => map.run(output),
            Self::Check(check) => check.run(output),
            Self::Convert(convert) => convert.run(output),
            Self::Compare(compare) => compare.run(output),
            Self::Serve(serve) => serve.run(output),
        }
    }
}
