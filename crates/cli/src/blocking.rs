//! The bridge to threads that may block; how much goes over it at once is for the streams that use it to bound.

use crate::error::{Failure, Result};

/// Runs work that reads files or computes.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::new("some work ended unexpectedly").caused_by(&error))
}
