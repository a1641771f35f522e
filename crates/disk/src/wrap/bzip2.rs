//! bzip2 files: streams of blocks, each with a checksum.

use bzip2::{Decompress, Status};

use super::container::{Container, Decoded, Fault, Padding, Step};
use super::input::Input;
use crate::error::Result;

/// The mark of a first block, and what stands in its place in a stream that has none.
const BLOCK: &[u8] = b"1AY&SY";
const END: &[u8] = b"\x17\x72\x45\x38\x50\x90";

pub(super) struct Bzip2 {
    decoder: Decompress,
}

impl Bzip2 {
    pub(super) fn new() -> Self {
        Self { decoder: Decompress::new(false) }
    }
}

impl Container for Bzip2 {
    fn padding(&self) -> Padding {
        Padding::Zeros
    }

    fn starts(&self, bytes: &[u8]) -> bool {
        let marked = |rest: &[u8]| [BLOCK, END].iter().any(|mark| mark.iter().zip(rest).all(|(a, b)| a == b));
        bytes.strip_prefix(b"BZh").is_some_and(|rest| rest.first().is_none_or(|level| (b'1'..=b'9').contains(level)))
            && marked(bytes.get(4..).unwrap_or_default())
    }

    fn begin(&mut self, _input: &mut Input) -> Result<()> {
        self.decoder = Decompress::new(false);
        Ok(())
    }

    fn decode(&mut self, input: &[u8], out: &mut [u8]) -> Decoded<Step> {
        let (used, made) = (self.decoder.total_in(), self.decoder.total_out());
        let status = self
            .decoder
            .decompress(input, out)
            .map_err(|_| Fault::Damaged("a block has a wrong checksum or breaks the format"))?;
        if status == Status::MemNeeded {
            return Err(Fault::Memory);
        }
        let used = (self.decoder.total_in() - used) as usize;
        let made = (self.decoder.total_out() - made) as usize;
        Ok(Step { used, made, ended: status == Status::StreamEnd })
    }
}
