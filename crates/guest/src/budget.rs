//! What one inspection may spend, and the notes it leaves.
//!
//! The reader crates are called with hostile input and cannot be stopped from outside, so that every read they
//! make passes here, and refuses once the inspection has spent its share.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use disk::error::{Error, ErrorKind, Result};

/// Longest time; a disk that needs more is described as far as it was read. Less than the ten seconds of a processor after
/// which a worker is ended without an answer.
const TIME_MAX: Duration = Duration::from_secs(if cfg!(fuzzing) { 1 } else { 8 });
/// Most calls for bytes, counting those answered from memory: what bounds the work on a loop of clusters.
const READS_MAX: u64 = 4_000_000;
/// Most bytes read from the disk.
const BYTES_MAX: u64 = 512 << 20;
/// Most notes in a report.
const NOTES_MAX: usize = 64;

/// Shared by all parts of one inspection.
pub(crate) struct Budget {
    deadline: Option<Instant>,
    reads_max: u64,
    bytes_max: u64,
    reads: Cell<u64>,
    bytes: Cell<u64>,
    exhausted: Cell<bool>,
    failure: RefCell<Option<Error>>,
    notes: RefCell<Vec<String>>,
    unreplayed: RefCell<Vec<String>>,
}

impl Budget {
    /// Makes the budget of one inspection.
    pub(crate) fn new() -> Self {
        Self::of(Some(Instant::now() + TIME_MAX), READS_MAX, BYTES_MAX)
    }

    /// Makes a budget without limits, for somebody who looks around in a disk of his own and can stop.
    pub(crate) fn wide() -> Self {
        Self::of(None, u64::MAX, u64::MAX)
    }

    fn of(deadline: Option<Instant>, reads_max: u64, bytes_max: u64) -> Self {
        Self {
            deadline,
            reads_max,
            bytes_max,
            reads: Cell::new(0),
            bytes: Cell::new(0),
            exhausted: Cell::new(false),
            failure: RefCell::new(None),
            notes: RefCell::new(Vec::new()),
            unreplayed: RefCell::new(Vec::new()),
        }
    }

    /// Counts one call for bytes.
    pub(crate) fn count_read(&self) -> Result<()> {
        let reads = self.reads.get() + 1;
        self.reads.set(reads);
        if reads > self.reads_max || (reads.is_multiple_of(256) && self.is_late()) {
            self.exhausted.set(true);
        }
        self.check()
    }

    /// Counts `length` bytes that are about to be read from the disk.
    pub(crate) fn count_bytes(&self, length: usize) -> Result<()> {
        self.bytes.set(self.bytes.get().saturating_add(length as u64));
        if self.bytes.get() > self.bytes_max || self.is_late() {
            self.exhausted.set(true);
        }
        self.check()
    }

    /// Refuses when the time is over; asked before each step that may work without reading.
    pub(crate) fn check_time(&self) -> Result<()> {
        if self.is_late() {
            self.exhausted.set(true);
        }
        self.check()
    }

    fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() > deadline)
    }

    fn check(&self) -> Result<()> {
        if self.exhausted.get() {
            return Err(Error::new(ErrorKind::TooLarge, "the inspection has used its limit of reads, bytes or time"));
        }
        Ok(())
    }

    /// Returns whether something was left out because of the limits.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.exhausted.get()
    }

    /// Remembers the first failure of the disk itself, because a report of failed reads would be wrong.
    pub(crate) fn fail(&self, error: Error) {
        self.failure.borrow_mut().get_or_insert(error);
    }

    /// Takes the failure that [`Budget::fail`] remembered.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        self.failure.borrow_mut().take()
    }

    /// Adds a note, once.
    pub(crate) fn note(&self, note: impl Into<String>) {
        let note = note.into();
        let mut notes = self.notes.borrow_mut();
        if notes.len() < NOTES_MAX && !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// Adds the note that `device` has a journal that was left out, because of what `why` says of it.
    pub(crate) fn note_unreplayed(&self, device: &str, why: &str) {
        self.note(format!("{device} was not shut down cleanly{why}; it was read as it stands."));
        let mut unreplayed = self.unreplayed.borrow_mut();
        if unreplayed.iter().all(|known| known != device) {
            unreplayed.push(device.to_owned());
        }
    }

    /// Takes the devices whose journals were left out.
    pub(crate) fn take_unreplayed(&self) -> Vec<String> {
        self.unreplayed.take()
    }

    /// Takes the notes.
    pub(crate) fn take_notes(&self) -> Vec<String> {
        self.notes.take()
    }
}

/// Most bytes that a reader of another crate may read to answer a question other than what a file holds.
///
/// What such a reader keeps meanwhile is in proportion to what it reads.
pub(crate) const CALL_MAX: u64 = 64 << 20;

/// What one call of a reader of another crate may still read.
#[derive(Default)]
pub(crate) struct Allowance {
    left: Cell<u64>,
}

impl Allowance {
    pub(crate) fn grant(&self, bytes: u64) {
        self.left.set(bytes);
    }

    /// Counts `length` bytes that are about to be read.
    pub(crate) fn spend(&self, length: usize) -> Result<()> {
        let rest = self.left.get().checked_sub(length as u64);
        self.left.set(rest.unwrap_or(0));
        rest.map(drop).ok_or_else(|| Error::new(ErrorKind::TooLarge, "one call reads too much"))
    }
}

/// Runs a reader of another crate; its panic becomes `None`.
///
/// The panic hook of the process still runs, so a line may appear in the log of the program.
pub(crate) fn contain<T>(run: impl FnOnce() -> T) -> Option<T> {
    #[cfg(fuzzing)]
    let _inside = crate::contained::Contained::new();
    catch_unwind(AssertUnwindSafe(run)).ok()
}
