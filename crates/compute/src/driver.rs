//! The promise of every driver: six verbs over a server's id, each safe to call again.

use async_trait::async_trait;
use model::ServerId;

use crate::{Result, ServerSpec};

/// Runs servers somewhere.
///
/// ```text
///            start                 stop, or the guest powers off
///  Absent ---------> Running ------------------------------------> Off
///    ^                | ^ disk fault / start                        |
///    |                v |                                           |
///    |               Paused                              start -> Running
///    +-------------------- delete, from anywhere -------------------+
/// ```
///
/// Every verb brings about a state and succeeds when that state is already there, so that a job may repeat its last
/// step after a crash. Dropping a future leaves the server in a state from which the same call can go on.
#[async_trait]
pub trait Driver: Send + Sync {
    /// Makes the server if it is absent and runs it; a paused one goes on.
    ///
    /// The root disk of a server that exists already is kept: `spec.base` must still be the same disk. The config
    /// drive is made anew. Two calls at once for one server start one process.
    async fn start(&self, spec: &ServerSpec) -> Result<()>;

    /// Ends the server's process and keeps its disk; a server that is off or absent is left as it is.
    async fn stop(&self, id: ServerId, how: Stop) -> Result<()>;

    /// Ends the server's process at once and removes everything that belongs to it; an absent server is fine.
    async fn delete(&self, id: ServerId) -> Result<()>;

    /// Returns whether the server runs.
    async fn power(&self, id: ServerId) -> Result<Power>;

    /// Returns the last `last_bytes` bytes (at most 4 MiB) that the guest wrote to its serial port, over all its starts.
    ///
    /// These are the guest's bytes: they may hold anything, terminal escapes included.
    async fn console(&self, id: ServerId, last_bytes: usize) -> Result<Vec<u8>>;

    /// Returns every server that this driver holds, sorted by id, and never starts one.
    ///
    /// After a restart of Molde this is how the processes of its former life are found again.
    async fn adopt(&self) -> Result<Vec<(ServerId, Power)>>;
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Presses the power button, and pulls the plug when the guest has not powered off in time.
    Soft,
    /// Pulls the plug. What the guest has flushed to its disk is kept.
    Hard,
}

/// Whether a server runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Power {
    /// Its processors run.
    Running,
    /// It has a disk and no process.
    Off,
    /// Its process is there and its processors stand still, for instance because the host's disk is full.
    Paused {
        /// Why, as a sentence without a full stop.
        reason: String,
    },
    /// The driver has no such server.
    Absent,
}
