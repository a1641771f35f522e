//! One block of a folder: entries one behind the other, each as long as it says.
//!
//! Layout: the kernel's "ext4 Data Structures and Algorithms", Directory Entries.

use disk::error::Result;

use super::change::damaged;
use super::checksum::crc32c;
use crate::fields::{le16, le32, put, put_le16, put_le32};

/// Bytes before the name.
const HEAD: usize = 8;
/// An entry without a name at the end of the block, which holds the checksum.
const TAIL: usize = 12;
const TAIL_TYPE: u8 = 0xde;

/// Where an entry lies, and what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    at: usize,
    length: usize,
    /// Zero where the entry was removed.
    pub(super) inode: u32,
    pub(super) kind: u8,
    pub(super) name: Vec<u8>,
}

impl Entry {
    pub(super) fn new(inode: u32, kind: u8, name: &[u8]) -> Self {
        Self { at: 0, length: 0, inode, kind, name: name.to_vec() }
    }

    /// Returns how many bytes it needs.
    pub(super) fn needs(&self) -> usize {
        needs(self.name.len())
    }
}

fn needs(name: usize) -> usize {
    (HEAD + name).next_multiple_of(4)
}

/// A block of entries; `seed` is that of the folder, where blocks have checksums.
pub(super) struct Leaf {
    pub(super) bytes: Vec<u8>,
    seed: Option<u32>,
}

impl Leaf {
    /// Makes a block with one entry that is not in use.
    pub(super) fn empty(size: usize, seed: Option<u32>) -> Self {
        let mut leaf = Self { bytes: vec![0; size], seed };
        if seed.is_some() {
            leaf.put_length(size - TAIL, TAIL);
            leaf.bytes[size - TAIL + 7] = TAIL_TYPE;
        }
        let end = leaf.end();
        leaf.put_length(0, end);
        leaf
    }

    /// Makes a block of `entries`, one behind the other; none where they do not fit.
    pub(super) fn filled<'a>(size: usize, seed: Option<u32>, entries: impl Iterator<Item = &'a Entry>) -> Option<Self> {
        let mut leaf = Self::empty(size, seed);
        let (mut last, mut at) = (0, 0);
        for entry in entries {
            if at + entry.needs() > leaf.end() {
                return None;
            }
            leaf.put_entry(at, entry.needs(), entry);
            last = at;
            at += entry.needs();
        }
        let rest = leaf.end() - last;
        leaf.put_length(last, rest);
        Some(leaf)
    }

    /// Takes a block that was read, if its checksum is right.
    pub(super) fn checked(bytes: Vec<u8>, seed: Option<u32>) -> Result<Self> {
        let leaf = Self { bytes, seed };
        if let Some(seed) = seed {
            let tail = &leaf.bytes[leaf.end()..];
            if le32(tail, 0) != 0 || le16(tail, 4) != TAIL as u16 || tail[6..8] != [0, TAIL_TYPE] {
                return Err(damaged("a block of a folder has no checksum"));
            }
            if crc32c(seed, &leaf.bytes[..leaf.end()]) != le32(tail, 8) {
                return Err(damaged("the checksum of a block of a folder is wrong"));
            }
        }
        Ok(leaf)
    }

    /// Returns the block with its checksum.
    pub(super) fn summed(mut self) -> Vec<u8> {
        if let Some(seed) = self.seed {
            let end = self.end();
            let sum = crc32c(seed, &self.bytes[..end]);
            put_le32(&mut self.bytes, end + 8, sum);
        }
        self.bytes
    }

    /// Returns where entries end.
    fn end(&self) -> usize {
        self.bytes.len() - if self.seed.is_some() { TAIL } else { 0 }
    }

    fn put_length(&mut self, at: usize, length: usize) {
        put_le16(&mut self.bytes, at + 4, length_to_disk(length));
    }

    /// Returns all entries, those that are not in use among them.
    pub(super) fn entries(&self) -> Result<Vec<Entry>> {
        let broken = || damaged("an entry of a folder is broken");
        let mut entries = Vec::new();
        let mut at = 0;
        while at < self.end() {
            let head = self.bytes.get(at..at + HEAD).ok_or_else(broken)?;
            let length = length_of(le16(head, 4), self.bytes.len());
            let name = usize::from(head[6]);
            let is_sound = length >= needs(1) && length.is_multiple_of(4) && at + length <= self.end();
            if !is_sound || HEAD + name > length {
                return Err(broken());
            }
            let name = self.bytes[at + HEAD..at + HEAD + name].to_vec();
            entries.push(Entry { at, length, inode: le32(head, 0), kind: head[7], name });
            at += length;
        }
        Ok(entries)
    }

    pub(super) fn find(&self, name: &[u8]) -> Result<Option<Entry>> {
        Ok(self.entries()?.into_iter().find(|entry| entry.inode != 0 && entry.name == name))
    }

    /// Puts an entry where there is room for it; returns whether there was.
    pub(super) fn insert(&mut self, new: &Entry) -> Result<bool> {
        for entry in self.entries()? {
            let used = if entry.inode == 0 { 0 } else { entry.needs() };
            if entry.length - used < new.needs() {
                continue;
            }
            if used > 0 {
                self.put_length(entry.at, used);
            }
            self.put_entry(entry.at + used, entry.length - used, new);
            return Ok(true);
        }
        Ok(false)
    }

    fn put_entry(&mut self, at: usize, length: usize, entry: &Entry) {
        put_le32(&mut self.bytes, at, entry.inode);
        self.put_length(at, length);
        self.bytes[at + 6] = entry.name.len() as u8;
        self.bytes[at + 7] = entry.kind;
        put(&mut self.bytes, at + HEAD, &entry.name);
    }

    /// Takes the entry `name` out; its room goes to the one before it.
    pub(super) fn remove(&mut self, name: &[u8]) -> Result<bool> {
        let entries = self.entries()?;
        let Some(found) = entries.iter().position(|entry| entry.inode != 0 && entry.name == name) else {
            return Ok(false);
        };
        let entry = &entries[found];
        match found.checked_sub(1).and_then(|before| entries.get(before)) {
            Some(before) => self.put_length(before.at, before.length + entry.length),
            None => put_le32(&mut self.bytes, entry.at, 0),
        }
        Ok(true)
    }
}

/// Blocks of 64 KiB have entries whose length needs 17 bits; see the kernel's `rec_len`.
pub(super) fn length_of(field: u16, block: usize) -> usize {
    let length = usize::from(field);
    if block <= 0x8000 {
        length
    } else if length == 0xffff || length == 0 {
        block
    } else {
        length & 0xfffc | (length & 3) << 16
    }
}

pub(super) fn length_to_disk(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(leaf: &Leaf) -> Vec<Vec<u8>> {
        leaf.entries().unwrap().into_iter().filter(|entry| entry.inode != 0).map(|entry| entry.name).collect()
    }

    #[test]
    fn entries_come_and_go_until_the_block_is_full() {
        for (size, seed) in [(1024, None), (1024, Some(7)), (65536, None), (65536, Some(9))] {
            let mut leaf = Leaf::empty(size, seed);
            let mut count = 0_u32;
            while leaf.insert(&Entry::new(count + 1, 1, format!("{count:010}").as_bytes())).unwrap() {
                count += 1;
            }
            assert_eq!(count as usize, leaf.end() / 20);
            let mut leaf = Leaf::checked(leaf.summed(), seed).unwrap();
            assert!(leaf.remove(b"0000000000").unwrap() && leaf.remove(b"0000000005").unwrap());
            assert!(!leaf.remove(b"0000000005").unwrap());
            assert_eq!(names(&leaf).len(), count as usize - 2);
            assert!(leaf.insert(&Entry::new(9, 1, b"x")).unwrap());
            assert_eq!(leaf.find(b"x").unwrap().unwrap().inode, 9);
        }
    }

    #[test]
    fn broken_entries_are_told() {
        for length in [0_u16, 4, 8, 14, 1025, 2000] {
            let mut leaf = Leaf::empty(1024, None);
            leaf.insert(&Entry::new(2, 1, b"name")).unwrap();
            put_le16(&mut leaf.bytes, 4, length);
            assert!(leaf.entries().is_err(), "{length}");
        }
        let mut damaged = Leaf::empty(1024, Some(1)).summed();
        damaged[100] ^= 1;
        assert!(Leaf::checked(damaged, Some(1)).is_err());
    }
}
