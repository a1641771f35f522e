//! The checksums of ext4: CRC-32C of `metadata_csum`, CRC-16 of `gdt_csum`.

const fn table32() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

const TABLE: [u32; 256] = table32();

/// Goes on with a CRC-32C over `bytes`; ext4 begins with all ones and inverts nothing at the end.
pub(super) fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(crc, |crc, byte| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)])
}

/// Goes on with a CRC-16 (polynomial 0x8005, reflected) over `bytes`.
pub(super) fn crc16(crc: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(crc, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| (crc >> 1) ^ (0xa001 & (crc & 1).wrapping_neg()))
    })
}

/// How the metadata of a file system is summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sums {
    /// ext2, ext3, and ext4 without either feature.
    None,
    /// `gdt_csum`: group descriptors alone; the state after the UUID.
    Groups(u16),
    /// `metadata_csum`: all metadata; the seed.
    All(u32),
}

impl Sums {
    /// Returns the seed for what belongs to one inode; none where inodes have no sums.
    pub(super) fn of_inode(self, number: u32, generation: u32) -> Option<u32> {
        let Self::All(seed) = self else { return None };
        Some(crc32c(crc32c(seed, &number.to_le_bytes()), &generation.to_le_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_values() {
        assert_eq!(!crc32c(u32::MAX, b"123456789"), 0xe306_9283);
        assert_eq!(crc16(0, b"123456789"), 0xbb3d);
        let (head, tail) = b"123456789".split_at(4);
        assert_eq!(!crc32c(crc32c(u32::MAX, head), tail), 0xe306_9283);
    }
}
