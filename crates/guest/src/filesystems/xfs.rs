//! XFS: opened by `lamxfs`, version 4 and 5.
//!
//! `lamxfs` replays the log in memory, keeps all extents of a file and of a folder, and takes a link to be as long as
//! its inode says. What it reads is counted here for each call, so that what it keeps has a limit.
//! Layout: "XFS Algorithms & Data Structures", 3rd edition.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use disk::error::{Error, Result};
use lamxfs::{BlockRead, Path, SuperblockReason};

use super::files::{Files, LINK_MAX, Node, NodeKind};
use crate::budget::{Allowance, CALL_MAX, contain};
use crate::fields::{be16, be32, be64, stands_at};
use crate::window::Window;

/// Most bytes of the tree that maps one file: a quarter of a million extents.
const MAP_MAX: u64 = 4 << 20;
/// Largest folder: some 400,000 names.
const FOLDER_MAX: u64 = 16 << 20;

/// An open file system.
pub(super) struct Xfs {
    inner: RefCell<lamxfs::Xfs<Reader>>,
    window: Window,
    geometry: Geometry,
    counters: Rc<Counters>,
}

/// What one call of `lamxfs` reads.
#[derive(Default)]
struct Counters {
    all: Allowance,
    /// Of the trees that map files.
    maps: Allowance,
    /// Whether it read anything but the superblock and the log.
    is_outside: Cell<bool>,
}

/// Where things are, as the superblock tells.
struct Geometry {
    block: u64,
    blocks: u64,
    group_blocks: u64,
    /// Widths of the parts of an inode number: place in its block, block in its group.
    slot_bits: u32,
    block_bits: u32,
    inode_size: u64,
    log: (u64, u64),
}

impl Geometry {
    fn read(window: &Window) -> std::result::Result<Self, String> {
        let bytes = window.bytes(0, 512).map_err(|error| error.to_string())?.unwrap_or_default();
        let block_bits = u32::from(bytes.get(124).copied().unwrap_or_default());
        let mut geometry = Self {
            block: be32(&bytes, 4).into(),
            blocks: be64(&bytes, 8),
            group_blocks: be32(&bytes, 84).into(),
            slot_bits: bytes.get(123).copied().unwrap_or_default().into(),
            block_bits,
            inode_size: be16(&bytes, 104).into(),
            log: (0, 0),
        };
        let is_sound = stands_at(&bytes, 0, b"XFSB")
            && (512..=65536).contains(&geometry.block)
            && geometry.slot_bits < 32
            && geometry.block_bits < 32;
        if !is_sound {
            return Err("it has no sound superblock".to_owned());
        }
        if geometry.blocks.checked_mul(geometry.block).is_none_or(|size| size > window.len()) {
            return Err("it is larger than the place it lies in".to_owned());
        }
        let start = geometry.place_of_block(be64(&bytes, 48));
        geometry.log = (start, start.saturating_add(u64::from(be32(&bytes, 96)) * geometry.block));
        Ok(geometry)
    }

    /// Returns where the block lies whose number holds its group in the upper bits.
    fn place_of_block(&self, number: u64) -> u64 {
        let (group, block) = (number >> self.block_bits, number & ((1 << self.block_bits) - 1));
        group.saturating_mul(self.group_blocks).saturating_add(block).saturating_mul(self.block)
    }

    fn place_of_inode(&self, number: u64) -> u64 {
        let slot = number & ((1 << self.slot_bits) - 1);
        self.place_of_block(number >> self.slot_bits).saturating_add(slot * self.inode_size)
    }
}

impl Xfs {
    /// Opens the file system in `window`; an error says why it cannot be read.
    ///
    /// A log that holds changes is replayed in memory. One that cannot be is left out: then a note names `device`, and
    /// the file system is read as it stands.
    pub(super) fn open(window: &Window, device: &str) -> std::result::Result<Self, String> {
        let geometry = Geometry::read(window)?;
        let counters = Rc::new(Counters::default());
        let load = |is_log_hidden| {
            // The log is kept whole; what that takes in memory is some three times as much as is read.
            counters.all.grant(CALL_MAX);
            counters.maps.grant(MAP_MAX);
            let (window, counters) = (window.clone(), counters.clone());
            let reader = Reader { window, counters, block: geometry.block, log: geometry.log, is_log_hidden };
            call(|| lamxfs::Xfs::open(reader, geometry.blocks * geometry.block))
        };
        let budget = window.budget();
        let inner = match load(false) {
            Ok(inner) => {
                if counters.is_outside.get() {
                    budget.note(format!("{device} was not shut down cleanly; its log was replayed in memory."));
                }
                inner
            }
            Err(fault) => {
                let inner = load(true).map_err(|_| fault.to_string())?;
                budget.note_unreplayed(device, " and its log cannot be replayed");
                inner
            }
        };
        Ok(Self { inner: RefCell::new(inner), window: window.clone(), geometry, counters })
    }

    fn call<T>(&self, run: impl FnOnce(&mut lamxfs::Xfs<Reader>) -> Answer<T>) -> std::result::Result<T, Fault> {
        self.call_within(CALL_MAX, run)
    }

    fn call_within<T>(
        &self,
        bytes: u64,
        run: impl FnOnce(&mut lamxfs::Xfs<Reader>) -> Answer<T>,
    ) -> std::result::Result<T, Fault> {
        self.counters.all.grant(bytes);
        self.counters.maps.grant(MAP_MAX);
        call(|| run(&mut self.inner.borrow_mut()))
    }

    fn find(&self, path: &[u8]) -> std::result::Result<Option<lamxfs::Inode>, String> {
        match self.call(|inner| inner.resolve(Path::new(path))) {
            Ok(inode) => Ok(Some(inode)),
            Err(Fault::Told(lamxfs::Error::NotFound { .. })) => Ok(None),
            Err(fault) => Err(fault.to_string()),
        }
    }

    fn found(&self, path: &[u8]) -> std::result::Result<lamxfs::Inode, String> {
        self.find(path)?.ok_or_else(|| "nothing is there".to_owned())
    }

    fn metadata(&self, inode: lamxfs::Inode) -> std::result::Result<lamxfs::Metadata, String> {
        self.call(|inner| inner.metadata(&inode)).map_err(|fault| fault.to_string())
    }
}

impl Files for Xfs {
    fn stat(&self, path: &[u8]) -> std::result::Result<Option<Node>, String> {
        let Some(inode) = self.find(path)? else { return Ok(None) };
        let found = self.metadata(inode)?;
        // The owner, which `lamxfs` does not tell, stands in the core of the inode. A change of it that is only in the log
        // is not seen.
        let core = self.window.bytes(self.geometry.place_of_inode(inode.ino), 16).ok().flatten().unwrap_or_default();
        let mode = (found.mode() & 0xffff) as u16;
        Ok(Some(Node {
            kind: NodeKind::of_mode(mode),
            length: found.size(),
            mode: mode & 0o7777,
            uid: be32(&core, 8),
            gid: be32(&core, 12),
        }))
    }

    fn link(&self, path: &[u8], length: u64) -> std::result::Result<Vec<u8>, String> {
        if length > LINK_MAX {
            return Err(format!("a link of {length} bytes is over the limit"));
        }
        self.call(|inner| inner.read_link(Path::new(path))).map_err(|fault| fault.to_string())
    }

    fn is_folder_small(&self, length: u64) -> bool {
        length <= FOLDER_MAX
    }

    fn names(&self, path: &[u8], most: usize) -> std::result::Result<Vec<Vec<u8>>, String> {
        let entries = self.call(|inner| inner.read_dir(Path::new(path))).map_err(|fault| fault.to_string())?;
        Ok(entries.into_iter().take(most).map(|entry| entry.name).collect())
    }

    fn read(&self, path: &[u8], offset: u64, most: usize) -> std::result::Result<Vec<u8>, String> {
        let inode = self.found(path)?;
        let left = self.metadata(inode)?.size().saturating_sub(offset);
        let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(most)];
        let count = self.call_within(u64::MAX, |inner| inner.read_file_at(&inode, offset, &mut bytes));
        bytes.truncate(count.map_err(|fault| fault.to_string())?);
        Ok(bytes)
    }
}

/// What the reader crate answered: its own error, or a panic.
enum Fault {
    Told(lamxfs::Error),
    Panicked,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use lamxfs::Error::{BadCrc, BadSuperblock, Inconsistent, Io, UnsupportedFeature};
        let text = match self {
            Self::Told(Io { .. }) => "a part of it cannot be read, or is too large",
            Self::Told(BadCrc { .. } | BadSuperblock(SuperblockReason::BadCrc)) => "a checksum is wrong",
            Self::Told(BadSuperblock(SuperblockReason::ExternalLog)) => "its log lies on another device",
            Self::Told(BadSuperblock(SuperblockReason::RealtimeDevice)) => "it has a part for realtime data",
            Self::Told(BadSuperblock(SuperblockReason::DirtyLog)) => "its log cannot be replayed, or it needs repair",
            Self::Told(BadSuperblock(SuperblockReason::UnsupportedVersion) | UnsupportedFeature(_)) => {
                "it has features that are not known"
            }
            Self::Told(BadSuperblock(_)) => "it has no sound superblock",
            Self::Told(Inconsistent { .. }) | Self::Panicked => "its structure is broken",
            Self::Told(other) => return write!(f, "{other}"),
        };
        f.write_str(text)
    }
}

type Answer<T> = std::result::Result<T, lamxfs::Error>;

fn call<T>(run: impl FnOnce() -> Answer<T>) -> std::result::Result<T, Fault> {
    match contain(run) {
        Some(answer) => answer.map_err(Fault::Told),
        None => Err(Fault::Panicked),
    }
}

/// The window as `lamxfs` reads it.
struct Reader {
    window: Window,
    counters: Rc<Counters>,
    block: u64,
    log: (u64, u64),
    /// Whether the log is shown as one that was never written.
    is_log_hidden: bool,
}

impl BlockRead for Reader {
    type Error = Error;

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<()> {
        self.counters.all.spend(buf.len())?;
        self.window.read_at(buf, offset)?;
        if buf.len() as u64 == self.block && (stands_at(buf, 0, b"BMA3") || stands_at(buf, 0, b"BMAP")) {
            self.counters.maps.spend(buf.len())?;
        }
        let is_of_log = (self.log.0..self.log.1).contains(&offset);
        if is_of_log && self.is_log_hidden {
            buf.fill(0);
        }
        if !is_of_log && offset != 0 {
            self.counters.is_outside.set(true);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::Arc;

    use disk::source::Source;

    use super::*;
    use crate::budget::Budget;

    struct Memory(Vec<u8>);

    impl Source for Memory {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            let found = self.0.get(offset as usize..).and_then(|rest| rest.get(..buf.len()));
            buf.copy_from_slice(found.ok_or_else(|| Error::corrupt("past the end"))?);
            Ok(())
        }
    }

    #[test]
    fn owner_and_mode_are_those_that_the_kernel_wrote() {
        let packed = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/inspect/fixtures/xfs-dirty.zst");
        let unpacked = Command::new("zstd").args(["-dcq", packed]).output();
        let disk = unpacked.expect("install the Debian package zstd, for example with apt-get").stdout;
        let window = Window::whole(Arc::new(Memory(disk)), Rc::new(Budget::new()));
        let found = Xfs::open(&window, "/dev/sda").unwrap();
        let expected = Node { kind: NodeKind::File, length: 2, mode: 0o4751, uid: 1000, gid: 100 };
        assert_eq!(found.stat(b"/etc/owned"), Ok(Some(expected)));
        let folder = found.stat(b"/etc").unwrap().unwrap();
        assert_eq!((folder.kind, folder.mode, folder.uid), (NodeKind::Folder, 0o755, 0));
        assert_eq!(found.stat(b"/etc/absent"), Ok(None));
        assert_eq!(found.stat(b"/etc/owned/below"), Ok(None));
        assert_eq!(found.read(b"/etc/owned", 1, 10).unwrap(), b"\n");
    }
}
