//! A gate in front of calls: a test waits until one has come, does something, and lets it go on.

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
}

/// Holds the calls whose name begins as asked, until it is dropped or opened.
pub(crate) struct Gate(Arc<Shared>);

impl Door {
    /// Holds calls from now on whose name begins with `prefix`.
    pub(crate) fn hold(&self, prefix: &str) -> Gate {
        let shared = Arc::new(Shared { open: watch::Sender::new(false), waiting: watch::Sender::new(0) });
        *self.0.lock().unwrap() = Some((prefix.into(), Arc::clone(&shared)));
        Gate(shared)
    }

    /// Passes, or waits for the gate to open.
    pub(crate) async fn pass(&self, name: &str) {
        let held = self.0.lock().unwrap().clone().filter(|(prefix, _)| name.starts_with(prefix));
        if let Some((_, gate)) = held {
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
