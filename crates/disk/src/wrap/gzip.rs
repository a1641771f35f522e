//! gzip files (RFC 1952): members of deflate data, each with a length and a checksum.

use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::Crc;

use super::container::{CUT_HINT, Container, Decoded, Fault, Padding, Step};
use super::input::Input;
use crate::error::{Error, Result};
use crate::fields::{le16, le32, le64};

/// A member begins with this: the mark, and deflate as its method.
pub(super) const MAGIC: &[u8] = b"\x1f\x8b\x08";
/// The extra field in which our own files state the length of the whole content, in 8 bytes.
pub(super) const LENGTH_FIELD: &[u8] = b"Mo\x08\0";

/// The longest header: an extra field of 64 KiB, a name and a comment.
const MAX_HEADER: usize = 256 << 10;
const FIXED: usize = 10;
const TRAILER: usize = 8;

const HEADER_CRC: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

pub(super) struct Gzip {
    inflate: Inflate,
    first: bool,
    /// The length of the whole content, if the first member states it.
    total: Option<u64>,
}

impl Gzip {
    pub(super) fn new() -> Self {
        Self { inflate: Inflate::new(), first: true, total: None }
    }
}

impl Container for Gzip {
    fn padding(&self) -> Padding {
        Padding::Zeros
    }

    fn starts(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    fn begin(&mut self, input: &mut Input) -> Result<()> {
        let position = input.position();
        let bytes = input.at_least(MAX_HEADER)?;
        let header = Header::parse(bytes, position)?;
        if self.first {
            self.total = header.total;
        }
        self.first = false;
        self.inflate.reset();
        input.consume(header.length);
        Ok(())
    }

    fn decode(&mut self, input: &[u8], out: &mut [u8]) -> Decoded<Step> {
        self.inflate.decode(input, out)
    }

    fn end(&mut self, input: &mut Input) -> Result<()> {
        let position = input.position();
        let bytes = input.at_least(TRAILER)?;
        if bytes.len() < TRAILER {
            return Err(cut(position));
        }
        let (crc, length) = (le32(bytes, 0), le32(bytes, 4));
        if crc != self.inflate.crc.sum() || length != self.inflate.made as u32 {
            return Err(Error::corrupt(format!(
                "the gzip data before byte {position} do not have the checksum or length that stands there"
            )));
        }
        input.consume(TRAILER);
        Ok(())
    }

    fn complete(&self, made: u64) -> Result<()> {
        match self.total {
            Some(total) if total != made => Err(Error::corrupt(format!(
                "the gzip file states that it holds {total} bytes, and it holds {made}: members are missing"
            ))),
            _ => Ok(()),
        }
    }
}

struct Header {
    length: usize,
    total: Option<u64>,
}

impl Header {
    fn parse(bytes: &[u8], position: u64) -> Result<Self> {
        // The bytes go on to the end of the file, or they are more than a header may have.
        let missing = || match bytes.len() < MAX_HEADER {
            true => cut(position),
            false => Error::refused(format!("the gzip header at byte {position} is longer than {MAX_HEADER} bytes")),
        };
        if bytes.len() < FIXED {
            return Err(missing());
        }
        let flags = bytes[3];
        if flags & RESERVED != 0 {
            return Err(Error::unsupported(format!(
                "the gzip header at byte {position} has unknown flags {flags:#04x}"
            )));
        }
        let (mut at, mut total) = (FIXED, None);
        if flags & EXTRA != 0 {
            let length = bytes.get(at..at + 2).map(|field| usize::from(le16(field, 0))).ok_or_else(missing)?;
            let extra = bytes.get(at + 2..at + 2 + length).ok_or_else(missing)?;
            total = extra.strip_prefix(LENGTH_FIELD).filter(|rest| rest.len() >= 8).map(|rest| le64(rest, 0));
            at += 2 + length;
        }
        for text in [NAME, COMMENT] {
            if flags & text != 0 {
                let rest = bytes.get(at..).unwrap_or_default();
                at += rest.iter().position(|byte| *byte == 0).ok_or_else(missing)? + 1;
            }
        }
        if flags & HEADER_CRC != 0 {
            let crc = bytes.get(at..at + 2).map(|field| le16(field, 0)).ok_or_else(missing)?;
            if crc != libdeflater::crc32(&bytes[..at]) as u16 {
                return Err(Error::corrupt(format!("the gzip header at byte {position} has a wrong checksum")));
            }
            at += 2;
        }
        Ok(Self { length: at, total })
    }
}

fn cut(position: u64) -> Error {
    Error::corrupt(format!("the file ends inside the gzip header or trailer at byte {position}")).with_hint(CUT_HINT)
}

/// A stream of raw deflate data, and the checksum and length of what came out.
pub(super) struct Inflate {
    decoder: Decompress,
    pub(super) crc: Crc,
    pub(super) made: u64,
}

impl Inflate {
    pub(super) fn new() -> Self {
        Self { decoder: Decompress::new(false), crc: Crc::new(), made: 0 }
    }

    fn reset(&mut self) {
        self.decoder.reset(false);
        (self.crc, self.made) = (Crc::new(), 0);
    }

    pub(super) fn decode(&mut self, input: &[u8], out: &mut [u8]) -> Decoded<Step> {
        let (used, made) = (self.decoder.total_in(), self.decoder.total_out());
        let status = self
            .decoder
            .decompress(input, out, FlushDecompress::None)
            .map_err(|_| Fault::Damaged("no deflate data"))?;
        let used = (self.decoder.total_in() - used) as usize;
        let made = (self.decoder.total_out() - made) as usize;
        self.crc.update(&out[..made]);
        self.made += made as u64;
        Ok(Step { used, made, ended: status == Status::StreamEnd })
    }
}
