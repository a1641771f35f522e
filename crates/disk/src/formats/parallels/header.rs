//! The header of a Parallels disk: 64 bytes, little-endian, with the table of clusters right behind it.

use std::fmt::Display;

use crate::error::{Error, ErrorKind, Result};
use crate::fields::{check_inside, le32, le64, past_end, read_bytes};
use crate::source::Source;

pub(super) const LENGTH: u64 = 64;
pub(super) const SECTOR: u64 = 512;
/// Entries of the table count sectors.
const OLD_MAGIC: &[u8] = b"WithoutFreeSpace";
/// Entries of the table count clusters.
const NEW_MAGIC: &[u8] = b"WithouFreSpacExt";
/// The table is at most 32 MiB: 8 TiB of disk with the clusters of 1 MiB that are usual.
const MAX_ENTRIES: u64 = (32 << 20) / 4;
/// Clusters of up to 256 MiB are read; 1 MiB is usual, and old files have 63 sectors.
const MAX_CLUSTER: u64 = 256 << 20;

const OPEN: u32 = 0x746f_6e59;
const CLOSED: u32 = 0x312e_3276;
const EMPTY: u32 = 1;

/// A header that passed all checks.
pub(super) struct Header {
    pub(super) variant: &'static str,
    /// Bytes of the disk.
    pub(super) size: u64,
    pub(super) cluster_size: u64,
    /// Bytes for which 1 stands in the table.
    pub(super) unit: u64,
    pub(super) entries: u64,
    /// Where the clusters begin.
    pub(super) data_offset: u64,
    /// Where the format extension lies; 0 if there is none.
    pub(super) extension: u64,
    /// The disk is marked as all zeros.
    pub(super) empty: bool,
    pub(super) notes: Vec<String>,
}

impl Header {
    pub(super) fn read(file: &dyn Source) -> Result<Self> {
        let bytes = read_bytes(file, 0, file.len().min(LENGTH) as usize, "the Parallels header")?;
        let old = bytes.starts_with(OLD_MAGIC);
        if !old && !bytes.starts_with(NEW_MAGIC) {
            return Err(Error::new(
                ErrorKind::WrongFormat,
                "the file does not begin with the magic text of a Parallels disk",
            ));
        }
        if file.len() < LENGTH {
            return Err(past_end("the Parallels header", 0, LENGTH, file.len()));
        }
        if le32(&bytes, 16) != 2 {
            return Err(Error::unsupported(format!("Parallels version {}; only 2 is read", le32(&bytes, 16))));
        }
        let cluster_size = u64::from(le32(&bytes, 28)) * SECTOR;
        if cluster_size == 0 || cluster_size > MAX_CLUSTER {
            return Err(Error::unsupported(format!(
                "Parallels clusters of {cluster_size} bytes; 512 to {MAX_CLUSTER} are read"
            )));
        }
        let sectors = le64(&bytes, 36);
        let Some(size) = sectors.checked_mul(SECTOR).filter(|_| !old || sectors <= u64::from(u32::MAX)) else {
            return Err(Error::corrupt(format!("the Parallels disk says that it has {sectors} sectors")));
        };
        let mut header = Self {
            variant: if old { "WithoutFreeSpace" } else { "WithouFreSpacExt" },
            size,
            cluster_size,
            unit: if old { SECTOR } else { cluster_size },
            entries: u64::from(le32(&bytes, 32)),
            data_offset: u64::from(le32(&bytes, 48)) * SECTOR,
            extension: le64(&bytes, 56),
            empty: le32(&bytes, 52) & EMPTY != 0,
            notes: Vec::new(),
        };
        header.check_use(le32(&bytes, 44))?;
        header.check_table(old, file.len())?;
        Ok(header)
    }

    fn check_use(&mut self, in_use: u32) -> Result<()> {
        match in_use {
            CLOSED => Ok(()),
            // Written last by a program that knows no extensions, and may have put something else there.
            0 => {
                self.extension = 0;
                Ok(())
            }
            OPEN => {
                self.notes.push("the file was not closed cleanly; its table was checked and is sound".to_owned());
                Ok(())
            }
            other => Err(Error::corrupt(format!("the mark of use of the Parallels disk is {other:#x}"))),
        }
    }

    fn check_table(&mut self, old: bool, len: u64) -> Result<()> {
        if self.entries > MAX_ENTRIES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a Parallels table of {} entries, at most {MAX_ENTRIES} are read", self.entries),
            ));
        }
        let needed = self.size.div_ceil(self.cluster_size);
        if self.entries < needed {
            let entries = self.entries;
            return Err(Error::corrupt(format!("the table has {entries} entries, and the disk needs {needed}")));
        }
        let table_end = LENGTH + self.entries * 4;
        check_inside("the table of clusters", LENGTH, self.entries * 4, len)?;
        if self.data_offset == 0 && old {
            self.data_offset = table_end.next_multiple_of(SECTOR);
        }
        if self.data_offset < table_end || (!old && !self.data_offset.is_multiple_of(self.cluster_size)) {
            return Err(Error::corrupt(format!(
                "the clusters begin at byte {}, which is in the table or begins no cluster",
                self.data_offset
            )));
        }
        self.extension = match self.extension.checked_mul(SECTOR) {
            Some(offset) => offset,
            None => return Err(Error::corrupt("the format extension lies past the end of all files")),
        };
        Ok(())
    }

    /// Checks that `what` at `offset` lies where clusters do.
    pub(super) fn check_cluster(&self, what: impl Display, offset: u64) -> Result<()> {
        // Old files count in sectors, and not all that wrote them kept to whole clusters.
        if offset.checked_sub(self.data_offset).is_some_and(|within| within.is_multiple_of(self.unit)) {
            return Ok(());
        }
        Err(Error::corrupt(format!("{what} lies at byte {offset} of the file, which is no place of a cluster")))
    }
}
