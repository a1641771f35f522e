//! Files that were supplied: in a folder of the host, or on a disc (ISO 9660).

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use disk::FileSource;
use disk::error::{Error, Result};
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::budget::Budget;
use crate::filesystems::files::{Files, NodeKind};
use crate::filesystems::iso9660::Iso9660;
use crate::text::clean;
use crate::window::Window;

/// Most files and folders, and deepest folder. The disc of virtio-win has some 3,000 in five levels.
const ENTRIES_MAX: usize = 20_000;
const DEPTH_MAX: usize = 8;

/// What was supplied, with the paths of its files.
pub(super) struct Shelf {
    place: Place,
    files: Vec<String>,
}

enum Place {
    Folder(OwnedFd),
    Disc(Iso9660),
}

impl Shelf {
    /// Opens what is at `path`, and lists its files.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let cannot = |error| Error::io(format!("look into `{}`", path.display()), error);
        let place = if fs::metadata(path).map_err(cannot)?.is_dir() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| cannot(error.into()))?;
            Place::Folder(folder)
        } else {
            let window = Window::whole(Arc::new(FileSource::open(path)?), Rc::new(Budget::wide()));
            let no_disc =
                |why| Error::refused(format!("`{}` is no folder and no ISO 9660 disc: {why}", path.display()));
            Place::Disc(Iso9660::open(&window).map_err(no_disc)?)
        };
        let mut shelf = Self { place, files: Vec::new() };
        shelf.list().map_err(|error| {
            let told = Error::new(error.kind(), format!("`{}` cannot be used: {error}", path.display()));
            told.with_hint("give a folder, or a disc, with the drivers of virtio-win alone")
        })?;
        shelf.files.sort();
        Ok(shelf)
    }

    /// Iterates over the paths of the files.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// Reads a file: one byte more than `most` where it is longer.
    pub(super) fn read(&self, path: &str, most: usize) -> Result<Vec<u8>> {
        let shown = clean(path.as_bytes());
        match &self.place {
            Place::Folder(root) => {
                let file = open_at(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
                    .map_err(|error| told(path, error))?;
                let kind = rustix::fs::fstat(&file).map_err(|error| told(path, error))?.st_mode;
                if FileType::from_raw_mode(kind) != FileType::RegularFile {
                    return Err(Error::refused(format!("`{shown}` is no regular file")));
                }
                let mut bytes = Vec::new();
                let read = File::from(file).take(most as u64 + 1).read_to_end(&mut bytes);
                read.map_err(|error| Error::io(format!("read `{shown}`"), error))?;
                Ok(bytes)
            }
            Place::Disc(disc) => disc
                .read(format!("/{path}").as_bytes(), 0, most + 1)
                .map_err(|why| Error::refused(format!("`{shown}` cannot be read: {}", clean(why.as_bytes())))),
        }
    }

    fn list(&mut self) -> Result<()> {
        let mut pending = vec![(String::new(), 0)];
        let mut seen = 0;
        while let Some((folder, depth)) = pending.pop() {
            for (name, is_folder) in self.entries(&folder)? {
                seen += 1;
                if seen > ENTRIES_MAX || depth >= DEPTH_MAX {
                    let most = format!("more than {ENTRIES_MAX} files and folders, or more than {DEPTH_MAX} levels");
                    return Err(Error::refused(format!("it has {most}")));
                }
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                if is_folder { pending.push((path, depth + 1)) } else { self.files.push(path) }
            }
        }
        Ok(())
    }

    /// Returns the files and folders in `folder`, and whether each is a folder.
    fn entries(&self, folder: &str) -> Result<Vec<(String, bool)>> {
        match &self.place {
            Place::Folder(root) => in_folder(root, folder),
            Place::Disc(disc) => {
                let entries = disc.entries(format!("/{folder}").as_bytes(), ENTRIES_MAX + 1);
                let entries = entries.map_err(|why| Error::refused(clean(why.as_bytes())))?.into_iter();
                // Links on a disc are not followed.
                let kept = entries.filter(|(_, node)| matches!(node.kind, NodeKind::File | NodeKind::Folder));
                let named = |(name, is_folder)| Some((String::from_utf8(name).ok()?, is_folder));
                let is_name = |(name, _): &(String, bool)| !name.contains('/') && name != "." && name != "..";
                Ok(kept
                    .map(|(name, node)| (name, node.kind == NodeKind::Folder))
                    .filter_map(named)
                    .filter(is_name)
                    .collect())
            }
        }
    }
}

/// Opens what `path` leads to in the folder `root`, over links that stay in it.
fn open_at(root: &OwnedFd, path: &str, flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
    let path = if path.is_empty() { "." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)
}

fn in_folder(root: &OwnedFd, folder: &str) -> Result<Vec<(String, bool)>> {
    let opened = open_at(root, folder, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|error| told(folder, error))?;
    let mut entries = Vec::new();
    for entry in Dir::read_from(&opened).map_err(|error| told(folder, error))? {
        let entry = entry.map_err(|error| told(folder, error))?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Symlink | FileType::Unknown => {
                let path = if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
                match open_at(root, &path, OFlags::PATH) {
                    Ok(found) => {
                        FileType::from_raw_mode(rustix::fs::fstat(&found).map_err(|error| told(&path, error))?.st_mode)
                    }
                    Err(Errno::NOENT | Errno::LOOP) => continue,
                    Err(error) => return Err(told(&path, error)),
                }
            }
            kind => kind,
        };
        if matches!(kind, FileType::RegularFile | FileType::Directory) {
            entries.push((name.to_owned(), kind == FileType::Directory));
        }
        if entries.len() > ENTRIES_MAX {
            break;
        }
    }
    Ok(entries)
}

fn told(path: &str, error: Errno) -> Error {
    let shown = clean(path.as_bytes());
    match error {
        Errno::XDEV => Error::refused(format!("the link `{shown}` leads out of it")),
        error => Error::io(format!("open `{shown}`"), error.into()),
    }
}
