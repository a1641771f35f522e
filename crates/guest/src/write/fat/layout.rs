//! The parameter block: where tables, folders and clusters lie, and whether a volume in that state may be written.
//!
//! Microsoft, "FAT32 File System Specification" (fatgen103), "Boot Sector and BPB" and "FAT Data Structure".

use disk::error::{Error, Result};

use crate::fields::{le16, le32, stands_at};

pub(super) const BOOT_SIZE: usize = 512;
/// Most clusters, whose table is held in memory: 16 GiB with clusters of 4 KiB; an EFI system partition has some 100,000.
const CLUSTERS_MAX: u64 = 4 << 20;
/// What a store keeps as a whole: the usual length of its chunks.
pub(super) const CHUNK: u64 = 512 << 10;
/// Largest cluster, as fsck.fat and Windows have it.
const CLUSTER_SIZE_MAX: u64 = 256 << 10;
/// The volume was not unmounted, as Windows NT and Linux mark it in the boot sector.
const STATE_DIRTY: u8 = 1;
/// One table alone is in use, and the others are old (FAT32).
const FLAG_NOT_MIRRORED: u16 = 0x80;

/// How many bits of a table an entry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Twelve,
    Sixteen,
    ThirtyTwo,
}

/// The top folder.
#[derive(Debug, Clone, Copy)]
pub(super) enum Top {
    /// It lies between the tables and the clusters, and does not grow.
    Fixed { at: u64, length: usize },
    /// It begins with this cluster.
    Cluster(u32),
}

/// The numbers of a volume that no operation changes; places count from its first byte.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) width: Width,
    pub(super) sector_size: usize,
    pub(super) cluster_size: usize,
    /// How many clusters there are; the first has the number 2.
    pub(super) clusters: u32,
    /// Where each copy of the table begins.
    pub(super) tables: Vec<u64>,
    pub(super) top: Top,
    /// Where the first cluster lies.
    pub(super) data_at: u64,
    /// Where free clusters are counted (FAT32).
    pub(super) info_at: Option<u64>,
}

impl Layout {
    /// Reads the boot sector of a volume in a place of `length` bytes.
    ///
    /// # Errors
    ///
    /// Tells why the volume may not be written.
    pub(super) fn parse(bytes: &[u8], length: u64) -> Result<Self> {
        let number = |narrow: u16, wide: u32| if narrow == 0 { u64::from(wide) } else { u64::from(narrow) };
        let sector = u64::from(le16(bytes, 11));
        let cluster_size = u64::from(bytes[13]) * sector;
        let (reserved, copies) = (u64::from(le16(bytes, 14)), u64::from(bytes[16]));
        let sectors = number(le16(bytes, 19), le32(bytes, 32));
        let table_sectors = number(le16(bytes, 22), le32(bytes, 36));
        let top_length = u64::from(le16(bytes, 17)) * 32;
        let is_sound = stands_at(bytes, 510, &[0x55, 0xaa])
            && (512..=4096).contains(&sector)
            && sector.is_power_of_two()
            && cluster_size.is_power_of_two()
            && cluster_size <= CLUSTER_SIZE_MAX
            && reserved > 0
            && (1..=2).contains(&copies);
        // No overflow from here on: every product is of a number of 32 bits and one of 16.
        let top_at = reserved + copies * table_sectors;
        let data_at = top_at + top_length.div_ceil(sector.max(1));
        let clusters = sectors.checked_sub(data_at).map(|data| data * sector / cluster_size.max(1));
        let Some(clusters) = clusters.filter(|clusters| is_sound && *clusters > 0 && sectors * sector <= length) else {
            return Err(Error::corrupt("the parameter block of the FAT is damaged"));
        };
        let width = match clusters {
            _ if le16(bytes, 22) == 0 => Width::ThirtyTwo,
            0..4085 => Width::Twelve,
            4085..65525 => Width::Sixteen,
            _ => return Err(Error::corrupt("the FAT has more clusters than its tables can number")),
        };
        if clusters > CLUSTERS_MAX {
            return Err(Error::unsupported(format!("a FAT of {clusters} clusters is too large to be changed here")));
        }
        let is_wide = width == Width::ThirtyTwo;
        check_state(bytes, is_wide)?;
        let top = match is_wide {
            true => Top::Cluster(le32(bytes, 44)),
            false => Top::Fixed { at: top_at * sector, length: top_length as usize },
        };
        let info = u64::from(le16(bytes, 48));
        let layout = Self {
            width,
            sector_size: sector as usize,
            cluster_size: cluster_size as usize,
            clusters: clusters as u32,
            tables: (0..copies).map(|copy| (reserved + copy * table_sectors) * sector).collect(),
            top,
            data_at: data_at * sector,
            info_at: (is_wide && (1..reserved).contains(&info)).then_some(info * sector),
        };
        if layout.table_size() as u64 > table_sectors * sector {
            return Err(Error::corrupt("the tables of the FAT are too short for its clusters"));
        }
        Ok(layout)
    }

    /// Returns how many bytes of a table are in use.
    pub(super) fn table_size(&self) -> usize {
        let entries = self.clusters as usize + 2;
        let bytes = match self.width {
            Width::Twelve => (entries * 3).div_ceil(2),
            Width::Sixteen => entries * 2,
            Width::ThirtyTwo => entries * 4,
        };
        bytes.next_multiple_of(self.sector_size)
    }

    /// Returns how many clusters have the length of a chunk.
    pub(super) fn clusters_of_chunk(&self) -> u32 {
        (CHUNK / self.cluster_size as u64) as u32
    }

    /// Returns where `cluster` lies, which is one of the volume.
    pub(super) fn place(&self, cluster: u32) -> u64 {
        self.data_at + u64::from(cluster - 2) * self.cluster_size as u64
    }
}

fn check_state(bytes: &[u8], is_wide: bool) -> Result<()> {
    if bytes[if is_wide { 65 } else { 37 }] & STATE_DIRTY != 0 {
        return Err(dirty());
    }
    if is_wide && (le16(bytes, 42) != 0 || le16(bytes, 40) & FLAG_NOT_MIRRORED != 0) {
        return Err(Error::unsupported("the FAT is of an unknown version, or has one table in use"));
    }
    Ok(())
}

/// The refusal of a volume that was not unmounted.
pub(super) fn dirty() -> Error {
    Error::refused("the FAT was not unmounted cleanly")
        .with_hint("start the guest once, let it check its disks, and shut it down")
}
