//! How the disk is divided: the choice between GPT, MBR and neither.

mod gpt;
mod mbr;

use disk::error::Result;

use crate::report::{Partition, PartitionTable};
use crate::window::Window;

/// Most partitions that are reported; the rest becomes a note.
const PARTITIONS_MAX: usize = 128;

/// The table and what it lists.
pub(crate) struct Found {
    pub(crate) table: Option<PartitionTable>,
    pub(crate) partitions: Vec<Partition>,
}

/// Reads the partition table of `disk`; `is_filesystem` says that a file system begins at its first byte.
///
/// A boot sector of FAT or NTFS ends with the same two bytes as a master boot record, so that its entries count
/// only where all of them make sense.
pub(crate) fn read(disk: &Window, is_filesystem: bool) -> Result<Found> {
    let mbr = mbr::read(disk)?;
    let is_divided = mbr.as_ref().is_some_and(|mbr| !mbr.partitions.is_empty());
    let is_protective = mbr.as_ref().is_some_and(mbr::Mbr::is_protective);
    if (is_protective || !is_divided)
        && let Some(partitions) = gpt::read(disk, is_protective)?
    {
        return Ok(checked(disk, PartitionTable::Gpt, partitions));
    }
    match mbr {
        // The damaged GPT is told by a note; its protective entry is no partition.
        Some(_) if is_protective => Ok(Found { table: Some(PartitionTable::Gpt), partitions: Vec::new() }),
        Some(mbr) if is_divided && (mbr.is_sane || !is_filesystem) => {
            Ok(checked(disk, PartitionTable::Mbr, mbr::with_logical(disk, mbr)?))
        }
        Some(mbr) if mbr.is_empty && !is_filesystem => {
            Ok(Found { table: Some(PartitionTable::Mbr), partitions: Vec::new() })
        }
        _ => Ok(Found { table: None, partitions: Vec::new() }),
    }
}

fn checked(disk: &Window, table: PartitionTable, mut partitions: Vec<Partition>) -> Found {
    let budget = disk.budget();
    if partitions.len() > PARTITIONS_MAX {
        budget.note(format!(
            "The partition table lists {} partitions; only the first {PARTITIONS_MAX} were looked at.",
            partitions.len()
        ));
        partitions.truncate(PARTITIONS_MAX);
    }
    for partition in &partitions {
        if partition.offset.checked_add(partition.length).is_none_or(|end| end > disk.len()) {
            budget.note(format!(
                "Partition {} ends past the end of the disk: the disk was cut, or its table is wrong.",
                partition.number
            ));
        }
    }
    Found { table: Some(table), partitions }
}
