//! ova: not yet.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::opened::Opened;
use crate::options::{Known, WriteOptions};
use crate::source::Source;
use crate::write::Output;

/// The options of the writer.
pub(crate) const OPTIONS: &[Known] = &[];

pub(crate) fn open(_file: Arc<dyn Source>, _gate: &dyn Gate) -> Result<Opened> {
    Err(Error::unsupported("files in format ova are not read"))
}

pub(crate) fn write(_disk: Arc<dyn Source>, _options: &WriteOptions) -> Result<Output> {
    Err(Error::unsupported("files in format ova are not written"))
}
