//! What can go wrong in the store: a small kind for programs, a sentence for people.

use std::fmt;
use std::io;
use std::path::Path;

/// What kind of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The object or content does not exist.
    NotFound,
    /// The object exists already; objects are written once.
    Exists,
    /// Stored bytes are not what was written, or something that they need is missing.
    Corrupt,
    /// The place where the bytes go is full.
    StorageFull,
    /// The dedup domain would take more room than its quota allows.
    Quota,
    /// A backend or the index failed.
    Io,
    /// The key service refused to open a key.
    KeyRefused,
    /// The store or the object was written by a newer release.
    Version,
    /// The caller asked for what cannot be: a range past the end, contents of different domains.
    Invalid,
    /// Another writer was faster; the same call may succeed when it is made again.
    Conflict,
}

type Source = Box<dyn std::error::Error + Send + Sync>;

/// A fault with the sentence that its reader needs.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    source: Option<Source>,
}

/// Result of every function of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error of `kind` that says `message`: what, where and why, without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// Shorthand for [`ErrorKind::Corrupt`].
    pub fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    /// Shorthand for [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Makes an error for a failed system call on `path`; `doing` completes "cannot ...". A full disk or an
    /// exhausted quota becomes [`ErrorKind::StorageFull`]. For reading see `unread`.
    pub fn io(doing: &str, path: &Path, source: io::Error) -> Self {
        let path = path.display();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::new(ErrorKind::StorageFull, format!("cannot {doing} {path}: no space is left there"))
                    .with_hint("free space or raise the quota, then try again; what was stored before is intact")
            }
            io::ErrorKind::NotFound => Self::new(ErrorKind::NotFound, format!("cannot {doing} {path}: not found")),
            io::ErrorKind::AlreadyExists => {
                Self::new(ErrorKind::Exists, format!("cannot {doing} {path}: it exists already"))
            }
            _ => Self::new(ErrorKind::Io, format!("cannot {doing} {path}")),
        }
        .with_source(source)
    }

    /// Makes an error for a failed read of `path`. What the disk cannot give back, or its file system knows to be changed,
    /// is [`ErrorKind::Corrupt`] like any other damage: to wait and read again would not mend it.
    pub(crate) fn unread(path: &Path, source: io::Error) -> Self {
        // EIO; EBADMSG and EUCLEAN of file systems with checksums; ENODATA of a disk's bad sector (Linux, `errno.h`).
        const DAMAGED: [i32; 4] = [5, 74, 117, 61];
        if !source.raw_os_error().is_some_and(|number| DAMAGED.contains(&number)) {
            return Self::io("read", path, source);
        }
        Self::corrupt(format!("cannot read {}: the disk does not give back what was written there", path.display()))
            .with_hint("look for faults of this disk in the kernel's log; what is uploaded again is whole again")
            .with_source(source)
    }

    pub(crate) fn index(doing: &str, source: Source) -> Self {
        Self::new(ErrorKind::Io, format!("the chunk index failed to {doing}")).with_source(source)
    }

    pub(crate) fn keys(doing: &str, source: keys::Error) -> Self {
        let kind = match source.kind() {
            keys::ErrorKind::Io => ErrorKind::Io,
            keys::ErrorKind::Version => ErrorKind::Version,
            keys::ErrorKind::Refused | keys::ErrorKind::Corrupt => ErrorKind::KeyRefused,
        };
        Self::new(kind, format!("cannot {doing}")).with_source(source)
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Source>) -> Self {
        self.source = Some(source.into());
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
        self.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_apart_and_names_the_place() {
        // ENOSPC and EDQUOT of Linux.
        for number in [28, 122] {
            let error = Error::io("write", Path::new("/data/store/tmp"), io::Error::from_raw_os_error(number));
            assert_eq!(error.kind(), ErrorKind::StorageFull);
            assert!(error.to_string().contains("/data/store/tmp"), "{error}");
        }
        let error = Error::io("read", Path::new("/x"), io::Error::from_raw_os_error(5));
        assert_eq!(error.kind(), ErrorKind::Io);
    }
}
