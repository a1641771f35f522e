//! The words of Molde: ids, states and their allowed moves, and the records that every floor speaks of.
//!
//! Invariant: nothing here reads, writes, waits or serializes for the outside. A wire type lives in
//! `api`, a row lives in `catalog`; both are converted by hand to and from the types of this crate.

pub mod buckets;
pub mod clock;
pub mod contents;
pub mod exports;
pub mod formats;
pub mod identity;
pub mod ids;
pub mod images;
pub mod jobs;
pub mod names;
pub mod packs;
pub mod quotas;
pub mod servers;
pub mod sizes;

pub use clock::{Clock, Timestamp};
pub use formats::{ContainerFormat, DiskFormat};
pub use ids::*;
