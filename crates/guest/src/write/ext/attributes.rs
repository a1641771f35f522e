//! Extended attributes: the SELinux label of new files, and what has to go with a file that goes.
//!
//! They lie behind the fields of the inode, in a block of their own that several inodes may share, or in both.
//! Layout: the kernel's "ext4 Data Structures and Algorithms", Extended Attributes.

use disk::error::{Error, Result};

use super::change::{Change, damaged};
use super::checksum::{Sums, crc32c};
use super::folder::Folder;
use super::inode::{Inode, Kind};
use crate::fields::{le16, le32, put, put_le16, put_le32};

const MAGIC: u32 = 0xea02_0000;
/// Bytes before the first entry in a block.
const BLOCK_HEAD: usize = 32;
/// Bytes of an entry before its name.
const ENTRY: usize = 16;
/// Numbers that stand for the first word of a name.
const POSIX_ACL_ACCESS: u8 = 2;
const SECURITY: u8 = 6;
const SELINUX: &[u8] = b"selinux";
/// Most neighbours that are asked for their label.
const NEIGHBOURS: usize = 16;

/// An attribute: the number for the first word of its name, the rest of the name, where its value lies.
struct Attribute {
    index: u8,
    name: Vec<u8>,
    value: Vec<u8>,
    is_in_inode: bool,
}

/// Reads the entries of `bytes` from `first` on; places of values count from `origin`.
fn attributes(bytes: &[u8], first: usize, origin: usize) -> Result<Vec<Attribute>> {
    let broken = || damaged("the attributes of a file are broken");
    let mut found = Vec::new();
    let mut at = first;
    while le32(bytes, at) != 0 {
        let length = usize::from(bytes[at]);
        let name = bytes.get(at + ENTRY..at + ENTRY + length).ok_or_else(broken)?.to_vec();
        let size = le32(bytes, at + 8) as usize;
        let is_in_inode = le32(bytes, at + 4) != 0;
        let place = origin + usize::from(le16(bytes, at + 2));
        let value = if is_in_inode { Some(&[][..]) } else { bytes.get(place..place.saturating_add(size)) };
        found.push(Attribute { index: bytes[at + 1], name, value: value.ok_or_else(broken)?.to_vec(), is_in_inode });
        at += (ENTRY + length).next_multiple_of(4);
    }
    Ok(found)
}

/// Puts one entry for a label at `at` and its value at `place`, which is told as `told`.
fn put_label(bytes: &mut [u8], at: usize, place: usize, told: usize, label: &[u8], hash: u32) {
    put(bytes, at, &[SELINUX.len() as u8, SECURITY]);
    put_le16(bytes, at + 2, told as u16);
    put_le32(bytes, at + 8, label.len() as u32);
    put_le32(bytes, at + 12, hash);
    put(bytes, at + ENTRY, SELINUX);
    put(bytes, place, label);
}

fn hash_of(label: &[u8]) -> u32 {
    let name = SELINUX.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
    label.chunks(4).fold(name, |hash, part| {
        let mut word = [0; 4];
        word[..part.len()].copy_from_slice(part);
        hash.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}

impl Change<'_> {
    fn attribute_sum(&self, place: u64, block: &[u8]) -> Option<u32> {
        let Sums::All(seed) = self.layout.sums else { return None };
        let crc = crc32c(crc32c(seed, &place.to_le_bytes()), &block[..16]);
        Some(crc32c(crc32c(crc, &[0; 4]), &block[20..]))
    }

    fn attribute_block(&mut self, inode: &Inode) -> Result<Option<(u64, Vec<u8>)>> {
        let place = inode.attribute_block();
        if place == 0 {
            return Ok(None);
        }
        self.check_data(place, 1)?;
        let block = self.read(place)?;
        if le32(&block, 0) != MAGIC || le32(&block, 4) == 0 || le32(&block, 8) != 1 {
            return Err(damaged(format!("the attributes of inode {} are broken", inode.number)));
        }
        if self.attribute_sum(place, &block).is_some_and(|sum| sum != le32(&block, 16)) {
            return Err(damaged(format!("the checksum of the attributes of inode {} is wrong", inode.number)));
        }
        Ok(Some((place, block)))
    }

    fn attributes(&mut self, inode: &Inode) -> Result<Vec<Attribute>> {
        let mut found = Vec::new();
        let first = 128 + inode.extra();
        if inode.bytes.len() > first && le32(&inode.bytes, first) == MAGIC {
            found.extend(attributes(&inode.bytes, first + 4, first + 4)?);
        }
        if let Some((_, block)) = self.attribute_block(inode)? {
            found.extend(attributes(&block, BLOCK_HEAD, 0)?);
        }
        Ok(found)
    }

    /// Returns whether the mode of a file is only a part of its list of rights.
    pub(super) fn has_acl(&mut self, inode: &Inode) -> Result<bool> {
        Ok(self.attributes(inode)?.iter().any(|attribute| attribute.index == POSIX_ACL_ACCESS))
    }

    /// Returns the SELinux label of a file.
    pub(super) fn label(&mut self, inode: &Inode) -> Result<Option<Vec<u8>>> {
        let is_label = |found: &Attribute| found.index == SECURITY && found.name == SELINUX && !found.is_in_inode;
        Ok(self.attributes(inode)?.into_iter().find(is_label).map(|found| found.value))
    }

    /// Returns the label for a new file `name`: that of a neighbour of the same kind, else that of the folder.
    pub(super) fn label_nearby(&mut self, folder: &Folder, name: &[u8], kind: Kind) -> Result<Option<Vec<u8>>> {
        let logical = if folder.has_index() { self.block_for(folder, name)? } else { Some(0) };
        let entries = match logical {
            Some(logical) => self.leaf(folder, logical)?.entries()?,
            None => Vec::new(),
        };
        let is_neighbour = |name: &[u8]| name != b"." && name != b"..";
        let neighbours = entries.into_iter().filter(|entry| entry.inode != 0 && is_neighbour(&entry.name));
        for entry in neighbours.take(NEIGHBOURS) {
            // A neighbour that cannot be read is no reason not to make a file beside it.
            if let Ok(neighbour) = self.inode(entry.inode)
                && neighbour.kind() == Some(kind)
                && let Ok(Some(label)) = self.label(&neighbour)
            {
                return Ok(Some(label));
            }
        }
        self.label(&folder.inode)
    }

    /// Gives a new inode, which has no attributes, a label: behind its fields if it fits there, else in a block.
    pub(super) fn set_label(&mut self, inode: &mut Inode, label: &[u8]) -> Result<()> {
        let first = 128 + inode.extra();
        let entry = (ENTRY + SELINUX.len()).next_multiple_of(4);
        let value = label.len().next_multiple_of(4);
        let size = inode.bytes.len();
        // The magic before the entry, and four zero bytes behind the last one.
        if first + 4 + entry + 4 + value <= size {
            put_le32(&mut inode.bytes, first, MAGIC);
            let place = size - value;
            put_label(&mut inode.bytes, first + 4, place, place - first - 4, label, 0);
            return Ok(());
        }
        let size = self.layout.block_size;
        if BLOCK_HEAD + entry + 4 + value > size {
            return Err(Error::unsupported("the SELinux label is too long for a block"));
        }
        let goal = self.goal(inode);
        let place = self.take_blocks(goal, 1)?.first().map(|run| run.start);
        let place = place.ok_or_else(|| damaged("no block was taken"))?;
        let mut block = vec![0; size];
        let hash = hash_of(label);
        put_le32(&mut block, 0, MAGIC);
        put_le32(&mut block, 4, 1);
        put_le32(&mut block, 8, 1);
        put_le32(&mut block, 12, hash);
        put_label(&mut block, BLOCK_HEAD, size - value, size - value, label, hash);
        self.write_attribute_block(place, block)?;
        inode.set_attribute_block(place);
        inode.add_blocks(size, 1)
    }

    fn write_attribute_block(&mut self, place: u64, mut block: Vec<u8>) -> Result<()> {
        if let Some(sum) = self.attribute_sum(place, &block) {
            put_le32(&mut block, 16, sum);
        }
        self.write(place, block)
    }

    /// Lets go of the block of attributes of a file that goes; the last one to do so frees it.
    pub(super) fn release_attributes(&mut self, inode: &mut Inode) -> Result<()> {
        if self.attributes(inode)?.iter().any(|attribute| attribute.is_in_inode) {
            let error = format!("inode {} has attributes in inodes of their own", inode.number);
            return Err(Error::unsupported(error).with_hint("remove it in the running system"));
        }
        let Some((place, mut block)) = self.attribute_block(inode)? else { return Ok(()) };
        let users = le32(&block, 4);
        if users > 1 {
            put_le32(&mut block, 4, users - 1);
            self.write_attribute_block(place, block)?;
        } else {
            self.free_blocks(place..place + 1)?;
        }
        inode.set_attribute_block(0);
        inode.add_blocks(self.layout.block_size, -1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_as_it_was_put() {
        let mut bytes = vec![0; 256];
        put_label(&mut bytes, 32, 228, 228, b"system_u:object_r:etc_t:s0\0", 0);
        let found = attributes(&bytes, 32, 0).unwrap();
        assert_eq!((found.len(), found[0].index, &found[0].name[..]), (1, SECURITY, SELINUX));
        assert_eq!(found[0].value, b"system_u:object_r:etc_t:s0\0");
        put_le16(&mut bytes, 34, 250);
        assert!(attributes(&bytes, 32, 0).is_err());
    }
}
