//! zstd files (RFC 8878): frames of data, and frames to be skipped.

use zstd::zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd::zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, ResetDirective, is_error_kind};

use super::container::{CUT_HINT, Container, Decoded, Fault, Step};
use super::input::Input;
use crate::error::{Error, Result};
use crate::fields::{le32, le64};

pub(super) const MAGIC: u32 = 0xfd2f_b528;
/// The marks of frames to be skipped: the last four bits are free.
pub(super) const SKIPPABLE: u32 = 0x184d_2a50;
/// Frames may look back this many bytes, as a power of two: 128 MiB, the most that `zstd` itself unpacks unasked.
const WINDOW_LOG: u32 = 27;

/// Our own files begin with a frame of nothing, and a frame to be skipped that states the length of the whole content in
/// 8 bytes. So a file that was cut between two frames is found out.
pub(super) const NOTHING: &[u8] = b"\x28\xb5\x2f\xfd\x20\0\x01\0\0";
pub(super) const LENGTH_NOTE: &[u8] = b"\x5d\x2a\x4d\x18\x0c\0\0\0Mo\x08\0";
pub(super) const LENGTH_NOTE_LENGTH: usize = 20;

/// Returns the length of the whole content, if `frame` is one that states it.
pub(super) fn noted_length(frame: &[u8]) -> Option<u64> {
    frame.strip_prefix(LENGTH_NOTE).filter(|rest| rest.len() >= 8).map(|rest| le64(rest, 0))
}

/// Returns the error for a file that states `total` bytes of content and has `made`.
pub(super) fn frames_missing(total: u64, made: u64) -> Error {
    Error::corrupt(format!("the zstd file states that it holds {total} bytes, and it holds {made}: frames are missing"))
        .with_hint(CUT_HINT)
}

pub(super) struct Zstd {
    decoder: DCtx<'static>,
    /// Frames that were begun.
    frames: u64,
    /// Whether the first one is [`NOTHING`].
    nothing_first: bool,
    /// The length of the whole content, if the second one states it.
    total: Option<u64>,
}

impl Zstd {
    pub(super) fn new() -> Result<Self> {
        let mut decoder = DCtx::create();
        decoder
            .set_parameter(DParameter::WindowLogMax(WINDOW_LOG))
            .map_err(|_| Error::unsupported("this zstd library has no limit for the window"))?;
        Ok(Self { decoder, frames: 0, nothing_first: false, total: None })
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

    fn begin(&mut self, input: &mut Input) -> Result<()> {
        let bytes = input.at_least(LENGTH_NOTE_LENGTH)?;
        match self.frames {
            0 => self.nothing_first = bytes.starts_with(NOTHING),
            1 if self.nothing_first => self.total = noted_length(bytes),
            _ => {}
        }
        self.frames += 1;
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

    fn complete(&self, made: u64) -> Result<()> {
        match self.total {
            Some(total) if total != made => Err(frames_missing(total, made)),
            None if self.nothing_first && self.frames == 1 => {
                Err(Error::corrupt("the zstd file holds nothing").with_hint(CUT_HINT))
            }
            _ => Ok(()),
        }
    }
}
