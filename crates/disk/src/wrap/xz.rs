//! xz files: streams of blocks, each stream with an index at its end.

use liblzma::stream::{Action, CONCATENATED, Error as XzError, Status, Stream};

use super::container::{Container, Decoded, Fault, Padding, Step};
use super::input::Input;
use crate::error::{Error, ErrorKind, Result};

pub(super) const MAGIC: &[u8] = b"\xfd7zXZ\0";
/// What the decoder of a file may take; it is mostly the dictionary, which is 64 MiB with `xz -9`.
const MEMORY: u64 = 192 << 20;

#[derive(Default)]
pub(super) struct Xz {
    decoder: Option<Stream>,
}

impl Container for Xz {
    fn padding(&self) -> Padding {
        Padding::FourZeros
    }

    fn starts(&self, bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    fn begin(&mut self, _input: &mut Input) -> Result<()> {
        self.decoder = Some(decoder(0)?);
        Ok(())
    }

    fn decode(&mut self, input: &[u8], out: &mut [u8]) -> Decoded<Step> {
        let Some(decoder) = &mut self.decoder else { return Err(Fault::Damaged("no stream has begun")) };
        step(decoder, input, out)
    }
}

/// Makes a decoder of one stream.
fn decoder(flags: u32) -> Result<Stream> {
    Stream::new_stream_decoder(MEMORY, flags)
        .map_err(|error| Error::new(ErrorKind::Io, format!("cannot make a decoder for xz: {error}")))
}

/// Makes a decoder of streams that follow one another. It never says that one has ended, and it keeps its memory.
pub(super) fn endless_decoder() -> Result<Stream> {
    decoder(CONCATENATED)
}

/// Unpacks from `input` to the beginning of `out`.
pub(super) fn step(decoder: &mut Stream, input: &[u8], out: &mut [u8]) -> Decoded<Step> {
    let (used, made) = (decoder.total_in(), decoder.total_out());
    let status = decoder.process(input, out, Action::Run).map_err(|error| match error {
        XzError::MemLimit | XzError::Mem => Fault::Memory,
        XzError::Options | XzError::UnsupportedCheck => Fault::Damaged("an unknown filter or option"),
        _ => Fault::Damaged("a block, its checksum or the index is wrong"),
    })?;
    let used = (decoder.total_in() - used) as usize;
    let made = (decoder.total_out() - made) as usize;
    Ok(Step { used, made, ended: status == Status::StreamEnd })
}
