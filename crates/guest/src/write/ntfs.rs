//! Changing values of registry hives on NTFS, in place: bytes of files that stay where they are and as long as they are.
//!
//! hive -> changed in memory ([`Editor`]) -> the bytes that differ -> where the file's clusters lie -> the overlay
//!
//! Nothing of the file system itself is written: no record, no map of clusters, no journal. A hive that has become longer,
//! and what is no hive, is for a driver of NTFS: it is told what differs.

use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use disk::error::{Error, Result};
use disk::source::Source;
use sha2::{Digest, Sha256};

use super::overlay::Overlay;
use crate::budget::Budget;
use crate::filesystems::files::Files;
use crate::filesystems::ntfs::{Hibernation, Ntfs};
use crate::registry::{Changed, Editor, LOG_MAX, LOGS, ValueChange, hive_name, is_pending};
use crate::text::clean;
use crate::window::Window;

/// Largest hive that is changed: three copies of it are held.
const HIVE_MAX: usize = 96 << 20;
/// Seconds from 1601, from where Windows counts, to 1970.
const EPOCH: u64 = 11_644_473_600;
const SHUT_DOWN: &str = "start the guest, switch off fast startup and hibernation (`powercfg /h off`), and shut it down with `shutdown /s /t 0`";

/// A hive that was changed in memory.
pub(crate) struct Edited {
    /// Length and SHA-256 of the file as it is.
    pub(crate) length: usize,
    pub(crate) sha256: [u8; 32],
    extents: Vec<(u64, u64)>,
    changed: Changed,
}

impl Edited {
    /// Returns whether the file would have to become longer.
    pub(crate) fn has_grown(&self) -> bool {
        self.changed.bytes.len() != self.length
    }

    /// Returns what differs: where in the file, and the new bytes.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.changed.ranges.iter().map(|range| (range.start as u64, &self.changed.bytes[range.clone()]))
    }
}

/// Says that a hive has to become longer.
pub(crate) fn no_room(path: &str) -> String {
    format!("{} has no room left for the new values", clean(path.as_bytes()))
}

/// A file system in which bytes of files are changed.
pub(crate) struct NtfsWriter {
    ntfs: Ntfs,
    offset: u64,
    budget: Rc<Budget>,
}

impl fmt::Debug for NtfsWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NtfsWriter").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl NtfsWriter {
    /// Opens the file system that lies in `range` of `disk`; refuses one that only Windows may change.
    pub(crate) fn open(disk: Arc<dyn Source>, range: Range<u64>) -> Result<Self> {
        let budget = Rc::new(Budget::new());
        let window = Window::whole(disk, Rc::clone(&budget)).part(range.start, range.end.saturating_sub(range.start));
        let told = |why: String| budget.take_failure().unwrap_or_else(|| Error::corrupt(clean(why.as_bytes())));
        let ntfs = Ntfs::open(&window).map_err(told)?;
        let state = ntfs.state().map_err(told)?;
        let why = match (state.hibernation, state.is_dirty) {
            (Hibernation::Asleep, _) => "a Windows sleeps on it (hibernation or fast startup)",
            (Hibernation::Unclear, _) => "a Windows may sleep on it: its hiberfil.sys is of an unknown kind",
            (Hibernation::None, true) => "it was not closed cleanly",
            (Hibernation::None, false) => return Ok(Self { ntfs, offset: range.start, budget }),
        };
        Err(Error::refused(why).with_hint(SHUT_DOWN))
    }

    /// Sets values of the hive at `path`, and makes keys that they need; what is changed gets the time `now`, in seconds since
    /// 1970. Nothing is written.
    ///
    /// # Errors
    ///
    /// Where the hive is not whole, its logs hold what it lacks, or its file is none that can be written into.
    pub(crate) fn edit(&self, path: &str, values: &[ValueChange], now: u64) -> Result<Edited> {
        let hive = self.read(path, HIVE_MAX)?.ok_or_else(|| Error::refused(format!("{path} is not there")))?;
        let extents = self.ntfs.extents(path.as_bytes()).map_err(|why| self.told(path, &why))?;
        for end in LOGS {
            let log = self.read(&format!("{path}.{end}"), LOG_MAX)?.unwrap_or_default();
            if is_pending(&hive, &log) {
                let why = format!("what Windows changed last is in {path}.{end} and not in the hive");
                return Err(Error::refused(why).with_hint(SHUT_DOWN));
            }
        }
        let (length, sha256) = (hive.len(), Sha256::digest(&hive).into());
        let time = now.saturating_add(EPOCH).saturating_mul(10_000_000);
        let mut editor = Editor::open(hive, &hive_name(path), time)?;
        editor.apply(values)?;
        Ok(Edited { length, sha256, extents, changed: editor.finish() })
    }

    /// Writes what differs in a hive of the same length.
    pub(crate) fn write(&self, overlay: &mut Overlay, path: &str, edited: &Edited) -> Result<()> {
        if edited.has_grown() {
            return Err(Error::refused(no_room(path)));
        }
        overlay.write_all(&self.places(&edited.extents, &edited.changed)?)
    }

    /// Returns `path` with its names as they are written on the volume, as far as they are there.
    pub(crate) fn written(&self, path: &str) -> Result<Vec<u8>> {
        self.ntfs.written(path.as_bytes()).map_err(|why| self.told(path, &why))
    }

    /// Reads the file at `path`; none where there is none.
    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>> {
        let told = |why: String| self.told(path, &why);
        let Some(node) = self.ntfs.stat(path.as_bytes()).map_err(told)? else { return Ok(None) };
        if node.length > most as u64 {
            return Err(self.told(path, &format!("it has {} bytes, over the limit of {most}", node.length)));
        }
        self.ntfs.read(path.as_bytes(), 0, most).map(Some).map_err(told)
    }

    fn told(&self, path: &str, why: &str) -> Error {
        let why = format!("{} cannot be changed in place: {}", clean(path.as_bytes()), clean(why.as_bytes()));
        self.budget.take_failure().unwrap_or_else(|| Error::refused(why))
    }

    /// Returns where on the disk each byte that differs goes.
    fn places<'c>(&self, extents: &[(u64, u64)], changed: &'c Changed) -> Result<Vec<(u64, &'c [u8])>> {
        let mut sorted = extents.to_vec();
        sorted.sort_unstable();
        if sorted.windows(2).any(|two| two[0].0 + two[0].1 > two[1].0) {
            return Err(Error::corrupt("the clusters of the file lie over each other"));
        }
        let mut places = Vec::new();
        let mut start = 0;
        for (place, length) in extents {
            let end = start + length;
            for range in &changed.ranges {
                let (from, to) = ((range.start as u64).max(start), (range.end as u64).min(end));
                if from < to {
                    // No loss: both lie in the hive, which is in memory.
                    places.push((self.offset + place + (from - start), &changed.bytes[from as usize..to as usize]));
                }
            }
            start = end;
        }
        Ok(places)
    }
}
