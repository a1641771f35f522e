//! Harness of the tests that run the real binary, from outside: a server on a new data directory, and who asks it.
//!
//! Nothing here knows a struct of Molde: requests and answers are literal, so a renamed field breaks a test. What a
//! test finds wrong is a panic; the server's log is printed with it.
#![expect(clippy::print_stderr, reason = "a failed test shows the server's log")]

mod command;
pub mod disks;
mod file_server;
pub mod guest;
mod mirror;
mod molde;
pub mod peers;
mod proxy;
mod random;
mod s3;
mod signer;
mod tmpfs;

use std::time::{Duration, Instant};

pub use command::{Done, command, run, tool};
pub use file_server::FileServer;
pub use mirror::Mirror;
pub use molde::{Molde, Options, binary, files_below, memory_peak};
pub use proxy::Proxy;
pub use random::Random;
pub use rustix::process::Signal;
pub use s3::{Answer, Request, S3, answer};
pub use signer::Signer;
pub use tmpfs::Tmpfs;

/// How long a test waits for anything that is expected to happen soon; a machine may be busy with other tests.
pub const SOON: Duration = Duration::from_secs(120);
/// How often a test looks.
const POLL: Duration = Duration::from_millis(20);

/// Asks `look` until it answers, and returns the answer; panics with `what` when [`SOON`] is over.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < SOON, "{what}: not within {SOON:?}");
        pause();
    }
}

/// Waits between two looks at something.
pub fn pause() {
    std::thread::sleep(POLL);
}
