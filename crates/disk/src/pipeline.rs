//! Work in order on all cores: pieces are made by many threads and taken by one, in the order in which they were handed out.
//!
//! What compresses is made of this: only the place of a piece depends on those before it, not its bytes.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::error::Result;

/// Pieces are begun before earlier ones were taken, up to this many for each thread.
const AHEAD: u64 = 4;
/// Pieces that were begun and not taken yet hold at most this many bytes together, or are one.
const MEMORY: u64 = 48 << 20;

struct State<I, R> {
    items: I,
    /// The number of the next item that is handed out.
    next: u64,
    /// Finished pieces that were not taken yet.
    made: BTreeMap<u64, Result<R>>,
    /// The number of the piece that is taken next.
    wanted: u64,
    /// How many pieces there are, once that is known.
    end: Option<u64>,
}

struct Shared<I, R> {
    state: Mutex<State<I, R>>,
    changed: Condvar,
}

impl<I, R> Shared<I, R> {
    fn lock(&self) -> MutexGuard<'_, State<I, R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<I, R>>) -> MutexGuard<'a, State<I, R>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how many threads work when the caller asked for `threads`: 0 means as many as there are processors.
pub(crate) fn threads(threads: usize) -> usize {
    match threads {
        0 => thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
    .clamp(1, 16)
}

/// Runs `make` on every item of `items` in `threads` threads and gives what it made to `take`, in order, in the calling
/// thread. Stops at the first error of any of them. `items` is asked by one thread at a time. An item and what is made
/// of it hold about `bytes` bytes of memory: of large ones, fewer are made at once.
pub(crate) fn in_order<T: Send, R: Send>(
    threads: usize,
    bytes: u64,
    items: impl Iterator<Item = Result<T>> + Send,
    make: impl Fn(T) -> Result<R> + Sync,
    mut take: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    let state = State { items, next: 0, made: BTreeMap::new(), wanted: 0, end: None };
    let shared = Shared { state: Mutex::new(state), changed: Condvar::new() };
    let ahead = (MEMORY / bytes.max(1)).clamp(1, AHEAD * threads as u64);
    thread::scope(|scope| {
        for _ in 0..ahead.min(threads as u64) {
            scope.spawn(|| work(&shared, ahead, &make));
        }
        // Also when `take` panics, or the scope would wait for threads that wait for it.
        let _stop = StopOnDrop(&shared);
        loop {
            let mut state = shared.lock();
            let wanted = state.wanted;
            let made = loop {
                if let Some(made) = state.made.remove(&wanted) {
                    break made;
                }
                if state.end == Some(wanted) {
                    return Ok(());
                }
                state = shared.wait(state);
            };
            state.wanted += 1;
            drop(state);
            shared.changed.notify_all();
            take(made?)?;
        }
    })
}

fn work<T, R>(
    shared: &Shared<impl Iterator<Item = Result<T>>, R>,
    ahead: u64,
    make: &(impl Fn(T) -> Result<R> + Sync),
) {
    // A panic in `make` ends the pieces, so that the others stop; the scope passes the panic on.
    let _stop = StopOnPanic(shared);
    loop {
        let mut state = shared.lock();
        while state.end.is_none() && state.next >= state.wanted + ahead {
            state = shared.wait(state);
        }
        if state.end.is_some() {
            return;
        }
        let number = state.next;
        let Some(item) = state.items.next() else {
            state.end = Some(number);
            drop(state);
            shared.changed.notify_all();
            return;
        };
        state.next += 1;
        drop(state);
        let made = item.and_then(make);
        let mut state = shared.lock();
        if made.is_err() {
            state.end.get_or_insert(number + 1);
        }
        state.made.insert(number, made);
        drop(state);
        shared.changed.notify_all();
    }
}

struct StopOnDrop<'a, I, R>(&'a Shared<I, R>);

impl<I, R> Drop for StopOnDrop<'_, I, R> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let wanted = state.wanted;
        state.end = Some(wanted);
        drop(state);
        self.0.changed.notify_all();
    }
}

struct StopOnPanic<'a, I, R>(&'a Shared<I, R>);

impl<I, R> Drop for StopOnPanic<'_, I, R> {
    fn drop(&mut self) {
        if thread::panicking() {
            let mut state = self.0.lock();
            let wanted = state.wanted;
            state.end = Some(wanted);
            drop(state);
            self.0.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::error::Error;

    #[test]
    fn pieces_come_in_order() {
        for threads in [1, 2, 7] {
            let mut taken = Vec::new();
            in_order(
                threads,
                1,
                (0..1000_u64).map(Ok),
                |item| Ok(item * 2),
                |made| {
                    taken.push(made);
                    Ok(())
                },
            )
            .unwrap();
            assert_eq!(taken, (0..1000).map(|item| item * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let mut taken = 0;
        let wrong = |item: u64| if item == 500 { Err(Error::corrupt("500")) } else { Ok(item) };
        let result = in_order(3, 1, (0..).map(Ok), wrong, |_| {
            taken += 1;
            Ok(())
        });
        assert_eq!((result.unwrap_err().to_string().as_str(), taken), ("500", 500));
        let result = in_order(3, 1, (0..).map(Ok), Ok::<u64, Error>, |item| {
            if item == 7 { Err(Error::corrupt("full")) } else { Ok(()) }
        });
        assert_eq!(result.unwrap_err().to_string(), "full");
        let items = (0..).map(|item| if item == 9 { Err(Error::corrupt("end")) } else { Ok(item) });
        assert_eq!(in_order(2, 1, items, Ok::<u64, Error>, |_| Ok(())).unwrap_err().to_string(), "end");
    }

    /// Of pieces that are large, no more are begun than the memory holds, whatever the number of threads.
    #[test]
    fn large_pieces_are_few() {
        for (bytes, most) in [(MEMORY * 2, 1), (MEMORY / 3, 3), (1, AHEAD * 8)] {
            let (begun, taken, peak) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
            let make = |()| {
                let held = begun.fetch_add(1, Ordering::SeqCst) + 1 - taken.load(Ordering::SeqCst);
                peak.fetch_max(held, Ordering::SeqCst);
                Ok(())
            };
            in_order(8, bytes, std::iter::repeat_n((), 200).map(Ok), make, |()| {
                taken.fetch_add(1, Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
            // One more may be in the hands of the one who takes.
            assert!(peak.into_inner() <= most + 1, "{bytes}");
        }
    }
}
