//! What can go wrong with running a server: a small kind for programs, a sentence for people.

use std::fmt;
use std::io;

/// What kind of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The specification asks for something that cannot be; asking again will not help.
    Invalid,
    /// The driver has no such server.
    NotFound,
    /// A program or firmware file of this host is not installed.
    Missing,
    /// QEMU or qemu-img ended with an error of its own.
    Failed,
    /// QEMU or qemu-img did not answer or end in time.
    Unresponsive,
    /// Reading or writing a file of the server failed.
    Io,
}

/// A fault with the sentence that its reader needs.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<io::Error>,
}

/// Result of every function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error of `kind` that says `message`: what, where and why, without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// Makes an error for a failed read or write; `doing` completes "cannot ...".
    pub fn io(doing: impl fmt::Display, source: io::Error) -> Self {
        Self { kind: ErrorKind::Io, message: format!("cannot {doing}"), hint: None, source: Some(source) }
    }

    /// Shorthand for [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns what the reader can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
