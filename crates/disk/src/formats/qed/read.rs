//! The reader of QED: two levels of tables, and clusters that are stored, zero or absent.

use std::sync::Arc;

use super::header::Header;
use crate::claims::Uses;
use crate::error::{Error, Result};
use crate::fields::{past_end, read_table};
use crate::format::Format;
use crate::gate::Gate;
use crate::levels::{Entries, Levels};
use crate::mapped::{MappedDisk, Place};
use crate::opened::Opened;
use crate::source::Source;

/// The cluster is zero, also if there were a backing file.
const ZERO: u64 = 1;

/// Opens the QED file `file`.
pub(crate) fn open(file: Arc<dyn Source>, gate: &dyn Gate) -> Result<Opened> {
    let header = Header::read(&*file, gate)?;
    let shape = header.shape;
    let tables = read_table(&*file, header.l1_offset, shape.tables() as usize, "the L1 table", u64::from_le_bytes)?;
    let mut uses = Uses::new(file.len(), shape.cluster_size);
    uses.whole(0, header.header_length, "the header")?;
    uses.whole(header.l1_offset, shape.entries * 8, "the L1 table")?;
    let clusters = Clusters { len: file.len(), cluster_size: shape.cluster_size };
    let levels = Levels::new(Arc::clone(&file), shape, tables, clusters);
    levels.verify(&mut uses)?;
    Ok(Opened {
        disk: Arc::new(MappedDisk::new(file, shape.size, levels)),
        format: Format::Qed,
        variant: String::new(),
        block_size: Some(shape.cluster_size),
        notes: header.notes,
    })
}

/// What the entries of the second tables say.
struct Clusters {
    len: u64,
    cluster_size: u64,
}

impl Entries for Clusters {
    fn decode(bytes: [u8; 8]) -> u64 {
        u64::from_le_bytes(bytes)
    }

    fn place(&self, index: u64, entry: u64) -> Result<Place> {
        if entry == 0 || entry == ZERO {
            return Ok(Place::Zero);
        }
        let guest = index * self.cluster_size;
        if !entry.is_multiple_of(self.cluster_size) {
            return Err(Error::corrupt(format!(
                "the L2 entry of disk byte {guest} is {entry:#x}, which begins no cluster"
            )));
        }
        if entry.checked_add(self.cluster_size).is_none_or(|end| end > self.len) {
            let what = format!("the cluster of disk byte {guest}");
            return Err(past_end(what, entry, self.cluster_size, self.len));
        }
        Ok(Place::Plain(entry))
    }
}
