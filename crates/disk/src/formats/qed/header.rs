//! The header of a QED file: 64 bytes, little-endian, at the beginning of one or more clusters of its own.

use crate::error::{Error, ErrorKind, Result};
use crate::fields::{check_inside, le32, le64, past_end, read_bytes};
use crate::gate::{Gate, refuse_backing_file};
use crate::levels::Shape;
use crate::source::Source;

const MAGIC: &[u8; 4] = b"QED\0";
const LENGTH: u64 = 64;
/// The part of the first table that the disk needs is at most 32 MiB, as in qcow2.
const MAX_TABLES: u64 = (32 << 20) / 8;

const BACKING_FILE: u64 = 1 << 0;
const NEED_CHECK: u64 = 1 << 1;
const BACKING_FORMAT_NO_PROBE: u64 = 1 << 2;

/// A header that passed all checks.
pub(super) struct Header {
    pub(super) shape: Shape,
    /// Bytes of the clusters that hold the header.
    pub(super) header_length: u64,
    pub(super) l1_offset: u64,
    pub(super) notes: Vec<String>,
}

impl Header {
    /// Reads and checks the header; what it names is asked of `gate`.
    pub(super) fn read(file: &dyn Source, gate: &dyn Gate) -> Result<Self> {
        let bytes = read_bytes(file, 0, file.len().min(LENGTH) as usize, "the QED header")?;
        if !bytes.starts_with(MAGIC) {
            return Err(Error::new(ErrorKind::WrongFormat, "the file does not begin with the magic number of QED"));
        }
        if file.len() < LENGTH {
            return Err(past_end("the QED header", 0, LENGTH, file.len()));
        }
        let [cluster_size, table_size, header_size] = [4, 8, 12].map(|at| u64::from(le32(&bytes, at)));
        if !cluster_size.is_power_of_two() || !(4096..=64 << 20).contains(&cluster_size) {
            return Err(Error::corrupt(format!(
                "QED clusters of {cluster_size} bytes, allowed are powers of two from 4 KiB to 64 MiB"
            )));
        }
        if !matches!(table_size, 1 | 2 | 4 | 8 | 16) {
            return Err(Error::corrupt(format!("QED tables of {table_size} clusters, allowed are 1, 2, 4, 8 and 16")));
        }
        let shape = Shape { size: le64(&bytes, 48), cluster_size, entries: table_size * cluster_size / 8 };
        let mut header =
            Self { shape, header_length: header_size * cluster_size, l1_offset: le64(&bytes, 40), notes: Vec::new() };
        header.check_features(file, &bytes, gate)?;
        header.check_tables(file.len())?;
        Ok(header)
    }

    /// Bits that say what was changed compatibly, or what may be cleared, are nothing to a reader.
    fn check_features(&mut self, file: &dyn Source, bytes: &[u8], gate: &dyn Gate) -> Result<()> {
        let features = le64(bytes, 16);
        let unknown = features & !(BACKING_FILE | NEED_CHECK | BACKING_FORMAT_NO_PROBE);
        if unknown != 0 {
            return Err(Error::unsupported(format!(
                "the QED file needs features that are not known: bits {unknown:#x}"
            )));
        }
        if features & BACKING_FILE != 0 {
            refuse_backing_file(gate, file, u64::from(le32(bytes, 56)), le32(bytes, 60))?;
        }
        if features & NEED_CHECK != 0 {
            self.notes.push("the file was not closed cleanly; its tables were checked and are sound".to_owned());
        }
        Ok(())
    }

    fn check_tables(&self, len: u64) -> Result<()> {
        let Shape { size, cluster_size, entries } = self.shape;
        if !size.is_multiple_of(512) {
            return Err(Error::corrupt(format!("the size of the QED disk, {size} bytes, is not a multiple of 512")));
        }
        let tables = self.shape.tables();
        if tables > entries {
            return Err(Error::corrupt(format!("a QED disk of {size} bytes needs {tables} tables, and has {entries}")));
        }
        if tables > MAX_TABLES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a QED disk of {size} bytes needs {tables} tables, at most {MAX_TABLES} are read"),
            ));
        }
        if self.header_length == 0 {
            return Err(Error::corrupt("the QED header says that it has 0 clusters"));
        }
        check_inside("the QED header", 0, self.header_length, len)?;
        if self.l1_offset < self.header_length || !self.l1_offset.is_multiple_of(cluster_size) {
            return Err(Error::corrupt(format!(
                "the L1 table lies at byte {}, which is in the header or begins no cluster",
                self.l1_offset
            )));
        }
        check_inside("the L1 table", self.l1_offset, entries * 8, len)
    }
}
