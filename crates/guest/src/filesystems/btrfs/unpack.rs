//! Extents of btrfs that are compressed: zlib, LZO, zstd.

use disk::error::{Error, Result};
use flate2::read::ZlibDecoder;

use crate::fields::le32;

/// How an extent is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Zlib,
    Lzo,
    Zstd,
}

impl Packing {
    /// Returns the one with `number`.
    pub(super) fn of(number: u8) -> Option<Self> {
        [Self::None, Self::Zlib, Self::Lzo, Self::Zstd].get(usize::from(number)).copied()
    }
}

/// Returns what `packed` holds, at most `length` bytes; it is filled with zeros to the end of a sector.
pub(super) fn unpack(packing: Packing, packed: &[u8], length: usize, sector_size: usize) -> Result<Vec<u8>> {
    let mut content = vec![0; length];
    let count = match packing {
        Packing::None => None,
        Packing::Zlib => fill(ZlibDecoder::new(packed), &mut content),
        Packing::Lzo => unpack_lzo(packed, &mut content, sector_size),
        Packing::Zstd => zstd::zstd_safe::find_frame_compressed_size(packed).ok().and_then(|end| {
            zstd::bulk::Decompressor::new().ok()?.decompress_to_buffer(&packed[..end], &mut content).ok()
        }),
    };
    content.truncate(count.ok_or_else(|| Error::corrupt("an extent of the file cannot be unpacked"))?);
    Ok(content)
}

fn fill(mut decoder: impl std::io::Read, content: &mut [u8]) -> Option<usize> {
    let mut filled = 0;
    while filled < content.len() {
        match decoder.read(&mut content[filled..]).ok()? {
            0 => break,
            count => filled += count,
        }
    }
    Some(filled)
}

/// Unpacks segments of a sector each. The length of them all stands before the first, and before each its own, which never
/// goes over the end of a sector.
fn unpack_lzo(packed: &[u8], content: &mut [u8], sector_size: usize) -> Option<usize> {
    const LENGTH: usize = 4;
    let packed = packed.get(..le32(packed, 0) as usize)?;
    let (mut at, mut filled) = (LENGTH, 0);
    while at < packed.len() && filled < content.len() {
        let left = sector_size - at % sector_size;
        if left < LENGTH {
            at += left;
        }
        let start = at + LENGTH;
        let end = start.checked_add(le32(packed, at) as usize)?;
        let room = (content.len() - filled).min(sector_size);
        filled += lzokay::decompress::decompress(packed.get(start..end)?, &mut content[filled..filled + room]).ok()?;
        at = end;
    }
    Some(filled)
}
