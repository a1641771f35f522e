//! What can go wrong with a disk file: a small kind for programs, a sentence for people.

use std::fmt;
use std::io;

/// What kind of fault it is; new faults of a format need no new kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The file is not in the format that was named.
    WrongFormat,
    /// The file breaks its own format: a bad field, a cut file, an overlapping table.
    Corrupt,
    /// The file asks for something that is never done for it, such as opening another file.
    Refused,
    /// The file is sound and uses a feature that is not supported.
    Unsupported,
    /// A size or count is over the limit of this program.
    TooLarge,
    /// Reading or writing the bytes failed.
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
        let full = source.kind() == io::ErrorKind::StorageFull;
        let hint = full.then(|| "free some room there, or write to another place".to_owned());
        Self { kind: ErrorKind::Io, message: format!("cannot {doing}"), hint, source: Some(source) }
    }

    /// Shorthand for [`ErrorKind::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// Shorthand for [`ErrorKind::Refused`].
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Refused, message)
    }

    /// Shorthand for [`ErrorKind::Unsupported`].
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    /// Says in which of several places it happened.
    #[must_use]
    pub(crate) fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
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
