//! btrfs, at its default subvolume or at another one, on one device of it.
//!
//! A reader of our own: the one of another crate checked every node on the way to a file each time, byte by byte, which was
//! nearly all of the time of an inspection, and knew no LZO. Each step of a search is counted, so that trees which run in a
//! circle end, and an extent unpacks to 1 MiB at most. Layout: the kernel's `include/uapi/linux/btrfs_tree.h`.

mod chunks;
mod extents;
mod node;
mod superblock;
mod trees;
mod unpack;

use disk::error::{Error, Result};

use self::extents::LastUnpacked;
use self::node::{Item, Key, Root};
use self::superblock::Superblock;
use self::trees::Trees;
use super::files::{Files, LINK_MAX, Node, NodeKind};
use crate::fields::{le16, le32, le64};
use crate::window::Window;

/// Kinds of items.
const INODE: u8 = 1;
/// Names of a folder by their hash, of which several may be the same, and by the order in which they came.
const NAMES: u8 = 84;
const NAME: u8 = 96;
const SUBVOLUME: u8 = 132;
/// From a subvolume to one in it.
const SUBVOLUME_IN: u8 = 156;

/// The folder in the tree of all trees that names the default subvolume.
const DEFAULT_FOLDER: u64 = 6;
/// The subvolume that all others are in.
const TOP: u64 = 5;
/// The root folder of any subvolume.
const ROOT_FOLDER: u64 = 256;
/// What stands in a snapshot where the subvolume had another one in it: an empty folder, without an inode.
const EMPTY_FOLDER: u64 = 2;
/// Most subvolumes at the top that are looked at, and names there.
const SUBVOLUMES_MAX: usize = 64;
const TOP_NAMES_MAX: usize = 4096;
/// Longest item of an inode and of a subvolume that older kernels wrote.
const INODE_LENGTH: usize = 160;
const SUBVOLUME_LENGTH: usize = 239;

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
    trees: Trees,
    top: Place,
    unpacked: LastUnpacked,
}

/// An inode.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// The subvolume, and where its tree begins.
    subvolume: u64,
    root: Root,
    inode: u64,
}

/// A name of a folder.
struct Entry<'a> {
    /// Key of an inode of the same subvolume, or of another subvolume.
    target: Key,
    name: &'a [u8],
}

impl Btrfs {
    /// Opens `subvolume` of the file system in `window`; an error says why it cannot be read.
    pub(super) fn open(window: &Window, device: &str, subvolume: &Subvolume) -> std::result::Result<Self, String> {
        let opened = Self::open_top(window).and_then(|mut btrfs| {
            btrfs.top = btrfs.subvolume_of(subvolume)?.ok_or_else(no_subvolume)?;
            Ok(btrfs)
        });
        let opened = opened.map_err(|error| error.to_string())?;
        if opened.trees.superblock.has_log {
            window.budget().note_unreplayed(device, " and what its log holds was not replayed");
        }
        Ok(opened)
    }

    fn open_top(window: &Window) -> Result<Self> {
        let trees = Trees::open(window, Superblock::read(window)?)?;
        let top = Place { subvolume: TOP, root: trees.superblock.root, inode: ROOT_FOLDER };
        let mut btrfs = Self { trees, top, unpacked: LastUnpacked::default() };
        btrfs.top = btrfs.subvolume_by_number(TOP)?;
        Ok(btrfs)
    }

    /// Returns the number of the subvolume that is open.
    pub(super) fn number(&self) -> u64 {
        self.top.subvolume
    }

    /// Returns the numbers of the subvolumes in the top folder of the file system in `window`.
    pub(super) fn at_top(window: &Window) -> std::result::Result<Vec<u64>, String> {
        let find = || {
            let btrfs = Self::open_top(window)?;
            let names = btrfs.list(btrfs.top, TOP_NAMES_MAX)?.into_iter();
            let numbers = names.filter(|(target, _)| target.kind == SUBVOLUME).map(|(target, _)| target.object);
            Ok(numbers.take(SUBVOLUMES_MAX).collect())
        };
        find().map_err(|error: Error| error.to_string())
    }

    fn subvolume_of(&self, wanted: &Subvolume) -> Result<Option<Place>> {
        match wanted {
            Subvolume::Number(number) => self.subvolume_by_number(*number).map(Some),
            Subvolume::Path(path) => {
                Ok(self.walk(self.top, path.as_bytes())?.filter(|place| place.inode == ROOT_FOLDER))
            }
            Subvolume::Default => {
                let folder = Place { inode: DEFAULT_FOLDER, root: self.trees.superblock.root, ..self.top };
                let named = self.target(folder, b"default")?;
                named.map_or(Ok(self.top), |target| self.subvolume_by_number(target.object)).map(Some)
            }
        }
    }

    fn subvolume_by_number(&self, number: u64) -> Result<Place> {
        let last = Key::new(number, SUBVOLUME, u64::MAX);
        let found = self.trees.last(self.trees.superblock.root, last)?.filter(|item| item.key.is_like(&last));
        let item = found.ok_or_else(no_subvolume)?;
        let bytes = item.bytes();
        // Without a reference it was deleted, and is about to vanish.
        if bytes.len() < SUBVOLUME_LENGTH || le32(bytes, 216) == 0 {
            return Err(no_subvolume());
        }
        let root = Root { at: le64(bytes, 176), level: bytes[238] };
        Ok(Place { subvolume: number, root, inode: ROOT_FOLDER })
    }

    /// Returns what `path` leads to from the folder at `place`.
    fn walk(&self, mut place: Place, path: &[u8]) -> Result<Option<Place>> {
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let Some(target) = self.target(place, name)? else { return Ok(None) };
            place = self.follow(place, target)?;
        }
        Ok(Some(place))
    }

    /// Returns what `name` stands for in the folder at `place`.
    fn target(&self, place: Place, name: &[u8]) -> Result<Option<Key>> {
        let key = Key::new(place.inode, NAMES, name_hash(name));
        let Some(item) = self.trees.exactly(place.root, key)? else { return Ok(None) };
        Ok(entries(&item).find(|entry| entry.name == name).map(|entry| entry.target))
    }

    /// Returns what `target` stands for in the folder at `place`.
    fn follow(&self, place: Place, target: Key) -> Result<Place> {
        if target.kind != SUBVOLUME {
            return Ok(Place { inode: target.object, ..place });
        }
        let link = Key::new(place.subvolume, SUBVOLUME_IN, target.object);
        if self.trees.exactly(self.trees.superblock.root, link)?.is_none() {
            return Ok(Place { inode: EMPTY_FOLDER, ..place });
        }
        self.subvolume_by_number(target.object)
    }

    fn node(&self, place: Place) -> Result<Option<Node>> {
        if place.inode == EMPTY_FOLDER {
            return Ok(Some(Node { kind: NodeKind::Folder, length: 0, mode: 0o755, uid: 0, gid: 0 }));
        }
        let Some(item) = self.trees.exactly(place.root, Key::new(place.inode, INODE, 0))? else { return Ok(None) };
        let bytes = item.bytes();
        if bytes.len() < INODE_LENGTH {
            return Err(Error::corrupt("its inode is broken"));
        }
        let mode = le16(bytes, 52);
        Ok(Some(Node {
            kind: NodeKind::of_mode(mode),
            length: le64(bytes, 16),
            mode: mode & 0o7777,
            uid: le32(bytes, 44),
            gid: le32(bytes, 48),
        }))
    }

    /// Returns at most `most` names of the folder at `place`, and what they stand for.
    fn list(&self, place: Place, most: usize) -> Result<Vec<(Key, Vec<u8>)>> {
        let mut names = Vec::new();
        let mut next = Some(Key::new(place.inode, NAME, 0));
        while let Some(from) = next.filter(|_| names.len() < most) {
            let Some(item) = self.trees.first(place.root, from)?.filter(|item| item.key.is_like(&from)) else { break };
            names.extend(entries(&item).next().map(|entry| (entry.target, entry.name.to_vec())));
            next = item.key.offset.checked_add(1).map(|offset| Key { offset, ..from });
        }
        Ok(names)
    }

    fn find(&self, path: &[u8]) -> Result<(Place, Node)> {
        let place = self.walk(self.top, path)?;
        let node = place.map(|place| self.node(place)).transpose()?.flatten();
        place.zip(node).ok_or_else(|| Error::corrupt("nothing is there"))
    }

    fn content(&self, place: Place, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        extents::read(&self.trees, &self.unpacked, place.root, place.inode, offset, &mut bytes)?;
        Ok(bytes)
    }
}

impl Files for Btrfs {
    fn subvolume(&self) -> Option<u64> {
        Some(self.number())
    }

    fn stat(&self, path: &[u8]) -> std::result::Result<Option<Node>, String> {
        let find = || self.walk(self.top, path)?.map_or(Ok(None), |place| self.node(place));
        find().map_err(|error| error.to_string())
    }

    fn link(&self, path: &[u8], length: u64) -> std::result::Result<Vec<u8>, String> {
        if length > LINK_MAX {
            return Err(format!("a link of {length} bytes is over the limit"));
        }
        let target = self.find(path).and_then(|(place, _)| self.content(place, 0, length as usize));
        let mut target = target.map_err(|error| error.to_string())?;
        target.truncate(target.iter().position(|byte| *byte == 0).unwrap_or(target.len()));
        Ok(target)
    }

    fn is_folder_small(&self, _: u64) -> bool {
        // No more names are read than are asked for.
        true
    }

    fn names(&self, path: &[u8], most: usize) -> std::result::Result<Vec<Vec<u8>>, String> {
        let names = self.find(path).and_then(|(place, _)| self.list(place, most)).map_err(|error| error.to_string())?;
        Ok(names.into_iter().map(|(_, name)| name).collect())
    }

    fn entries(&self, path: &[u8], most: usize) -> std::result::Result<Vec<(Vec<u8>, Node)>, String> {
        let list = || {
            let (place, _) = self.find(path)?;
            let look = |(target, name)| Some((name, self.node(self.follow(place, target).ok()?).ok()??));
            Ok(self.list(place, most)?.into_iter().filter_map(look).collect())
        };
        list().map_err(|error: Error| error.to_string())
    }

    fn read(&self, path: &[u8], offset: u64, most: usize) -> std::result::Result<Vec<u8>, String> {
        let read = || {
            let (place, node) = self.find(path)?;
            let left = usize::try_from(node.length.saturating_sub(offset)).unwrap_or(usize::MAX);
            self.content(place, offset, left.min(most))
        };
        read().map_err(|error| error.to_string())
    }
}

fn no_subvolume() -> Error {
    Error::corrupt("there is no such subvolume")
}

/// Returns the entries in an item of names.
fn entries(item: &Item) -> impl Iterator<Item = Entry<'_>> {
    const HEADER: usize = 30;
    let mut rest = item.bytes();
    std::iter::from_fn(move || {
        let (name, more) = (usize::from(le16(rest, 27)), usize::from(le16(rest, 25)));
        let entry = Entry { target: Key::read(rest, 0), name: rest.get(HEADER..HEADER + name)? };
        rest = rest.get(HEADER + name + more..).unwrap_or_default();
        Some(entry)
    })
}

/// Returns what the key of a name has in its offset: CRC-32C from another start, and not turned around at its end.
fn name_hash(name: &[u8]) -> u64 {
    u64::from(!crc32c::crc32c_append(1, name))
}
