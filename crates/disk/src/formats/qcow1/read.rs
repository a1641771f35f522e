//! The reader of qcow version 1: two levels of tables, plain and compressed clusters.

use std::sync::Arc;

use super::header::{Header, LENGTH};
use crate::claims::Uses;
use crate::error::{Error, Result};
use crate::fields::{past_end, read_table};
use crate::format::Format;
use crate::gate::Gate;
use crate::inflate;
use crate::levels::{Entries, Levels, Shape};
use crate::mapped::{MappedDisk, Packed, Place};
use crate::opened::Opened;
use crate::source::Source;

const COMPRESSED: u64 = 1 << 63;

/// Opens the qcow file `file`.
pub(crate) fn open(file: Arc<dyn Source>, gate: &dyn Gate) -> Result<Opened> {
    let header = Header::read(&*file, gate)?;
    let shape = header.shape;
    let tables = read_table(&*file, header.l1_offset, shape.tables() as usize, "the L1 table", u64::from_be_bytes)?;
    let clusters = Clusters { len: file.len(), cluster_bits: header.cluster_bits };
    let mut uses = claim_header(&header, file.len())?;
    let levels = Levels::new(Arc::clone(&file), shape, tables, clusters);
    levels.verify(&mut uses)?;
    Ok(Opened {
        disk: Arc::new(MappedDisk::new(file, shape.size, levels)),
        format: Format::Qcow1,
        variant: String::new(),
        block_size: Some(shape.cluster_size),
        notes: Vec::new(),
    })
}

/// Takes the header and the first table, which follows it and the name of the backing file, wherever that ends.
fn claim_header(header: &Header, len: u64) -> Result<Uses> {
    let Shape { cluster_size, entries, .. } = header.shape;
    let unit = cluster_size.min(entries * 8);
    let mut uses = Uses::new(len, unit);
    let header_end = LENGTH.next_multiple_of(unit);
    uses.whole(0, header_end, "the header")?;
    let start = (header.l1_offset / unit * unit).max(header_end);
    let end = (header.l1_offset + header.shape.tables() * 8).next_multiple_of(unit);
    uses.whole(start, end.saturating_sub(start), "the L1 table")?;
    Ok(uses)
}

/// What the entries of the second tables say.
struct Clusters {
    /// Bytes of the file.
    len: u64,
    cluster_bits: u32,
}

impl Clusters {
    /// A compressed cluster: its offset and its length, both to the byte.
    fn packed(&self, index: u64, entry: u64) -> Result<Place> {
        let offset_bits = 63 - self.cluster_bits;
        let offset = entry & ((1 << offset_bits) - 1);
        let length = (entry & !COMPRESSED) >> offset_bits;
        let guest = index << self.cluster_bits;
        if length == 0 {
            return Err(Error::corrupt(format!("the compressed cluster of disk byte {guest} has 0 bytes")));
        }
        if offset + length > self.len {
            let what = format!("the compressed cluster of disk byte {guest}");
            return Err(past_end(what, offset, length, self.len));
        }
        Ok(Place::Packed(Packed { offset, length: length as usize }))
    }
}

impl Entries for Clusters {
    fn decode(bytes: [u8; 8]) -> u64 {
        u64::from_be_bytes(bytes)
    }

    fn place(&self, index: u64, entry: u64) -> Result<Place> {
        let (cluster_size, guest) = (1 << self.cluster_bits, index << self.cluster_bits);
        if entry == 0 {
            return Ok(Place::Zero);
        }
        if entry & COMPRESSED != 0 {
            return self.packed(index, entry);
        }
        if !entry.is_multiple_of(cluster_size) {
            return Err(Error::corrupt(format!(
                "the L2 entry of disk byte {guest} is {entry:#x}, which begins no cluster"
            )));
        }
        if entry + cluster_size > self.len {
            let what = format!("the cluster of disk byte {guest}");
            return Err(past_end(what, entry, cluster_size, self.len));
        }
        Ok(Place::Plain(entry))
    }

    fn unpack(&self, bytes: &[u8], packed: Packed, index: u64, out: &mut [u8]) -> Result<()> {
        if inflate::deflate(bytes, out) {
            return Ok(());
        }
        let guest = index << self.cluster_bits;
        Err(Error::corrupt(format!(
            "the compressed cluster of disk byte {guest}, at byte {} of the file, does not unpack to one cluster",
            packed.offset
        )))
    }
}
