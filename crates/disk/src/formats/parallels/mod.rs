//! parallels: not yet.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gate::Gate;
use crate::opened::Opened;
use crate::source::Source;

pub(crate) fn open(_file: Arc<dyn Source>, _gate: &dyn Gate) -> Result<Opened> {
    Err(Error::unsupported("files in format parallels are not read"))
}
