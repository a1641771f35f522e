//! The calls by which a directory is changed: what the kernel does, and a seam for tests.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Everything that changes files and folders, one system call each. Tests put a disk there that loses power.
pub trait Files: Send + Sync {
    /// Makes a folder in one that exists.
    fn make_folder(&self, path: &Path) -> io::Result<()>;

    /// Makes an empty file that only its owner may read. `AlreadyExists` when the name is taken.
    fn create(&self, path: &Path) -> io::Result<File>;

    /// Appends `parts` or the beginning of them, and returns how many bytes.
    fn write(&self, file: &mut File, parts: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Returns when the bytes of a file are durable; its names are another matter.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Returns when the names in a folder are durable, those that are gone as well.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name. `AlreadyExists` when the name is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Takes a name from a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The files of this host.
pub(super) struct HostFiles;

impl Files for HostFiles {
    fn make_folder(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    fn write(&self, file: &mut File, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        file.write_vectored(parts)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
