//! Which images the distributions publish, where, and how what comes from there is verified.
//!
//! definitions (a file) -> where to look -> list, with its signature -> the newest image in it -> bytes, with their checksum
//!
//! Every mirror is hostile: what it sends is bounded, and nothing of it is used before a signature by a pinned key, or for
//! the few that sign nothing, TLS, says so. Not here: what becomes of the bytes (`cli`), which server they go to (`cli`).
#![forbid(unsafe_code)]

mod address;
mod checksums;
mod definitions;
mod error;
mod mirror;
mod pattern;
mod release;
mod signature;
mod streams;

pub use address::Access;
pub use checksums::{Algorithm, Checksum};
pub use definitions::{Definitions, Distribution, Version};
pub use error::{Error, Result};
pub use mirror::{IMAGE_MAX, Mirror};
pub use pattern::newer;
pub use release::{Known, Proof, Release, Wanted};
