//! The reader of Parallels disks: one table gives each cluster its place.

use std::sync::Arc;

use super::extension;
use super::header::{Header, LENGTH, SECTOR};
use crate::claims::Claims;
use crate::error::{Error, Result};
use crate::fields::{check_inside, read_table};
use crate::format::Format;
use crate::gate::Gate;
use crate::mapped::{BlockMap, MappedDisk, Place, Run};
use crate::opened::Opened;
use crate::source::Source;

/// Opens the Parallels disk `file`. Nothing in it names another file.
pub(crate) fn open(file: Arc<dyn Source>, _gate: &dyn Gate) -> Result<Opened> {
    let mut header = Header::read(&*file)?;
    extension::check(&*file, &mut header)?;
    let needed = header.size.div_ceil(header.cluster_size) as usize;
    let table = read_table(&*file, LENGTH, needed, "the table of clusters", u32::from_le_bytes)?;
    if header.empty && table.iter().any(|entry| *entry != 0) {
        return Err(Error::corrupt("the Parallels disk is marked as empty, and its table has clusters")
            .with_hint("some readers would see zeros and others the clusters: clear the mark or the table"));
    }
    let clusters = Clusters { size: header.size, cluster_size: header.cluster_size, unit: header.unit, table };
    clusters.verify(&header, file.len())?;
    Ok(Opened {
        disk: Arc::new(MappedDisk::new(file, header.size, clusters)),
        format: Format::Parallels,
        variant: header.variant.to_owned(),
        block_size: Some(header.cluster_size),
        notes: header.notes,
    })
}

/// Where the clusters lie, in `unit`s from the beginning of the file; 0 for those that were never written.
struct Clusters {
    size: u64,
    cluster_size: u64,
    unit: u64,
    table: Vec<u32>,
}

impl Clusters {
    /// Checks that each cluster is inside the file, and each byte of the file in one cluster.
    fn verify(&self, header: &Header, len: u64) -> Result<()> {
        let mut claims = Claims::new(len, SECTOR);
        let mut take = |what: &str, offset, length| {
            if claims.take(offset, length) {
                return Ok(());
            }
            Err(Error::corrupt(format!("{what} lies at byte {offset} of the file, which is already in use")))
        };
        take("the table of clusters", 0, header.data_offset.min(len))?;
        if header.extension != 0 {
            take("the format extension", header.extension, self.cluster_size)?;
        }
        for (index, entry) in self.table.iter().enumerate().filter(|(_, entry)| **entry != 0) {
            let guest = index as u64 * self.cluster_size;
            let what = format_args!("the cluster of disk byte {guest}");
            let offset = u64::from(*entry) * self.unit;
            header.check_cluster(what, offset)?;
            check_inside(what, offset, self.cluster_size.min(self.size - guest), len)?;
            take("the cluster of a disk", offset, self.cluster_size)?;
        }
        Ok(())
    }

    fn place(&self, index: u64) -> Place {
        match self.table[index as usize] {
            0 => Place::Zero,
            entry => Place::Plain(u64::from(entry) * self.unit),
        }
    }
}

impl BlockMap for Clusters {
    fn block_size(&self) -> u64 {
        self.cluster_size
    }

    fn run_at(&self, index: u64, at_most: u64) -> Result<Run> {
        let place = self.place(index);
        let rest = &self.table[index as usize..];
        let rest = &rest[..usize::try_from(at_most).unwrap_or(usize::MAX).min(rest.len())];
        let blocks = match place {
            Place::Plain(_) => {
                let step = self.cluster_size / self.unit;
                let follow = |pair: &&[u32]| u64::from(pair[0]) + step == u64::from(pair[1]);
                1 + rest.windows(2).take_while(follow).count() as u64
            }
            _ => rest.iter().take_while(|entry| **entry == 0).count() as u64,
        };
        Ok(Run { place, blocks })
    }
}
