//! What can go wrong with a key: a small kind for programs, a sentence for people.

use std::fmt;
use std::io;

/// What kind of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The key does not open the bytes, is not known, or may not be used.
    Refused,
    /// The bytes or the key file are not in the form that this crate writes.
    Corrupt,
    /// The bytes were written by a newer release.
    Version,
    /// Reading or writing a file, or asking a key service, failed.
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

    /// Makes an error for a failed system call; `doing` completes "cannot ...".
    pub fn io(doing: impl fmt::Display, source: io::Error) -> Self {
        Self { kind: ErrorKind::Io, message: format!("cannot {doing}"), hint: None, source: Some(source) }
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
