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
use crate::mapped::{BlockMap, MappedDisk, Place};
use crate::opened::Opened;
use crate::source::{Extent, Source};

const UNFINISHED: &str = "the log has changes that were not finished";
const LARGE_SECTORS: &str = "its sectors have 4096 bytes";

/// Returns what of the `notes` on a file keeps QEMU from reading it as it is.
pub(crate) fn not_for_qemu(notes: &[String]) -> Option<&String> {
    notes.iter().find(|note| note.starts_with(UNFINISHED) || note.starts_with(LARGE_SECTORS))
}

/// Opens the VHDX file `file`.
pub(crate) fn open(file: Arc<dyn Source>, gate: &dyn Gate) -> Result<Opened> {
    let header = Header::read(&*file)?;
    let (file, replayed) = log::replay(file, &header)?;
    let mut claims = Claims::new(file.len(), MIB);
    let regions = Regions::read(&*file, &header.log, &mut claims)?;
    let metadata = Metadata::read(&*file, regions.metadata, gate)?;
    let bat = Arc::new(Bat::new(Arc::clone(&file), regions.bat, &metadata, &mut claims)?);
    let mut notes = Vec::new();
    if replayed > 0 {
        notes.push(format!("{UNFINISHED}: {replayed} entries were replayed in memory"));
    }
    if metadata.sector > 512 {
        notes.push(LARGE_SECTORS.to_owned());
    }
    Ok(Opened {
        disk: Arc::new(Disk { blocks: MappedDisk::new(Arc::clone(&file), metadata.size, Arc::clone(&bat)), bat, file }),
        format: Format::Vhdx,
        variant: if metadata.is_fixed { "fixed" } else { "dynamic" }.to_owned(),
        block_size: Some(metadata.block_size),
        notes,
    })
}

/// The disk, with the holes of the file in its blocks: these are large, and those of a fixed disk are all in the file.
struct Disk {
    blocks: MappedDisk<Arc<Bat>>,
    bat: Arc<Bat>,
    file: Arc<dyn Source>,
}

impl Source for Disk {
    fn len(&self) -> u64 {
        self.blocks.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.blocks.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        let extent = self.blocks.extent_at(offset)?;
        let (index, within) = (offset / self.bat.block_size(), offset % self.bat.block_size());
        let run = self.bat.run_at(index, (within + extent.length).div_ceil(self.bat.block_size()))?;
        let Place::Plain(start) = run.place else { return Ok(extent) };
        let length = (run.blocks * self.bat.block_size() - within).min(extent.length);
        let in_file = self.file.extent_at(start + within)?;
        Ok(Extent { offset, length: length.min(in_file.length), kind: in_file.kind })
    }
}
