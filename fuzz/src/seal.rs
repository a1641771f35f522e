//! Checksums of damaged metadata made right again, as whoever makes a hostile disk does: readers look no further than a
//! wrong one.

use crate::damaged::Damaged;

/// Leaves all as it is.
pub fn nothing(_: &mut Damaged) {}

/// Seals what XFS version 5 has in sectors of 512 bytes, inodes of as many, and blocks of 4 KiB.
pub fn xfs(disk: &mut Damaged) {
    const SECTORS: [(&[u8], usize); 5] = [(b"XFSB", 224), (b"XAGF", 216), (b"XAGI", 312), (b"XAFL", 32), (b"IN", 100)];
    const BLOCKS: [(usize, &[u8], usize); 13] = [
        (0, b"XDB3", 4),
        (0, b"XDD3", 4),
        (0, b"XDF3", 4),
        (8, b"\x3d\xf1", 12),
        (8, b"\x3d\xff", 12),
        (8, b"\x3e\xbe", 12),
        (8, b"\x3b\xee", 12),
        (0, b"XSLM", 12),
        (0, b"XARM", 12),
        (0, b"AB3", 56),
        (0, b"IAB3", 56),
        (0, b"FIB3", 56),
        (0, b"BMA3", 64),
    ];
    for at in damaged(disk, 512) {
        let sector = disk.part(at, 512);
        if let Some((_, place)) = SECTORS.iter().find(|(magic, _)| sector.starts_with(magic)) {
            seal(disk, at, sector, *place);
        }
    }
    for at in damaged(disk, 4096) {
        let block = disk.part(at, 4096);
        let is_it = |(skip, magic, _): &&(usize, &[u8], usize)| block[*skip..].starts_with(magic);
        if block.len() == 4096
            && let Some((_, _, place)) = BLOCKS.iter().find(is_it)
        {
            seal(disk, at, block, *place);
        }
    }
}

/// Puts the sum over `bytes`, with its own field as zeros, into that field.
fn seal(disk: &mut Damaged, at: usize, mut bytes: Vec<u8>, place: usize) {
    bytes[place..place + 4].fill(0);
    disk.patches.push((at + place, crc32c(&bytes).to_le_bytes().to_vec()));
}

/// Returns where the blocks of `length` bytes begin that have damage.
fn damaged(disk: &Damaged, length: usize) -> Vec<usize> {
    let ends = |(at, bytes): &(usize, Vec<u8>)| [*at, at + bytes.len().saturating_sub(1)];
    let mut blocks: Vec<_> = disk.patches.iter().flat_map(ends).map(|at| at / length * length).collect();
    blocks.sort_unstable();
    blocks.dedup();
    blocks
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut crc, mut bit) = (byte as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)])
}
