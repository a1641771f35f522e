//! A file at an HTTP server as a source: parts of it in bounded memory, and more of them ahead of who reads in order.
//!
//! A part is asked for as long as what was read in a row before it, from 64 KiB to 1 MiB. So looking at tables here and there
//! costs little, and reading from the beginning to the end few requests, several at once.

mod ranges;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use disk::source::check_range;
use disk::{Error, ErrorKind, Source};
use reqwest::Url;
use tokio::runtime::{Builder, Runtime};

use self::ranges::{Limits, RemoteFile, shown};

/// The shortest part, and the unit in which parts begin.
const UNIT: u64 = 64 << 10;
/// The longest part.
const MAX_PART: u64 = 1 << 20;
/// Parts stay in memory up to so many bytes, and those that somebody waits for besides.
const MEMORY: u64 = 32 << 20;
/// One who reads in order has at most so many bytes asked for ahead.
const MAX_AHEAD: u64 = 4 << 20;
/// Nothing is asked for ahead while so many requests are on their way.
const MAX_REQUESTS: usize = 4;

/// Returns the address that `path` is, if it is one of a server.
pub(super) fn address(path: &Path) -> Option<Url> {
    let text = path.to_str()?;
    let (scheme, _) = text.split_once("://")?;
    let known = ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known));
    known.then(|| Url::parse(text).ok()).flatten()
}

/// A file at a server.
pub(crate) struct Remote {
    shared: Arc<Shared>,
    runtime: Runtime,
    name: String,
}

/// What the requests have in common with those who wait for them.
struct Shared {
    file: RemoteFile,
    state: Mutex<State>,
    arrived: Condvar,
}

#[derive(Default)]
struct State {
    /// By their first byte; they do not overlap.
    parts: BTreeMap<u64, Part>,
    /// Bytes of all parts.
    bytes: u64,
    /// Parts that were asked for and did not arrive yet.
    requests: usize,
    /// Counts the uses of parts.
    clock: u64,
    /// Why no more is read: the kind, the sentence and the hint of the first failure.
    failed: Option<(ErrorKind, String, Option<String>)>,
}

/// A part of the file.
struct Part {
    length: u64,
    /// Bytes that were asked for in a row up to its end.
    row: u64,
    /// When it was used last.
    used: u64,
    /// Its bytes, once they arrived.
    bytes: Option<Arc<Vec<u8>>>,
}

impl Remote {
    /// Opens the file at `url`.
    pub(super) fn open(url: Url) -> Result<Self, Error> {
        Self::open_within(url, Limits::default())
    }

    fn open_within(url: Url, limits: Limits) -> Result<Self, Error> {
        let name = shown(&url);
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Error::io("begin to work with the network", error))?;
        let (file, head) = runtime.block_on(RemoteFile::open(url, limits, UNIT))?;
        let mut state = State::default();
        state.insert(0, Part { length: head.len() as u64, row: head.len() as u64, used: 0, bytes: Some(head.into()) });
        let shared = Arc::new(Shared { file, state: Mutex::new(state), arrived: Condvar::new() });
        Ok(Self { shared, runtime, name })
    }

    /// Returns the address without its query.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Asks for what is missing of `range`, and for some of what follows if that is read in order.
    fn ask(&self, state: &mut State, range: Range<u64>) {
        let mut at = range.start;
        let mut row = 0;
        while at < range.end {
            let (end, known) = match state.part(at) {
                Some((start, part)) => (start + part.length, part.row),
                None => self.request(state, at, range.end),
            };
            (at, row) = (end, known);
        }
        let ahead = range.end.saturating_add((row / 2).min(MAX_AHEAD)).min(self.len());
        while row > MAX_PART && at < ahead && state.requests < MAX_REQUESTS {
            at = match state.part(at) {
                Some((start, part)) => start + part.length,
                None => self.request(state, at, ahead).0,
            };
        }
    }

    /// Asks for a part that holds byte `at`, and more up to `wanted`; returns where it ends, and its row.
    fn request(&self, state: &mut State, at: u64, wanted: u64) -> (u64, u64) {
        let before = state.parts.range(..at).next_back().map(|(start, part)| (start + part.length, part.row));
        let (start, row) = match before {
            Some((end, row)) if end == at => (at, row),
            Some((end, _)) => ((at / UNIT * UNIT).max(end), 0),
            None => (at / UNIT * UNIT, 0),
        };
        let wanted = wanted.next_multiple_of(UNIT) - start;
        let room = state.parts.range(at..).next().map_or(self.len(), |(next, _)| *next) - start;
        let length = wanted.max(row).clamp(UNIT, MAX_PART).min(room);
        let row = row + length;
        state.insert(start, Part { length, row, used: 0, bytes: None });
        state.requests += 1;
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            let read = shared.file.read(start..start + length).await;
            shared.lock().arrive(start, read);
            shared.arrived.notify_all();
        });
        (start + length, row)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Returns the part that holds byte `at`, and where it begins.
    fn part(&mut self, at: u64) -> Option<(u64, &mut Part)> {
        let (start, part) = self.parts.range_mut(..=at).next_back()?;
        (at < start + part.length).then_some((*start, part))
    }

    /// Adds a part; of those that are there, the ones that were used last stay.
    fn insert(&mut self, start: u64, part: Part) {
        self.clock += 1;
        self.bytes += part.length;
        self.parts.insert(start, Part { used: self.clock, ..part });
        while self.bytes > MEMORY {
            let there = self.parts.iter().filter(|(_, part)| part.bytes.is_some());
            let Some(oldest) = there.min_by_key(|(_, part)| part.used).map(|(start, _)| *start) else { break };
            self.bytes -= self.parts.remove(&oldest).map_or(0, |part| part.length);
        }
    }

    fn arrive(&mut self, start: u64, read: Result<Vec<u8>, Error>) {
        self.clock += 1;
        self.requests -= 1;
        match (read, self.parts.get_mut(&start)) {
            (Ok(bytes), Some(part)) => (part.bytes, part.used) = (Some(Arc::new(bytes)), self.clock),
            (Err(error), _) => {
                let hint = error.hint().map(str::to_owned);
                self.failed.get_or_insert((error.kind(), error.to_string(), hint));
            }
            (Ok(_), None) => {}
        }
    }

    fn failure(&self) -> Option<Error> {
        let (kind, message, hint) = self.failed.as_ref()?;
        let error = Error::new(*kind, message);
        Some(match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        })
    }
}

impl Source for Remote {
    fn len(&self) -> u64 {
        self.shared.file.length()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        check_range(self.len(), offset, buf.len())?;
        let end = offset + buf.len() as u64;
        let (mut at, mut state) = (offset, self.shared.lock());
        while at < end {
            if let Some(error) = state.failure() {
                return Err(error);
            }
            state.clock += 1;
            let clock = state.clock;
            // Also what was dropped meanwhile, before it was read.
            self.ask(&mut state, at..end);
            let Some((start, part)) = state.part(at) else { continue };
            part.used = clock;
            let Some(bytes) = part.bytes.clone() else {
                state = self.shared.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(state);
            let part = &bytes[(at - start) as usize..];
            let length = part.len().min((end - at) as usize);
            buf[(at - offset) as usize..][..length].copy_from_slice(&part[..length]);
            at += length as u64;
            state = self.shared.lock();
        }
        Ok(())
    }
}
