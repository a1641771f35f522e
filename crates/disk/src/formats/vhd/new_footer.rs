//! The footer of a new VHD: what it says about the size, so that every reader sees the same one.

use uuid::Uuid;

use super::footer::{COOKIE, Kind, LENGTH, seal};

/// Who made the file. Readers go by this name when they choose between size and geometry; see [`geometry`].
const CREATOR: &[u8; 4] = b"mold";
/// Version 1.0, of the format and of its creator.
pub(super) const VERSION: u32 = 0x0001_0000;
/// Sectors of the largest geometry; a disk that has it is as large as its size field says, for every reader.
const MAX_GEOMETRY: (u64, u64, u64) = (65535, 16, 255);

/// Returns the footer of a disk of `size` bytes.
pub(super) fn new_footer(kind: Kind, size: u64, id: Uuid) -> Vec<u8> {
    // A fixed disk has no header that could be pointed at.
    let (number, data_offset) = if kind == Kind::Fixed { (2_u32, u64::MAX) } else { (3, LENGTH) };
    let (cylinders, heads, sectors) = geometry(size / 512);
    let mut footer = Vec::with_capacity(LENGTH as usize);
    footer.extend(COOKIE);
    footer.extend(2_u32.to_be_bytes()); // A bit that is always set.
    footer.extend(VERSION.to_be_bytes());
    footer.extend(data_offset.to_be_bytes());
    footer.extend(0_u32.to_be_bytes()); // The time, in seconds since 2000: the same disk gives the same file.
    footer.extend(CREATOR);
    footer.extend(VERSION.to_be_bytes());
    footer.extend(b"Wi2k");
    footer.extend(size.to_be_bytes()); // As it was made, and as it is.
    footer.extend(size.to_be_bytes());
    footer.extend((cylinders as u16).to_be_bytes());
    footer.extend([heads as u8, sectors as u8]);
    footer.extend(number.to_be_bytes());
    footer.extend([0; 4]);
    footer.extend(id.as_bytes());
    footer.resize(LENGTH as usize, 0);
    seal(&mut footer, 64);
    footer
}

/// Returns cylinders, heads and sectors of a track for a disk of `sectors`: those of the specification if they make
/// up the disk exactly, else the largest there are.
///
/// The specification rounds down, and QEMU before version 10 takes the geometry for the size unless it knows the
/// creator or the geometry is the largest one. So a rounded geometry would cut the end of the disk there.
fn geometry(sectors: u64) -> (u64, u64, u64) {
    let (cylinders, heads, track) = specified(sectors);
    if cylinders * heads * track == sectors { (cylinders, heads, track) } else { MAX_GEOMETRY }
}

/// The algorithm of the specification, appendix "CHS Calculation".
fn specified(sectors: u64) -> (u64, u64, u64) {
    if sectors >= 65535 * 16 * 255 {
        return MAX_GEOMETRY;
    }
    if sectors >= 65535 * 16 * 63 {
        return (sectors / 255 / 16, 16, 255);
    }
    let tracks = sectors / 17;
    let heads = tracks.div_ceil(1024).max(4);
    if tracks < heads * 1024 && heads <= 16 {
        return (tracks / heads, heads, 17);
    }
    let track = if sectors / 31 < 16 * 1024 { 31 } else { 63 };
    (sectors / track / 16, 16, track)
}
