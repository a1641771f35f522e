//! A gate in front of calls: a test waits until one has come, does something, and lets it go on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// How long a test waits for what must happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// Where calls pass; open unless a test holds it.
#[derive(Default)]
pub(crate) struct Door(Mutex<Option<(String, Arc<Shared>)>>);

struct Shared {
    open: watch::Sender<bool>,
    waiting: watch::Sender<usize>,
    /// How many calls pass before the first one is held.
    passing: AtomicUsize,
}

/// Holds the calls whose name begins as asked, until it is dropped or opened.
pub(crate) struct Gate(Arc<Shared>);

impl Door {
    /// Holds calls from now on whose name begins with `prefix`.
    pub(crate) fn hold(&self, prefix: &str) -> Gate {
        self.hold_nth(prefix, 1)
    }

    /// Holds calls whose name begins with `prefix` from the `nth` on.
    pub(crate) fn hold_nth(&self, prefix: &str, nth: usize) -> Gate {
        let (open, waiting) = (watch::Sender::new(false), watch::Sender::new(0));
        let shared = Arc::new(Shared { open, waiting, passing: AtomicUsize::new(nth - 1) });
        *self.0.lock().unwrap() = Some((prefix.into(), Arc::clone(&shared)));
        Gate(shared)
    }

    /// Passes, or waits for the gate to open.
    pub(crate) async fn pass(&self, name: &str) {
        let held = self.0.lock().unwrap().clone().filter(|(prefix, _)| name.starts_with(prefix));
        let passes = |gate: &Shared| {
            gate.passing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        };
        if let Some((_, gate)) = held.filter(|(_, gate)| !passes(gate)) {
            let mut open = gate.open.subscribe();
            gate.waiting.send_modify(|count| *count += 1);
            open.wait_for(|open| *open).await.unwrap();
        }
    }
}

impl Gate {
    /// Returns when a call waits.
    pub(crate) async fn reached(&self) {
        self.reached_by(1).await;
    }

    /// Returns when so many calls wait.
    pub(crate) async fn reached_by(&self, calls: usize) {
        let mut waiting = self.0.waiting.subscribe();
        let came = timeout(DEADLINE, waiting.wait_for(|count| *count >= calls)).await;
        came.expect("the call comes in time").unwrap();
    }

    /// Lets every call pass.
    pub(crate) fn open(self) {}
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.open.send_replace(true);
    }
}
