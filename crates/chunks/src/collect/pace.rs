//! The pace of a collection: how much of the backend it takes in a second, so that others are served beside it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The most that a collection takes in a second, on the average; 0 is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pace {
    /// Bytes that it reads and writes: manifests, footers, and what it copies.
    pub bytes: u64,
    /// Calls to the backend: reads, writes and removals.
    pub requests: u32,
}

/// Lets everything of one collection wait for its turn.
pub(super) struct Pacer {
    pace: Pace,
    /// When what was taken until now is paid for.
    paid: Mutex<Instant>,
}

impl Pacer {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, paid: Mutex::new(Instant::now()) }
    }

    /// Waits until all that was taken before is paid for, and takes so many requests and bytes. Nothing is saved up: who
    /// was slow for another reason is not faster afterwards.
    pub(super) async fn take(&self, requests: u32, bytes: u64) {
        let cost = self.pace.cost(requests, bytes);
        // Even a wait for a moment that is over would take a millisecond.
        if cost.is_zero() {
            return;
        }
        let turn = {
            let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*paid).max(Instant::now());
            *paid = turn + cost;
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

impl Pace {
    /// Returns for how long so many requests and bytes use up what may be taken.
    fn cost(self, requests: u32, bytes: u64) -> Duration {
        let share = |part: u64, whole: u64| match whole {
            0 => Duration::ZERO,
            _ => Duration::from_nanos(part.saturating_mul(1_000_000_000) / whole),
        };
        // Beyond 18 GB at once it saturates, and a pack has at most 33 MiB.
        share(bytes, self.bytes).max(share(requests.into(), self.requests.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn seconds_for(pace: Pace, requests: u32, bytes: u64) -> f64 {
        let (pacer, begun) = (Pacer::new(pace), Instant::now());
        for _ in 0..requests {
            pacer.take(1, bytes).await;
        }
        begun.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn the_slower_of_both_limits_counts() {
        let pace = Pace { bytes: 1000, requests: 10 };
        // The first one waits for nothing.
        assert_eq!(seconds_for(pace, 11, 1).await.round(), 1.0);
        assert_eq!(seconds_for(pace, 11, 500).await.round(), 5.0);
        assert_eq!(seconds_for(Pace { bytes: 0, ..pace }, 11, 500).await.round(), 1.0);
        assert_eq!(seconds_for(Pace { requests: 0, ..pace }, 11, 500).await.round(), 5.0);
        assert_eq!(seconds_for(Pace::default(), 1000, 500).await.round(), 0.0);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_saved_up() {
        let pacer = Pacer::new(Pace { bytes: 0, requests: 1 });
        tokio::time::sleep(Duration::from_secs(100)).await;
        let begun = Instant::now();
        for _ in 0..3 {
            pacer.take(1, 0).await;
        }
        assert_eq!(begun.elapsed().as_secs_f64().round(), 2.0);
    }
}
