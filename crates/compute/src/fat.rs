//! Writes a small FAT12 volume: a path of directories and, in the last of them, files.
//!
//! ```text
//! sector 0          boot sector with the BIOS parameter block
//! then              two equal FATs
//! then one sector   root directory: volume label, first directory
//! then              clusters of one sector: the directories, one each, and the files one after the other
//! ```
//!
//! Every name gets a long entry, so that its lower case is kept. Everything is dated 1980-01-01, FAT's first day: equal
//! contents make equal bytes. Source: Microsoft, "FAT: General Overview of On-Disk Format", 1.03.

const SECTOR: usize = 512;
const ENTRY: usize = 32;
/// FAT12 ends here by definition; above it the same bytes would be read as FAT16.
const CLUSTERS_MAX: usize = 4084;
const FIRST_CLUSTER: usize = 2;
const END_OF_CHAIN: u16 = 0xfff;
const MEDIA: u8 = 0xf8;

const ATTRIBUTE_LABEL: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
const ATTRIBUTE_LONG_NAME: u8 = 0x0f;

/// A long name of ASCII characters and its upper-case 8.3 form, which is unique in its directory.
pub(crate) struct Name(pub(crate) &'static str, pub(crate) &'static [u8; 11]);

/// What a volume holds.
pub(crate) struct Volume<'a> {
    /// At most 11 characters, padded with spaces.
    pub(crate) label: &'static [u8; 11],
    pub(crate) serial: u32,
    /// The directories from the root down.
    pub(crate) path: [Name; 2],
    /// The files in the last directory: at most four, whose names fit its 14 free entries.
    pub(crate) files: &'a [(Name, &'a [u8])],
}

impl Volume<'_> {
    /// Returns the bytes of the volume, or nothing when the files need more clusters than FAT12 has.
    pub(crate) fn bytes(&self) -> Option<Vec<u8>> {
        let [outer, inner] = &self.path;
        let (outer_cluster, inner_cluster) = (FIRST_CLUSTER, FIRST_CLUSTER + 1);
        let mut chains = vec![1, 1];
        let mut inner_directory = dots(inner_cluster, outer_cluster);
        let mut next_cluster = inner_cluster + 1;
        for (name, bytes) in self.files {
            let clusters = bytes.len().div_ceil(SECTOR);
            let start = if clusters == 0 { 0 } else { next_cluster };
            inner_directory.extend(named(name, 0, start, bytes.len()));
            chains.push(clusters);
            next_cluster += clusters;
        }
        // The parent of a directory in the root is written as cluster 0.
        let mut outer_directory = dots(outer_cluster, 0);
        outer_directory.extend(named(inner, ATTRIBUTE_DIRECTORY, inner_cluster, 0));
        let mut root = short(self.label, ATTRIBUTE_LABEL, 0, 0).to_vec();
        root.extend(named(outer, ATTRIBUTE_DIRECTORY, outer_cluster, 0));

        let clusters = next_cluster - FIRST_CLUSTER;
        if clusters > CLUSTERS_MAX {
            return None;
        }
        let fat = allocation_table(&chains, clusters);
        let mut volume = self.boot_sector(fat.len() / SECTOR, clusters);
        let contents = self.files.iter().map(|(_, bytes)| *bytes);
        let parts = [&*fat, &*fat, &*root, &*outer_directory, &*inner_directory].into_iter().chain(contents);
        for part in parts {
            volume.extend(part);
            volume.resize(volume.len().next_multiple_of(SECTOR), 0);
        }
        Some(volume)
    }

    fn boot_sector(&self, fat_sectors: usize, clusters: usize) -> Vec<u8> {
        let sectors = 1 + 2 * fat_sectors + 1 + clusters;
        let mut sector = vec![0; SECTOR];
        let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &[0xeb, 0x3c, 0x90]);
        put(3, b"MOLDE   ");
        put(11, &(SECTOR as u16).to_le_bytes());
        put(13, &[1]); // sectors per cluster
        put(14, &1_u16.to_le_bytes()); // reserved sectors
        put(16, &[2]); // FATs
        put(17, &((SECTOR / ENTRY) as u16).to_le_bytes()); // root entries
        put(19, &(sectors as u16).to_le_bytes()); // CLUSTERS_MAX keeps this in 16 bits
        put(21, &[MEDIA]);
        put(22, &(fat_sectors as u16).to_le_bytes());
        put(24, &[32, 0, 2, 0]); // sectors per track, heads: any, as nothing boots from here
        put(36, &[0x80, 0, 0x29]); // drive, reserved, "the next three fields are valid"
        put(39, &self.serial.to_le_bytes());
        put(43, self.label);
        put(54, b"FAT12   ");
        put(510, &[0x55, 0xaa]);
        sector
    }
}

/// Returns the FAT for chains of consecutive clusters, given by their lengths.
fn allocation_table(chains: &[usize], clusters: usize) -> Vec<u8> {
    let mut links = vec![0xf00 | u16::from(MEDIA), END_OF_CHAIN];
    for &length in chains {
        for left in (0..length).rev() {
            let following = links.len() as u16 + 1;
            links.push(if left == 0 { END_OF_CHAIN } else { following });
        }
    }
    debug_assert_eq!(links.len(), FIRST_CLUSTER + clusters);
    // Two links of 12 bits share three bytes.
    let pack = |pair: &[u16]| {
        let (low, high) = (pair[0], pair.get(1).copied().unwrap_or(0));
        [low as u8, (low >> 8) as u8 | (high << 4) as u8, (high >> 4) as u8]
    };
    let mut table: Vec<u8> = links.chunks(2).flat_map(pack).collect();
    table.resize(table.len().next_multiple_of(SECTOR), 0);
    table
}

/// Returns the entries `.` and `..`, with which every directory but the root begins.
fn dots(own_cluster: usize, parent_cluster: usize) -> Vec<u8> {
    let own = short(b".          ", ATTRIBUTE_DIRECTORY, own_cluster, 0);
    let parent = short(b"..         ", ATTRIBUTE_DIRECTORY, parent_cluster, 0);
    [own, parent].concat()
}

/// Returns the long entries of a name, the last part first, and the short one behind them.
fn named(name: &Name, attributes: u8, cluster: usize, length: usize) -> Vec<u8> {
    const PART: usize = 13;
    let checksum = name.1.iter().fold(0_u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte));
    let mut units: Vec<u16> = name.0.encode_utf16().collect();
    let parts = units.len().div_ceil(PART);
    // A name that does not fill its last part ends with 0 and is filled up with 0xffff.
    if !units.len().is_multiple_of(PART) {
        units.push(0);
        units.resize(parts * PART, 0xffff);
    }
    let mut entries = Vec::new();
    for (index, part) in units.chunks(PART).enumerate().rev() {
        let last = if index + 1 == parts { 0x40 } else { 0 };
        let text: Vec<u8> = part.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        entries.push(last | (index as u8 + 1));
        entries.extend(&text[..10]);
        entries.extend([ATTRIBUTE_LONG_NAME, 0, checksum]);
        entries.extend(&text[10..22]);
        entries.extend([0, 0]);
        entries.extend(&text[22..]);
    }
    entries.extend(short(name.1, attributes, cluster, length));
    entries
}

fn short(name: &[u8; 11], attributes: u8, cluster: usize, length: usize) -> [u8; ENTRY] {
    const FIRST_DAY: [u8; 2] = [0x21, 0];
    let mut entry = [0; ENTRY];
    entry[..11].copy_from_slice(name);
    entry[11] = attributes;
    for date_at in [16, 18, 24] {
        entry[date_at..date_at + 2].copy_from_slice(&FIRST_DAY);
    }
    entry[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
    entry[28..].copy_from_slice(&(length as u32).to_le_bytes());
    entry
}
