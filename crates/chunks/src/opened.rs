//! Opened chunks that small reads come back to, so that 4 KiB do not cost the opening of half a megabyte again and again.
//!
//! They lie in a file without a name, in pages that are sealed under a key of this process alone: the kernel keeps in
//! memory what is used, nothing is there after the process, and nothing of it can be read by others. A chunk is kept when
//! it is wanted for a small read the second time; CLOCK decides which one goes.
//!
//! Room on the disk is for what is kept for good: where there is little left, all of it is given back.
//!
//! A reader looks up a slot, reads and opens its pages without any lock: each filling of a slot has a number, which is
//! in the nonce of its pages, so pages of another chunk that came to lie there meanwhile do not open.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use keys::cipher::{ProcessKey, TAG_LENGTH};
use uuid::Uuid;

use crate::blob::BlobId;
use crate::{Error, Result};

/// Bytes that are sealed together: what file systems and guests read at least.
const PAGE: usize = 4096;
const SEALED_PAGE: usize = PAGE + TAG_LENGTH;
/// Pages that a read opens at once at most; larger reads are better served by opening the chunk.
const PAGES_MAX: usize = 16;

/// Room that is left to others: a tenth of the file system, or so many bytes where that is less.
const LEFT_MAX: u64 = 4 << 30;

/// Where opened chunks are kept, and how many bytes of them.
#[derive(Debug, Clone)]
pub struct OpenedOptions {
    /// A folder on a local disk; the file has no name there.
    pub folder: PathBuf,
    /// Bytes of the file, at most.
    pub size: u64,
}

/// What happened to small reads since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OpenedStats {
    /// Small reads that were answered from opened chunks.
    pub hits: u64,
    /// Small reads for which a chunk had to be opened.
    pub misses: u64,
    /// Bytes of the file that are used.
    pub bytes: u64,
}

/// Opened chunks in a file.
pub(crate) struct Opened {
    file: File,
    key: ProcessKey,
    /// Bytes of a slot: a chunk of sealed pages.
    slot: u64,
    slots_max: usize,
    slots: Mutex<Slots>,
    failed: AtomicBool,
    hits: AtomicU64,
    misses: AtomicU64,
}

#[derive(Default)]
struct Slots {
    places: HashMap<BlobId, usize>,
    slots: Vec<Slot>,
    /// Where CLOCK goes on.
    hand: usize,
    filled: u64,
    wanted: Wanted,
}

struct Slot {
    id: BlobId,
    /// The number of its filling.
    number: u64,
    /// Bytes of its chunk.
    length: usize,
    used: bool,
    /// Whether its pages are being written.
    filling: bool,
}

/// A slot as it was when it was looked up.
#[derive(Clone, Copy)]
struct Held {
    slot: usize,
    number: u64,
    length: usize,
}

/// Ids that were wanted once, in bounded memory.
#[derive(Default)]
struct Wanted {
    young: HashSet<BlobId>,
    old: HashSet<BlobId>,
}

impl Opened {
    /// Makes the file; a size below one chunk keeps nothing.
    pub(crate) fn create(options: &OpenedOptions, chunk_size: u32) -> Result<Self> {
        let slot = u64::from(chunk_size).div_ceil(PAGE as u64) * SEALED_PAGE as u64;
        let file = nameless(&options.folder).map_err(|e| Error::io("make a file in", &options.folder, e))?;
        Ok(Self {
            file,
            key: ProcessKey::new().map_err(|e| Error::keys("make a key for opened chunks", e))?,
            slot,
            slots_max: usize::try_from(options.size / slot).unwrap_or(usize::MAX),
            slots: Mutex::default(),
            failed: AtomicBool::new(false),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        })
    }

    /// Fills `buf` with the bytes of a chunk from `offset` on and returns true, if the chunk is here. For blocking threads.
    pub(crate) fn read(&self, id: &BlobId, offset: usize, buf: &mut [u8]) -> bool {
        let end = offset + buf.len();
        let is_small = end.div_ceil(PAGE) - offset / PAGE <= PAGES_MAX;
        let held = self.find(id).filter(|held| is_small && end <= held.length);
        let read = held.is_some_and(|held| self.read_slot(held, offset, buf));
        if let Some(held) = held.filter(|_| !read) {
            self.lose(id, held);
        }
        let counter = if read { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        read
    }

    /// Tells that a small read wanted a chunk that is not here. The second time it is kept. For blocking threads.
    pub(crate) fn want(&self, id: &BlobId, plain: &[u8]) {
        let Some((slot, number)) = self.take_slot(id) else { return };
        let written = self.write_slot(slot, number, plain);
        if let Err(error) = &written
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "opened chunks cannot be kept; small reads are slower from now on");
            // None will be kept any more, so what is there must not hold room that others lack.
            self.clear();
        }
        let mut slots = self.lock();
        let filled = &mut slots.slots[slot];
        (filled.id, filled.length, filled.filling) = (*id, plain.len(), false);
        if written.is_ok() {
            slots.places.insert(*id, slot);
        }
    }

    /// Gives back all room on the disk.
    pub(crate) fn clear(&self) {
        let mut slots = self.lock();
        slots.places.clear();
        // Whoever reads or fills a slot at this moment finds that its pages do not open.
        if let Err(error) = self.file.set_len(0) {
            tracing::warn!(%error, "opened chunks cannot be given up");
        }
    }

    pub(crate) fn stats(&self) -> OpenedStats {
        let bytes = self.lock().places.len() as u64 * self.slot;
        OpenedStats { hits: self.hits.load(Ordering::Relaxed), misses: self.misses.load(Ordering::Relaxed), bytes }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, id: &BlobId) -> Option<Held> {
        let mut slots = self.lock();
        let at = *slots.places.get(id)?;
        let slot = &mut slots.slots[at];
        slot.used = true;
        Some(Held { slot: at, number: slot.number, length: slot.length })
    }

    /// Forgets a chunk that did not open, unless it was kept anew.
    fn lose(&self, id: &BlobId, held: Held) {
        let mut slots = self.lock();
        if slots.slots[held.slot].number == held.number && slots.places.get(id) == Some(&held.slot) {
            slots.places.remove(id);
        }
    }

    /// Returns whether little room is left where the file lies.
    fn is_short_of_room(&self) -> bool {
        rustix::fs::fstatvfs(&self.file).is_ok_and(|room| {
            let (left, all) =
                (room.f_bavail.saturating_mul(room.f_frsize), room.f_blocks.saturating_mul(room.f_frsize));
            left < (all / 10).min(LEFT_MAX)
        })
    }

    /// Takes a slot for a chunk that is wanted the second time, and lets go of what lay there.
    fn take_slot(&self, id: &BlobId) -> Option<(usize, u64)> {
        if self.slots_max == 0 || self.failed.load(Ordering::Relaxed) {
            return None;
        }
        if self.is_short_of_room() {
            self.clear();
            return None;
        }
        let mut guard = self.lock();
        let slots = &mut *guard;
        if slots.places.contains_key(id) || !slots.wanted.again(*id, 4 * self.slots_max) {
            return None;
        }
        slots.filled += 1;
        let number = slots.filled;
        if slots.slots.len() < self.slots_max {
            slots.slots.push(Slot { id: *id, number, length: 0, used: false, filling: true });
            return Some((slots.slots.len() - 1, number));
        }
        // Twice round at most: the first time clears the marks.
        for _ in 0..2 * self.slots_max {
            let at = slots.hand;
            slots.hand = (at + 1) % self.slots_max;
            let slot = &mut slots.slots[at];
            if slot.filling || std::mem::take(&mut slot.used) {
                continue;
            }
            // Its place is that of another slot, where its own could not be filled.
            if slots.places.get(&slot.id) == Some(&at) {
                slots.places.remove(&slot.id);
            }
            (slot.number, slot.filling) = (number, true);
            return Some((at, number));
        }
        None
    }

    fn write_slot(&self, slot: usize, number: u64, plain: &[u8]) -> io::Result<()> {
        let mut sealed = Vec::with_capacity(plain.len().div_ceil(PAGE) * SEALED_PAGE);
        for (page, bytes) in plain.chunks(PAGE).enumerate() {
            let start = sealed.len();
            sealed.extend_from_slice(bytes);
            let tag = self.key.seal(nonce(number, page), &mut sealed[start..]).map_err(io::Error::other)?;
            sealed.extend_from_slice(&tag);
        }
        self.file.write_all_at(&sealed, slot as u64 * self.slot)
    }

    /// Reads pages of a slot, at most [`PAGES_MAX`]; false where they are not those of its filling.
    fn read_slot(&self, held: Held, offset: usize, buf: &mut [u8]) -> bool {
        let end = offset + buf.len();
        let pages = offset / PAGE..end.div_ceil(PAGE);
        let stop = (pages.end * SEALED_PAGE).min(held.length + held.length.div_ceil(PAGE) * TAG_LENGTH);
        let start = pages.start * SEALED_PAGE;
        let mut sealed = [0; PAGES_MAX * SEALED_PAGE];
        let sealed = &mut sealed[..stop - start];
        if self.file.read_exact_at(sealed, held.slot as u64 * self.slot + start as u64).is_err() {
            return false;
        }
        pages.zip(sealed.chunks(SEALED_PAGE)).all(|(page, sealed)| {
            let (first, body) = (page * PAGE, sealed.len() - TAG_LENGTH);
            let (from, to) = (offset.max(first), end.min(first + body));
            let (body, tag) = sealed.split_at(body);
            let (nonce, buf) = (nonce(held.number, page), &mut buf[from - offset..to - offset]);
            if buf.len() == body.len() {
                return self.key.open(nonce, body, tag, buf);
            }
            let mut plain = [0; PAGE];
            let plain = &mut plain[..body.len()];
            let opened = self.key.open(nonce, body, tag, plain);
            buf.copy_from_slice(&plain[from - first..to - first]);
            opened
        })
    }
}

impl Wanted {
    /// Returns whether an id was wanted before; it is from now on. Remembers `count` ids at least.
    fn again(&mut self, id: BlobId, count: usize) -> bool {
        let before = self.old.contains(&id) || !self.young.insert(id);
        if self.young.len() >= count {
            self.old = std::mem::take(&mut self.young);
        }
        before
    }
}

/// Makes a file and takes its name away.
fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!("opened-{}", Uuid::new_v4()));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    Ok(file)
}

/// The filling and the page, which has a number far below 2^32.
fn nonce(number: u64, page: usize) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&number.to_le_bytes());
    nonce[8..].copy_from_slice(&(page as u32).to_le_bytes());
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u32 = 5 * 4096;

    fn opened(slots: u64) -> Opened {
        let size = slots * 5 * SEALED_PAGE as u64;
        Opened::create(&OpenedOptions { folder: std::env::temp_dir(), size }, CHUNK).unwrap()
    }

    fn chunk(seed: u8, length: usize) -> (BlobId, Vec<u8>) {
        let mut bytes = vec![0; length];
        let mut reader = blake3::Hasher::new().update(&[seed]).finalize_xof();
        reader.fill(&mut bytes);
        (*blake3::hash(&bytes).as_bytes(), bytes)
    }

    fn keep(opened: &Opened, (id, bytes): &(BlobId, Vec<u8>)) {
        opened.want(id, bytes);
        opened.want(id, bytes);
    }

    fn is_here(opened: &Opened, (id, bytes): &(BlobId, Vec<u8>)) -> bool {
        let mut buf = [0; 100];
        let read = opened.read(id, bytes.len() - 100, &mut buf);
        assert!(!read || buf == bytes[bytes.len() - 100..]);
        read
    }

    #[test]
    fn any_range_is_what_was_kept() {
        let opened = opened(4);
        for (seed, length) in [(1, 5 * PAGE), (2, 5 * PAGE - 1), (3, PAGE + 7), (4, 9)] {
            let chunk = chunk(seed, length);
            assert!(!opened.read(&chunk.0, 0, &mut [0; 1]));
            opened.want(&chunk.0, &chunk.1);
            assert!(!opened.read(&chunk.0, 0, &mut [0; 1]), "once is not enough");
            opened.want(&chunk.0, &chunk.1);
            for from in [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, length - 1] {
                for count in [1, 2, 9, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 5 * PAGE] {
                    let mut buf = vec![0; count];
                    let read = opened.read(&chunk.0, from, &mut buf);
                    assert_eq!(read, from + count <= length, "{count} bytes at {from} of {length}");
                    assert!(!read || buf == chunk.1[from..from + count]);
                }
            }
        }
    }

    #[test]
    fn what_is_used_stays_and_the_file_has_its_bound() {
        let opened = opened(3);
        let chunks: Vec<_> = (0..40).map(|seed| chunk(seed, CHUNK as usize)).collect();
        keep(&opened, &chunks[0]);
        for chunk in &chunks[1..] {
            keep(&opened, chunk);
            assert!(is_here(&opened, &chunks[0]), "it is used all the time");
        }
        assert!(is_here(&opened, &chunks[39]));
        assert_eq!(chunks.iter().filter(|chunk| is_here(&opened, chunk)).count(), 3);
        assert_eq!(opened.stats().bytes, 3 * opened.slot);
        assert!(opened.file.metadata().unwrap().len() <= 3 * opened.slot);
    }

    #[test]
    fn pages_that_are_not_those_of_the_filling_do_not_open() {
        let opened = opened(2);
        let (one, two) = (chunk(1, CHUNK as usize), chunk(2, CHUNK as usize));
        keep(&opened, &one);
        keep(&opened, &two);
        // A reader that looked one up before another came to lie there.
        let held = opened.find(&one.0).unwrap();
        opened.write_slot(held.slot, 77, &two.1).unwrap();
        assert!(!opened.read_slot(held, 0, &mut [0; PAGE]));
        // Every page binds its place.
        let (first, second) = (held.slot as u64 * opened.slot, opened.find(&two.0).unwrap());
        let mut page = vec![0; SEALED_PAGE];
        opened.file.read_exact_at(&mut page, second.slot as u64 * opened.slot).unwrap();
        opened.file.write_all_at(&page, second.slot as u64 * opened.slot + SEALED_PAGE as u64).unwrap();
        assert!(opened.read_slot(second, 0, &mut [0; PAGE]) && !opened.read_slot(second, PAGE, &mut [0; PAGE]));
        assert!(!opened.read(&one.0, 0, &mut [0; 1]) && first != second.slot as u64 * opened.slot);
    }

    #[test]
    fn given_back_room_is_used_again() {
        let opened = opened(3);
        let chunks: Vec<_> = (0..3).map(|seed| chunk(seed, CHUNK as usize)).collect();
        for round in 0..3 {
            chunks.iter().for_each(|chunk| keep(&opened, chunk));
            assert!(chunks.iter().all(|chunk| is_here(&opened, chunk)), "round {round}");
            opened.clear();
            assert_eq!((opened.stats().bytes, opened.file.metadata().unwrap().len()), (0, 0));
            assert!(!chunks.iter().any(|chunk| is_here(&opened, chunk)));
        }
        // One whose pages are gone is not looked for again, and can be kept anew.
        keep(&opened, &chunks[0]);
        opened.file.set_len(0).unwrap();
        assert!(!is_here(&opened, &chunks[0]));
        keep(&opened, &chunks[0]);
        assert!(is_here(&opened, &chunks[0]));
    }

    #[test]
    fn nothing_of_a_chunk_is_in_the_file() {
        let opened = opened(1);
        let text = (*blake3::hash(b"x").as_bytes(), b"the secret of the guest ".repeat(400));
        keep(&opened, &text);
        let mut file = vec![0; opened.file.metadata().unwrap().len() as usize];
        opened.file.read_exact_at(&mut file, 0).unwrap();
        assert!(is_here(&opened, &text) && !file.windows(6).any(|bytes| bytes == b"secret"));
    }

    #[test]
    fn no_room_means_no_file_and_a_full_disk_no_failure() {
        let none = opened(0);
        keep(&none, &chunk(1, 100));
        assert_eq!(none.stats().bytes, 0);
        let mut full = opened(2);
        full.file = OpenOptions::new().read(true).write(true).open("/dev/full").unwrap();
        for seed in 0..5 {
            keep(&full, &chunk(seed, 100));
            assert!(!is_here(&full, &chunk(seed, 100)));
        }
        assert!(full.failed.load(Ordering::Relaxed));
    }

    #[test]
    fn many_threads_read_what_they_asked_for() {
        let opened = opened(4);
        let chunks: Vec<_> = (0..12).map(|seed| chunk(seed, CHUNK as usize)).collect();
        std::thread::scope(|scope| {
            for thread in 0..4_usize {
                let (opened, chunks) = (&opened, &chunks);
                scope.spawn(move || {
                    let mut hits = 0;
                    for round in 0..3000_usize {
                        let chunk = &chunks[(round % 3 + round / 100 * 2 + thread) % chunks.len()];
                        match is_here(opened, chunk) {
                            true => hits += 1,
                            false => opened.want(&chunk.0, &chunk.1),
                        }
                    }
                    assert!(hits > 0);
                });
            }
        });
    }
}
