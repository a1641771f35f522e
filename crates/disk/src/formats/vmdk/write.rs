//! The writers of VMDK: which one the options ask for.

use std::sync::Arc;

use super::chain::Chain;
use super::describe::{Description, sectors};
use super::header::{GRAIN, SECTOR};
use super::layout::Layout;
use super::stream::Compressed;
use crate::error::Result;
use crate::options::{Known, WriteOptions};
use crate::output::Output;
use crate::source::Source;
use crate::stored::Stored;

/// The options of the writers.
pub(crate) const OPTIONS: &[Known] = &[
    ("subformat", "monolithicSparse (default), streamOptimized or monolithicFlat"),
    ("adapter_type", "lsilogic (default), buslogic, pvscsi or ide"),
    ("hwversion", "version of the virtual hardware, 4 (default) to 99"),
    ("name", "how the descriptor calls the file"),
    ("level", "how hard streamOptimized compresses, 1 to 12 (default 5)"),
];

/// Returns the file that holds `disk`; a last partial sector is filled up with zeros.
///
/// Beside a flat file belongs what [`flat_descriptor`](super::flat_descriptor) returns.
pub(crate) fn write(disk: Arc<dyn Source>, options: &WriteOptions) -> Result<Output> {
    match options.choice("subformat", &["monolithicSparse", "streamOptimized", "monolithicFlat"])? {
        "streamOptimized" => Ok(Output::Stream(Box::new(Compressed::new(Stored::new(disk, GRAIN)?, options)?))),
        "monolithicFlat" => {
            Description::new(options)?;
            let (size, mut chain) = (disk.len(), Chain::default());
            let filled = sectors(size)? * SECTOR;
            chain.push(size, Some(disk))?;
            chain.push(filled - size, None)?;
            Ok(Output::Flat(chain.into_source()))
        }
        _ => Ok(Output::Layout(Arc::new(Layout::new(Stored::new(disk, GRAIN)?, options)?))),
    }
}
