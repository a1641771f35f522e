//! Blocks of packs as files of a local directory, at most so many bytes of them.
//!
//! `blocks/<last two digits of the pack>/<pack>.<number>` holds the bytes of one block and then a checksum over
//! them and over what they are a block of, so that a file tells itself whether it is what its name says; there is
//! no other record. `tmp/` holds what is being written. The room for a file is taken before it is written, and
//! none is removed while it is read, so that the files never exceed their bound. What goes is what was not read
//! since the hand came by last (CLOCK); the hand goes round in the order of the names, which are random.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use uuid::Uuid;

use crate::backend::Counter;
use crate::{Error, ErrorKind, Result};

const CHECKSUM_LENGTH: usize = 32;
const CONTEXT: &str = "molde store 2026 v1 block in a cache";
/// A file takes whole pages of its file system.
const PAGE: u64 = 4096;

/// Names a block: the pack, and how many blocks come before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BlockId {
    pub(super) pack: Uuid,
    pub(super) number: u32,
}

pub(super) struct Blocks {
    root: PathBuf,
    /// Most bytes of all files.
    size: u64,
    /// Bytes of a block, which is part of what a checksum covers.
    block: usize,
    state: Mutex<State>,
    /// Whether the last write failed, so that a full disk is told once.
    fails: AtomicBool,
    pub(super) evictions: Counter,
    pub(super) damaged: Counter,
    pub(super) unwritten: Counter,
    /// Held as long as this lives: two processes would exceed the bound together.
    _lock: File,
}

#[derive(Default)]
struct State {
    held: BTreeMap<BlockId, Held>,
    /// Bytes of all files, and of those that are being written.
    used: u64,
    /// What the hand came by last.
    hand: Option<BlockId>,
}

struct Held {
    /// Bytes of the file.
    length: u64,
    /// Read since the hand came by.
    fresh: bool,
    readers: u32,
}

impl Blocks {
    /// Opens the directory, made when it is absent, and takes up what an earlier run left there.
    pub(super) fn open(root: &Path, size: u64, block: usize) -> Result<Self> {
        let make = |folder: &Path| {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|e| Error::io("create the folder", folder, e))
        };
        make(root)?;
        let (path, tmp) = (root.join("lock"), root.join("tmp"));
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let lock = lock.map_err(|e| Error::io("write", &path, e))?;
        if lock.try_lock().is_err() {
            let message = format!("another process uses the cache {}", root.display());
            return Err(Error::new(ErrorKind::Io, message).with_hint("give each server a cache of its own"));
        }
        match fs::remove_dir_all(&tmp) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::io("empty", &tmp, error)),
            _ => make(&tmp)?,
        }
        make(&root.join("blocks"))?;
        let blocks = Self {
            root: root.to_owned(),
            size,
            block,
            state: Mutex::default(),
            fails: AtomicBool::new(false),
            evictions: Counter::default(),
            damaged: Counter::default(),
            unwritten: Counter::default(),
            _lock: lock,
        };
        blocks.take_up().map_err(|e| Error::io("list the cache", root, e))?;
        Ok(blocks)
    }

    /// Counts the files that are there, and removes what is too much.
    fn take_up(&self) -> io::Result<()> {
        let mut state = self.state();
        for folder in fs::read_dir(self.root.join("blocks"))? {
            for file in fs::read_dir(folder?.path())? {
                let (path, length) = file.and_then(|file| Ok((file.path(), file.metadata()?.len())))?;
                match self.id_of(&path) {
                    Some(id) => state.hold(id, length),
                    None => tracing::warn!(path = %path.display(), "a file in the cache is none of Molde's"),
                }
            }
        }
        self.make_room(&mut state, 0);
        Ok(())
    }

    /// Returns the bytes of a block when they are here and intact.
    pub(super) fn read(&self, id: BlockId) -> Option<Vec<u8>> {
        {
            let mut state = self.state();
            let held = state.held.get_mut(&id)?;
            held.fresh = true;
            held.readers += 1;
        }
        let bytes = fs::read(self.path(id)).ok().and_then(|file| self.verified(id, file));
        let mut state = self.state();
        // Its pack may have been removed meanwhile, and even written again.
        let held = state.held.get_mut(&id)?;
        held.readers = held.readers.saturating_sub(1);
        if bytes.is_none() {
            self.damaged.add(1);
            self.remove(&mut state, id);
        }
        bytes
    }

    /// Returns how many bytes of a block are here; they may still be damaged.
    pub(super) fn length(&self, id: BlockId) -> Option<usize> {
        self.state().held.get(&id).map(|held| (held.length as usize).saturating_sub(CHECKSUM_LENGTH))
    }

    /// Keeps a block if there is room for it. A failure costs nothing but the room in the cache.
    pub(super) fn write(&self, id: BlockId, bytes: &[u8]) {
        let length = (bytes.len() + CHECKSUM_LENGTH) as u64;
        let room = pages(length);
        {
            let mut state = self.state();
            if state.held.contains_key(&id) || !self.make_room(&mut state, room) {
                return;
            }
            state.used += room;
        }
        let written = self.write_file(id, bytes);
        let mut state = self.state();
        state.used -= room;
        match written {
            Ok(()) => {
                self.fails.store(false, Ordering::Relaxed);
                state.hold(id, length);
            }
            Err(error) => {
                self.unwritten.add(1);
                if !self.fails.swap(true, Ordering::Relaxed) {
                    let cache = self.root.display();
                    tracing::warn!(%cache, %error, "the cache cannot be written; reads go on without it");
                }
            }
        }
    }

    fn write_file(&self, id: BlockId, bytes: &[u8]) -> io::Result<()> {
        let (part, path) = (self.root.join("tmp").join(Uuid::new_v4().to_string()), self.path(id));
        let write = || {
            if let Some(folder) = path.parent() {
                DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
            file.write_all(bytes)?;
            file.write_all(&self.checksum(id, bytes))?;
            // Not synced: what a crash tears does not match its checksum.
            fs::rename(&part, &path)
        };
        write().inspect_err(|_| drop(fs::remove_file(&part)))
    }

    /// Removes all blocks of a pack.
    pub(super) fn forget(&self, pack: Uuid) {
        let mut state = self.state();
        let (first, last) = (BlockId { pack, number: 0 }, BlockId { pack, number: u32::MAX });
        let ids: Vec<BlockId> = state.held.range(first..=last).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.remove(&mut state, id));
    }

    /// Returns how many blocks there are and how many bytes their files have.
    pub(super) fn usage(&self) -> (u64, u64) {
        let state = self.state();
        (state.held.len() as u64, state.used)
    }

    /// Removes blocks until `room` more bytes fit. Returns whether they do.
    fn make_room(&self, state: &mut State, room: u64) -> bool {
        // Twice round, the hand has passed every block once without its freshness.
        let mut steps = 2 * state.held.len() + 1;
        while state.used + room > self.size {
            let Some(id) = state.next().filter(|_| steps > 0) else { return false };
            steps -= 1;
            state.hand = Some(id);
            match state.held.get_mut(&id) {
                Some(held) if held.fresh || held.readers > 0 => held.fresh = false,
                _ => {
                    self.evictions.add(1);
                    self.remove(state, id);
                }
            }
        }
        true
    }

    fn remove(&self, state: &mut State, id: BlockId) {
        if let Some(held) = state.held.remove(&id) {
            state.used -= pages(held.length);
            if let Err(error) = fs::remove_file(self.path(id))
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %self.path(id).display(), %error, "a file of the cache stays until the next start");
            }
        }
    }

    fn path(&self, BlockId { pack, number }: BlockId) -> PathBuf {
        let pack = pack.to_string();
        self.root.join("blocks").join(&pack[pack.len() - 2..]).join(format!("{pack}.{number}"))
    }

    /// The reverse of [`Blocks::path`].
    fn id_of(&self, path: &Path) -> Option<BlockId> {
        let (pack, number) = path.file_name()?.to_str()?.split_once('.')?;
        let id = BlockId { pack: Uuid::try_parse(pack).ok()?, number: number.parse().ok()? };
        (self.path(id) == path).then_some(id)
    }

    fn verified(&self, id: BlockId, mut file: Vec<u8>) -> Option<Vec<u8>> {
        let length = file.len().checked_sub(CHECKSUM_LENGTH)?;
        let checksum: [u8; CHECKSUM_LENGTH] = file[length..].try_into().ok()?;
        file.truncate(length);
        (blake3::Hash::from(checksum) == self.checksum(id, &file)).then_some(file)
    }

    fn checksum(&self, id: BlockId, bytes: &[u8]) -> [u8; CHECKSUM_LENGTH] {
        let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
        hasher.update(id.pack.as_bytes()).update(&id.number.to_le_bytes()).update(&(self.block as u64).to_le_bytes());
        *hasher.update(bytes).finalize().as_bytes()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hold(&mut self, id: BlockId, length: u64) {
        self.used += pages(length);
        if let Some(old) = self.held.insert(id, Held { length, fresh: true, readers: 0 }) {
            self.used -= pages(old.length);
        }
    }

    /// Returns the block that the hand comes to next.
    fn next(&self) -> Option<BlockId> {
        let after = self.hand.map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.held.range((after, Bound::Unbounded)).next().or_else(|| self.held.iter().next());
        next.map(|(id, _)| *id)
    }
}

fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(PAGE)
}
