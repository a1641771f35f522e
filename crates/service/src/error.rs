//! What a verb answers when it cannot: a closed list of kinds, a sentence for the user, a chain for the log.

use std::error::Error as StdError;
use std::fmt;

/// What to do when a project has as many images or objects as it may.
pub(crate) const COUNT_HINT: &str = "delete what is not needed any more, or ask an administrator for a larger quota";

/// What to do when a project has stored as much as it may.
const BYTES_HINT: &str = "delete images or objects, whose room is free when garbage was collected, \
    or ask an administrator for a larger quota";

/// What kind of failure it is; each dialect turns a kind into its own code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Does not exist, or exists for others only.
    NotFound,
    /// The request cannot be right.
    Invalid,
    /// The bytes that arrived have another checksum than the one sent with them.
    BadDigest,
    /// The bytes that were sent are not what was declared, or not usable.
    BadContent,
    /// The parts of an upload are listed out of order.
    BadOrder,
    /// Something is in a state that does not allow it.
    Conflict,
    /// Who asks is not known: wrong password, signature or token.
    Unauthorized,
    /// Who asks is known and may not.
    Forbidden,
    /// A limit of the project or of the request is exceeded.
    TooLarge,
    /// The project would have more than its quota allows.
    QuotaExceeded,
    /// The byte range lies outside the content.
    BadRange,
    /// Kept bytes are damaged.
    Corrupt,
    /// No room is left where the bytes are kept.
    StorageFull,
    /// Something that is needed does not answer; trying again later may help.
    Unavailable,
    /// A fault of Molde.
    Internal,
}

/// A failure: `message` and `hint` may be shown to the user; the source is for the log only.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    noun: Option<&'static str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// Result of every verb.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes a failure of `kind` that says `message`, a sentence without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, noun: None, source: None }
    }

    /// Shorthand for [`ErrorKind::NotFound`]: "no {noun} {name}". `noun` is one word of the model, such as `bucket`.
    pub fn not_found(noun: &'static str, name: impl fmt::Display) -> Self {
        Self { noun: Some(noun), ..Self::new(ErrorKind::NotFound, format!("no {noun} {name}")) }
    }

    /// Shorthand for [`ErrorKind::Invalid`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// Shorthand for [`ErrorKind::Conflict`].
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// Shorthand for [`ErrorKind::Internal`] with its cause.
    pub fn internal(message: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Internal, message).caused_by(source)
    }

    /// Adds what the user can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts in front what the failure is about.
    #[must_use]
    pub(crate) fn about(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Returns what the user reads in a record: the sentence and the way out.
    pub(crate) fn sentence(&self) -> String {
        match self.hint() {
            Some(hint) => format!("{self} ({hint})"),
            None => self.to_string(),
        }
    }

    /// Returns what the log reads: the sentence and every cause.
    pub(crate) fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = StdError::source(self);
        while let Some(next) = cause {
            let told = next.to_string();
            // An error that was taken over as it is says the same.
            if !text.ends_with(&told) {
                text.push_str(": ");
                text.push_str(&told);
            }
            cause = next.source();
        }
        text
    }

    /// Takes the sentences of the causes into the message, for those who operate the server.
    #[must_use]
    pub(crate) fn with_causes(self) -> Self {
        Self { message: self.chain(), ..self }
    }

    /// Returns the kind.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Returns what does not exist (`bucket`, `object`, `upload`, `image`, ...), where that is the failure.
    #[must_use]
    pub fn noun(&self) -> Option<&'static str> {
        self.noun
    }

    /// Returns what the user can do about it.
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

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| source.as_ref() as _)
    }
}

impl From<catalog::Error> for Error {
    fn from(error: catalog::Error) -> Self {
        let kind = match error.kind() {
            catalog::ErrorKind::Conflict => ErrorKind::Conflict,
            catalog::ErrorKind::Invalid | catalog::ErrorKind::Missing => ErrorKind::Invalid,
            catalog::ErrorKind::Unavailable => ErrorKind::Unavailable,
            catalog::ErrorKind::Quota => ErrorKind::QuotaExceeded,
            catalog::ErrorKind::Other => ErrorKind::Internal,
        };
        let hint = (kind == ErrorKind::QuotaExceeded).then(|| COUNT_HINT.to_owned());
        Self { hint, ..Self::new(kind, error.to_string()).caused_by(error) }
    }
}

impl From<chunks::Error> for Error {
    fn from(error: chunks::Error) -> Self {
        let kind = match error.kind() {
            chunks::ErrorKind::Corrupt | chunks::ErrorKind::NotFound | chunks::ErrorKind::KeyRefused => {
                ErrorKind::Corrupt
            }
            chunks::ErrorKind::StorageFull => ErrorKind::StorageFull,
            chunks::ErrorKind::Quota => ErrorKind::QuotaExceeded,
            chunks::ErrorKind::Conflict => ErrorKind::Conflict,
            chunks::ErrorKind::Io => ErrorKind::Unavailable,
            chunks::ErrorKind::Exists | chunks::ErrorKind::Version | chunks::ErrorKind::Invalid => ErrorKind::Internal,
        };
        let hint = if kind == ErrorKind::QuotaExceeded { Some(BYTES_HINT) } else { error.hint() }.map(str::to_owned);
        Self { hint, ..Self::new(kind, error.to_string()).caused_by(error) }
    }
}

impl From<disk::Error> for Error {
    /// A disk file is what somebody sent, so what is wrong with it is theirs; only failed reads are ours.
    fn from(error: disk::Error) -> Self {
        let kind = match error.kind() {
            disk::ErrorKind::Io => ErrorKind::Unavailable,
            _ => ErrorKind::BadContent,
        };
        let hint = error.hint().map(str::to_owned);
        Self { hint, ..Self::new(kind, error.to_string()).caused_by(error) }
    }
}

impl From<compute::Error> for Error {
    fn from(error: compute::Error) -> Self {
        let kind = match error.kind() {
            compute::ErrorKind::Invalid => ErrorKind::Invalid,
            compute::ErrorKind::NotFound => ErrorKind::NotFound,
            compute::ErrorKind::Missing | compute::ErrorKind::Unresponsive => ErrorKind::Unavailable,
            compute::ErrorKind::Failed | compute::ErrorKind::Io => ErrorKind::Internal,
        };
        let hint = error.hint().map(str::to_owned);
        Self { hint, ..Self::new(kind, error.to_string()).caused_by(error) }
    }
}

impl From<keys::Error> for Error {
    fn from(error: keys::Error) -> Self {
        let hint = error.hint().map(str::to_owned);
        Self { hint, ..Self::new(ErrorKind::Unavailable, error.to_string()).caused_by(error) }
    }
}

impl From<model::names::NameError> for Error {
    fn from(error: model::names::NameError) -> Self {
        Self::invalid(error.to_string())
    }
}
