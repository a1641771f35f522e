//! ext2, ext3 and ext4: recognised by their superblock, opened by `ext4-view`.
//!
//! `ext4-view` trusts some sizes: it allocates for all block groups, reads a link as long as its inode says, follows
//! an index of extents as wide as it is, and keeps what a journal revokes. It also remembers blocks, so that a loop
//! need not come back to its reader, where the budget is. So each such size is checked here before it is handed on.
//! Layout: the kernel's "ext4 Data Structures and Algorithms".

use std::error::Error as StdError;

use disk::error::Result;
use ext4_view::{Ext4, Ext4Error, Ext4Read, File, Path};

use super::files::{Files, LINK_MAX, Node, NodeKind};
use super::recognised::{Recognised, uuid_text};
use crate::budget::contain;
use crate::fields::{le16, le32};
use crate::report::FilesystemKind;
use crate::window::Window;

const SUPERBLOCK_AT: u64 = 1024;
const SUPERBLOCK_SIZE: usize = 1024;
const HAS_JOURNAL: u32 = 0x4;
const INCOMPAT_RECOVER: u32 = 0x4;
const INCOMPAT_JOURNAL_DEV: u32 = 0x8;
const INCOMPAT_64BIT: u32 = 0x80;
/// Features that only ext4 has: extents, 64 bit, flexible groups and younger ones.
const INCOMPAT_EXT4: u32 = 0x3_f3c0;
/// Huge files, group checksums, many links, large inodes, metadata checksums and younger ones.
const RO_COMPAT_EXT4: u32 = 0x1_ff78;
const RO_COMPAT_METADATA_CHECKSUMS: u32 = 0x400;

const BLOCK_SIZE_MAX: u64 = 64 << 10;
/// Most block groups: 64 TiB with usual groups.
const GROUPS_MAX: u64 = 512 << 10;
/// Longest journal that is replayed in memory: what it revokes takes up to twice its length.
const JOURNAL_MAX: u64 = 128 << 20;
/// Furthest block of a file that is read: the crate steps there over every block before it, also where there are none.
const STEPS_MAX: u64 = 1 << 24;
/// Largest folder: some 400,000 names.
const FOLDER_MAX: u64 = 16 << 20;

struct Superblock {
    block_size: u64,
    blocks: u64,
    blocks_free: u64,
    /// As the crate counts them: the upper half of the number of blocks counts for it on every file system.
    groups: u64,
    group_size: u64,
    inode_size: u64,
    inodes_per_group: u32,
    journal_inode: u32,
    compat: u32,
    incompat: u32,
    ro_compat: u32,
}

impl Superblock {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let block_size = 1024_u64.checked_shl(le32(bytes, 24)).filter(|size| (1024..=BLOCK_SIZE_MAX).contains(size))?;
        let incompat = le32(bytes, 96);
        let is_wide = incompat & INCOMPAT_64BIT != 0;
        let wide = |low: usize, high: usize| {
            u64::from(le32(bytes, low)) | if is_wide { u64::from(le32(bytes, high)) << 32 } else { 0 }
        };
        let blocks = wide(4, 0x150);
        let per_group = u64::from(le32(bytes, 32));
        let is_ours = le16(bytes, 56) == 0xef53 && blocks > 0 && per_group > 0 && le32(bytes, 40) > 0;
        is_ours.then(|| Self {
            block_size,
            blocks,
            blocks_free: wide(12, 0x158),
            groups: (u64::from(le32(bytes, 4)) | u64::from(le32(bytes, 0x150)) << 32).div_ceil(per_group),
            group_size: if is_wide { le16(bytes, 0xfe).into() } else { 32 },
            inode_size: le16(bytes, 0x58).into(),
            inodes_per_group: le32(bytes, 40),
            journal_inode: le32(bytes, 0xe0),
            compat: le32(bytes, 92),
            incompat,
            ro_compat: le32(bytes, 100),
        })
    }

    fn needs_recovery(&self) -> bool {
        self.compat & HAS_JOURNAL != 0 && self.incompat & INCOMPAT_RECOVER != 0
    }

    /// Returns how long the inode of the journal says that it is; none where it cannot be found.
    fn journal_length(&self, window: &Window) -> Result<Option<u64>> {
        let Some(index) = self.journal_inode.checked_sub(1) else { return Ok(None) };
        let (group, index) = (index / self.inodes_per_group, index % self.inodes_per_group);
        let first = if self.block_size == 1024 { 2 } else { 1 };
        // No overflow: block size, group size and inode size have at most 17 bits, the others 32.
        let descriptor = window.bytes(first * self.block_size + u64::from(group) * self.group_size, 64)?;
        let Some(descriptor) = descriptor.filter(|_| self.group_size >= 32) else { return Ok(None) };
        let high = if self.group_size >= 64 { le32(&descriptor, 40) } else { 0 };
        let table = u64::from(le32(&descriptor, 8)) | u64::from(high) << 32;
        let at = table.checked_mul(self.block_size);
        let Some(at) = at.and_then(|at| at.checked_add(u64::from(index) * self.inode_size)) else { return Ok(None) };
        let inode = window.bytes(at, 128)?;
        Ok(inode.map(|inode| u64::from(le32(&inode, 4)) | u64::from(le32(&inode, 108)) << 32))
    }
}

/// Recognises the superblock.
pub(super) fn recognise(bytes: &[u8]) -> Option<Recognised> {
    let superblock = Superblock::parse(bytes).filter(|found| found.incompat & INCOMPAT_JOURNAL_DEV == 0)?;
    let kind = if superblock.incompat & INCOMPAT_EXT4 != 0 || superblock.ro_compat & RO_COMPAT_EXT4 != 0 {
        FilesystemKind::Ext4
    } else if superblock.compat & HAS_JOURNAL != 0 {
        FilesystemKind::Ext3
    } else {
        FilesystemKind::Ext2
    };
    let used = superblock.blocks.checked_sub(superblock.blocks_free);
    Some(Recognised {
        uuid: uuid_text(bytes, 0x68),
        label: crate::text::clean_padded(&bytes[0x78..0x88]),
        size: superblock.blocks.checked_mul(superblock.block_size),
        used: used.and_then(|used| used.checked_mul(superblock.block_size)),
        ..Recognised::new(kind)
    })
}

/// An open file system.
pub(crate) struct Ext {
    view: Ext4,
    /// In bytes.
    block_size: u64,
}

impl Ext {
    /// Opens the file system in `window`; an error says why it cannot be read.
    ///
    /// A journal that was not replayed is read as if it were, unless it is too long or damaged: then a note names
    /// `device`, and the file system is read as it stands.
    pub(crate) fn open(window: &Window, device: &str) -> std::result::Result<Self, String> {
        let bytes = window.bytes(SUPERBLOCK_AT, SUPERBLOCK_SIZE).map_err(|error| error.to_string())?;
        let superblock = bytes.as_deref().and_then(Superblock::parse).ok_or("it has no sound superblock")?;
        if superblock.blocks.checked_mul(superblock.block_size).is_none_or(|size| size > window.len()) {
            return Err("it is larger than the place it lies in".to_owned());
        }
        if superblock.groups > GROUPS_MAX {
            return Err(format!("it has {} block groups; {GROUPS_MAX} is the limit", superblock.groups));
        }
        let load = |reader| load(reader).map(|view| Self { view, block_size: superblock.block_size });
        let reader = |is_recovered| Reader { window: window.clone(), block: superblock.block_size, is_recovered };
        if superblock.needs_recovery() {
            let length = superblock.journal_length(window).map_err(|error| error.to_string())?;
            if length.is_some_and(|length| length <= JOURNAL_MAX)
                && let Ok(replayed) = load(reader(false))
            {
                window
                    .budget()
                    .note(format!("{device} was not shut down cleanly; its journal was replayed in memory."));
                return Ok(replayed);
            }
            window.budget().note_unreplayed(device, " and its journal cannot be replayed");
        }
        load(reader(true))
    }
}

impl Files for Ext {
    fn stat(&self, path: &[u8]) -> std::result::Result<Option<Node>, String> {
        let found = call(|| self.view.symlink_metadata(Path::try_from(path).map_err(|_| Ext4Error::MalformedPath)?));
        Ok(absent_is_none(found)?.as_ref().map(node))
    }

    fn link(&self, path: &[u8], length: u64) -> std::result::Result<Vec<u8>, String> {
        if length > LINK_MAX {
            return Err(format!("a link of {length} bytes is over the limit"));
        }
        let target = call(|| self.view.read_link(Path::try_from(path).map_err(|_| Ext4Error::MalformedPath)?));
        target.map(|target| AsRef::<[u8]>::as_ref(&target).to_vec()).map_err(|error| error.to_string())
    }

    fn is_folder_small(&self, length: u64) -> bool {
        length <= FOLDER_MAX
    }

    fn names(&self, path: &[u8], most: usize) -> std::result::Result<Vec<Vec<u8>>, String> {
        let names = call(|| {
            let mut names = Vec::new();
            for entry in self.view.read_dir(Path::try_from(path).map_err(|_| Ext4Error::MalformedPath)?)? {
                let name = entry?.file_name().as_ref().to_vec();
                if name != b"." && name != b".." {
                    names.push(name);
                }
                if names.len() == most {
                    break;
                }
            }
            Ok(names)
        });
        names.map_err(|error| error.to_string())
    }

    /// Looks up each inode by its number, where a path would be looked for in all folders on the way.
    fn entries(&self, path: &[u8], most: usize) -> std::result::Result<Vec<(Vec<u8>, Node)>, String> {
        let entries = call(|| {
            let mut entries = Vec::new();
            for entry in self.view.read_dir(Path::try_from(path).map_err(|_| Ext4Error::MalformedPath)?)? {
                let entry = entry?;
                let name = entry.file_name().as_ref().to_vec();
                if entries.len() == most {
                    break;
                }
                if name != b"."
                    && name != b".."
                    && let Ok(found) = entry.metadata()
                {
                    entries.push((name, node(&found)));
                }
            }
            Ok(entries)
        });
        entries.map_err(|error| error.to_string())
    }

    fn read(&self, path: &[u8], offset: u64, most: usize) -> std::result::Result<Vec<u8>, String> {
        if offset / self.block_size > STEPS_MAX {
            return Err(format!("what lies {offset} bytes from its beginning is too far"));
        }
        let read = call(|| {
            let mut file: File = self.view.open(Path::try_from(path).map_err(|_| Ext4Error::MalformedPath)?)?;
            let left = file.metadata().len().saturating_sub(offset);
            if left == 0 {
                return Ok(Vec::new());
            }
            file.seek_to(offset)?;
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(most);
            let mut bytes = vec![0; length];
            let mut filled = 0;
            while filled < length {
                match file.read_bytes(&mut bytes[filled..])? {
                    0 => break,
                    count => filled += count,
                }
            }
            bytes.truncate(filled);
            Ok(bytes)
        });
        read.map_err(|error| error.to_string())
    }
}

fn node(found: &ext4_view::Metadata) -> Node {
    let kind = match found.file_type() {
        ext4_view::FileType::Regular => NodeKind::File,
        ext4_view::FileType::Directory => NodeKind::Folder,
        ext4_view::FileType::Symlink => NodeKind::Link,
        _ => NodeKind::Special,
    };
    Node { kind, length: found.len(), mode: found.mode(), uid: found.uid(), gid: found.gid() }
}

/// What the reader crate answered: its own error, or a panic.
enum Fault {
    Told(Ext4Error),
    Panicked,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Told(error) => write!(f, "{error}"),
            Self::Panicked => f.write_str("its structure is broken"),
        }
    }
}

fn call<T>(run: impl FnOnce() -> std::result::Result<T, Ext4Error>) -> std::result::Result<T, Fault> {
    match contain(run) {
        Some(answer) => answer.map_err(Fault::Told),
        None => Err(Fault::Panicked),
    }
}

fn absent_is_none<T>(answer: std::result::Result<T, Fault>) -> std::result::Result<Option<T>, String> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Fault::Told(Ext4Error::NotFound | Ext4Error::NotADirectory)) => Ok(None),
        Err(fault) => Err(fault.to_string()),
    }
}

fn load(reader: Reader) -> std::result::Result<Ext4, String> {
    call(|| Ext4::load(Box::new(reader))).map_err(|error| error.to_string())
}

/// The window as `ext4-view` reads it.
struct Reader {
    window: Window,
    block: u64,
    /// Whether the superblock is shown as if nothing were left in the journal.
    is_recovered: bool,
}

impl Ext4Read for Reader {
    fn read(&mut self, start: u64, buf: &mut [u8]) -> std::result::Result<(), Box<dyn StdError + Send + Sync>> {
        self.window.read_at(buf, start)?;
        if start == SUPERBLOCK_AT && buf.len() == SUPERBLOCK_SIZE {
            if self.is_recovered {
                clear_recovery(buf);
            }
        } else if start.is_multiple_of(self.block) {
            buf.chunks_exact_mut(self.block as usize).for_each(hide_wide_index);
        }
        Ok(())
    }
}

/// Empties a block that is an inner node of a tree of extents.
///
/// An inode has room for four extents or four leaves of some 340 extents each, which is enough for every file and
/// folder that is read here. A third level is needed by large and scattered files only, and gives a hostile tree room for
/// 340 to the power of 4 visits of one remembered block. An emptied block is refused as a bad node. Content passes here
/// too, so only what `ext4-view` would take for a node is emptied: of all blocks of compressed content one in a
/// million million looks so.
fn hide_wide_index(block: &mut [u8]) {
    const EXTENT_MAGIC: u16 = 0xf30a;
    const DEPTH_MAX: u16 = 5;
    let is_inner = (1..=DEPTH_MAX).contains(&le16(block, 6));
    let fits = (usize::from(le16(block, 4)) + 1) * 12 <= block.len();
    if le16(block, 0) == EXTENT_MAGIC && is_inner && fits {
        block.fill(0);
    }
}

fn clear_recovery(superblock: &mut [u8]) {
    let incompat = le32(superblock, 96) & !INCOMPAT_RECOVER;
    superblock[96..100].copy_from_slice(&incompat.to_le_bytes());
    if le32(superblock, 100) & RO_COMPAT_METADATA_CHECKSUMS != 0 {
        let (covered, checksum) = superblock.split_at_mut(1020);
        checksum.copy_from_slice(&crc32c(covered).to_le_bytes());
    }
}

/// CRC-32C without the final inversion, as ext4 stores it.
fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_has_its_check_value() {
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn only_inner_extent_nodes_are_emptied() {
        let block = |depth: u8| [&[0x0a, 0xf3, 1, 0, 4, 0, depth, 0], &[7_u8; 56][..]].concat();
        let (mut inner, mut leaf, mut content) = (block(1), block(0), block(6));
        hide_wide_index(&mut inner);
        hide_wide_index(&mut leaf);
        hide_wide_index(&mut content);
        assert_eq!(inner, [0; 64]);
        assert_eq!((leaf, content), (block(0), block(6)));
        // A node cannot be larger than its block.
        let mut content = block(1);
        content[4] = 5;
        hide_wide_index(&mut content);
        assert_eq!(content[4], 5);
    }
}
