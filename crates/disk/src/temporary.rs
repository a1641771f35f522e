//! A new file that appears under its name only when it is complete.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use uuid::Uuid;

use crate::error::{Error, Result};

/// A file beside the one that it will become; removed unless it was renamed.
pub(crate) struct Temporary {
    pub(crate) file: File,
    path: PathBuf,
    renamed: bool,
}

impl Temporary {
    /// Makes a new file beside `dst`.
    pub(crate) fn create(dst: &Path) -> Result<Self> {
        let name = dst.file_name().ok_or_else(|| Error::unsupported(format!("{} is no file name", dst.display())))?;
        let name = format!(".{}.{}.part", name.to_string_lossy(), Uuid::new_v4().simple());
        let path = dst.with_file_name(name);
        let file = File::create_new(&path).map_err(|error| Error::io(format!("create {}", path.display()), error))?;
        Ok(Self { file, path, renamed: false })
    }

    /// Gives the file its name, over another one only if `force` is set. With `sync`, its bytes are on the disk before
    /// and its name after.
    pub(crate) fn rename(mut self, dst: &Path, force: bool, sync: bool) -> Result<()> {
        if sync {
            self.file.sync_all().map_err(|error| Error::io(format!("save {}", dst.display()), error))?;
        }
        let flags = if force { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        let renamed = match renameat_with(CWD, &self.path, CWD, dst, flags) {
            // The file system does not know the flag; that nothing was there has been checked before.
            Err(Errno::INVAL | Errno::NOSYS) => std::fs::rename(&self.path, dst),
            Err(Errno::EXIST) => return Err(exists(dst)),
            other => other.map_err(io::Error::from),
        };
        renamed.map_err(|error| Error::io(format!("rename the new file to {}", dst.display()), error))?;
        self.renamed = true;
        if !sync {
            return Ok(());
        }
        // The name is kept by the directory, so that must be on the disk too.
        let directory = dst.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|error| Error::io(format!("save the directory {}", directory.display()), error))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // Nothing better can be done about a file that cannot be removed.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Returns the refusal to replace the file at `path`.
pub(crate) fn exists(path: &Path) -> Error {
    Error::refused(format!("{} exists already", path.display())).with_hint("choose another name, or force it")
}
