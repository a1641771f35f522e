//! The file that is read, wherever it lies, and what goes with it: its other files, its passphrase, which of its disks is
//! meant.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use disk::{FileSource, Format, Given, LocalOptions, Opened, Origin, Source, UnlockLimits};
use tempfile::NamedTempFile;

use super::remote::{Remote, address};
use crate::error::Result;
use crate::passphrase;

/// How a file is to be read.
#[derive(Debug, Args)]
pub(crate) struct Input {
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
    /// Memory that finding the key of an encrypted disk may take, such as 1G; 128M if it is not said
    #[arg(long, value_name = "SIZE", value_parser = size)]
    unlock_memory: Option<u64>,
    /// About how many seconds finding the key of an encrypted disk may take; 10 if it is not said
    #[arg(long, value_name = "SECONDS")]
    unlock_seconds: Option<u32>,
}

impl Input {
    /// Returns what the file may ask for.
    pub(super) fn gate(&self) -> Result<Given> {
        let mut given = Given::new();
        for path in &self.extent {
            let file = DiskFile::find(path)?;
            let name = file.name().rsplit('/').next().unwrap_or_default().to_owned();
            given = given.with_file(name, file.source()?);
        }
        if let Some(name) = &self.member {
            given = given.with_member(name);
        }
        if let Some(path) = &self.passphrase_file {
            given = given.with_passphrase(passphrase::read(path)?);
        }
        let usual = UnlockLimits::default();
        let memory = self.unlock_memory.unwrap_or(usual.memory);
        let time = self.unlock_seconds.map_or(usual.time, |seconds| Duration::from_secs(seconds.into()));
        Ok(given.with_unlock_limits(UnlockLimits { memory, time }))
    }

    /// Returns the other files of the same disk.
    pub(crate) fn others(&self) -> &[PathBuf] {
        &self.extent
    }

    /// Returns whether a passphrase was given.
    pub(super) fn has_passphrase(&self) -> bool {
        self.passphrase_file.is_some()
    }

    /// Opens the disk in `file`.
    pub(crate) fn open(&self, file: &DiskFile) -> Result<Opened> {
        self.open_as(file, self.format)
    }

    /// Opens the disk in `file`, which is in `format` if that is told.
    pub(crate) fn open_as(&self, file: &DiskFile, format: Option<Format>) -> Result<Opened> {
        // What must be unpacked first goes where temporary files go, since nothing is made beside the file here.
        let folder = std::env::temp_dir();
        let gate = self.gate()?;
        let options = LocalOptions { format, gate: &gate, folder: Some(&folder), ..LocalOptions::default() };
        Ok(disk::open_unpacked(file.origin(), &options)?)
    }
}

/// Reads a size such as `512M` or `1G`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" => 1,
        "K" | "k" => 1 << 10,
        "M" | "m" => 1 << 20,
        "G" | "g" => 1 << 30,
        _ => return Err("write a number of bytes, or one with K, M or G after it".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{digits}` is no number"))?;
    number.checked_mul(unit).ok_or_else(|| "that is more than any machine has".to_owned())
}

/// A file to read by position: the one that was named, or what came through standard input, or one at a server.
///
/// Only what the user typed is looked for at a server. What an image names is asked of the gate.
pub(crate) enum DiskFile {
    Named(PathBuf),
    Spooled(NamedTempFile),
    Remote(Arc<Remote>),
}

impl DiskFile {
    /// Finds the file at `path`, which may be an address; `-` is standard input, which is kept in a temporary file because
    /// disks are not read from their beginning to their end.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        if let Some(url) = address(path) {
            return Ok(Self::Remote(Arc::new(Remote::open(url)?)));
        }
        if path != Path::new("-") {
            return Ok(Self::Named(path.to_owned()));
        }
        let mut file = NamedTempFile::with_prefix("molde-stdin-")?;
        io::copy(&mut io::stdin().lock(), file.as_file_mut())?;
        Ok(Self::Spooled(file))
    }

    /// Returns what to call the file; of an address, nothing that could be secret.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Named(path) => path.display().to_string(),
            Self::Spooled(_) => "-".to_owned(),
            Self::Remote(remote) => remote.name().to_owned(),
        }
    }

    /// Returns the path that was named, if it is that of a local file.
    pub(crate) fn path(&self) -> Option<&Path> {
        match self {
            Self::Named(path) => Some(path),
            Self::Spooled(_) | Self::Remote(_) => None,
        }
    }

    pub(super) fn origin(&self) -> Origin<'_> {
        match self {
            Self::Named(path) => Origin::Path(path),
            Self::Spooled(file) => Origin::Path(file.path()),
            Self::Remote(remote) => Origin::Source(Arc::clone(remote) as Arc<dyn Source>),
        }
    }

    pub(crate) fn source(&self) -> Result<Arc<dyn Source>> {
        match self.origin() {
            Origin::Path(path) => Ok(Arc::new(FileSource::open(path)?)),
            Origin::Source(source) => Ok(source),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("3k", 3072), ("512M", 512 << 20), ("1G", 1 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "M", "1T", "1MiB", "-1", "1.5G", "99999999999G"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
