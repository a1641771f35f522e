//! The header of LUKS version 2: two copies, each of 4096 bytes, big-endian, and a text in JSON after them.

use super::hash::Hash;
use super::metadata::{HEAD, Metadata};
use crate::error::{Error, Result};
use crate::fields::{be16, be64, read_bytes};
use crate::source::Source;

const MAGIC: &[u8] = b"LUKS\xba\xbe";
const SECOND_MAGIC: &[u8] = b"SKUL\xba\xbe";
/// A copy has one of these lengths; the second one lies right after the first.
const LENGTHS: std::ops::RangeInclusive<u64> = 16 << 10..=4 << 20;
const CHECKSUM: std::ops::Range<usize> = 448..512;

/// A copy of the header whose checksum is right.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: Metadata,
    /// Bytes of both copies.
    pub(super) length: u64,
    /// What people should know.
    pub(super) notes: Vec<String>,
}

/// A copy as it lies in the file.
struct HeaderCopy {
    sequence: u64,
    length: u64,
    json: Vec<u8>,
}

impl Header {
    /// Reads both copies and takes the later one; one damaged copy is passed over with a note.
    pub(super) fn read(file: &dyn Source) -> Result<Self> {
        let first = HeaderCopy::read(file, 0, MAGIC);
        let second = match &first {
            Ok(copy) => HeaderCopy::read(file, copy.length, SECOND_MAGIC),
            // The length of the first copy may be what is damaged.
            Err(_) => (14..=22)
                .map(|bits| HeaderCopy::read(file, 1 << bits, SECOND_MAGIC))
                .find(Result::is_ok)
                .unwrap_or_else(|| Err(Error::corrupt("the file has no second copy of the LUKS header"))),
        };
        let mut notes = Vec::new();
        let mut damaged = |which: &str, error: &Error| {
            notes.push(format!("the {which} copy of the LUKS header was passed over: {error}"));
        };
        let copy = match (first, second) {
            (Ok(first), Ok(second)) if second.sequence > first.sequence => second,
            (Ok(first), Ok(_)) => first,
            (Ok(first), Err(error)) => {
                damaged("second", &error);
                first
            }
            (Err(error), Ok(second)) => {
                damaged("first", &error);
                second
            }
            (Err(error), Err(_)) => return Err(error),
        };
        Ok(Self { metadata: Metadata::parse(&copy.json)?, length: 2 * copy.length, notes })
    }
}

impl HeaderCopy {
    fn read(file: &dyn Source, offset: u64, magic: &[u8]) -> Result<Self> {
        let mut binary = read_bytes(file, offset, HEAD as usize, "a copy of the LUKS header")?;
        if !binary.starts_with(magic) || be16(&binary, 6) != 2 {
            return Err(Error::corrupt(format!("no copy of a LUKS version 2 header at byte {offset}")));
        }
        let length = be64(&binary, 8);
        if !length.is_power_of_two() || !LENGTHS.contains(&length) {
            return Err(Error::corrupt(format!("the LUKS header at byte {offset} says that it has {length} bytes")));
        }
        if be64(&binary, 256) != offset {
            let said = be64(&binary, 256);
            return Err(Error::corrupt(format!("the LUKS header at byte {offset} says that it lies at byte {said}")));
        }
        let hash = Hash::named(&String::from_utf8_lossy(until_zero(&binary[72..104])))?;
        let stored = binary[CHECKSUM].to_vec();
        binary[CHECKSUM].fill(0);
        let text = read_bytes(file, offset + HEAD, (length - HEAD) as usize, "the text of the LUKS header")?;
        // A fuzzer would hardly ever hit the right sum, and never see what lies behind it.
        if !cfg!(fuzzing) && hash.of(&[&binary, &text]) != stored[..hash.length()] {
            return Err(Error::corrupt(format!("the checksum of the LUKS header at byte {offset} is wrong"))
                .with_hint("the file was changed or is damaged: copy it again and compare checksums"));
        }
        let json = until_zero(&text).to_vec();
        if let Some(at) = text[json.len()..].iter().position(|byte| *byte != 0) {
            let at = offset + HEAD + (json.len() + at) as u64;
            return Err(Error::corrupt(format!("behind the text of the LUKS header, more follows at byte {at}")));
        }
        Ok(Self { sequence: be64(&binary, 16), length, json })
    }
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
