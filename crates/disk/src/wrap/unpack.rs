//! Unpacking a compressed file from its beginning to its end, in bounded memory.
//!
//! ```text
//! file -> Input -> Container (members of gzip, xz, zstd, bzip2 or zip) -> limits -> content
//! ```

use std::io;
use std::sync::Arc;

use super::bzip2::Bzip2;
use super::container::{CUT_HINT, Container, Fault, Padding, not_nested};
use super::gzip::Gzip;
use super::input::Input;
use super::xz::Xz;
use super::zip;
use super::zstd::Zstd;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Format;
use crate::source::Source;

/// The content is looked at this far before any of it is given away.
const HEAD: usize = 4096;
/// The ratio counts from this many bytes of content on.
const RATIO_FROM: u64 = 1 << 30;

/// How much may come out of a compressed file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes of content.
    pub output: u64,
    /// Bytes of content for each byte of the file, once more than 1 GiB came out.
    pub ratio: u64,
}

/// 64 TiB, which is the largest disk of any format, and more than zeros give in gzip (1030), xz (7000) or zstd (32768).
impl Default for UnpackLimits {
    fn default() -> Self {
        Self { output: 64 << 40, ratio: 40_000 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first member.
    New,
    Inside,
    Between,
    Ended,
    Failed,
}

/// The content of a compressed file, in its order.
///
/// Checksums and lengths are verified on the way, so that the end is reported only if all was right.
pub struct Unpacker {
    format: Format,
    container: Box<dyn Container>,
    input: Input,
    limits: UnpackLimits,
    state: State,
    /// Bytes that came out of the container.
    made: u64,
    head: Vec<u8>,
    /// Bytes of the head that were given away.
    given: usize,
}

/// Unpacks `source`, which is in `format`: gzip, xz, zstd, bzip2, or a zip archive of exactly one file.
///
/// # Errors
/// Refused if the content is compressed once more, or if a zip archive holds anything but one regular file.
pub fn unpack(source: Arc<dyn Source>, format: Format, limits: UnpackLimits) -> Result<Unpacker> {
    let whole = 0..source.len();
    let (container, range): (Box<dyn Container>, _) = match format {
        Format::Gzip => (Box::new(Gzip::new()), whole),
        Format::Xz => (Box::<Xz>::default(), whole),
        Format::Zstd => (Box::new(Zstd::new()?), whole),
        Format::Bzip2 => (Box::new(Bzip2::new()), whole),
        Format::Zip => {
            let member = zip::member(&*source)?;
            let range = member.data.clone();
            (zip::container(member), range)
        }
        _ => return Err(Error::unsupported(format!("a file in format {format} is not compressed as a whole"))),
    };
    let input = Input::new(source, range);
    let mut unpacker =
        Unpacker { format, container, input, limits, state: State::New, made: 0, head: vec![0; HEAD], given: 0 };
    let mut head = std::mem::take(&mut unpacker.head);
    let length = unpacker.fill_inside(&mut head)?;
    head.truncate(length);
    not_nested(&head, format)?;
    unpacker.head = head;
    Ok(unpacker)
}

impl Unpacker {
    /// Returns how many bytes of the file were needed so far.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.input.position()
    }

    /// Fills `buf` with the next bytes of the content; returns how many these are, fewer than asked only at the end.
    pub fn fill(&mut self, buf: &mut [u8]) -> Result<usize> {
        let head = &self.head[self.given..];
        let known = head.len().min(buf.len());
        buf[..known].copy_from_slice(&head[..known]);
        self.given += known;
        Ok(known + self.fill_inside(&mut buf[known..])?)
    }

    fn fill_inside(&mut self, buf: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buf.len() && self.state != State::Ended {
            filled += self.step(&mut buf[filled..]).inspect_err(|_| self.state = State::Failed)?;
        }
        Ok(filled)
    }

    /// Goes on by one call of the decoder, or from one member to the next.
    fn step(&mut self, out: &mut [u8]) -> Result<usize> {
        match self.state {
            State::New | State::Between => return self.next_member().map(|()| 0),
            State::Inside => {}
            State::Ended => return Ok(0),
            State::Failed => return Err(Error::corrupt("the file could not be unpacked further")),
        }
        self.input.at_least(1)?;
        let input = self.input.bytes();
        let step = self.container.decode(input, out).map_err(|fault| self.failure(fault))?;
        if step.used == 0 && step.made == 0 && !step.ended {
            let fault = Fault::Damaged("the decoder does not go on");
            return Err(if input.is_empty() { self.cut() } else { self.failure(fault) });
        }
        self.input.consume(step.used);
        self.made += step.made as u64;
        self.check_limits()?;
        if step.ended {
            self.container.end(&mut self.input)?;
            self.state = State::Between;
        }
        Ok(step.made)
    }

    /// Begins the next member, or finds that there is none.
    fn next_member(&mut self) -> Result<()> {
        let first = self.state == State::New;
        if !first {
            let kind = self.container.padding();
            let padding = if kind == Padding::Nothing { 0 } else { self.input.skip_zeros()? };
            let odd = kind == Padding::FourZeros && !padding.is_multiple_of(4);
            if self.input.is_at_end() && !odd {
                self.state = State::Ended;
                return self.container.complete(self.made);
            }
            if odd || kind == Padding::Zeros && padding > 0 {
                return Err(self.junk());
            }
        }
        let bytes = self.input.at_least(6)?;
        if !self.container.starts(bytes) {
            // A few bytes may be the beginning of a member.
            let cut = bytes.len() < 6;
            return Err(if first {
                self.foreign()
            } else if cut {
                self.cut()
            } else {
                self.junk()
            });
        }
        self.container.begin(&mut self.input)?;
        self.state = State::Inside;
        Ok(())
    }

    fn check_limits(&self) -> Result<()> {
        let UnpackLimits { output, ratio } = self.limits;
        let too_large = |what: String| Err(Error::new(ErrorKind::TooLarge, what).with_hint(BOMB_HINT));
        if self.made > output {
            return too_large(format!("more than {output} bytes come out of the {} file", self.format));
        }
        if self.made > RATIO_FROM && self.made / ratio.max(1) > self.position() {
            let (made, position) = (self.made, self.position());
            return too_large(format!(
                "{made} bytes came out of the first {position} bytes of the {} file",
                self.format
            ));
        }
        Ok(())
    }

    fn failure(&self, fault: Fault) -> Error {
        let (format, position) = (self.format, self.position());
        match fault {
            Fault::Damaged(how) => {
                Error::corrupt(format!("the {format} data are damaged not far from byte {position}: {how}"))
            }
            Fault::Memory => Error::new(
                ErrorKind::TooLarge,
                format!("unpacking the {format} data at byte {position} needs more memory than is given for it"),
            )
            .with_hint("compress it with a smaller window or dictionary, for example: xz -9, zstd -19"),
        }
    }

    fn cut(&self) -> Error {
        Error::corrupt(format!("the {} data go on where the file ends, at byte {}", self.format, self.position()))
            .with_hint(CUT_HINT)
    }

    fn junk(&self) -> Error {
        let position = self.position();
        Error::refused(format!("what follows the {} data before byte {position} belongs to nothing", self.format))
            .with_hint("unpack the file where it came from, and compress it again")
    }

    fn foreign(&self) -> Error {
        Error::new(ErrorKind::WrongFormat, format!("the file does not begin as {} files do", self.format))
    }
}

const BOMB_HINT: &str = "unpack the file where it came from, if it is what it should be";

impl io::Read for Unpacker {
    /// Like [`Unpacker::fill`]; the error carries one of this crate.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.fill(buf).map_err(io::Error::other)
    }
}
