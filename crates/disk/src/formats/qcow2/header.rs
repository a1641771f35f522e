//! The header of a qcow2 file: 72 bytes in version 2, at least 104 in version 3, big-endian.

use std::ops::Range;

use super::encryption::{EXTENSION, LUKS, check_encryption, luks_header};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::{be32, be64, check_inside, past_end, read_bytes};
use crate::gate::{Gate, ask};
use crate::source::Source;

pub(super) const MAGIC: u32 = 0x5146_49fb;
const V2_LENGTH: u64 = 72;
const V3_LENGTH: u32 = 104;
/// The L1 table is at most 32 MiB, as in QEMU: 2 PiB of disk with 64 KiB clusters.
pub(super) const MAX_L1_ENTRIES: u64 = (32 << 20) / 8;
/// The refcount table is at most 8 MiB, as in QEMU.
pub(super) const MAX_REFCOUNT_TABLE: u64 = 8 << 20;
const MAX_SNAPSHOTS: u32 = 65536;
const MAX_NAME: u32 = 1023;
const EXTERNAL_DATA_FILE: u32 = 0x4441_5441;
/// The smallest cluster with subclusters, of which each is then one sector.
const MIN_EXTENDED_BITS: u32 = 14;

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
/// Of the features that a writer clears if it does not know them.
const BITMAPS: u64 = 1 << 0;

/// Refcounts of new files are 16 bits wide, as those of version 2 are.
pub(super) const REFCOUNT_ORDER: u32 = 4;

/// How compressed clusters are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Raw deflate.
    Zlib,
    /// Zstandard frames.
    Zstd,
}

/// A header that passed all checks.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    pub(super) size: u64,
    pub(super) encryption: u32,
    /// Where the LUKS header lies, if the data are encrypted by LUKS.
    pub(super) luks: Option<Range<u64>>,
    pub(super) l1_offset: u64,
    /// Entries of the L1 table.
    pub(super) l1_size: u32,
    /// Entries of the L1 table that the size of the disk needs.
    pub(super) l1_needed: u64,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_length: u64,
    /// A refcount is 2 to the power of this many bits wide.
    pub(super) refcount_order: u32,
    pub(super) snapshots: u32,
    pub(super) snapshots_offset: u64,
    pub(super) compression: Compression,
    /// L2 entries have a bitmap of subclusters.
    pub(super) extended: bool,
    pub(super) external_data: bool,
    /// Bitmaps of changed blocks are there and sound.
    pub(super) bitmaps: bool,
    /// Bytes before the header extensions.
    pub(super) length: u32,
    /// Position and length of the name of the backing file, if there is one.
    backing: Option<(u64, u32)>,
    pub(super) notes: Vec<String>,
}

impl Header {
    /// Reads and checks the header; what it names is asked of `gate`.
    pub(super) fn read(file: &dyn Source, gate: &dyn Gate) -> Result<Self> {
        let header = Self::parse(file)?;
        check_encryption(header.encryption)?;
        if header.external_data {
            refuse_data_file(file, &header, gate)?;
        }
        if let Some((offset, length)) = header.backing {
            refuse_backing_file(file, offset, length, gate)?;
        }
        Ok(header)
    }

    /// Reads and checks the header, whatever it names.
    pub(super) fn parse(file: &dyn Source) -> Result<Self> {
        let bytes = head(file)?;
        let version = be32(&bytes, 4);
        match version {
            2 | 3 => {}
            1 => return Err(Error::unsupported("the file is qcow version 1; only versions 2 and 3 are read")),
            _ => return Err(Error::unsupported(format!("qcow2 version {version} is not known"))),
        }
        let cluster_bits = be32(&bytes, 20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(Error::corrupt(format!(
                "cluster bits {cluster_bits} in the qcow2 header, allowed are 9 to 21"
            )));
        }
        check_inside("the first cluster of the qcow2 file", 0, 1 << cluster_bits, file.len())?;
        let backing = be64(&bytes, 8);
        let mut header = Self {
            version,
            cluster_bits,
            size: be64(&bytes, 24),
            encryption: be32(&bytes, 32),
            luks: None,
            l1_offset: be64(&bytes, 40),
            l1_size: be32(&bytes, 36),
            l1_needed: 0,
            refcount_table_offset: be64(&bytes, 48),
            refcount_table_length: u64::from(be32(&bytes, 56)) << cluster_bits,
            refcount_order: REFCOUNT_ORDER,
            snapshots: be32(&bytes, 60),
            snapshots_offset: be64(&bytes, 64),
            compression: Compression::Zlib,
            extended: false,
            external_data: false,
            bitmaps: false,
            length: V2_LENGTH as u32,
            backing: (backing != 0).then(|| (backing, be32(&bytes, 16))),
            notes: Vec::new(),
        };
        if version == 3 {
            header.check_features(&bytes)?;
        }
        header.check_tables(file.len())?;
        header.check_snapshots(file.len())?;
        if header.encryption == LUKS {
            let extension = header.extension(file, EXTENSION)?;
            header.luks = Some(luks_header(file, extension, header.cluster_size())?);
        }
        Ok(header)
    }

    pub(super) fn cluster_size(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Parts of a cluster that are stored or not on their own.
    pub(super) fn subclusters(&self) -> u64 {
        if self.extended { 32 } else { 1 }
    }

    /// Bytes of a subcluster, or of a cluster if it has none.
    pub(super) fn block_size(&self) -> u64 {
        self.cluster_size() / self.subclusters()
    }

    /// Words of 8 bytes of an L2 table, which is one cluster long.
    pub(super) fn l2_words(&self) -> u64 {
        1 << (self.cluster_bits - 3)
    }

    /// Entries of an L2 table; an extended entry is two words.
    pub(super) fn l2_entries(&self) -> u64 {
        self.l2_words() >> u32::from(self.extended)
    }

    /// Returns the position and length of header extension `kind`, if there is one. Extensions end with the first cluster.
    pub(super) fn extension(&self, file: &dyn Source, kind: u32) -> Result<Option<(u64, u32)>> {
        let mut at = u64::from(self.length);
        while at + 8 <= self.cluster_size() {
            let extension = read_bytes(file, at, 8, "a header extension")?;
            let (found, length) = (be32(&extension, 0), be32(&extension, 4));
            match found {
                0 => break,
                _ if found == kind => return Ok(Some((at + 8, length))),
                _ => at += 8 + u64::from(length).next_multiple_of(8),
            }
        }
        Ok(None)
    }

    fn check_features(&mut self, bytes: &[u8]) -> Result<()> {
        let (features, refcount_order, length) = (be64(bytes, 72), be32(bytes, 96), be32(bytes, 100));
        if length < V3_LENGTH || u64::from(length) > self.cluster_size() || length % 8 != 0 {
            return Err(Error::corrupt(format!("the qcow2 header says that it is {length} bytes long")));
        }
        if refcount_order > 6 {
            return Err(Error::corrupt(format!(
                "refcount order {refcount_order} in the qcow2 header, allowed is 0 to 6"
            )));
        }
        let known = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2;
        if features & !known != 0 {
            let unknown = features & !known;
            return Err(Error::unsupported(format!(
                "the qcow2 file needs features that are not known: bits {unknown:#x}"
            )));
        }
        if features & CORRUPT != 0 {
            return Err(Error::corrupt("the qcow2 file is marked as corrupt")
                .with_hint("repair a copy with: qemu-img check -r all IMAGE"));
        }
        self.external_data = features & EXTERNAL_DATA != 0;
        self.extended = features & EXTENDED_L2 != 0;
        self.refcount_order = refcount_order;
        self.length = length;
        if self.extended && self.cluster_bits < MIN_EXTENDED_BITS {
            return Err(Error::corrupt(format!(
                "extended L2 entries with clusters of {} bytes, which have no 32 sectors",
                self.cluster_size()
            )));
        }
        if features & DIRTY != 0 {
            self.notes.push("the file was not closed cleanly; its refcounts may be out of date".to_owned());
        }
        self.bitmaps = be64(bytes, 88) & BITMAPS != 0;
        if self.bitmaps {
            self.notes.push("bitmaps of changed blocks are passed over".to_owned());
        }
        let compression = if length > V3_LENGTH { bytes[104] } else { 0 };
        self.compression = match (features & COMPRESSION_TYPE != 0, compression) {
            (false, 0) => Compression::Zlib,
            (true, 1) => Compression::Zstd,
            (true, other) if other > 1 => {
                return Err(Error::unsupported(format!("compression type {other} of qcow2 is not known")));
            }
            _ => return Err(Error::corrupt("the compression type of the qcow2 header contradicts its feature bit")),
        };
        Ok(())
    }

    fn check_tables(&mut self, len: u64) -> Result<()> {
        let l1_size = self.l1_size;
        let covered = self.l2_entries() << self.cluster_bits;
        self.l1_needed = self.size.div_ceil(covered);
        if self.l1_needed > MAX_L1_ENTRIES || u64::from(l1_size) > MAX_L1_ENTRIES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!(
                    "a disk of {} bytes with an L1 table of {l1_size} entries; the table may have {MAX_L1_ENTRIES}",
                    self.size
                ),
            ));
        }
        if self.l1_needed > u64::from(l1_size) {
            let needed = self.l1_needed;
            return Err(Error::corrupt(format!("the L1 table has {l1_size} entries, and the disk needs {needed}")));
        }
        if self.refcount_table_length > MAX_REFCOUNT_TABLE {
            let length = self.refcount_table_length;
            return Err(Error::new(ErrorKind::TooLarge, format!("the refcount table says that it has {length} bytes")));
        }
        for (what, offset) in [("the L1 table", self.l1_offset), ("the refcount table", self.refcount_table_offset)] {
            if !offset.is_multiple_of(self.cluster_size()) {
                return Err(Error::corrupt(format!("{what} lies at byte {offset}, which begins no cluster")));
            }
        }
        check_inside("the L1 table", self.l1_offset, u64::from(l1_size) * 8, len)?;
        check_inside("the refcount table", self.refcount_table_offset, self.refcount_table_length, len)
    }

    fn check_snapshots(&mut self, len: u64) -> Result<()> {
        let (count, offset) = (self.snapshots, self.snapshots_offset);
        if count == 0 {
            return Ok(());
        }
        if count > MAX_SNAPSHOTS {
            return Err(Error::new(ErrorKind::TooLarge, format!("{count} snapshots, allowed are {MAX_SNAPSHOTS}")));
        }
        // The fixed part of a snapshot's entry is 40 bytes long.
        check_inside("the snapshot table", offset, u64::from(count) * 40, len)?;
        self.notes.push(match count {
            1 => "1 internal snapshot is passed over; the disk is its present state".to_owned(),
            _ => format!("{count} internal snapshots are passed over; the disk is its present state"),
        });
        Ok(())
    }
}

/// The header of a new file: version 3, with nothing that is not needed.
pub(super) struct NewHeader {
    pub(super) cluster_size: u64,
    pub(super) size: u64,
    pub(super) l1_entries: u64,
    pub(super) l1_offset: u64,
    pub(super) refcount_table_offset: u64,
    pub(super) refcount_table_clusters: u64,
    pub(super) compression: Compression,
}

impl NewHeader {
    /// Returns the bytes of the header, without the zeros after it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        // Only a file that says so must have the byte of its compression.
        let (features, length) = match self.compression {
            Compression::Zlib => (0, V3_LENGTH),
            Compression::Zstd => (COMPRESSION_TYPE, V3_LENGTH + 8),
        };
        let mut header = Vec::with_capacity(length as usize);
        header.extend(MAGIC.to_be_bytes());
        header.extend(3_u32.to_be_bytes());
        header.extend([0; 12]); // No backing file.
        header.extend(self.cluster_size.trailing_zeros().to_be_bytes());
        header.extend(self.size.to_be_bytes());
        header.extend(0_u32.to_be_bytes()); // No encryption.
        header.extend((self.l1_entries as u32).to_be_bytes());
        header.extend(self.l1_offset.to_be_bytes());
        header.extend(self.refcount_table_offset.to_be_bytes());
        header.extend((self.refcount_table_clusters as u32).to_be_bytes());
        header.extend([0; 12]); // No snapshots.
        header.extend(features.to_be_bytes());
        header.extend([0; 16]); // No other features.
        header.extend(REFCOUNT_ORDER.to_be_bytes());
        header.extend(length.to_be_bytes());
        if self.compression == Compression::Zstd {
            header.extend([1, 0, 0, 0, 0, 0, 0, 0]);
        }
        header
    }
}

/// Returns how many of the lowest bits of a compressed cluster's entry are its offset; those above are its length.
pub(super) fn packed_offset_bits(cluster_bits: u32) -> u32 {
    62 - (cluster_bits - 8)
}

/// The error for a new file that would pass a limit of the format.
pub(super) fn too_large(what: &str) -> Error {
    Error::new(ErrorKind::TooLarge, what).with_hint("choose a larger cluster size")
}

/// Reads the first 112 bytes, with zeros for what a shorter header of version 2 lacks.
fn head(file: &dyn Source) -> Result<Vec<u8>> {
    if file.len() < 4 {
        return Err(Error::new(ErrorKind::WrongFormat, "the file is too short for a qcow2 header"));
    }
    let mut bytes = read_bytes(file, 0, file.len().min(112) as usize, "the qcow2 header")?;
    if be32(&bytes, 0) != MAGIC {
        return Err(Error::new(ErrorKind::WrongFormat, "the file does not begin with the magic number of qcow2"));
    }
    if file.len() < V2_LENGTH {
        return Err(past_end("the qcow2 header", 0, V2_LENGTH, file.len()));
    }
    bytes.resize(112, 0);
    Ok(bytes)
}

fn refuse_backing_file(file: &dyn Source, offset: u64, length: u32, gate: &dyn Gate) -> Result<()> {
    let name = read_name(file, offset, length, "the name of the backing file")?;
    ask(gate, "the backing file", &name)?;
    Err(Error::unsupported(format!("reading through the backing file {name:?} is not supported"))
        .with_hint("flatten the image with: qemu-img convert -O qcow2 IMAGE OUT"))
}

fn refuse_data_file(file: &dyn Source, header: &Header, gate: &dyn Gate) -> Result<()> {
    let name = match header.extension(file, EXTERNAL_DATA_FILE)? {
        Some((at, length)) => read_name(file, at, length, "the name of the external data file")?,
        None => String::new(),
    };
    ask(gate, "the external data file", &name)?;
    Err(Error::unsupported(format!("reading from the external data file {name:?} is not supported"))
        .with_hint("make one file of it with: qemu-img convert -O qcow2 IMAGE OUT"))
}

fn read_name(file: &dyn Source, offset: u64, length: u32, what: &str) -> Result<String> {
    if length > MAX_NAME {
        return Err(Error::corrupt(format!("{what} is {length} bytes long, allowed are {MAX_NAME}")));
    }
    let bytes = read_bytes(file, offset, length as usize, what)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
