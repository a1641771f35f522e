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
        let path = beside(dst)?;
        let file = File::create_new(&path).map_err(|error| Error::io(format!("create {}", path.display()), error))?;
        Ok(Self { file, path, renamed: false })
    }

    /// Gives the file its name, over another one only if `force` is set. With `sync`, its bytes are on the disk before
    /// and its name after.
    pub(crate) fn rename(&mut self, dst: &Path, force: bool, sync: bool) -> Result<()> {
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
        if sync { save_folder_of(dst) } else { Ok(()) }
    }
}

/// Returns a new name beside `dst` that says what it is for.
fn beside(dst: &Path) -> Result<PathBuf> {
    let name = dst.file_name().ok_or_else(|| Error::unsupported(format!("{} is no file name", dst.display())))?;
    Ok(dst.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), Uuid::new_v4().simple())))
}

/// Gives the file at `path` the second name `dst`, over another file if there is one. Returns whether the file system has
/// such names.
pub(crate) fn link_over(path: &Path, dst: &Path, sync: bool) -> Result<bool> {
    let between = beside(dst)?;
    if std::fs::hard_link(path, &between).is_err() {
        return Ok(false);
    }
    std::fs::rename(&between, dst).map_err(|error| {
        // Nothing better can be done about a name that cannot be removed.
        let _ = std::fs::remove_file(&between);
        Error::io(format!("rename the new file to {}", dst.display()), error)
    })?;
    if sync {
        save_folder_of(dst)?;
    }
    Ok(true)
}

/// Puts the folder of `dst` on the disk, which keeps its name.
fn save_folder_of(dst: &Path) -> Result<()> {
    let folder = dst.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| Error::io(format!("save the directory {}", folder.display()), error))
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
