//! What the reader and the writer of VHDX share: places, names, limits and sums of the structures; all little-endian.

use uuid::{Uuid, uuid};

use crate::fields::le32;

/// The first bytes of the file.
pub(super) const SIGNATURE: &[u8; 8] = b"vhdxfile";
/// All structures begin at multiples of this, and the header section takes the first of them.
pub(super) const MIB: u64 = 1 << 20;
/// Where the two headers lie.
pub(super) const HEADERS: [u64; 2] = [64 << 10, 128 << 10];
/// Bytes of a header.
pub(super) const HEADER_LENGTH: usize = 4096;
/// Where the two copies of the region table lie.
pub(super) const REGION_TABLES: [u64; 2] = [192 << 10, 256 << 10];
/// Bytes of a region table and of the metadata table.
pub(super) const TABLE_LENGTH: usize = 64 << 10;
/// Entries of a region table or metadata table at most; each takes 32 bytes.
pub(super) const MAX_ENTRIES: usize = 2047;

/// The region of the block allocation table.
pub(super) const BAT_REGION: Uuid = uuid!("2dc27766-f623-4200-9d64-115e9bfd4a08");
/// The region of the metadata.
pub(super) const METADATA_REGION: Uuid = uuid!("8b7ca206-4790-4b9a-b8fe-575f050f886e");

/// Metadata: block size and flags.
pub(super) const FILE_PARAMETERS: Uuid = uuid!("caa16737-fa36-4d43-b3b6-33f0aa44e76b");
/// Metadata: bytes of the disk.
pub(super) const DISK_SIZE: Uuid = uuid!("2fa54224-cd1b-4876-b211-5dbed83bf4b8");
/// Metadata: the identity that the disk shows to the guest (SCSI page 83).
pub(super) const DISK_ID: Uuid = uuid!("beca12ab-b2e6-4523-93ef-c309e000c746");
/// Metadata: bytes of a logical sector.
pub(super) const LOGICAL_SECTOR: Uuid = uuid!("8141bf1d-a96f-4709-ba47-f233a8faab5f");
/// Metadata: bytes of a physical sector.
pub(super) const PHYSICAL_SECTOR: Uuid = uuid!("cda348c7-445d-4471-9cc9-e9885251c556");
/// Metadata: where the parent of a differencing disk is.
pub(super) const PARENT_LOCATOR: Uuid = uuid!("a8d35f2d-b30b-454d-abf7-d3d84834ab0c");

/// Block sizes that the format allows, in bytes; powers of two only.
pub(super) const BLOCK_SIZES: std::ops::RangeInclusive<u64> = MIB..=256 << 20;
/// 64 TiB, the largest disk.
pub(super) const MAX_SIZE: u64 = 64 << 40;

/// Flag of the file parameters: the disk is fixed.
pub(super) const LEAVE_BLOCKS_ALLOCATED: u32 = 1;
/// Flag of the file parameters: the disk is differencing.
pub(super) const HAS_PARENT: u32 = 2;

/// The block is not in the file and reads as zeros.
pub(super) const BLOCK_ZERO: u64 = 2;
/// The block is in the file.
pub(super) const BLOCK_PRESENT: u64 = 6;

/// Returns how many payload blocks share one sector bitmap block, whose entry follows theirs in the table.
pub(super) fn chunk_ratio(sector: u64, block_size: u64) -> u64 {
    (sector << 23) / block_size
}

/// Returns the entry of the block allocation table for payload block `index`.
pub(super) fn entry_index(index: u64, ratio: u64) -> u64 {
    index + index / ratio
}

/// Returns the CRC-32C of a structure whose own sum stands at byte 4 and counts as zero.
pub(super) fn sum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &[0; 4]), &bytes[8..])
}

/// Returns whether a structure begins with `signature` and its sum is right.
pub(super) fn is_sound(bytes: &[u8], signature: &[u8; 4]) -> bool {
    // A fuzzer would hardly ever hit the right sum, and never see what lies behind it.
    bytes.starts_with(signature) && (cfg!(fuzzing) || le32(bytes, 4) == sum(bytes))
}

/// Returns the GUID at `at`, whose first three fields are little-endian.
pub(super) fn guid(bytes: &[u8], at: usize) -> Uuid {
    let mut id = [0; 16];
    id.copy_from_slice(&bytes[at..at + 16]);
    Uuid::from_bytes_le(id)
}
