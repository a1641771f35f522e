//! What opening a disk file gives.

use std::fmt;
use std::sync::Arc;

use crate::format::Format;
use crate::source::Source;

/// A disk, and what was learned about the file that holds it.
pub struct Opened {
    /// The disk as the guest sees it.
    pub disk: Arc<dyn Source>,
    /// The format of the file.
    pub format: Format,
    /// Which kind of that format, such as "dynamic" or "v3 zstd"; empty for raw.
    pub variant: String,
    /// Bytes of the unit in which the file allocates, if it has one.
    pub block_size: Option<u64>,
    /// Sentences for people about what was passed over, such as internal snapshots.
    pub notes: Vec<String>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("size", &self.disk.len())
            .field("format", &self.format)
            .field("variant", &self.variant)
            .field("block_size", &self.block_size)
            .field("notes", &self.notes)
            .finish()
    }
}
