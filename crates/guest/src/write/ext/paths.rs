//! From a path to an inode, and the operations on names.

use disk::error::{Error, Result};

use super::Attributes;
use super::change::Change;
use super::folder::Folder;
use super::inode::{FLAG_EXTENTS, Inode, Kind, ROOT};
use super::layout::RO_COMPAT_DIR_NLINK;
use crate::text::clean;

const NAME_MAX: usize = 255;
/// Most links of a folder, one of which each folder in it has.
const LINKS_MAX: u16 = 65_000;

/// Splits a path into the names of folders and the last name.
pub(super) fn split(path: &[u8]) -> Result<(Vec<&[u8]>, &[u8])> {
    let invalid = || Error::refused(format!("{} is not the absolute path of a file", clean(path)));
    let mut names: Vec<&[u8]> = path.strip_prefix(b"/").ok_or_else(invalid)?.split(|byte| *byte == b'/').collect();
    let is_bad = |name: &&[u8]| name.is_empty() || *name == b"." || *name == b".." || name.contains(&0);
    if names.iter().any(is_bad) || names.iter().any(|name| name.len() > NAME_MAX) {
        return Err(invalid());
    }
    let last = names.pop().ok_or_else(invalid)?;
    Ok((names, last))
}

impl Change<'_> {
    /// Returns the folder in which the last name of `path` is or will be, and that name.
    pub(super) fn parent<'p>(&mut self, path: &'p [u8]) -> Result<(Folder, &'p [u8])> {
        let (folders, last) = split(path)?;
        let mut inode = self.inode(ROOT)?;
        for name in folders {
            let folder = self.folder(inode)?;
            inode = self.named(&folder, name, path)?;
            if inode.kind() == Some(Kind::Link) {
                let told = format!("{} leads over the link {}", clean(path), clean(name));
                return Err(Error::refused(told).with_hint("name the path without links"));
            }
            if inode.kind() != Some(Kind::Folder) {
                return Err(Error::refused(format!("{} in {} is not a folder", clean(name), clean(path))));
            }
        }
        if inode.kind() != Some(Kind::Folder) {
            return Err(super::change::damaged("the top is not a folder"));
        }
        Ok((self.folder(inode)?, last))
    }

    /// Returns the inode of `name` in a folder; `path` is for the error.
    pub(super) fn named(&mut self, folder: &Folder, name: &[u8], path: &[u8]) -> Result<Inode> {
        let found = self.find(folder, name)?;
        let (_, entry) =
            found.ok_or_else(|| Error::refused(format!("there is no {} in {}", clean(name), clean(path))))?;
        self.inode(entry.inode)
    }

    /// Returns whether something stands at `path`.
    pub(super) fn exists(&mut self, path: &[u8]) -> Result<bool> {
        let (folders, last) = split(path)?;
        let mut folder = self.inode(ROOT)?;
        for name in folders.into_iter().chain([last]) {
            if folder.kind() != Some(Kind::Folder) {
                return Ok(false);
            }
            let open = self.folder(folder)?;
            let Some((_, entry)) = self.find(&open, name)? else { return Ok(false) };
            folder = self.inode(entry.inode)?;
        }
        Ok(true)
    }

    /// Returns what stands at `path`.
    pub(super) fn at(&mut self, path: &[u8]) -> Result<Inode> {
        let (folder, name) = self.parent(path)?;
        self.named(&folder, name, path)
    }

    /// Returns the file at `path`.
    pub(super) fn file_at(&mut self, path: &[u8]) -> Result<Inode> {
        let inode = self.at(path)?;
        if inode.kind() != Some(Kind::File) {
            return Err(Error::refused(format!("{} is not a file", clean(path))));
        }
        Ok(inode)
    }

    pub(super) fn create(
        &mut self,
        path: &[u8],
        kind: Kind,
        content: &[u8],
        attributes: Attributes,
        like: Option<&[u8]>,
    ) -> Result<()> {
        let (mut folder, name) = self.parent(path)?;
        if self.find(&folder, name)?.is_some() {
            return Err(Error::refused(format!("{} is there already", clean(path))));
        }
        let label = match like {
            Some(like) => {
                let like = self.at(like)?;
                self.label(&like)?
            }
            None => self.label_nearby(&folder, name, kind)?,
        };
        let mut inode = self.new_inode(&folder.inode, kind)?;
        inode.set_mode(kind.mode() | attributes.mode & 0o7777);
        inode.set_owner(attributes.uid, attributes.gid);
        match kind {
            Kind::Link => self.fill_link(&mut inode, content)?,
            Kind::Folder => {
                self.use_extents(&mut inode);
                self.fill_folder(&mut inode, folder.inode.number)?;
                inode.set_links(2);
                self.count_link(&mut folder)?;
            }
            _ => {
                self.use_extents(&mut inode);
                self.fill(&mut inode, content)?;
            }
        }
        if let Some(label) = label {
            self.set_label(&mut inode, &label)?;
        }
        self.write_inode(&inode)?;
        self.add_name(&mut folder, name, inode.number, kind)
    }

    /// Chooses extents for a new file where the file system has them.
    pub(super) fn use_extents(&self, inode: &mut Inode) {
        if self.layout.has_extents() {
            inode.set_flags(inode.flags() | FLAG_EXTENTS);
        }
    }

    /// Counts the `..` of a new folder as a link to its parent.
    fn count_link(&self, folder: &mut Folder) -> Result<()> {
        let has_overflow = self.layout.ro_compat & RO_COMPAT_DIR_NLINK != 0;
        match folder.inode.links() {
            // One stands for more than can be counted.
            1 if has_overflow => {}
            links if links < LINKS_MAX - 1 => folder.inode.set_links(links + 1),
            _ if has_overflow => folder.inode.set_links(1),
            _ => return Err(Error::refused("the folder has as many folders in it as it can have")),
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &[u8]) -> Result<()> {
        let (mut folder, name) = self.parent(path)?;
        let mut inode = self.named(&folder, name, path)?;
        if !matches!(inode.kind(), Some(Kind::File | Kind::Link)) {
            return Err(Error::refused(format!("{} is neither a file nor a link", clean(path))));
        }
        self.remove_name(&mut folder, name)?;
        if inode.links() > 1 {
            inode.set_links(inode.links() - 1);
            inode.touch(self.now, false);
            return self.write_inode(&inode);
        }
        self.release_attributes(&mut inode)?;
        self.empty(&mut inode)?;
        self.delete_inode(inode)
    }

    pub(super) fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<()> {
        let (mut folder, old) = self.parent(from)?;
        let (new_folders, new) = split(to)?;
        if split(from)?.0 != new_folders {
            return Err(Error::refused(format!("{} and {} are in different folders", clean(from), clean(to))));
        }
        let mut inode = self.named(&folder, old, from)?;
        if self.find(&folder, new)?.is_some() {
            return Err(Error::refused(format!("{} is there already", clean(to))));
        }
        let kind = inode.kind().ok_or_else(|| super::change::damaged("a file is of no kind"))?;
        self.remove_name(&mut folder, old)?;
        self.add_name(&mut folder, new, inode.number, kind)?;
        inode.touch(self.now, false);
        self.write_inode(&inode)
    }

    pub(super) fn chmod(&mut self, path: &[u8], mode: u16) -> Result<()> {
        let mut inode = self.at(path)?;
        if inode.kind() == Some(Kind::Link) {
            return Err(Error::refused(format!("{} is a link, which has no permissions", clean(path))));
        }
        if self.has_acl(&inode)? {
            let error = Error::unsupported(format!("{} has an access list, which is not written offline", clean(path)));
            return Err(error.with_hint("change it in the running system"));
        }
        inode.set_mode(inode.mode() & !0o7777 | mode & 0o7777);
        inode.touch(self.now, false);
        self.write_inode(&inode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split() {
        assert_eq!(split(b"/etc/fstab").unwrap(), (vec![&b"etc"[..]], &b"fstab"[..]));
        assert_eq!(split(b"/x").unwrap(), (vec![], &b"x"[..]));
        let long = [b"/", &[b'a'; 256][..]].concat();
        for bad in [&b""[..], b"/", b"etc", b"/etc/", b"/a//b", b"/a/./b", b"/a/..", b"/a\0b", &long] {
            assert!(split(bad).is_err(), "{bad:?}");
        }
    }
}
