//! VHD, fixed and dynamic, after Microsoft's "Virtual Hard Disk Image Format Specification" 1.0.

mod footer;
mod new_footer;
mod read;
mod write;

pub(crate) use footer::{COOKIE, LENGTH as FOOTER_LENGTH};
pub(crate) use read::open;
pub(crate) use write::{OPTIONS, write};
