//! Opening a qcow2 file: its header, its first table, and the check of all others.

use std::sync::Arc;

use super::clusters::Clusters;
use super::encryption::decrypted;
use super::header::{Compression, Header};
use super::verify::verify;
use crate::error::Result;
use crate::fields::read_table;
use crate::format::Format;
use crate::gate::Gate;
use crate::mapped::MappedDisk;
use crate::opened::Opened;
use crate::source::Source;

/// Opens the qcow2 file `file`.
pub(crate) fn open(file: Arc<dyn Source>, gate: &dyn Gate) -> Result<Opened> {
    let mut header = Header::read(&*file, gate)?;
    let l1 = read_table(&*file, header.l1_offset, header.l1_needed as usize, "the L1 table", u64::from_be_bytes)?;
    let mut notes = std::mem::take(&mut header.notes);
    let luks = header.luks.clone();
    let mut variant = format!("v{}", header.version);
    if header.compression == Compression::Zstd {
        variant.push_str(" zstd");
    }
    if header.extended {
        variant.push_str(" subclusters");
    }
    if luks.is_some() {
        variant.push_str(" LUKS");
    }
    let (size, cluster_size) = (header.size, header.cluster_size());
    let clusters = Clusters::new(Arc::clone(&file), header, l1);
    verify(&clusters)?;
    let data = match luks {
        Some(luks) => decrypted(file, &luks, gate, &mut notes)?,
        None => file,
    };
    let disk = Arc::new(MappedDisk::new(data, size, clusters));
    Ok(Opened { disk, format: Format::Qcow2, variant, block_size: Some(cluster_size), notes })
}
