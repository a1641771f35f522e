//! Paths in a file system that may hold anything: nothing leads out of it, over a link or onto another one.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, XattrFlags};
use rustix::io::Errno;

use crate::Outcome;

/// SELinux's name of a label, and the longest one that is kept.
const LABEL: &str = "security.selinux";
const LABEL_MAX: usize = 4096;
/// Most neighbours that are asked for their label.
const NEIGHBOURS: usize = 64;

/// The top folder of a file system.
pub(crate) struct Root(OwnedFd);

/// A name in a folder that is open.
pub(crate) struct Place<'a> {
    pub(crate) folder: OwnedFd,
    pub(crate) name: &'a [u8],
}

/// Writes a path for people.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// Says what the kernel said.
pub(crate) fn told(error: Errno) -> String {
    match error {
        Errno::NOSPC | Errno::DQUOT => "the file system is full".to_owned(),
        Errno::LOOP => "a symbolic link leads there".to_owned(),
        Errno::XDEV => "it lies on another file system".to_owned(),
        Errno::ROFS => "the kernel found damage and made the file system read-only".to_owned(),
        Errno::UCLEAN => "the kernel found damage there".to_owned(),
        error => error.to_string(),
    }
}

impl Root {
    pub(crate) fn open(folder: &str) -> Outcome<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::open(folder, flags, Mode::empty()).map(Self).map_err(told)
    }

    /// Waits until all that was changed is on the drive.
    pub(crate) fn sync(&self) -> Outcome<()> {
        let folder = self.open_at(b"/", OFlags::RDONLY | OFlags::DIRECTORY).map_err(told)?;
        rustix::fs::syncfs(folder).map_err(told)
    }

    /// Opens what stands at `path`; a link is not followed, and neither a pipe nor a device is waited for.
    pub(crate) fn open_at(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = path.strip_prefix(b"/").filter(|path| !path.is_empty()).unwrap_or(b".");
        // A mere path is not opened, and no other flag may stand beside it.
        let calm = if flags.contains(OFlags::PATH) { OFlags::empty() } else { OFlags::NONBLOCK | OFlags::NOCTTY };
        let flags = flags | calm | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve)
    }

    /// Opens the folder at `path`, on whichever file system it lies; no link is followed.
    pub(crate) fn folder(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = path.strip_prefix(b"/").filter(|path| !path.is_empty()).unwrap_or(b".");
        let flags = flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve)
    }

    /// Opens the folder of `path`.
    pub(crate) fn place<'a>(&self, path: &'a [u8]) -> Outcome<Place<'a>> {
        let at = path.iter().rposition(|byte| *byte == b'/').ok_or("the path has no folder")?;
        let (folder, name) = (&path[..at], &path[at + 1..]);
        if name.is_empty() || name == b"." || name == b".." {
            return Err("the path has no name at its end".to_owned());
        }
        let folder = self.open_at(folder, OFlags::PATH | OFlags::DIRECTORY).map_err(told)?;
        Ok(Place { folder, name })
    }

    /// Makes the folders that lead to `path`, as far as they are not there.
    pub(crate) fn make_parents(&self, path: &[u8]) -> Outcome<()> {
        for end in path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at) {
            let place = self.place(&path[..end])?;
            if place.stat()?.is_some() {
                continue;
            }
            rustix::fs::mkdirat(&place.folder, place.name, Mode::from_raw_mode(0o755)).map_err(told)?;
            let label = self.neighbour_label(&path[..end], FileType::Directory)?;
            place.set_label(label.as_deref())?;
        }
        Ok(())
    }

    /// Returns the label for a new thing: that of a neighbour of the same kind, else that of the folder.
    pub(crate) fn neighbour_label(&self, path: &[u8], kind: FileType) -> Outcome<Option<Vec<u8>>> {
        let at = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let folder = self.open_at(&path[..at], OFlags::RDONLY | OFlags::DIRECTORY).map_err(told)?;
        let own = label(&folder)?;
        // Where the folder has none, the guest knows no labels.
        if own.is_none() {
            return Ok(None);
        }
        for entry in Dir::read_from(&folder).map_err(told)?.take(NEIGHBOURS) {
            let entry = entry.map_err(told)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." || name == &path[at + 1..] || entry.file_type() != kind {
                continue;
            }
            let place = Place { folder: folder.try_clone().map_err(|error| error.to_string())?, name };
            if let Some(label) = place.label()? {
                return Ok(Some(label));
            }
        }
        Ok(own)
    }
}

impl Place<'_> {
    /// Returns what stands there, a link as itself.
    pub(crate) fn stat(&self) -> Outcome<Option<Stat>> {
        match rustix::fs::statat(&self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(told(error)),
        }
    }

    pub(crate) fn remove(&self, is_folder: bool) -> Outcome<()> {
        let flags = if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        rustix::fs::unlinkat(&self.folder, self.name, flags).map_err(told)
    }

    /// Returns the SELinux label.
    pub(crate) fn label(&self) -> Outcome<Option<Vec<u8>>> {
        self.enter()?;
        read_label(|buffer| rustix::fs::lgetxattr(self.name, LABEL, buffer))
    }

    /// Sets the SELinux label, if there is one to set.
    pub(crate) fn set_label(&self, label: Option<&[u8]>) -> Outcome<()> {
        let Some(label) = label else { return Ok(()) };
        self.enter()?;
        rustix::fs::lsetxattr(self.name, LABEL, label, XattrFlags::empty()).map_err(told)
    }

    /// What has no `*at` form goes from the folder itself, as a path to it could be another by then.
    fn enter(&self) -> Outcome<()> {
        rustix::process::fchdir(&self.folder).map_err(told)
    }
}

fn label(folder: &OwnedFd) -> Outcome<Option<Vec<u8>>> {
    read_label(|buffer| rustix::fs::fgetxattr(folder, LABEL, buffer))
}

fn read_label(read: impl FnOnce(&mut [u8]) -> Result<usize, Errno>) -> Outcome<Option<Vec<u8>>> {
    let mut buffer = vec![0; LABEL_MAX];
    match read(&mut buffer) {
        Ok(length) => {
            buffer.truncate(length);
            Ok(Some(buffer))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(error) => Err(told(error)),
    }
}
