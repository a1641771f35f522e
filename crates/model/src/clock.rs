//! Time as a value that is passed in, so that tests can move it.

/// A moment in UTC with nanosecond resolution; records keep microseconds.
pub use jiff::Timestamp;

/// Where "now" comes from. Leases use the database's clock instead, never a node's.
pub trait Clock: Send + Sync {
    /// Returns the present moment.
    fn now(&self) -> Timestamp;
}
