//! What a server spends on its clients.

use std::time::Duration;

/// What a server spends on its clients at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; more are closed as soon as they come.
    pub connections: usize,
    /// Commands of one connection that are carried out at once. Each may hold 2 MiB.
    pub workers: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a client may take to send a command that it began, and how long it may take nothing of a reply.
    pub message: Duration,
    /// How long commands that were taken may go on after a stop.
    pub grace: Duration,
}

impl Default for Limits {
    /// 16 connections of 4 workers, so at most 128 MiB; 10 s for a handshake, 30 s for a message, 5 s of grace.
    fn default() -> Self {
        Self {
            connections: 16,
            workers: 4,
            handshake: Duration::from_secs(10),
            message: Duration::from_secs(30),
            grace: Duration::from_secs(5),
        }
    }
}
