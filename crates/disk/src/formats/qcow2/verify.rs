//! The check of all tables of a qcow2 file at opening: each cluster of the file has one use.

use super::clusters::Clusters;
use crate::claims::Uses;
use crate::error::{Error, Result};
use crate::fields::{check_inside, read_table};
use crate::mapped::Place;

/// Checks every entry of every table that the disk uses. Costs one read of each table and nothing of the data.
pub(super) fn verify(clusters: &Clusters) -> Result<()> {
    let header = &clusters.header;
    let (len, cluster_size) = (clusters.file.len(), header.cluster_size());
    let mut uses = Uses::new(len, cluster_size);
    uses.whole(0, cluster_size, "the header")?;
    let l1_length = (header.l1_needed * 8).next_multiple_of(cluster_size);
    uses.whole(header.l1_offset, l1_length, "the L1 table")?;
    if let Some(luks) = &header.luks {
        uses.whole(luks.start, (luks.end - luks.start).next_multiple_of(cluster_size), "the LUKS header")?;
    }
    uses.whole(header.refcount_table_offset, header.refcount_table_length, "the refcount table")?;
    refcount_blocks(clusters, &mut uses)?;
    for number in 0..clusters.l1.len() as u64 {
        let Some(offset) = clusters.table_offset(number, clusters.l1[number as usize])? else { continue };
        uses.whole(offset, cluster_size, "an L2 table")?;
    }
    for number in 0..clusters.l1.len() as u64 {
        table(clusters, number, &mut uses)?;
    }
    Ok(())
}

fn refcount_blocks(clusters: &Clusters, uses: &mut Uses) -> Result<()> {
    let header = &clusters.header;
    let (entries, size) = ((header.refcount_table_length / 8) as usize, header.cluster_size());
    let table =
        read_table(&*clusters.file, header.refcount_table_offset, entries, "the refcount table", u64::from_be_bytes)?;
    for offset in table.into_iter().filter(|offset| *offset != 0) {
        if !offset.is_multiple_of(size) {
            return Err(Error::corrupt(format!("a refcount block lies at byte {offset}, which begins no cluster")));
        }
        check_inside("a refcount block", offset, size, clusters.file.len())?;
        uses.whole(offset, size, "a refcount block")?;
    }
    Ok(())
}

fn table(clusters: &Clusters, number: u64, uses: &mut Uses) -> Result<()> {
    let Some(table) = clusters.table(number)? else { return Ok(()) };
    let cluster_size = clusters.header.cluster_size();
    let first = number * clusters.header.l2_entries();
    let inside = clusters.header.size.div_ceil(cluster_size) - first;
    for index in first..first + inside.min(clusters.header.l2_entries()) {
        match clusters.cluster(index, &table)?.place {
            Place::Zero => {}
            Place::Plain(offset) => uses.whole(offset, cluster_size, "the cluster of a disk")?,
            Place::Packed(packed) => uses.beginning(packed)?,
        }
    }
    Ok(())
}
