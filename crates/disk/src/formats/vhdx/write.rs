//! The VHDX file that would hold a disk, computed piece by piece from the extents of the disk.
//!
//! ```text
//! header section 1 MiB | log 1 MiB, empty | metadata 1 MiB | block allocation table | blocks, in the order of the disk
//! ```
//! A block of the disk is stored if any byte of it is data, or if the disk is fixed. The same disk and options give the
//! same file, byte for byte, so the GUIDs are made of a hash of the size and of what is stored.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::structures::{
    BAT_REGION, BLOCK_PRESENT, BLOCK_SIZES, BLOCK_ZERO, DISK_ID, DISK_SIZE, FILE_PARAMETERS, HEADER_LENGTH, HEADERS,
    LEAVE_BLOCKS_ALLOCATED, LOGICAL_SECTOR, MAX_SIZE, METADATA_REGION, MIB, PHYSICAL_SECTOR, REGION_TABLES, SIGNATURE,
    TABLE_LENGTH, chunk_ratio, entry_index, sum,
};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::fill;
use crate::options::{Known, WriteOptions};
use crate::output::Output;
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};
use crate::stored::Stored;

/// The options of the writer.
pub(crate) const OPTIONS: &[Known] = &[
    ("subformat", "dynamic (default) or fixed"),
    ("block_size", "bytes of a block, a power of two from 1M to 256M; by default 2M, more for disks over 2 TiB"),
    ("disk_id", "UUID by which guests know the disk; by default made of its size and of what is stored"),
];

/// Small blocks keep the file small: `docs/formats/vhdx.md` has the figures.
const DEFAULT_BLOCK_SIZE: u64 = 2 << 20;
/// Blocks of a disk at most, unless a block size is asked for: their table then takes 8 MiB.
const DEFAULT_MAX_BLOCKS: u64 = 1 << 20;
/// QEMU reads no other.
const LOGICAL: u64 = 512;
/// So that guests align what they write to 4 KiB.
const PHYSICAL: u32 = 4096;

const LOG: u64 = MIB;
const METADATA: u64 = 2 * MIB;
const BAT: u64 = 3 * MIB;

/// Returns the file that holds `disk`.
pub(crate) fn write(disk: Arc<dyn Source>, options: &WriteOptions) -> Result<Output> {
    let len = disk.len();
    if len > MAX_SIZE {
        return Err(Error::new(ErrorKind::TooLarge, format!("a disk of {len} bytes; a VHDX holds at most {MAX_SIZE}")));
    }
    let default = DEFAULT_BLOCK_SIZE.max(len.div_ceil(DEFAULT_MAX_BLOCKS).next_power_of_two());
    let block_size = options.power_of_two("block_size", default, BLOCK_SIZES)?;
    let is_fixed = options.choice("subformat", &["dynamic", "fixed"])? == "fixed";
    let id = options.text("disk_id").map(|text| {
        let wrong = |_| Error::unsupported(format!("disk_id={text}")).with_hint("a UUID is allowed, with its hyphens");
        text.parse().map_err(wrong)
    });
    let kind = Kind { size: len.next_multiple_of(LOGICAL), block_size, is_fixed, id: id.transpose()? };
    let stored = if is_fixed { Stored::all(disk, block_size) } else { Stored::new(disk, block_size)? };
    Ok(Output::Layout(Arc::new(Layout::new(stored, &kind))))
}

/// What was chosen about the file.
struct Kind {
    /// Bytes of the disk, whole sectors.
    size: u64,
    block_size: u64,
    is_fixed: bool,
    id: Option<Uuid>,
}

struct Layout {
    stored: Stored,
    block_size: u64,
    ratio: u64,
    /// Entries of the block allocation table.
    entries: u64,
    /// Where the blocks begin.
    data: u64,
    /// What lies before the table and is not zero, by its place.
    structures: Vec<(u64, Vec<u8>)>,
}

impl Layout {
    fn new(stored: Stored, kind: &Kind) -> Self {
        let Kind { size, block_size, .. } = *kind;
        let ratio = chunk_ratio(LOGICAL, block_size);
        let entries = size.div_ceil(block_size).checked_sub(1).map_or(0, |last| entry_index(last, ratio) + 1);
        let bat = (entries * 8).next_multiple_of(MIB).max(MIB);
        let seed = seed(&stored, kind);
        let [first, second] = [1, 2].map(|sequence| header(&seed, sequence));
        let regions = region_table(bat);
        let (table, items) = metadata(&seed, kind);
        let structures = vec![
            (0, identifier()),
            (HEADERS[0], first),
            (HEADERS[1], second),
            (REGION_TABLES[0], regions.clone()),
            (REGION_TABLES[1], regions),
            (METADATA, table),
            (METADATA + TABLE_LENGTH as u64, items),
        ];
        Self { stored, block_size, ratio, entries, data: BAT + bat, structures }
    }

    /// Returns entry `index` of the block allocation table.
    fn entry(&self, index: u64) -> u64 {
        let (chunk, within) = (index / (self.ratio + 1), index % (self.ratio + 1));
        if within == self.ratio || index >= self.entries {
            return 0;
        }
        match self.stored.rank(chunk * self.ratio + within) {
            (number, true) => (self.data + number * self.block_size) | BLOCK_PRESENT,
            // A reader may give anything for a block that is merely not present.
            (_, false) => BLOCK_ZERO,
        }
    }

    fn read_structures(&self, buf: &mut [u8], offset: u64) {
        buf.fill(0);
        let end = offset + buf.len() as u64;
        for (start, bytes) in &self.structures {
            let (from, to) = ((*start).max(offset), (start + bytes.len() as u64).min(end));
            if from < to {
                buf[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
            }
        }
    }

    /// Fills `buf` from `offset`, all inside one part; returns how many bytes were filled.
    fn read_part(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        if offset >= self.data {
            return self.stored.read(buf, offset - self.data);
        }
        let end = if offset < BAT { BAT } else { self.data };
        let length = (end - offset).min(buf.len() as u64) as usize;
        let buf = &mut buf[..length];
        if offset < BAT {
            self.read_structures(buf, offset);
        } else {
            fill(buf, offset - BAT, |index| self.entry(index).to_le_bytes());
        }
        Ok(length)
    }
}

impl Source for Layout {
    fn len(&self) -> u64 {
        self.data + self.stored.count() * self.block_size
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.len(), offset, buf.len())?;
        let mut done = 0;
        while done < buf.len() {
            done += self.read_part(&mut buf[done..], offset + done as u64)?;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.len(), offset)?;
        if offset >= self.data {
            let (length, kind) = self.stored.extent(offset - self.data)?;
            return Ok(Extent { offset, length, kind });
        }
        let structures = self.structures.iter().map(|(start, bytes)| (*start, start + bytes.len() as u64));
        let table = (BAT, BAT + self.entries * 8);
        for (start, end) in structures.chain([table]) {
            if offset < start {
                return Ok(Extent { offset, length: start - offset, kind: ExtentKind::Zero });
            }
            if offset < end {
                return Ok(Extent { offset, length: end - offset, kind: ExtentKind::Data });
            }
        }
        Ok(Extent { offset, length: self.data - offset, kind: ExtentKind::Zero })
    }
}

/// Returns a hash of all that tells this disk from others without reading its data.
fn seed(stored: &Stored, kind: &Kind) -> Sha256 {
    let mut hash = Sha256::new_with_prefix("molde vhdx");
    for number in [kind.size, kind.block_size, u64::from(kind.is_fixed)] {
        hash.update(number.to_le_bytes());
    }
    hash.update(kind.id.unwrap_or_default());
    for (first, count) in stored.runs() {
        hash.update(first.to_le_bytes());
        hash.update(count.to_le_bytes());
    }
    hash
}

/// Returns the GUID called `name` that belongs to `seed`, as it is written.
fn guid(seed: &Sha256, name: &str) -> [u8; 16] {
    let hash = seed.clone().chain_update(name).finalize();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid().to_bytes_le()
}

fn identifier() -> Vec<u8> {
    let creator = "Molde".encode_utf16().flat_map(u16::to_le_bytes);
    SIGNATURE.iter().copied().chain(creator).collect()
}

fn header(seed: &Sha256, sequence: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_LENGTH);
    bytes.extend(b"head\0\0\0\0");
    bytes.extend(sequence.to_le_bytes());
    bytes.extend(guid(seed, "file write"));
    bytes.extend(guid(seed, "data write"));
    bytes.extend([0; 16]); // No log to replay.
    bytes.extend(0_u16.to_le_bytes());
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend((MIB as u32).to_le_bytes());
    bytes.extend(LOG.to_le_bytes());
    bytes.resize(HEADER_LENGTH, 0);
    summed(bytes)
}

fn region_table(bat: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TABLE_LENGTH);
    bytes.extend(b"regi\0\0\0\0");
    bytes.extend(2_u32.to_le_bytes());
    bytes.extend([0; 4]);
    for (id, offset, length) in [(BAT_REGION, BAT, bat), (METADATA_REGION, METADATA, MIB)] {
        bytes.extend(id.to_bytes_le());
        bytes.extend(offset.to_le_bytes());
        bytes.extend((length as u32).to_le_bytes());
        bytes.extend(1_u32.to_le_bytes()); // Required.
    }
    bytes.resize(TABLE_LENGTH, 0);
    summed(bytes)
}

/// Writes the sum of a structure into it.
fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = sum(&bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Returns the metadata table, and the items that begin where it ends.
fn metadata(seed: &Sha256, kind: &Kind) -> (Vec<u8>, Vec<u8>) {
    const REQUIRED: u32 = 4;
    const OF_DISK: u32 = 2;
    let flags = if kind.is_fixed { LEAVE_BLOCKS_ALLOCATED } else { 0 };
    let parameters = [(kind.block_size as u32).to_le_bytes(), flags.to_le_bytes()].concat();
    let id = kind.id.map_or_else(|| guid(seed, "disk"), |id| id.to_bytes_le());
    let list: [(Uuid, u32, Vec<u8>); 5] = [
        (FILE_PARAMETERS, REQUIRED, parameters),
        (DISK_SIZE, REQUIRED | OF_DISK, kind.size.to_le_bytes().to_vec()),
        (DISK_ID, REQUIRED | OF_DISK, id.to_vec()),
        (LOGICAL_SECTOR, REQUIRED | OF_DISK, (LOGICAL as u32).to_le_bytes().to_vec()),
        (PHYSICAL_SECTOR, REQUIRED | OF_DISK, PHYSICAL.to_le_bytes().to_vec()),
    ];
    let (mut table, mut items) = (b"metadata\0\0".to_vec(), Vec::new());
    table.extend((list.len() as u16).to_le_bytes());
    table.extend([0; 20]);
    for (id, flags, value) in list {
        table.extend(id.to_bytes_le());
        table.extend(((TABLE_LENGTH + items.len()) as u32).to_le_bytes());
        table.extend((value.len() as u32).to_le_bytes());
        table.extend(flags.to_le_bytes());
        table.extend([0; 4]);
        items.extend(value);
    }
    (table, items)
}
