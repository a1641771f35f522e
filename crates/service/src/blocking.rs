//! The one bridge from async code to blocking work: reading disks, looking inside guests, password hashing.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::error::{Error, Result};

/// A pool of permits: at most so many pieces of blocking work run at once.
#[derive(Clone)]
pub(crate) struct Permits(Arc<Semaphore>);

impl Permits {
    /// Makes a pool of `count` permits, at least one.
    pub(crate) fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count.max(1))))
    }

    /// Runs `work` on a thread that may block, once a permit is free. A panic in it is an `Internal` failure of
    /// this one request, with the panic's text in the log.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let permit = Arc::clone(&self.0)
            .acquire_owned()
            .await
            .map_err(|closed| Error::internal("the service is stopping", closed))?;
        spawn(move || {
            let _permit = permit;
            work()
        })
        .await
    }
}

/// Runs the work of a whole step of a job on a thread that may block. It takes no permit, which would be kept for as long
/// as the step lasts and be missing for the short work of requests; there are as many as there are workers.
pub(crate) async fn run_step<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    spawn(work).await
}

async fn spawn<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let span = tracing::Span::current();
    let task = tokio::task::spawn_blocking(move || span.in_scope(work));
    task.await.map_err(|failed| Error::internal("a piece of work ended unexpectedly", failed))
}
