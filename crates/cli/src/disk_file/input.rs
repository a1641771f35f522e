//! The file that is read, and what goes with it: its other files, its passphrase, which of its disks is meant.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use disk::{FileSource, Format, Given, LocalOptions, Opened};
use tempfile::NamedTempFile;

use crate::error::{Failure, Result};
use crate::passphrase;

/// How a file is to be read.
#[derive(Debug, Args)]
pub(super) struct Input {
    /// The file's format; found out where it is not told
    #[arg(short, long)]
    pub(super) format: Option<Format>,
    /// Another file of the same disk, for VMDK disks of several files; may be repeated
    #[arg(long, value_name = "FILE")]
    extent: Vec<PathBuf>,
    /// Which disk of an archive of several
    #[arg(long, value_name = "NAME")]
    member: Option<String>,
    /// A file that holds the passphrase of an encrypted disk; a line break at its end is left out
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl Input {
    /// Returns what the file may ask for.
    pub(super) fn gate(&self) -> Result<Given> {
        let mut given = Given::new();
        for path in &self.extent {
            let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
                Failure::new(format!("`{}` has no name that a disk could have for it", path.display()))
            })?;
            given = given.with_file(name, Arc::new(FileSource::open(path)?));
        }
        if let Some(name) = &self.member {
            given = given.with_member(name);
        }
        if let Some(path) = &self.passphrase_file {
            given = given.with_passphrase(passphrase::read(path)?);
        }
        Ok(given)
    }

    /// Returns whether a passphrase was given.
    pub(super) fn has_passphrase(&self) -> bool {
        self.passphrase_file.is_some()
    }

    /// Opens the disk in the file at `path`.
    pub(super) fn open(&self, path: &Path) -> Result<Opened> {
        self.open_as(path, self.format)
    }

    /// Opens the disk in the file at `path`, which is in `format` if that is told.
    pub(super) fn open_as(&self, path: &Path, format: Option<Format>) -> Result<Opened> {
        // What must be unpacked first goes where temporary files go, since nothing is made beside the file here.
        let folder = std::env::temp_dir();
        let gate = self.gate()?;
        let options = LocalOptions { format, gate: &gate, folder: Some(&folder), ..LocalOptions::default() };
        Ok(disk::open_path(path, &options)?)
    }
}

/// A file to read by position: the one that was named, or what came through standard input.
pub(super) enum Local {
    Named(PathBuf),
    Spooled(NamedTempFile),
}

impl Local {
    /// Takes the file at `path`; `-` is standard input, which is kept in a temporary file because disks are not read
    /// from their beginning to their end.
    pub(super) fn new(path: PathBuf) -> Result<Self> {
        if path != Path::new("-") {
            return Ok(Self::Named(path));
        }
        let mut file = NamedTempFile::with_prefix("molde-stdin-")?;
        io::copy(&mut io::stdin().lock(), file.as_file_mut())?;
        Ok(Self::Spooled(file))
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Named(path) => path,
            Self::Spooled(file) => file.path(),
        }
    }
}
