//! Counters of a remote backend, for whoever shows them.

use crate::backend::Counter;

/// What a remote backend did since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoteStats {
    /// Requests that were sent.
    pub requests: u64,
    /// Those that repeat one which failed.
    pub retries: u64,
    /// Reads that were slow, so that they were asked for a second time.
    pub hedges: u64,
    /// Those of them where the second answer came first.
    pub hedges_won: u64,
    /// Calls that failed in the end; objects that are not there, or there already, do not count.
    pub failures: u64,
    /// Bytes of objects that were read.
    pub bytes_read: u64,
    /// Bytes of objects that were written.
    pub bytes_written: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: Counter,
    pub(super) retries: Counter,
    pub(super) hedges: Counter,
    pub(super) hedges_won: Counter,
    pub(super) failures: Counter,
    pub(super) bytes_read: Counter,
    pub(super) bytes_written: Counter,
}

impl Counters {
    pub(super) fn now(&self) -> RemoteStats {
        RemoteStats {
            requests: self.requests.get(),
            retries: self.retries.get(),
            hedges: self.hedges.get(),
            hedges_won: self.hedges_won.get(),
            failures: self.failures.get(),
            bytes_read: self.bytes_read.get(),
            bytes_written: self.bytes_written.get(),
        }
    }
}
