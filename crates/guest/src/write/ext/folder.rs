//! Folders: finding, adding and removing names, with or without an index.

use disk::error::{Error, ErrorKind, Result};

use super::change::{Change, damaged};
use super::entries::{Entry, Leaf};
use super::inode::{FLAG_INDEX, Inode, Kind};
use super::layout::{COMPAT_DIR_INDEX, INCOMPAT_FILETYPE};
use super::map::Map;

/// Largest folder: some 400,000 names.
const FOLDER_MAX: u64 = 16 << 20;

/// A folder, its map, and how many blocks it has.
pub(super) struct Folder {
    pub(super) inode: Inode,
    map: Map,
    pub(super) length: u32,
}

impl Folder {
    pub(super) fn has_index(&self) -> bool {
        self.inode.has(FLAG_INDEX)
    }
}

impl Change<'_> {
    /// Returns the checksum seed of blocks that belong to `inode`.
    pub(super) fn seed(&self, inode: &Inode) -> Option<u32> {
        self.layout.sums.of_inode(inode.number, inode.generation())
    }

    pub(super) fn folder(&mut self, inode: Inode) -> Result<Folder> {
        let size = inode.size();
        if size > FOLDER_MAX {
            let told = format!("the folder has {size} bytes of names; {FOLDER_MAX} is the limit");
            return Err(Error::new(ErrorKind::TooLarge, told));
        }
        if size == 0 || !size.is_multiple_of(self.layout.block_size as u64) {
            return Err(damaged(format!("the folder {} is {size} bytes long", inode.number)));
        }
        let length = (size / self.layout.block_size as u64) as u32;
        let mut inode = inode;
        if inode.has(FLAG_INDEX) && self.layout.compat & COMPAT_DIR_INDEX == 0 {
            // Nobody keeps an index without the feature; the names are all there without it.
            inode.set_flags(inode.flags() & !FLAG_INDEX);
        }
        let map = self.map(&inode)?;
        Ok(Folder { inode, map, length })
    }

    /// Returns where block `logical` of a folder lies.
    pub(super) fn folder_place(&self, folder: &Folder, logical: u32) -> Result<u64> {
        let place = folder.map.find(logical).filter(|_| logical < folder.length);
        place.ok_or_else(|| damaged(format!("the folder {} has no block {logical}", folder.inode.number)))
    }

    pub(super) fn leaf(&mut self, folder: &Folder, logical: u32) -> Result<Leaf> {
        let place = self.folder_place(folder, logical)?;
        Leaf::checked(self.read(place)?, self.seed(&folder.inode))
    }

    pub(super) fn write_leaf(&mut self, folder: &Folder, logical: u32, leaf: Leaf) -> Result<()> {
        let place = self.folder_place(folder, logical)?;
        self.write(place, leaf.summed())
    }

    /// Returns the entry `name` of a folder, and the block it is in.
    pub(super) fn find(&mut self, folder: &Folder, name: &[u8]) -> Result<Option<(u32, Entry)>> {
        if folder.has_index() {
            return self.find_by_index(folder, name);
        }
        for logical in 0..folder.length {
            if let Some(entry) = self.leaf(folder, logical)?.find(name)? {
                return Ok(Some((logical, entry)));
            }
        }
        Ok(None)
    }

    /// Adds a name that is not there.
    pub(super) fn add_name(&mut self, folder: &mut Folder, name: &[u8], number: u32, kind: Kind) -> Result<()> {
        let kind = if self.layout.incompat & INCOMPAT_FILETYPE == 0 { 0 } else { kind.in_folder() };
        let entry = Entry::new(number, kind, name);
        folder.inode.touch(self.now, true);
        if folder.has_index() {
            self.add_by_index(folder, &entry)?;
        } else {
            self.add_in_order(folder, &entry)?;
        }
        self.write_inode(&folder.inode)
    }

    fn add_in_order(&mut self, folder: &mut Folder, entry: &Entry) -> Result<()> {
        for logical in 0..folder.length {
            let mut leaf = self.leaf(folder, logical)?;
            if leaf.insert(entry)? {
                return self.write_leaf(folder, logical, leaf);
            }
        }
        let logical = self.add_folder_block(folder)?;
        let mut leaf = Leaf::empty(self.layout.block_size, self.seed(&folder.inode));
        leaf.insert(entry)?;
        self.write_leaf(folder, logical, leaf)
    }

    /// Makes a folder one block longer; the block is to be written yet.
    pub(super) fn add_folder_block(&mut self, folder: &mut Folder) -> Result<u32> {
        let logical = folder.length;
        if (u64::from(logical) + 1) * self.layout.block_size as u64 > FOLDER_MAX {
            return Err(Error::new(ErrorKind::TooLarge, "the folder would be larger than 16 MiB"));
        }
        if folder.map.end() != u64::from(logical) {
            return Err(damaged(format!("the folder {} has holes", folder.inode.number)));
        }
        let old = folder.map.count();
        let goal = folder.map.next_block().unwrap_or(0);
        self.extend(&mut folder.map, goal, logical, 1)?;
        self.write_map(&mut folder.inode, &mut folder.map, old)?;
        folder.length += 1;
        folder.inode.set_size(u64::from(folder.length) * self.layout.block_size as u64);
        Ok(logical)
    }

    /// Removes a name that is there.
    pub(super) fn remove_name(&mut self, folder: &mut Folder, name: &[u8]) -> Result<()> {
        let Some((logical, _)) = self.find(folder, name)? else {
            return Err(damaged("a name of a folder cannot be found again"));
        };
        let mut leaf = self.leaf(folder, logical)?;
        leaf.remove(name)?;
        self.write_leaf(folder, logical, leaf)?;
        folder.inode.touch(self.now, true);
        self.write_inode(&folder.inode)
    }

    /// Fills a new folder with its first block, in which `.` and `..` stand.
    pub(super) fn fill_folder(&mut self, inode: &mut Inode, parent: u32) -> Result<()> {
        let goal = self.goal(inode);
        let mut map = Map::default();
        self.extend(&mut map, goal, 0, 1)?;
        self.write_map(inode, &mut map, 0)?;
        inode.set_size(self.layout.block_size as u64);
        let kind = if self.layout.incompat & INCOMPAT_FILETYPE == 0 { 0 } else { Kind::Folder.in_folder() };
        let mut leaf = Leaf::empty(self.layout.block_size, self.seed(inode));
        leaf.insert(&Entry::new(inode.number, kind, b"."))?;
        leaf.insert(&Entry::new(parent, kind, b".."))?;
        let place = map.find(0).ok_or_else(|| damaged("no block was taken"))?;
        self.write(place, leaf.summed())
    }

    /// Returns the block near which the first blocks of a new file should lie: the start of its group.
    pub(super) fn goal(&self, inode: &Inode) -> u64 {
        self.layout.group_start((inode.number - 1) / self.layout.inodes_per_group)
    }
}
