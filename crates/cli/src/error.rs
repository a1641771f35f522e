//! What a command tells when it cannot: one sentence, and a hint after a blank line.

use std::fmt;

/// A command that did not succeed.
#[derive(Debug)]
pub struct Failure {
    message: String,
    hint: Option<String>,
    causes: Vec<String>,
    /// The reader of our output went away, which is no failure.
    closed_pipe: bool,
}

/// Result of every command.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

impl Failure {
    /// Makes a failure that says `message`, a sentence without a full stop.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, causes: Vec::new(), closed_pipe: false }
    }

    /// Adds what the reader can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what the reader can do about it, where that is known.
    #[must_use]
    pub fn with_some_hint(mut self, hint: Option<&str>) -> Self {
        self.hint = hint.map(str::to_owned).or(self.hint);
        self
    }

    /// Adds what the reader can do about it, where nothing better is known.
    #[must_use]
    pub(crate) fn or_hint(mut self, hint: &str) -> Self {
        self.hint.get_or_insert_with(|| hint.to_owned());
        self
    }

    /// Adds the chain of causes of an error.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn std::error::Error) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            // Some end with a line break, which would look like the end of the message.
            self.causes.push(error.to_string().trim_end().to_owned());
            cause = error.source();
        }
        self
    }

    /// Prints the failure to stderr and returns the process's exit code.
    #[must_use]
    pub fn report(&self) -> u8 {
        if self.closed_pipe {
            return 0;
        }
        eprintln!("error: {self}");
        if let Some(hint) = &self.hint {
            eprintln!("\nhint: {hint}");
        }
        1
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut last = self.message.as_str();
        for cause in &self.causes {
            // Some errors repeat their cause in their own words.
            if !last.contains(cause.as_str()) {
                write!(f, ": {cause}")?;
                last = cause;
            }
        }
        Ok(())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self { closed_pipe: error.kind() == std::io::ErrorKind::BrokenPipe, ..Self::new(error.to_string()) }
    }
}

impl From<disk::Error> for Failure {
    fn from(error: disk::Error) -> Self {
        let failure = Self::new(error.to_string()).with_some_hint(error.hint());
        let Some(cause) = std::error::Error::source(&error) else { return failure };
        let closed_pipe =
            cause.downcast_ref::<std::io::Error>().is_some_and(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe);
        Self { closed_pipe, ..failure.caused_by(cause) }
    }
}

impl From<distributions::Error> for Failure {
    fn from(error: distributions::Error) -> Self {
        let failure = Self::new(error.to_string()).with_some_hint(error.hint());
        match std::error::Error::source(&error) {
            Some(cause) => failure.caused_by(cause),
            None => failure,
        }
    }
}
