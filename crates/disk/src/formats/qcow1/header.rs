//! The header of a qcow file of version 1: 48 bytes, big-endian.

use crate::error::{Error, ErrorKind, Result};
use crate::fields::{be32, be64, check_inside, past_end, read_bytes};
use crate::gate::{Gate, refuse_backing_file};
use crate::levels::Shape;
use crate::source::Source;

const MAGIC: u32 = 0x5146_49fb;
pub(super) const LENGTH: u64 = 48;
/// The first table is at most 32 MiB, as in qcow2: 8 TiB of disk with the clusters that QEMU makes.
const MAX_TABLES: u64 = (32 << 20) / 8;

/// A header that passed all checks.
pub(super) struct Header {
    pub(super) cluster_bits: u32,
    pub(super) shape: Shape,
    pub(super) l1_offset: u64,
}

impl Header {
    /// Reads and checks the header; what it names is asked of `gate`.
    ///
    /// The time at byte 20 is that of the backing file, and nothing goes by it.
    pub(super) fn read(file: &dyn Source, gate: &dyn Gate) -> Result<Self> {
        let bytes = read_bytes(file, 0, file.len().min(LENGTH) as usize, "the qcow header")?;
        if bytes.len() < 8 || be32(&bytes, 0) != MAGIC || be32(&bytes, 4) != 1 {
            return Err(Error::new(
                ErrorKind::WrongFormat,
                "the file does not begin with the magic number of qcow version 1",
            ));
        }
        if file.len() < LENGTH {
            return Err(past_end("the qcow header", 0, LENGTH, file.len()));
        }
        let (cluster_bits, l2_bits) = (u32::from(bytes[32]), u32::from(bytes[33]));
        if !(9..=16).contains(&cluster_bits) || !(6..=13).contains(&l2_bits) {
            return Err(Error::corrupt(format!(
                "cluster bits {cluster_bits} and table bits {l2_bits} in the qcow header, allowed are 9 to 16 and 6 to 13"
            )));
        }
        check_encryption(be32(&bytes, 36))?;
        let backing_file = be64(&bytes, 8);
        if backing_file != 0 {
            refuse_backing_file(gate, file, backing_file, be32(&bytes, 16))?;
        }
        let shape = Shape { size: be64(&bytes, 24), cluster_size: 1 << cluster_bits, entries: 1 << l2_bits };
        let header = Self { cluster_bits, shape, l1_offset: be64(&bytes, 40) };
        header.check_tables(file.len())?;
        Ok(header)
    }

    fn check_tables(&self, len: u64) -> Result<()> {
        let size = self.shape.size;
        if !size.is_multiple_of(512) {
            return Err(Error::corrupt(format!("the size of the qcow disk, {size} bytes, is not a multiple of 512")));
        }
        if self.shape.tables() > MAX_TABLES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "a qcow disk of {size} bytes needs {} tables, at most {MAX_TABLES} are read",
                    self.shape.tables()
                ),
            ));
        }
        if self.l1_offset < LENGTH {
            return Err(Error::corrupt(format!("the L1 table lies at byte {}, in the header", self.l1_offset)));
        }
        check_inside("the L1 table", self.l1_offset, self.shape.tables() * 8, len)
    }
}

fn check_encryption(method: u32) -> Result<()> {
    let name = match method {
        0 => return Ok(()),
        1 => "AES".to_owned(),
        _ => format!("unknown method {method}"),
    };
    Err(Error::unsupported(format!("the qcow file is encrypted ({name})"))
        .with_hint("decrypt it where its key is, with: qemu-img convert"))
}
