//! The process of a worker as its parent sees it: how it is started, and what its end means.

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};

use disk::error::{Error, ErrorKind};
use rustix::process::Signal;

use super::Program;
use super::confine::{MEMORY_MAX, SECONDS_MAX};
use crate::text::clean_to;

/// Most of its last words that are read.
const WORDS_MAX: u64 = 4096;
/// Most of them that are shown.
const TOLD_MAX: usize = 400;
/// What an allocation that failed says, and what a stack that is full says (the standard library).
const NO_MEMORY: &str = "memory allocation of";
const NO_STACK: &str = "has overflowed its stack";

/// A worker, which ends with this.
pub(super) struct Running(Child);

impl Running {
    /// Starts a worker, and returns it with the socket to it.
    pub(super) fn start(program: &Program) -> io::Result<(Self, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        let child = Command::new(&program.path)
            .arg0("molde")
            .args(&program.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok((Self(child), ours))
    }

    /// Ends the worker, and returns what it said last and how it came to its end, if it had one before.
    pub(super) fn end(mut self) -> Ended {
        // One that is ending keeps the reason for which it does.
        let _ = self.0.kill();
        let status = self.0.wait().ok();
        let mut words = Vec::new();
        if let Some(errors) = self.0.stderr.take() {
            let _ = errors.take(WORDS_MAX).read_to_end(&mut words);
        }
        Ended { status, words: String::from_utf8_lossy(&words).into_owned() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Either fails only where it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How a worker ended that did not answer.
pub(super) struct Ended {
    status: Option<ExitStatus>,
    words: String,
}

impl Ended {
    /// Says what it means.
    pub(super) fn into_error(self) -> Error {
        let signal = self.status.and_then(|status| status.signal());
        let is = |known: Signal| signal == Some(known.as_raw());
        let too_large = |what: String| Error::new(ErrorKind::TooLarge, format!("looking into the disk took {what}"));
        if is(Signal::XCPU) {
            return too_large(format!("more than {SECONDS_MAX} seconds of a processor, and was stopped"));
        }
        if self.words.contains(NO_MEMORY) {
            return too_large(format!("more than {} MiB of memory, and was stopped", MEMORY_MAX >> 20));
        }
        if self.words.contains(NO_STACK) {
            return fault("it filled its stack");
        }
        if is(Signal::SYS) {
            return fault("it asked for a system call that is forbidden to it, and the kernel ended it");
        }
        if is(Signal::KILL) {
            let hint = "try again when the host has more memory to spare";
            return Error::new(ErrorKind::Io, "the process that looked into the disk was killed").with_hint(hint);
        }
        fault(&self.describe())
    }

    /// Says how it ended, in part of a sentence.
    pub(super) fn describe(&self) -> String {
        let how = self.status.map_or_else(|| "it ended".to_owned(), |status| format!("it ended with {status}"));
        match self.words.trim() {
            "" => how,
            words => format!("{how}: {}", clean_to(words.as_bytes(), TOLD_MAX)),
        }
    }
}

/// A fault of Molde that this disk brought to light.
pub(super) fn fault(what: &str) -> Error {
    Error::refused(format!("the process that looked into the disk came to a fault of Molde: {what}"))
        .with_hint("nothing was changed; please report it, with the disk if you can give it away")
}
