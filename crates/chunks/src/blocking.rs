//! The one bridge from async code to threads that may block, with a bounded number of permits.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinHandle};

/// Blocking threads of which at most a set number work at once.
#[derive(Clone)]
pub(crate) struct Threads {
    permits: Arc<Semaphore>,
}

impl Threads {
    pub(crate) fn new(count: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(count)) }
    }

    /// Threads for work that only computes: one per core.
    pub(crate) fn per_core() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Runs `work` on a blocking thread. When the caller goes away, work that has begun still runs to its end
    /// and keeps its permit until then.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let permit = Arc::clone(&self.permits).acquire_owned().await.expect("the semaphore is never closed");
        let job = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(permit);
            result
        });
        finished(job.await).await
    }
}

/// Passes a panic on. Work that the runtime gave up, because it shuts down, is never seen to end.
async fn finished<T>(joined: Result<T, JoinError>) -> T {
    match joined.map_err(JoinError::try_into_panic) {
        Ok(result) => result,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => std::future::pending().await,
    }
}

/// A spawned task that is given up when its handle is dropped.
pub(crate) struct Job<T>(JoinHandle<T>);

impl<T: Send + 'static> Job<T> {
    pub(crate) fn spawn(future: impl Future<Output = T> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    /// Waits for the result. May be given up and called again.
    pub(crate) async fn wait(&mut self) -> T {
        finished((&mut self.0).await).await
    }
}

impl<T> Drop for Job<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
