//! Objects in a local directory.
//!
//! `packs/<id>` lies at `packs/<last two digits of the id>/<id>`, and so do names below any folder: the last
//! digits of an id are random in every UUID version, its first ones are a time in some, which would fill one
//! folder. A single name, such as `store`, lies at the top. `tmp/` holds what is being written.
//!
//! put: write `tmp/<random>` -> fsync it -> hard-link it to its name, which fails when that exists
//!      -> fsync the folder -> unlink the temporary name.
//! A file in `tmp/` is locked as long as its writer lives, so that opening the directory after a crash can
//! remove what was left without looking at a clock.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::files::{Files, HostFiles};
use super::{Backend, OBJECT_LENGTH_MAX, check_name, check_prefix, past_the_end, too_large};
use crate::blocking::Threads;
use crate::{Error, ErrorKind, Result};

/// System calls that may wait for the disk at once.
const PARALLEL_CALLS: usize = 16;
const TEMPORARY: &str = "tmp";

/// A backend in one directory of this host, which must lie on a file system with hard links.
pub struct DirBackend {
    directory: Arc<Directory>,
    threads: Threads,
}

struct Directory {
    root: PathBuf,
    files: Arc<dyn Files>,
    /// The folders that this process knows to be durable. That one exists is not enough: whoever made it may not have
    /// synced its parent yet.
    folders: Mutex<HashSet<PathBuf>>,
}

impl DirBackend {
    /// Opens the directory `root`, making it when it is missing, and removes what a crash left half written.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self> {
        Self::open_with(root, Arc::new(HostFiles)).await
    }

    /// Opens the directory and changes it by the calls of `files` alone: tests put a disk there that loses power.
    pub async fn open_with(root: impl Into<PathBuf>, files: Arc<dyn Files>) -> Result<Self> {
        let root: PathBuf = root.into();
        let root = std::path::absolute(&root).map_err(|e| Error::io("find", &root, e))?;
        let directory = Arc::new(Directory { root, files, folders: Mutex::default() });
        let backend = Self { directory, threads: Threads::new(PARALLEL_CALLS) };
        let directory = Arc::clone(&backend.directory);
        backend.threads.run(move || directory.prepare()).await?;
        Ok(backend)
    }

    async fn with_path<T: Send + 'static>(
        &self,
        name: &str,
        call: impl FnOnce(&Directory, &str, &Path) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        check_name(name)?;
        let (directory, name) = (Arc::clone(&self.directory), name.to_owned());
        self.threads.run(move || call(&directory, &name, &path_of(&directory.root, &name))).await
    }
}

#[async_trait]
impl Backend for DirBackend {
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        self.with_path(name, move |directory, _, path| directory.put(path, &parts)).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        let read = |_: &Directory, name: &str, path: &Path| {
            let (file, size) = open(path)?;
            match usize::try_from(size) {
                Ok(length) if size <= OBJECT_LENGTH_MAX => read_at(&file, path, 0, length),
                _ => Err(too_large(name, size)),
            }
        };
        self.with_path(name, read).await
    }

    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Bytes> {
        let read = move |_: &Directory, name: &str, path: &Path| {
            let (file, size) = open(path)?;
            // Checked before the allocation, so that a bad length costs nothing.
            if offset.checked_add(length as u64).is_none_or(|end| end > size) {
                return Err(past_the_end(name, offset, length, size));
            }
            read_at(&file, path, offset, length)
        };
        self.with_path(name, read).await
    }

    async fn size(&self, name: &str) -> Result<u64> {
        self.with_path(name, |_, _, path| Ok(open(path)?.1)).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        check_prefix(prefix)?;
        let (directory, prefix) = (Arc::clone(&self.directory), prefix.to_owned());
        self.threads.run(move || directory.list(&prefix)).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.with_path(name, |directory, _, path| directory.delete(path)).await
    }
}

impl Directory {
    fn prepare(&self) -> Result<()> {
        let above = self.root.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(&self.root);
        // Whoever made it may have died before its name was durable. What is not ours to sync was not ours to make.
        for folder in above.ancestors().skip(1) {
            let _ = self.files.sync_folder(folder);
        }
        self.durable_folders().insert(above.to_owned());
        let temporary = self.root.join(TEMPORARY);
        self.make_folders(&temporary)?;
        let entries = fs::read_dir(&temporary).map_err(|e| Error::io("list", &temporary, e))?;
        for entry in entries {
            let path = entry.map_err(|e| Error::io("list", &temporary, e))?.path();
            // Whoever still writes it holds the lock; whoever removed it meanwhile did our work.
            if File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                tracing::info!(path = %path.display(), "removing a file that was left half written");
                let _ = self.files.remove(&path);
            }
        }
        Ok(())
    }

    fn put(&self, path: &Path, parts: &[Bytes]) -> Result<()> {
        let folder = path.parent().unwrap_or(&self.root);
        self.make_folders(folder)?;
        let temporary = self.root.join(TEMPORARY).join(Uuid::new_v4().to_string());
        // Looking first spares writing what would be refused; the link is what decides.
        let written = match path.exists() {
            true => Err(Error::io("create", path, io::ErrorKind::AlreadyExists.into())),
            false => self.write_and_link(&temporary, path, parts),
        };
        match &written {
            Err(error) if error.kind() != ErrorKind::Exists => {}
            // Who is told that an object exists builds on it, so it must be durable even if another made it.
            _ => self.sync_folder(folder)?,
        }
        written
    }

    /// Gives the bytes the name `path` in one step; the temporary name is gone afterwards in any case.
    fn write_and_link(&self, temporary: &Path, path: &Path, parts: &[Bytes]) -> Result<()> {
        let linked = self
            .write_temporary(temporary, parts)
            .map_err(|e| Error::io("write to", temporary, e))
            .and_then(|_locked| self.files.link(temporary, path).map_err(|e| Error::io("create", path, e)));
        if let Err(error) = self.files.remove(temporary)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %temporary.display(), %error, "a temporary file stays until the next start");
        }
        linked
    }

    /// Returns the file, durable and still locked.
    fn write_temporary(&self, temporary: &Path, parts: &[Bytes]) -> io::Result<File> {
        let mut file = self.files.create(temporary)?;
        file.lock()?;
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut left = slices.as_mut_slice();
        IoSlice::advance_slices(&mut left, 0); // Drops leading empty parts.
        while !left.is_empty() {
            match self.files.write(&mut file, left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut left, count),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.files.sync(&file)?;
        Ok(file)
    }

    /// Makes the folders from what is known to be durable down to `folder`, each durable in its parent before it is used.
    fn make_folders(&self, folder: &Path) -> Result<()> {
        if self.durable_folders().contains(folder) {
            return Ok(());
        }
        let Some(parent) = folder.parent() else { return Ok(()) };
        self.make_folders(parent)?;
        match self.files.make_folder(folder) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create the folder", folder, e));
            }
            _ => self.sync_folder(parent)?,
        }
        self.durable_folders().insert(folder.to_owned());
        Ok(())
    }

    fn durable_folders(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        self.folders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn delete(&self, path: &Path) -> Result<()> {
        match self.files.remove(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path, e)),
            // Also when it was gone: who removed it may have died before that was durable.
            _ => match self.sync_folder(path.parent().unwrap_or(&self.root)) {
                Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
        }
    }

    /// Walks the folder of `prefix`; a file counts when it lies where its name belongs.
    fn list(&self, prefix: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let (mut folders, temporary) = (vec![self.root.join(prefix)], self.root.join(TEMPORARY));
        while let Some(folder) = folders.pop() {
            let before = names.len();
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(Error::io("list", &folder, e)),
            };
            for entry in entries {
                let entry = entry.map_err(|e| Error::io("list", &folder, e))?;
                let path = entry.path();
                let kind = entry.file_type().map_err(|e| Error::io("list", &path, e))?;
                if kind.is_dir() {
                    if path != temporary {
                        folders.push(path);
                    }
                } else if let Some(name) = name_of(&self.root, &path) {
                    names.push(name);
                }
            }
            // Who wrote them may have died before they were durable, or is just about to make them so.
            if names.len() > before {
                self.sync_folder(&folder)?;
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_folder(&self, folder: &Path) -> Result<()> {
        self.files.sync_folder(folder).map_err(|e| Error::io("sync the folder", folder, e))
    }
}

fn path_of(root: &Path, name: &str) -> PathBuf {
    match name.rsplit_once('/') {
        None => root.join(name),
        Some((folder, last)) => root.join(folder).join(fan_out(last)).join(last),
    }
}

/// Returns the folder for a name: its last two bytes, which are ASCII by [`check_name`].
fn fan_out(last: &str) -> &str {
    last.get(last.len().saturating_sub(2)..).unwrap_or(last)
}

fn open(path: &Path) -> Result<(File, u64)> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let metadata = file.metadata().map_err(|e| Error::io("read", path, e))?;
    if !metadata.is_file() {
        return Err(Error::new(ErrorKind::NotFound, format!("{} is no file", path.display())));
    }
    Ok((file, metadata.len()))
}

fn read_at(file: &File, path: &Path, offset: u64, length: usize) -> Result<Bytes> {
    let mut buf = vec![0; length];
    file.read_exact_at(&mut buf, offset).map_err(|e| Error::unread(path, e))?;
    Ok(buf.into())
}

/// The reverse of [`path_of`].
fn name_of(root: &Path, path: &Path) -> Option<String> {
    let relative = path.strip_prefix(root).ok()?.to_str()?;
    let mut parts: Vec<&str> = relative.split('/').collect();
    if parts.len() > 1 {
        parts.remove(parts.len() - 2);
    }
    let name = parts.join("/");
    (check_name(&name).is_ok() && path_of(root, &name) == path).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_disk_cannot_read_is_damage() {
        // The kernel answers EIO where a process has no memory, as it does for a bad sector.
        let path = Path::new("/proc/self/mem");
        let error = read_at(&File::open(path).unwrap(), path, 0, 16).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
        assert!(error.to_string().contains("/proc/self/mem") && error.hint().is_some(), "{error}");
    }
}
