//! Changing files of ext2, ext3 and ext4 in a partition of an [`Overlay`].
//!
//! superblock -> may it be written? -> one operation: [`Change`] reads, changes and sums blocks -> all of them to the overlay
//!
//! Each block that an operation reads is checked by its checksum, if it has one, before anything is written. Copies of
//! the superblock and of descriptors in other groups are left as they are, as the kernel leaves them. The journal is
//! not written: it is empty, or the file system is refused.

mod allocate;
mod attributes;
mod block_map;
mod change;
mod checksum;
mod content;
mod entries;
mod extents;
mod folder;
mod groups;
mod hash;
mod index;
mod inode;
mod layout;
mod map;
mod paths;
mod remove_folder;

use std::fmt;
use std::ops::Range;

use disk::error::{Error, Result};
use disk::source::Source;

use self::change::Change;
use self::inode::Kind;
use self::layout::{Layout, SUPERBLOCK_AT, SUPERBLOCK_SIZE};
use super::overlay::Overlay;

/// Rights and owner of what is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions, with set-user-id, set-group-id and sticky: `0o7777` at most.
    pub mode: u16,
    /// Number of the user.
    pub uid: u32,
    /// Number of the group.
    pub gid: u32,
}

/// A file system whose files are changed.
///
/// Paths are absolute bytes (`/etc/fstab`) without `.` and `..`; none may lead over a link. Each operation is done as a
/// whole or, where it fails, not at all. Marks such as "immutable" are kept and not obeyed. A default access list
/// of a folder is not inherited by what is made in it.
pub struct ExtWriter<'a> {
    overlay: &'a mut Overlay,
    offset: u64,
    layout: Layout,
    system: Vec<Range<u64>>,
    now: u64,
    /// The block behind the content that was written last.
    beside: Option<u64>,
}

impl fmt::Debug for ExtWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExtWriter").field("offset", &self.offset).field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl<'a> ExtWriter<'a> {
    /// Opens the file system that lies in `range` of the disk; what is changed gets the time `now`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// Tells why it may not be written, with a hint: it was not shut down cleanly, it is damaged, or it has a feature
    /// that is not known here.
    pub fn open(overlay: &'a mut Overlay, range: Range<u64>, now: u64) -> Result<Self> {
        let length = range.end.min(overlay.len()).saturating_sub(range.start);
        if length < SUPERBLOCK_AT + SUPERBLOCK_SIZE as u64 {
            return Err(Error::corrupt("the place is too short for a file system"));
        }
        let mut superblock = vec![0; SUPERBLOCK_SIZE];
        overlay.read_at(&mut superblock, range.start + SUPERBLOCK_AT)?;
        let layout = Layout::parse(&superblock, length)?;
        let system = groups::system_blocks(&mut Change::new(overlay, range.start, &layout, &[], now))?;
        Ok(Self { overlay, offset: range.start, layout, system, now, beside: None })
    }

    /// Gives a file other content; all else of it stays: inode, owner, mode, attributes, names.
    ///
    /// # Errors
    ///
    /// Nothing is changed where there is no such file, it cannot be changed, or the file system is full.
    pub fn replace(&mut self, path: &[u8], content: &[u8]) -> Result<()> {
        self.run(|change| change.replace(path, content))
    }

    /// Writes `content` behind what a file has.
    ///
    /// # Errors
    ///
    /// Nothing is changed where there is no such file, it cannot be changed, or the file system is full.
    pub fn append(&mut self, path: &[u8], content: &[u8]) -> Result<()> {
        self.run(|change| change.append(path, content))
    }

    /// Makes a file that is not there. Its SELinux label is that of the file `like`, or of a neighbour where none is
    /// named.
    ///
    /// # Errors
    ///
    /// Nothing is changed where something is there, its folder is not, or the file system is full.
    pub fn create(&mut self, path: &[u8], content: &[u8], attributes: Attributes, like: Option<&[u8]>) -> Result<()> {
        self.run(|change| change.create(path, Kind::File, content, attributes, like))
    }

    /// Makes a symbolic link, which belongs to root.
    ///
    /// # Errors
    ///
    /// Nothing is changed where something is there, its folder is not, the target is too long, or the file system is
    /// full.
    pub fn symlink(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let attributes = Attributes { mode: 0o777, uid: 0, gid: 0 };
        self.run(|change| change.create(path, Kind::Link, target, attributes, None))
    }

    /// Makes an empty folder in a folder that is there. Its label is found as that of a file.
    ///
    /// # Errors
    ///
    /// Nothing is changed where something is there, its parent is not, or the file system is full.
    pub fn make_folder(&mut self, path: &[u8], attributes: Attributes, like: Option<&[u8]>) -> Result<()> {
        self.run(|change| change.create(path, Kind::Folder, &[], attributes, like))
    }

    /// Removes the name of a file or link; with its last name the file goes.
    ///
    /// Blocks that become free are not overwritten: who can read the disk can find what was in them.
    ///
    /// # Errors
    ///
    /// Nothing is changed where there is no such name, or it is neither a file nor a link.
    pub fn remove(&mut self, path: &[u8]) -> Result<()> {
        self.run(|change| change.remove(path))
    }

    /// Removes a folder that has nothing in it.
    ///
    /// # Errors
    ///
    /// Nothing is changed where there is no such folder, or something is in it.
    pub fn remove_folder(&mut self, path: &[u8]) -> Result<()> {
        self.run(|change| change.remove_folder(path))
    }

    /// Returns whether something stands at `path`.
    ///
    /// # Errors
    ///
    /// Where a folder on the way is damaged.
    pub fn exists(&mut self, path: &[u8]) -> Result<bool> {
        Change::new(self.overlay, self.offset, &self.layout, &self.system, self.now).exists(path)
    }

    /// Returns permissions and owner of the file at `path`.
    ///
    /// # Errors
    ///
    /// Where there is no such file.
    pub fn attributes(&mut self, path: &[u8]) -> Result<Attributes> {
        let mut change = Change::new(self.overlay, self.offset, &self.layout, &self.system, self.now);
        let inode = change.file_at(path)?;
        let (uid, gid) = inode.owner();
        Ok(Attributes { mode: inode.mode() & 0o7777, uid, gid })
    }

    /// Gives something another name in the same folder.
    ///
    /// # Errors
    ///
    /// Nothing is changed where `from` is not there, `to` is there, or they are in different folders.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        self.run(|change| change.rename(from, to))
    }

    /// Sets the permissions of a file or folder.
    ///
    /// # Errors
    ///
    /// Nothing is changed where it is not there, is a link, or has an access list, which would have to follow.
    pub fn chmod(&mut self, path: &[u8], mode: u16) -> Result<()> {
        self.run(|change| change.chmod(path, mode))
    }

    fn run(&mut self, work: impl FnOnce(&mut Change<'_>) -> Result<()>) -> Result<()> {
        let mut change = Change::new(self.overlay, self.offset, &self.layout, &self.system, self.now);
        change.beside = self.beside;
        work(&mut change)?;
        let beside = change.beside;
        let blocks = change.finish()?;
        let writes: Vec<(u64, &[u8])> = blocks.iter().map(|(at, block)| (*at, &block[..])).collect();
        self.overlay.write_all(&writes)?;
        self.beside = beside;
        Ok(())
    }
}
