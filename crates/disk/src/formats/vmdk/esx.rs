//! The headers of the sparse extents of ESX servers: COWD (vmfsSparse) and seSparse. They stand in sets only.
//!
//! COWD is after VMware's "Virtual Disk Format", ESX Server Sparse Extents. seSparse has no published specification; what
//! is known of it stands in the documents of libvmdk and in QEMU's block driver, whose strict checks are kept.

use std::sync::Arc;

use super::grains::{Entries, Extent};
use super::header::{MAX_DIRECTORY, SECTOR, bytes_of};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::{check_inside, le32, le64, read_bytes, read_table};
use crate::source::Source;

/// The first bytes of a sparse extent of old ESX servers.
pub(crate) const COW_DISK: &[u8; 4] = b"COWD";
/// The first bytes of a space-efficient sparse extent.
pub(crate) const SE_SPARSE: &[u8; 8] = &[0xbe, 0xba, 0xfe, 0xca, 0, 0, 0, 0];
const SE_VOLATILE: u64 = 0xcafe_cafe;
const SE_VERSION: u64 = 0x2_0000_0001;

/// Entries of a table in both.
pub(super) const ENTRIES: u64 = 4096;
const COW_HEADER: u64 = 4 * SECTOR;

/// Reads the header and directory of a COWD extent. Also returns whether it was not closed cleanly.
pub(super) fn read_cow_disk(file: &Arc<dyn Source>) -> Result<(Extent, bool)> {
    let bytes = read_bytes(&**file, 0, COW_HEADER as usize, "the COWD header")?;
    let field = |at: usize| u64::from(le32(&bytes, at));
    if !bytes.starts_with(COW_DISK) {
        return Err(Error::new(ErrorKind::WrongFormat, "the extent does not begin with the magic number of COWD"));
    }
    if field(4) != 1 {
        return Err(Error::unsupported(format!("COWD version {}; 1 is read", field(4))));
    }
    let (size, grain, offset) = (field(12) * SECTOR, field(16) * SECTOR, field(20) * SECTOR);
    if !grain.is_power_of_two() || grain > 2 << 20 {
        return Err(Error::unsupported(format!(
            "COWD grains of {grain} bytes; a power of two from 512 to 2 MiB is read"
        )));
    }
    let count = directory_length(size, grain, field(24))?;
    check_inside("the grain directory", offset, field(24) * 4, file.len())?;
    let directory = read_table(&**file, offset, count, "the grain directory", u32::from_le_bytes)?;
    let taken = vec![("the header", 0, COW_HEADER), ("the grain directory", offset, count as u64 * 4)];
    let encoding = Entries::Sectors { zero_grains: false };
    let extent =
        Extent { size, grain, entries: ENTRIES, encoding, directory, overhead: COW_HEADER, compressed: false, taken };
    Ok((extent, field(1648) != 0))
}

/// Reads the headers and directory of a seSparse extent.
pub(super) fn read_se_sparse(file: &Arc<dyn Source>) -> Result<Extent> {
    let bytes = read_bytes(&**file, 0, SECTOR as usize, "the seSparse header")?;
    let field = |at: usize| le64(&bytes, at);
    if !bytes.starts_with(SE_SPARSE) {
        return Err(Error::new(ErrorKind::WrongFormat, "the extent does not begin with the magic number of seSparse"));
    }
    let (version, grain, table, flags) = (field(8), field(24), field(32), field(40));
    if (version, grain, table, flags) != (SE_VERSION, 8, ENTRIES * 8 / SECTOR, 0) {
        return Err(Error::unsupported(format!(
            "seSparse version {version:#x} with grains of {grain} sectors, tables of {table} and flags {flags:#x}"
        )));
    }
    if bytes[48..80].iter().chain(&bytes[208..]).any(|byte| *byte != 0) {
        return Err(Error::unsupported("the seSparse header uses fields whose meaning is not known"));
    }
    let volatile = bytes_of("volatile header", field(80))?;
    check_volatile(&read_bytes(&**file, volatile, SECTOR as usize, "the volatile header")?)?;
    let (size, grain) = (bytes_of("capacity", field(16))?, grain * SECTOR);
    let offset = bytes_of("grain directory", field(128))?;
    let tables = bytes_of("first grain table", field(144))?;
    let grains = bytes_of("first grain", field(192))?;
    let known = bytes_of("size of the grain directory", field(136))?;
    let count = directory_length(size, grain, known / 8)?;
    check_inside("the grain directory", offset, known, file.len())?;
    let last = bytes_of("size of the grain tables", field(152))? / (ENTRIES * 8);
    let directory = read_table(&**file, offset, count, "the grain directory", u64::from_le_bytes)?;
    let directory = directory.into_iter().map(|entry| table_number(entry, last)).collect::<Result<Vec<_>>>()?;
    check_inside("the last grain table", tables, last * ENTRIES * 8, file.len())?;
    let taken = vec![
        ("the header", 0, SECTOR),
        ("the volatile header", volatile, SECTOR),
        ("the grain directory", offset, count as u64 * 8),
    ];
    let encoding = Entries::Numbers { tables, grains };
    Ok(Extent { size, grain, entries: ENTRIES, encoding, directory, overhead: grains, compressed: false, taken })
}

fn check_volatile(bytes: &[u8]) -> Result<()> {
    if le64(bytes, 0) != SE_VOLATILE {
        return Err(Error::corrupt("the volatile header of the seSparse extent has no magic number"));
    }
    if le64(bytes, 24) != 0 {
        return Err(Error::unsupported("the seSparse extent has a journal that must be replayed")
            .with_hint("shut the virtual machine down cleanly where the disk is, and copy it again"));
    }
    Ok(())
}

/// Returns one more than the number of the table that an entry of the directory names, of which there are `count`.
fn table_number(entry: u64, count: u64) -> Result<u32> {
    if entry == 0 {
        return Ok(0);
    }
    let number = entry & 0xffff_ffff;
    if entry >> 32 != 0x1000_0000 || number >= count || number == 0xffff_ffff {
        return Err(Error::corrupt(format!("the grain directory has {entry:#x}, and there are {count} grain tables")));
    }
    Ok(number as u32 + 1)
}

/// Returns how many entries of a directory of `known` ones a disk needs.
fn directory_length(size: u64, grain: u64, known: u64) -> Result<usize> {
    let needed = size.div_ceil(grain * ENTRIES);
    if needed > MAX_DIRECTORY / 2 {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("an extent of {size} bytes needs a directory over 16 MiB"),
        ));
    }
    if needed > known {
        return Err(Error::corrupt(format!("a directory of {known} entries for an extent of {size} bytes")));
    }
    Ok(needed as usize)
}
