//! What a kind of compressed file must tell, so that it can be unpacked from its beginning to its end.

use super::input::Input;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::probe::wrapper_of;

/// What to do about a file that ends too early.
pub(super) const CUT_HINT: &str = "the file was cut or is damaged: copy it again and compare checksums";

/// What one call of a decoder did.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    /// Bytes that were taken from the file.
    pub(super) used: usize,
    /// Bytes that came out.
    pub(super) made: usize,
    /// Whether the compressed data of the member end here.
    pub(super) ended: bool,
}

/// Why a decoder cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The data break their format, in this way.
    Damaged(&'static str),
    /// The data need more memory than is given.
    Memory,
}

/// Result of a decoder.
pub(super) type Decoded<T> = std::result::Result<T, Fault>;

/// What may follow the last member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Padding {
    Nothing,
    /// Zeros up to the end of the file, which the tools of the format ignore too.
    Zeros,
    /// Zeros in multiples of four, also before another member.
    FourZeros,
}

/// A kind of compressed file, which consists of members, one after the other.
pub(super) trait Container: Send {
    /// Returns what may follow the last member.
    fn padding(&self) -> Padding {
        Padding::Nothing
    }

    /// Returns whether a member begins with these bytes: six or more, or the last ones of the file.
    fn starts(&self, bytes: &[u8]) -> bool;

    /// Reads what stands before the compressed data of a member.
    fn begin(&mut self, input: &mut Input) -> Result<()>;

    /// Unpacks from `input`, the next bytes of the file, to the beginning of `out`. No input means that the file has ended.
    fn decode(&mut self, input: &[u8], out: &mut [u8]) -> Decoded<Step>;

    /// Reads and checks what stands after the compressed data of a member.
    fn end(&mut self, input: &mut Input) -> Result<()> {
        let _ = input;
        Ok(())
    }

    /// Checks at the end of the file that all of the content came out, which is `made` bytes.
    fn complete(&self, made: u64) -> Result<()> {
        let _ = made;
        Ok(())
    }
}

/// Refuses a content that begins as a compressed file does.
pub(super) fn not_nested(head: &[u8], format: Format) -> Result<()> {
    match wrapper_of(head) {
        None => Ok(()),
        Some(inner) => Err(Error::refused(format!("the {format} file holds a {inner} file: it is compressed twice"))
            .with_hint("unpack it once where it came from")),
    }
}
