//! Files that are compressed as a whole: gzip, xz, zstd, bzip2, and a zip of one file.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::Format;
use crate::gate::Gate;
use crate::opened::Opened;
use crate::options::WriteOptions;
use crate::source::Source;
use crate::write::Output;

/// Opens the disk inside a compressed file of which any part can be unpacked alone.
pub(crate) fn open(_file: Arc<dyn Source>, format: Format, _gate: &dyn Gate) -> Result<Opened> {
    Err(Error::unsupported(format!("files in format {format} are not read")))
}

/// Compresses the file `output` as a whole if the options say so.
pub(crate) fn write(output: Output, options: &WriteOptions) -> Result<Output> {
    match options.choice("wrap", &["none"])? {
        _ => Ok(output),
    }
}
