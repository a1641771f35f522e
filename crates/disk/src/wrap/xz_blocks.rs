//! xz files of several blocks, any of which can be unpacked alone: the index at the end of each stream says where they are.
//!
//! ```text
//! stream: header 12 | blocks, each padded to a multiple of 4 | index | footer 12       (then zeros, then another stream)
//! index:  0 | number of records | records: unpadded length, length of the content | zeros | crc32
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use libdeflater::crc32;
use liblzma::stream::Stream as Decoder;

use super::container::{CUT_HINT, Decoded, Fault};
use super::frames::{Codec, FramedContent, Frames, MAX_FRAMES};
use super::xz::{MAGIC, endless_decoder, step};
use crate::error::{Error, Result};
use crate::fields::{le32, read_bytes};
use crate::source::Source;

const HEADER: u64 = 12;
const FOOTER: u64 = 12;
const FOOTER_MAGIC: &[u8] = b"YZ";
/// The largest index that is loaded: a million records of 16 bytes.
const MAX_INDEX: u64 = 16 << 20;
/// Decoders that no thread uses now are kept up to this many bytes of dictionaries, because the allocator would not give
/// back the memory of each.
const KEPT: u64 = 24 << 20;
/// Files of more streams, or with more zeros after one, are unpacked in order only, so that opening is cheap.
const MAX_STREAMS: usize = 4096;
const MAX_PADDING: u64 = 1 << 20;
const MAX_BLOCK_HEADER: u64 = 1024;
const LZMA2: u64 = 0x21;
/// Zeros between streams are looked for in pieces of this size.
const PIECE: u64 = 4 << 10;

/// Returns the content of `source`, or nothing if it must be unpacked from its beginning.
pub(super) fn open(source: Arc<dyn Source>) -> Result<Option<Arc<dyn Source>>> {
    let mut streams = Vec::new();
    let (mut end, mut records) = (source.len(), 0);
    while end > 0 {
        let padding = zeros_before(&*source, end)?;
        if padding > MAX_PADDING || streams.len() == MAX_STREAMS {
            return Ok(None);
        }
        let Some(stream) = Stream::read(&*source, end - padding)? else { return Ok(None) };
        records += stream.blocks.len();
        if records > MAX_FRAMES {
            return Ok(None);
        }
        end = stream.start;
        streams.push(stream);
    }
    let (mut frames, mut dictionary) = (Frames::default(), 0);
    for stream in streams.iter().rev() {
        dictionary = dictionary.max(stream.dictionary);
        let mut at = stream.start + HEADER;
        for (unpadded, content) in &stream.blocks {
            let padded = unpadded.next_multiple_of(4);
            // The padding stands inside the block, before its checksum.
            let mark = stream.check | ((padded - unpadded) as u8) << 4;
            if !frames.push(at, padded, *content, mark) {
                return Ok(None);
            }
            at += padded;
        }
    }
    if frames.count() == 0 {
        return Ok(None);
    }
    Ok(FramedContent::new(source, frames, Xz { dictionary, idle: Mutex::default() })
        .map(|content| Arc::new(content) as Arc<dyn Source>))
}

/// Returns how many zeros stand before byte `end`, in multiples of four; not more than a little over [`MAX_PADDING`].
fn zeros_before(source: &dyn Source, end: u64) -> Result<u64> {
    let mut at = end;
    while at > 0 && end - at <= MAX_PADDING {
        let length = at.min(PIECE);
        let bytes = read_bytes(source, at - length, length as usize, "the end of an xz stream")?;
        let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count() as u64;
        at -= zeros;
        if zeros < length {
            break;
        }
    }
    Ok((end - at) / 4 * 4)
}

/// A stream, and its blocks: the length of each in the file without padding, and that of its content.
struct Stream {
    start: u64,
    check: u8,
    /// Bytes of the dictionary of the first block, and so most likely of all.
    dictionary: u64,
    blocks: Vec<(u64, u64)>,
}

impl Stream {
    /// Reads the index of the stream that ends at byte `end`; returns nothing if that is too large.
    fn read(source: &dyn Source, end: u64) -> Result<Option<Self>> {
        let damaged =
            |how: &str| Error::corrupt(format!("the xz stream that ends at byte {end} {how}")).with_hint(CUT_HINT);
        let footer_at = end.checked_sub(FOOTER).ok_or_else(|| damaged("is too short"))?;
        let footer = read_bytes(source, footer_at, FOOTER as usize, "the footer of an xz stream")?;
        if &footer[10..] != FOOTER_MAGIC
            || footer[8] != 0
            || footer[9] > 15
            || le32(&footer, 0) != crc32(&footer[4..10])
        {
            return Err(damaged("has no sound footer"));
        }
        let length = (u64::from(le32(&footer, 4)) + 1) * 4;
        if length > MAX_INDEX {
            return Ok(None);
        }
        let index_at = footer_at.checked_sub(length).ok_or_else(|| damaged("has an index longer than itself"))?;
        let index = read_bytes(source, index_at, length as usize, "the index of an xz stream")?;
        let blocks = records(&index).ok_or_else(|| damaged("has a damaged index"))?;
        let packed =
            blocks.iter().try_fold(0_u64, |sum, (unpadded, _)| sum.checked_add(unpadded.checked_next_multiple_of(4)?));
        let start = packed
            .and_then(|packed| index_at.checked_sub(packed)?.checked_sub(HEADER))
            .ok_or_else(|| damaged("has blocks longer than itself"))?;
        let header = read_bytes(source, start, HEADER as usize, "the header of an xz stream")?;
        if header != stream_header(footer[9]) {
            return Err(damaged(&format!("has no sound header at byte {start}")));
        }
        let first =
            read_bytes(source, start + HEADER, MAX_BLOCK_HEADER.min(index_at - start - HEADER) as usize, "a block")?;
        // Whatever an unknown one is, it does not hold more than the content of a block.
        let dictionary = if blocks.is_empty() { 0 } else { dictionary(&first).unwrap_or(u64::MAX) };
        Ok(Some(Self { start, check: footer[9], dictionary, blocks }))
    }
}

/// Reads the records of an index; returns nothing if it is damaged.
fn records(index: &[u8]) -> Option<Vec<(u64, u64)>> {
    let (body, crc) = index.split_at_checked(index.len().checked_sub(4)?)?;
    let mut rest = body.strip_prefix(&[0])?;
    if le32(crc, 0) != crc32(body) {
        return None;
    }
    let count = number(&mut rest)?;
    // A record takes two bytes or more.
    if count > rest.len() as u64 / 2 {
        return None;
    }
    let mut records = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let record = (number(&mut rest)?, number(&mut rest)?);
        if record.0 < 5 {
            return None;
        }
        records.push(record);
    }
    (rest.len() < 4 && rest.iter().all(|byte| *byte == 0)).then_some(records)
}

/// Returns the bytes of the dictionary of the block that begins with `bytes`.
///
/// ```text
/// length / 4 - 1 | flags | packed length? | length of the content? | filters: id, length of its properties, properties
/// ```
fn dictionary(bytes: &[u8]) -> Option<u64> {
    let flags = *bytes.get(1)?;
    let mut rest = bytes.get(2..(usize::from(bytes[0]) + 1) * 4)?;
    for _ in 0..(flags >> 6 & 1) + (flags >> 7) {
        number(&mut rest)?;
    }
    loop {
        let (filter, length) = (number(&mut rest)?, number(&mut rest)?);
        let (properties, next) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        if filter == LZMA2 {
            let bits = *properties.first()?;
            return (bits < 40).then(|| u64::from(2 | bits & 1) << (bits / 2 + 11));
        }
        rest = next;
    }
}

/// Takes a number of 7 bits a byte, the lowest first, from the beginning of `bytes`.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..9 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << (7 * place);
        if first & 0x80 == 0 {
            // The shortest form only.
            return (*first != 0 || place == 0).then_some(number);
        }
    }
    None
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn stream_header(check: u8) -> Vec<u8> {
    [MAGIC, &[0, check], &crc32(&[0, check]).to_le_bytes()].concat()
}

/// Returns what follows the only block of a stream: its index and footer.
fn stream_end(check: u8, unpadded: u64, content: u64) -> Vec<u8> {
    let mut end = vec![0, 1];
    put_number(&mut end, unpadded);
    put_number(&mut end, content);
    end.resize(end.len().next_multiple_of(4), 0);
    end.extend(crc32(&end).to_le_bytes());
    let mut flags = (end.len() as u32 / 4 - 1).to_le_bytes().to_vec();
    flags.extend([0, check]);
    end.extend(crc32(&flags).to_le_bytes());
    end.extend(flags);
    end.extend(FOOTER_MAGIC);
    end
}

struct Xz {
    dictionary: u64,
    /// Decoders that wait for the beginning of a stream.
    idle: Mutex<Vec<Decoder>>,
}

impl Codec for Xz {
    /// A dictionary is only used as far as there is content.
    fn memory(&self, length: u64) -> u64 {
        self.dictionary.min(length)
    }

    /// Unpacks a block as the only one of a stream, so that the decoder checks it against all that is known of it.
    fn unpack(&self, packed: &[u8], mark: u8, out: &mut [u8]) -> Decoded<()> {
        let (check, padding) = (mark & 15, u64::from(mark >> 4));
        let end = stream_end(check, packed.len() as u64 - padding, out.len() as u64);
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = idle().pop();
        let mut decoder = waiting.map_or_else(endless_decoder, Ok).map_err(|_| Fault::Memory)?;
        let mut made = 0;
        // When the last byte of the footer was taken without a fault, all of the stream was as it should be.
        for mut input in [&stream_header(check), packed, &end] {
            while !input.is_empty() {
                let step = step(&mut decoder, input, &mut out[made..])?;
                if step.used == 0 && step.made == 0 {
                    return Err(Fault::Damaged("the block holds more than the index says"));
                }
                (made, input) = (made + step.made, &input[step.used..]);
            }
        }
        if made != out.len() {
            return Err(Fault::Damaged("the block holds less than the index says"));
        }
        let mut idle = idle();
        if (idle.len() as u64 + 1).saturating_mul(self.dictionary) <= KEPT {
            idle.push(decoder);
        }
        Ok(())
    }
}
