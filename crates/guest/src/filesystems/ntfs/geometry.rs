//! The boot sector: sizes of clusters and records, and where the master file table begins.

use crate::fields::{le16, le64, stands_at};
use crate::window::Window;

/// Largest cluster, since Windows 10.
const CLUSTER_MAX: u64 = 2 << 20;

/// What the boot sector says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// Bytes in a cluster, a power of two.
    pub(super) cluster: u64,
    /// Bytes in a record of the table of files.
    pub(super) record: usize,
    /// First cluster of that table.
    pub(super) mft: u64,
    /// Clusters in the volume.
    pub(super) clusters: u64,
}

impl Geometry {
    pub(super) fn read(window: &Window) -> Result<Self, String> {
        let sector = window.bytes(0, 512).map_err(|error| error.to_string())?;
        let sector = sector.filter(|bytes| stands_at(bytes, 3, b"NTFS    ")).ok_or("it has no boot sector")?;
        let found = Self::parse(&sector).ok_or("the sizes in its boot sector are not possible")?;
        // The last sector of the partition, which holds a copy of this one, is not counted: so it may never be larger.
        if found.clusters.checked_mul(found.cluster).is_none_or(|size| size > window.len()) {
            return Err("it is larger than the place it lies in".to_owned());
        }
        Ok(found)
    }

    fn parse(sector: &[u8]) -> Option<Self> {
        let bytes = u64::from(le16(sector, 11));
        // Above 128 it is the power of two by which sectors make a cluster, as a negative number.
        let sectors = match sector[13] {
            count @ ..=128 => u64::from(count),
            power => 1_u64.checked_shl(256 - u32::from(power))?,
        };
        let is_sound = (256..=4096).contains(&bytes) && bytes.is_power_of_two() && sectors.is_power_of_two();
        let cluster = bytes.checked_mul(sectors).filter(|size| is_sound && (512..=CLUSTER_MAX).contains(size))?;
        let record = match i8::from_le_bytes([sector[64]]) {
            power @ ..0 => 1_u64.checked_shl(power.unsigned_abs().into())?,
            count => cluster.checked_mul(u64::try_from(count).ok()?)?,
        };
        let record = usize::try_from(record).ok().filter(|size| (512..=4096).contains(size))?;
        let clusters = le64(sector, 40) / sectors;
        let mft = le64(sector, 48);
        (record.is_power_of_two() && mft < clusters).then_some(Self { cluster, record, mft, clusters })
    }
}
