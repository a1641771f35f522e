//! btrfs: opened by `lambutter`, at its default subvolume or at another one.
//!
//! All metadata has checksums, but whoever makes a disk makes those too. `lambutter` keeps the map of chunks and all names
//! of a folder: what it reads for them has a limit. It unpacks at most 16 MiB of an extent at a time, and each read looks
//! at the clock, so that extents that unpack to much end when the time is over.
//! Layout: the kernel's `include/uapi/linux/btrfs_tree.h`.

use std::cell::RefCell;
use std::rc::Rc;

use disk::error::{Error, Result};
use lambutter::{BlockRead, Path};

use super::files::{Files, LINK_MAX, Node, NodeKind};
use crate::budget::{Allowance, CALL_MAX, contain};
use crate::fields::{le64, stands_at};
use crate::window::Window;

const SUPERBLOCK_AT: u64 = 64 << 10;
/// The subvolume that all others are in.
const TOP: u64 = 5;
/// The root folder of any subvolume.
const ROOT_FOLDER: u64 = 256;
/// Most subvolumes at the top that are looked at.
const SUBVOLUMES_MAX: usize = 64;
/// Largest folder: a name counts twice its length.
const FOLDER_MAX: u64 = 16 << 20;

/// Which subvolume to open, as mount(8) is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum Subvolume {
    /// The one that the file system names as its default.
    #[default]
    Default,
    /// By number.
    Number(u64),
    /// By path from the top of the file system.
    Path(String),
}

/// An open subvolume.
pub(super) struct Btrfs {
    inner: RefCell<lambutter::Btrfs<Reader>>,
    allowance: Rc<Allowance>,
    /// What was found last, and where: who reads a file has asked what it is. Each search walks the trees from their roots, and
    /// each node on the way is checked.
    last: RefCell<Option<(Vec<u8>, Found)>>,
}

type Found = (lambutter::Inode, lambutter::Metadata);

impl Btrfs {
    /// Opens `subvolume` of the file system in `window`; an error says why it cannot be read.
    pub(super) fn open(window: &Window, device: &str, subvolume: &Subvolume) -> std::result::Result<Self, String> {
        let bytes = window.bytes(SUPERBLOCK_AT, 1024).map_err(|error| error.to_string())?.unwrap_or_default();
        if !stands_at(&bytes, 0x40, b"_BHRfS_M") {
            return Err("it has no sound superblock".to_owned());
        }
        // What the superblock says of its own device; all of them together may be larger.
        if le64(&bytes, 0xd1) > window.len() {
            return Err("it is larger than the place it lies in".to_owned());
        }
        if le64(&bytes, 0x60) != 0 {
            window.budget().note_unreplayed(device, " and what its log holds was not replayed");
        }
        let allowance = Rc::new(Allowance::default());
        allowance.grant(CALL_MAX);
        let (reader, size) = (Reader { window: window.clone(), allowance: allowance.clone() }, window.len());
        let inner = call(|| match subvolume {
            Subvolume::Default => lambutter::Btrfs::open(reader, size),
            Subvolume::Number(number) => lambutter::Btrfs::open_subvol_id(reader, size, *number),
            Subvolume::Path(path) => {
                let path = format!("/{path}");
                lambutter::Btrfs::open_subvol_path(reader, size, Path::from(path.as_str()))
            }
        });
        let inner = RefCell::new(inner.map_err(|fault| fault.to_string())?);
        Ok(Self { inner, allowance, last: RefCell::default() })
    }

    /// Returns the number of the subvolume that is open.
    pub(super) fn number(&self) -> u64 {
        self.inner.borrow().subvolume()
    }

    /// Returns the numbers of the subvolumes in the top folder of the file system in `window`.
    pub(super) fn at_top(window: &Window, device: &str) -> std::result::Result<Vec<u64>, String> {
        let top = Self::open(window, device, &Subvolume::Number(TOP))?;
        let entries = top.call(|inner| inner.read_dir(Path::from("/"))).map_err(|fault| fault.to_string())?;
        let is_subvolume = |inode: &lambutter::Inode| inode.subvolume() != TOP && inode.objectid() == ROOT_FOLDER;
        let found = entries.into_iter().map(|entry| entry.inode).filter(is_subvolume);
        Ok(found.map(|inode| inode.subvolume()).take(SUBVOLUMES_MAX).collect())
    }

    fn call<T>(&self, run: impl FnOnce(&mut lambutter::Btrfs<Reader>) -> lambutter::Result<T>) -> Answer<T> {
        self.call_within(CALL_MAX, run)
    }

    fn call_within<T>(
        &self,
        bytes: u64,
        run: impl FnOnce(&mut lambutter::Btrfs<Reader>) -> lambutter::Result<T>,
    ) -> Answer<T> {
        self.allowance.grant(bytes);
        call(|| run(&mut self.inner.borrow_mut()))
    }

    /// Returns what stands at `path`, with what `lambutter` calls it by.
    fn find(&self, path: &[u8]) -> std::result::Result<Option<Found>, String> {
        if let Some((_, found)) = self.last.borrow().as_ref().filter(|(last, _)| last == path) {
            return Ok(Some(*found));
        }
        let found = self.call(|inner| {
            let inode = inner.resolve(Path::new(path).ok_or(lambutter::Error::NotFound)?)?;
            Ok((inode, inner.metadata(&inode)?))
        });
        match found {
            Ok(found) => {
                *self.last.borrow_mut() = Some((path.to_vec(), found));
                Ok(Some(found))
            }
            Err(Fault::Told(lambutter::Error::NotFound)) => Ok(None),
            Err(fault) => Err(fault.to_string()),
        }
    }
}

impl Files for Btrfs {
    fn subvolume(&self) -> Option<u64> {
        Some(self.number())
    }

    fn stat(&self, path: &[u8]) -> std::result::Result<Option<Node>, String> {
        Ok(self.find(path)?.map(|(_, found)| node(&found)))
    }

    fn link(&self, path: &[u8], length: u64) -> std::result::Result<Vec<u8>, String> {
        if length > LINK_MAX {
            return Err(format!("a link of {length} bytes is over the limit"));
        }
        let target = self.call(|inner| inner.read_link(Path::new(path).ok_or(lambutter::Error::NotFound)?));
        target.map_err(|fault| fault.to_string())
    }

    fn is_folder_small(&self, length: u64) -> bool {
        length <= FOLDER_MAX
    }

    fn names(&self, path: &[u8], most: usize) -> std::result::Result<Vec<Vec<u8>>, String> {
        let entries = self.call(|inner| inner.read_dir(Path::new(path).ok_or(lambutter::Error::NotFound)?));
        let entries = entries.map_err(|fault| fault.to_string())?;
        Ok(entries.into_iter().take(most).map(|entry| entry.name).collect())
    }

    fn entries(&self, path: &[u8], most: usize) -> std::result::Result<Vec<(Vec<u8>, Node)>, String> {
        let entries = self.call(|inner| inner.read_dir(Path::new(path).ok_or(lambutter::Error::NotFound)?));
        let entries = entries.map_err(|fault| fault.to_string())?.into_iter().take(most);
        let look = |entry: lambutter::DirEntry| {
            let found = self.call(|inner| inner.metadata(&entry.inode)).ok()?;
            Some((entry.name, node(&found)))
        };
        Ok(entries.filter_map(look).collect())
    }

    fn read(&self, path: &[u8], offset: u64, most: usize) -> std::result::Result<Vec<u8>, String> {
        let (inode, found) = self.find(path)?.ok_or("nothing is there")?;
        let left = usize::try_from(found.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(most)];
        let count = self.call_within(u64::MAX, |inner| inner.read_file_at(&inode, offset, &mut bytes));
        bytes.truncate(count.map_err(|fault| fault.to_string())?);
        Ok(bytes)
    }
}

fn node(found: &lambutter::Metadata) -> Node {
    let mode = (found.mode & 0xffff) as u16;
    Node { kind: NodeKind::of_mode(mode), length: found.size, mode: mode & 0o7777, uid: found.uid, gid: found.gid }
}

/// What the reader crate answered: its own error, or a panic.
enum Fault {
    Told(lambutter::Error),
    Panicked,
}

type Answer<T> = std::result::Result<T, Fault>;

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use lambutter::Error::{NotASubvolume, NotFound, UnsupportedProfile};
        match self {
            Self::Told(NotFound | NotASubvolume) => f.write_str("there is no such subvolume"),
            Self::Told(UnsupportedProfile(_)) => {
                f.write_str("a part of it lies on other devices, or on several at once")
            }
            Self::Told(error) => write!(f, "{error}"),
            Self::Panicked => f.write_str("its structure is broken"),
        }
    }
}

fn call<T>(run: impl FnOnce() -> lambutter::Result<T>) -> Answer<T> {
    match contain(run) {
        Some(answer) => answer.map_err(Fault::Told),
        None => Err(Fault::Panicked),
    }
}

/// The window as `lambutter` reads it.
struct Reader {
    window: Window,
    allowance: Rc<Allowance>,
}

impl BlockRead for Reader {
    type Error = Error;

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.window.budget().check_time()?;
        self.allowance.spend(buf.len())?;
        self.window.read_at(buf, offset)
    }
}
