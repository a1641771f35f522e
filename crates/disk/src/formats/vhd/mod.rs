//! VHD, fixed and dynamic, after Microsoft's "Virtual Hard Disk Image Format Specification" 1.0.

mod footer;
mod read;

pub(crate) use footer::{COOKIE, LENGTH as FOOTER_LENGTH};
pub(crate) use read::open;
