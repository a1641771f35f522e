//! What can go wrong between a mirror and an image that may be published: a sentence, a hint, the cause.

use std::error::Error as Cause;

/// Why an image was not found, not fetched, or not believed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    message: String,
    hint: Option<String>,
    #[source]
    cause: Option<Box<dyn Cause + Send + Sync>>,
}

/// The result of everything here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Makes an error of a sentence that somebody else found, such as whoever reads files here.
    #[must_use]
    pub fn told(message: String) -> Self {
        Self::new(message)
    }

    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, cause: None }
    }

    pub(crate) fn caused_by(mut self, cause: impl Cause + Send + Sync + 'static) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Returns what the reader can do about it, where that is known.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}
