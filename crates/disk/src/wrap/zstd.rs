//! zstd files (RFC 8878): frames of data, and frames to be skipped.

use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, is_error_kind};

use super::container::{Container, Decoded, Fault, Step};
use super::input::Input;
use crate::error::{Error, Result};
use crate::fields::le32;

pub(super) const MAGIC: u32 = 0xfd2f_b528;
/// The marks of frames to be skipped: the last four bits are free.
pub(super) const SKIPPABLE: u32 = 0x184d_2a50;
/// Frames may look back this many bytes, as a power of two: 128 MiB, the most that `zstd` itself unpacks unasked.
const WINDOW_LOG: u32 = 27;

pub(super) struct Zstd {
    decoder: DCtx<'static>,
}

impl Zstd {
    pub(super) fn new() -> Result<Self> {
        let mut decoder = DCtx::create();
        decoder
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG))
            .map_err(|_| Error::unsupported("this zstd library has no limit for the window"))?;
        Ok(Self { decoder })
    }
}

/// Returns whether frames to be skipped begin with `magic`.
pub(super) fn is_skippable(magic: u32) -> bool {
    magic & !0xf == SKIPPABLE
}

impl Container for Zstd {
    fn starts(&self, bytes: &[u8]) -> bool {
        bytes.len() >= 4 && (le32(bytes, 0) == MAGIC || is_skippable(le32(bytes, 0)))
    }

    fn begin(&mut self, _input: &mut Input) -> Result<()> {
        // The state of a new decoder and of one after a frame need no reset, that after a failure is never used again.
        self.decoder
            .reset(ResetDirective::SessionOnly)
            .map(|_| ())
            .map_err(|_| Error::corrupt("the zstd decoder cannot begin another frame"))
    }

    fn decode(&mut self, input: &[u8], out: &mut [u8]) -> Decoded<Step> {
        let mut packed = InBuffer::around(input);
        let mut unpacked = OutBuffer::around(out);
        let left = self.decoder.decompress_stream(&mut unpacked, &mut packed).map_err(|code| {
            match is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge) {
                true => Fault::Memory,
                false => Fault::Damaged("a frame or its checksum is wrong"),
            }
        })?;
        Ok(Step { used: packed.pos(), made: unpacked.pos(), ended: left == 0 })
    }
}
