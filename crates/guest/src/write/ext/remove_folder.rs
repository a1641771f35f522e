//! Taking away a folder that has nothing in it any more.

use disk::error::{Error, Result};

use super::change::Change;
use super::entries::Leaf;
use super::folder::Folder;
use super::groups::Count;
use super::inode::Kind;
use crate::fields::{le16, le32};
use crate::text::clean;

impl Change<'_> {
    pub(super) fn remove_folder(&mut self, path: &[u8]) -> Result<()> {
        let (mut parent, name) = self.parent(path)?;
        let inode = self.named(&parent, name, path)?;
        if inode.kind() != Some(Kind::Folder) {
            return Err(Error::refused(format!("{} is not a folder", clean(path))));
        }
        let folder = self.folder(inode)?;
        if !self.is_empty(&folder)? {
            return Err(Error::refused(format!("the folder {} is not empty", clean(path))));
        }
        self.remove_name(&mut parent, name)?;
        // Its `..` was a link to the parent; one stands for more than can be counted.
        if parent.inode.links() > 2 {
            parent.inode.set_links(parent.inode.links() - 1);
            self.write_inode(&parent.inode)?;
        }
        let mut inode = folder.inode;
        self.release_attributes(&mut inode)?;
        self.empty(&mut inode)?;
        let group = (inode.number - 1) / self.layout.inodes_per_group;
        self.add_to_group(group, Count::Folders, -1)?;
        self.delete_inode(inode)
    }

    /// Returns whether a folder has no names but `.` and `..`.
    fn is_empty(&mut self, folder: &Folder) -> Result<bool> {
        for logical in 0..folder.length {
            let place = self.folder_place(folder, logical)?;
            let block = self.read(place)?;
            // The first block of an index begins with both names, and inner ones with an entry as long as the block.
            // The length of 64 KiB does not fit and is stored as all ones or none.
            let length = usize::from(le16(&block, 4));
            let is_whole = length == self.layout.block_size
                || (self.layout.block_size == 1 << 16 && [0, 0xffff].contains(&length));
            let is_inner = le32(&block, 0) == 0 && is_whole;
            if folder.has_index() && (logical == 0 || is_inner) {
                continue;
            }
            let entries = Leaf::checked(block, self.seed(&folder.inode))?.entries()?;
            if entries.iter().any(|entry| entry.inode != 0 && entry.name != b"." && entry.name != b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
