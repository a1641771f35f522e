//! An open file system, whichever it is: what [`crate::tree`] asks of a reader.

/// Longest path in a link, as Linux has it.
pub(crate) const LINK_MAX: u64 = 4096;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeKind {
    File,
    Folder,
    Link,
    /// A device, pipe or socket.
    Special,
}

impl NodeKind {
    /// Returns the kind in the upper bits of a mode, as Linux and Rock Ridge have them.
    pub(crate) fn of_mode(mode: u16) -> Self {
        match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Folder,
            0o120_000 => Self::Link,
            _ => Self::Special,
        }
    }
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    /// In bytes, as the file system claims it: it may be a lie.
    pub(crate) length: u64,
    /// Permissions, with set-user-id, set-group-id and sticky (`0o7777`); zero where the file system knows none.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A file system that is read, never written.
///
/// Paths are absolute bytes (`/etc/fstab`, `/` for the top), have no `.` or `..`, and never lead over a link: the
/// tree resolves links and asks [`Files::stat`] first. An error is a sentence without its full stop, for people:
/// why the thing cannot be read. No answer depends on more memory than the caller allowed, whatever the disk says.
pub(crate) trait Files {
    /// Returns what stands at `path`, a link as itself; none where nothing does.
    fn stat(&self, path: &[u8]) -> Result<Option<Node>, String>;

    /// Returns the target of the link at `path`, whose length [`Files::stat`] told.
    fn link(&self, path: &[u8], length: u64) -> Result<Vec<u8>, String>;

    /// Returns whether a folder of `length` bytes, as [`Files::stat`] told, is small enough to look into.
    fn is_folder_small(&self, length: u64) -> bool;

    /// Returns at most `most` names of the folder at `path`, without `.` and `..`, in any order.
    fn names(&self, path: &[u8], most: usize) -> Result<Vec<Vec<u8>>, String>;

    /// Reads the file at `path` from `offset` on: `most` bytes, or fewer where it ends.
    fn read(&self, path: &[u8], offset: u64, most: usize) -> Result<Vec<u8>, String>;

    /// Returns the number of the subvolume, where the file system has subvolumes.
    fn subvolume(&self) -> Option<u64> {
        None
    }

    /// Does the same as [`Files::names`], and tells what each name stands for; names that cannot be looked up are left out.
    fn entries(&self, path: &[u8], most: usize) -> Result<Vec<(Vec<u8>, Node)>, String> {
        let base = if path == b"/" { &[][..] } else { path };
        let names = self.names(path, most)?.into_iter();
        let look = |name: Vec<u8>| {
            let node = self.stat(&[base, b"/", &name].concat()).ok()??;
            Some((name, node))
        };
        Ok(names.filter_map(look).collect())
    }
}
