//! What is known of a disk file without reading its data.

use std::sync::Arc;

use crate::error::Result;
use crate::format::Format;
use crate::gate::Gate;
use crate::map::map;
use crate::open::open;
use crate::opened::Opened;
use crate::probe::probe;
use crate::source::{ExtentKind, Source};

/// Facts about a disk file; sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Info {
    /// The format of the file.
    pub format: Format,
    /// Which kind of that format; empty for raw.
    pub variant: String,
    /// The disk as the guest sees it.
    pub virtual_size: u64,
    /// The file, holes included.
    pub file_size: u64,
    /// The parts of the disk that are not known to be zero.
    pub allocated: u64,
    /// The unit in which the file allocates, if it has one.
    pub block_size: Option<u64>,
    /// Sentences for people about what was passed over.
    pub notes: Vec<String>,
}

/// Looks at `source`, which is probed if `format` is not given; what it asks for is asked of `gate`.
pub fn info(source: Arc<dyn Source>, format: Option<Format>, gate: &dyn Gate) -> Result<Info> {
    let format = match format {
        Some(format) => format,
        None => probe(&*source)?,
    };
    let file_size = source.len();
    info_of(&open(source, format, gate)?, file_size)
}

/// Says what is known of a file of `file_size` bytes that was opened.
pub fn info_of(opened: &Opened, file_size: u64) -> Result<Info> {
    let mut allocated = 0;
    for extent in map(&*opened.disk, 0..u64::MAX) {
        let extent = extent?;
        if extent.kind == ExtentKind::Data {
            allocated += extent.length;
        }
    }
    Ok(Info {
        format: opened.format,
        variant: opened.variant.clone(),
        virtual_size: opened.disk.len(),
        file_size,
        allocated,
        block_size: opened.block_size,
        notes: opened.notes.clone(),
    })
}
