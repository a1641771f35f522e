//! The one clock of a running Molde.

use model::{Clock, Timestamp};

/// The system's clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else is handed")]
        Timestamp::now()
    }
}
