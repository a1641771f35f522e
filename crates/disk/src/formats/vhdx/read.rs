//! The reader of VHDX: headers, then the log, then all else as the log leaves it.

use std::sync::Arc;

use super::bat::Bat;
use super::header::{Header, Regions};
use super::log;
use super::metadata::Metadata;
use super::structures::MIB;
use crate::claims::Claims;
use crate::error::Result;
use crate::format::Format;
use crate::gate::Gate;
use crate::mapped::MappedDisk;
use crate::opened::Opened;
use crate::source::Source;

/// Opens the VHDX file `file`.
pub(crate) fn open(file: Arc<dyn Source>, gate: &dyn Gate) -> Result<Opened> {
    let header = Header::read(&*file)?;
    let (file, replayed) = log::replay(file, &header)?;
    let mut claims = Claims::new(file.len(), MIB);
    let regions = Regions::read(&*file, &header.log, &mut claims)?;
    let metadata = Metadata::read(&*file, regions.metadata, gate)?;
    let bat = Bat::new(Arc::clone(&file), regions.bat, &metadata, &mut claims)?;
    let mut notes = Vec::new();
    if replayed > 0 {
        notes.push(format!("the log has changes that were not finished: {replayed} entries were replayed in memory"));
    }
    Ok(Opened {
        disk: Arc::new(MappedDisk::new(file, metadata.size, bat)),
        format: Format::Vhdx,
        variant: if metadata.is_fixed { "fixed" } else { "dynamic" }.to_owned(),
        block_size: Some(metadata.block_size),
        notes,
    })
}
