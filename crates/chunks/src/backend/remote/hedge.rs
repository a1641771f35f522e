//! Hedged reads: what takes longer than nearly all reads before it is asked for a second time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::future::{Either, select};
use tokio::time::{Instant, sleep};

/// Reads that are remembered.
const WINDOW: usize = 256;
/// Reads that must have been seen before one is called slow.
const SEEN_MIN: usize = 64;

/// How long the last reads took.
#[derive(Debug, Default)]
pub(super) struct Latency(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    times: Vec<Duration>,
    next: usize,
}

impl Latency {
    /// Returns how long 99 of 100 reads take at most; nothing when too few were seen.
    fn p99(&self) -> Option<Duration> {
        let mut times = self.ring().times.clone();
        let at = times.len() * 99 / 100;
        (times.len() >= SEEN_MIN).then(|| *times.select_nth_unstable(at).1)
    }

    fn saw(&self, time: Duration) {
        let mut ring = self.ring();
        if ring.times.len() < WINDOW {
            return ring.times.push(time);
        }
        let next = ring.next;
        ring.times[next] = time;
        ring.next = (next + 1) % WINDOW;
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Awaits `read`, and when it is slow, a second one as well. `second` returns nothing when there is no room
    /// for one. Returns the first success, and whether it is that of the second.
    pub(super) async fn race<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        least: Duration,
        read: F,
        second: impl FnOnce() -> Option<F>,
    ) -> (Result<T, E>, bool) {
        let start = Instant::now();
        let done = self.decide(least, read, second).await;
        if done.0.is_ok() {
            self.saw(start.elapsed());
        }
        done
    }

    async fn decide<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        least: Duration,
        read: F,
        second: impl FnOnce() -> Option<F>,
    ) -> (Result<T, E>, bool) {
        let Some(p99) = self.p99() else { return (read.await, false) };
        let read = match select(Box::pin(read), Box::pin(sleep(p99.max(least)))).await {
            Either::Left((done, _)) => return (done, false),
            Either::Right(((), read)) => read,
        };
        let Some(second) = second() else { return (read.await, false) };
        match select(read, Box::pin(second)).await {
            Either::Left((Ok(done), _)) => (Ok(done), false),
            Either::Left((Err(_), second)) => (second.await, true),
            Either::Right((Ok(done), _)) => (Ok(done), true),
            Either::Right((Err(_), read)) => (read.await, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Duration = Duration::from_millis(10);

    async fn read(millis: u64, good: bool) -> Result<u64, u64> {
        sleep(Duration::from_millis(millis)).await;
        if good { Ok(millis) } else { Err(millis) }
    }

    async fn seen(millis: u64) -> Latency {
        let latency = Latency::default();
        for _ in 0..SEEN_MIN {
            assert_eq!(latency.race(LEAST, read(millis, true), || None).await, (Ok(millis), false));
        }
        latency
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_read_is_overtaken_and_a_usual_one_is_left_alone() {
        let second = |good| Some(read(3, good));
        assert_eq!(seen(20).await.race(LEAST, read(500, true), || second(true)).await, (Ok(3), true));
        assert_eq!(seen(20).await.race(LEAST, read(20, true), || panic!("not slow")).await, (Ok(20), false));
        assert_eq!(seen(20).await.race(LEAST, read(500, true), || second(false)).await, (Ok(500), false));
        assert_eq!(seen(20).await.race(LEAST, read(500, false), || Some(read(700, true))).await, (Ok(700), true));
        assert_eq!(seen(20).await.race(LEAST, read(500, true), || None).await, (Ok(500), false));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_slow_before_enough_was_seen_or_below_the_floor() {
        let new = Latency::default();
        assert_eq!(new.race(LEAST, read(9000, true), || panic!("unknown")).await, (Ok(9000), false));
        let fast = seen(1).await;
        assert_eq!(fast.race(LEAST, read(9, true), || panic!("below the floor")).await, (Ok(9), false));
        assert_eq!(fast.race(LEAST, read(30, true), || Some(read(1, true))).await, (Ok(1), true));
    }
}
