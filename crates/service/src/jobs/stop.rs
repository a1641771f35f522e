//! Why a step did not end well: decided where it happens.

use crate::error::{Error, ErrorKind};

/// Why a step did not end well.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something was away that may come back: the job is begun again later.
    Retry(Error),
    /// It will never work: the job fails with the error's sentence.
    Fail(Error),
    /// Somebody asked to cancel the job.
    Cancelled,
    /// Another node has the job now; this one must not touch it any more.
    Lost,
    /// This node stops: it frees the job for whoever claims it next.
    Interrupted,
}

impl Stop {
    /// Puts in front what the failure is about.
    pub(crate) fn about(self, what: &str) -> Self {
        match self {
            Self::Retry(error) => Self::Retry(error.about(what)),
            Self::Fail(error) => Self::Fail(error.about(what)),
            other => other,
        }
    }
}

impl From<Error> for Stop {
    /// What does not answer or is full may come back; everything else stays as it is.
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Unavailable => Self::Retry(error),
            _ => Self::Fail(error),
        }
    }
}

impl From<catalog::Error> for Stop {
    fn from(error: catalog::Error) -> Self {
        Error::from(error).into()
    }
}
