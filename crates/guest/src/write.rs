//! Changing files in a guest's disk without starting it: a disk with changes in memory, and writers of file systems.
//!
//! base (any source) -> [`Overlay`] -> a writer changes files in one partition -> the changed ranges are stored elsewhere
//!
//! Invariant: the base is never written, and an operation that fails leaves the overlay as it was before.

mod ext;
mod fat;
mod ntfs;
mod overlay;
mod writer;

pub use ext::{Attributes, ExtWriter};
pub use fat::FatWriter;
pub(crate) use ntfs::{NtfsWriter, no_room};
pub use overlay::Overlay;
pub(crate) use writer::{Writer, open};
