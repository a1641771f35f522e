//! zstd files of which any frame can be unpacked alone, because each states the length of its content.
//!
//! The frames are found by the table at the end of the file, if there is one (the "seekable format" of the zstd project):
//! ```text
//! frames | 0x184d2a5e, length | per frame: packed u32, content u32, checksum u32? | frames u32, flags u8, 0x8f92eab1
//! ```
//! or else by their headers and those of the blocks in them, one after the other.

use std::sync::Arc;

use super::container::{Decoded, Fault};
use super::frames::{Codec, FramedContent, Frames, MAX_FRAMES};
use super::zstd::{LENGTH_NOTE_LENGTH, MAGIC, NOTHING, frames_missing, is_skippable, noted_length};
use crate::error::{Error, Result};
use crate::fields::{le16, le32, le64, read_bytes};
use crate::inflate::zstd_frame;
use crate::source::Source;

/// The mark of the skippable frame that holds the table.
pub(super) const TABLE: u32 = 0x184d_2a5e;
/// The mark at the very end of the table.
pub(super) const TABLE_END: u32 = 0x8f92_eab1;
const TABLE_FOOTER: u64 = 9;
/// Entries have a checksum each.
const CHECKSUMS: u8 = 0x80;
const RESERVED: u8 = 0x7c;

/// Without a table, at most this many headers are looked at, each at the cost of one small read.
const MAX_HEADERS: usize = 1 << 16;
/// The longest header of a frame.
const FRAME_HEADER: u64 = 18;
/// As many frames without content may stand in a table.
const MAX_EMPTY: usize = 64;

/// Returns the content of `source`, or nothing if it must be unpacked from its beginning.
pub(super) fn open(source: Arc<dyn Source>) -> Result<Option<Arc<dyn Source>>> {
    let frames = match from_table(&*source)? {
        Some(frames) => Some(frames),
        None => from_headers(&*source)?,
    };
    let Some(frames) = frames else { return Ok(None) };
    let start = source.len().min((NOTHING.len() + LENGTH_NOTE_LENGTH) as u64);
    let start = read_bytes(&*source, 0, start as usize, "the beginning of the zstd file")?;
    match start.strip_prefix(NOTHING).and_then(noted_length) {
        Some(total) if total != frames.size() => Err(frames_missing(total, frames.size())),
        _ => Ok(FramedContent::new(source, frames, Zstd).map(|content| Arc::new(content) as Arc<dyn Source>)),
    }
}

struct Zstd;

impl Codec for Zstd {
    /// A frame is unpacked in one call, where what came out is the window.
    fn memory(&self, _length: u64) -> u64 {
        0
    }

    fn unpack(&self, packed: &[u8], _mark: u8, out: &mut [u8]) -> Decoded<()> {
        match zstd_frame(packed, out) {
            true => Ok(()),
            false => Err(Fault::Damaged("this is not one sound zstd frame of the stated lengths")),
        }
    }
}

/// Finds the frames by the table at the end, if there is one. What it says of a frame is checked when that is unpacked.
fn from_table(source: &dyn Source) -> Result<Option<Frames>> {
    let Some(footer_at) = source.len().checked_sub(TABLE_FOOTER) else { return Ok(None) };
    let footer = read_bytes(source, footer_at, TABLE_FOOTER as usize, "the end of the zstd file")?;
    if le32(&footer, 5) != TABLE_END {
        return Ok(None);
    }
    let (count, flags) = (le32(&footer, 0), footer[4]);
    let entry = if flags & CHECKSUMS == 0 { 8 } else { 12 };
    let length = u64::from(count) * entry;
    let damaged = |how: &str| Error::corrupt(format!("the table at the end of the zstd file is damaged: {how}"));
    if flags & RESERVED != 0 || count as usize > MAX_FRAMES + MAX_EMPTY {
        return Ok(None);
    }
    let start = footer_at.checked_sub(length + 8).ok_or_else(|| damaged("it is longer than the file"))?;
    let table = read_bytes(source, start, (length + 8) as usize, "the table at the end of the zstd file")?;
    if le32(&table, 0) != TABLE || u64::from(le32(&table, 4)) != length + TABLE_FOOTER {
        return Err(damaged("it does not have the length that it states"));
    }
    let (mut frames, mut at, mut empty) = (Frames::default(), 0_u64, 0);
    for entry in table[8..].chunks_exact(entry as usize) {
        let (packed, length) = (le32(entry, 0).into(), le32(entry, 4).into());
        if length == 0 {
            empty += 1;
            if empty > MAX_EMPTY || at + packed > start || !is_empty(source, at, packed)? {
                return Err(damaged("it has entries without content for frames with content"));
            }
        } else if !frames.push(at, packed, length, 0) {
            return Ok(None);
        }
        at += packed;
    }
    if at != start {
        return Err(damaged("the frames in it do not make up the file"));
    }
    Ok(Some(frames))
}

/// Returns whether the frame at `at` is to be skipped or states that it holds nothing.
fn is_empty(source: &dyn Source, at: u64, packed: u64) -> Result<bool> {
    Ok(match Header::read(source, at)? {
        Some(Header::Skippable { length }) => length == packed,
        Some(Header::Data { content, .. }) => content == Some(0) && packed <= FRAME_HEADER + 7,
        None => false,
    })
}

/// Finds the frames by walking through the file, unless they are too large or too many.
fn from_headers(source: &dyn Source) -> Result<Option<Frames>> {
    let (mut frames, mut at, mut looked) = (Frames::default(), 0, 0);
    while at < source.len() {
        let start = at;
        match Header::read(source, at)? {
            Some(Header::Skippable { length }) => at += length,
            Some(Header::Data { length, checksum, content: Some(content) }) => {
                // The first frame of most files holds all, and nothing more needs to be looked at.
                if !Frames::default().push(0, 0, content, 0) {
                    return Ok(None);
                }
                at += length;
                loop {
                    looked += 1;
                    let Some((length, last)) = block(source, at)? else { return Ok(None) };
                    at += length;
                    if last || looked > MAX_HEADERS {
                        break;
                    }
                }
                at += if checksum { 4 } else { 0 };
                if !frames.push(start, at - start, content, 0) {
                    return Ok(None);
                }
            }
            _ => return Ok(None),
        }
        looked += 1;
        // What is wrong with the file is said by unpacking it in order.
        if looked > MAX_HEADERS || at > source.len() {
            return Ok(None);
        }
    }
    Ok(if frames.count() > 0 { Some(frames) } else { None })
}

/// Returns the length of the block at `at` with its header, and whether it is the last one of its frame.
fn block(source: &dyn Source, at: u64) -> Result<Option<(u64, bool)>> {
    if at.saturating_add(3) > source.len() {
        return Ok(None);
    }
    let bytes = read_bytes(source, at, 3, "a block header")?;
    let header = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]);
    let size = u64::from(header >> 3);
    let length = match header >> 1 & 3 {
        0 | 2 => size,
        1 => 1,
        _ => return Ok(None),
    };
    Ok(Some((3 + length, header & 1 == 1)))
}

/// The beginning of a frame.
enum Header {
    /// To be skipped: bytes of the whole frame.
    Skippable { length: u64 },
    /// Bytes of the header, whether a checksum follows the blocks, and the length of the content if it is stated.
    Data { length: u64, checksum: bool, content: Option<u64> },
}

impl Header {
    /// Reads the header at `at`; returns nothing if there is none.
    fn read(source: &dyn Source, at: u64) -> Result<Option<Self>> {
        let length = source.len().saturating_sub(at).min(FRAME_HEADER);
        let bytes = read_bytes(source, at, length as usize, "a frame header")?;
        Ok(Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let magic = le32(bytes.get(..4)?, 0);
        if is_skippable(magic) {
            return Some(Self::Skippable { length: 8 + u64::from(le32(bytes.get(4..8)?, 0)) });
        }
        let flags = *bytes.get(4)?;
        if magic != MAGIC || flags & 8 != 0 {
            return None;
        }
        let single = flags & 0x20 != 0;
        let window = usize::from(!single);
        let dictionary = [0, 1, 2, 4][usize::from(flags & 3)];
        let at = 5 + window + dictionary;
        let size = match flags >> 6 {
            0 => usize::from(single),
            log => 1 << log,
        };
        let field = bytes.get(at..at + size)?;
        let content = match size {
            0 => None,
            1 => Some(field[0].into()),
            2 => Some(u64::from(le16(field, 0)) + 256),
            4 => Some(le32(field, 0).into()),
            _ => Some(le64(field, 0)),
        };
        Some(Self::Data { length: (at + size) as u64, checksum: flags & 4 != 0, content })
    }
}
