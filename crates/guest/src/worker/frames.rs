//! What parent and worker say to each other: frames of a head of 13 bytes, and a body where the tag has one.
//!
//! ```text
//!   worker: Ready (number: 1 with Landlock) | Unavailable + why
//!   parent: Request (number: bytes of the disk) + request
//!   worker: Read (number: offset, length: how much)      parent: Bytes + as many | Failed + fault      any number of times
//!   worker: Answer + outcome
//! ```
//! Both ends are the same build, so that there are no versions.

use std::io::{self, Read, Write};

use disk::error::{Error, ErrorKind};
use postcard::de_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fields::{le32, le64};

/// Most bytes of one read; longer ones are several.
pub(super) const READ_MAX: usize = 1 << 20;
/// Longest body: a plan has whole files in it.
pub(super) const BODY_MAX: usize = 64 << 20;
/// Most bytes of an encoded value outside of its texts and contents: each may become a structure of some hundred bytes, and
/// so the memory that a value takes is bounded.
const STRUCTURE_MAX: usize = 4 << 20;
pub(super) const HEAD: usize = 13;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Ready = 1,
    Unavailable,
    Request,
    Read,
    Bytes,
    Failed,
    Answer,
}

/// The beginning of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) tag: Tag,
    pub(super) number: u64,
    /// Length of the body; how much is asked for in a [`Tag::Read`], which has none.
    pub(super) length: u32,
}

impl Head {
    pub(super) fn new(tag: Tag, number: u64, length: usize) -> io::Result<Self> {
        let length = u32::try_from(length).map_err(|_| broken("a frame is too long"))?;
        Ok(Self { tag, number, length })
    }

    pub(super) fn to_bytes(self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[0] = self.tag as u8;
        bytes[1..9].copy_from_slice(&self.number.to_le_bytes());
        bytes[9..].copy_from_slice(&self.length.to_le_bytes());
        bytes
    }

    pub(super) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut bytes = [0; HEAD];
        from.read_exact(&mut bytes)?;
        let all = [Tag::Ready, Tag::Unavailable, Tag::Request, Tag::Read, Tag::Bytes, Tag::Failed, Tag::Answer];
        let tag = all.into_iter().find(|known| *known as u8 == bytes[0]).ok_or_else(|| broken("a frame is unknown"))?;
        Ok(Self { tag, number: le64(&bytes, 1), length: le32(&bytes, 9) })
    }

    /// Reads the body; one that is too long is not read.
    pub(super) fn body(self, from: &mut impl Read) -> io::Result<Vec<u8>> {
        let length = self.length as usize;
        if length > BODY_MAX {
            return Err(broken("a frame is too long"));
        }
        let mut body = Vec::new();
        // Memory is taken as the bytes come.
        if from.take(length as u64).read_to_end(&mut body)? < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(body)
    }
}

/// Sends a frame with its body.
pub(super) fn send(to: &mut impl Write, tag: Tag, number: u64, body: &[u8]) -> io::Result<()> {
    if body.len() > BODY_MAX {
        return Err(broken("a frame is too long"));
    }
    to.write_all(&[&Head::new(tag, number, body.len())?.to_bytes()[..], body].concat())
}

/// The other end said what it may not.
pub(super) fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// How an examination ended.
#[derive(Serialize, Deserialize)]
pub(super) enum Outcome<T> {
    Done(T),
    Failed(Fault),
    /// A fault of Molde: what was panicked about, and where.
    Panicked(String),
}

/// An error as the other end makes it again.
#[derive(Serialize, Deserialize)]
pub(super) struct Fault {
    kind: u8,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

const KINDS: [ErrorKind; 6] = [
    ErrorKind::WrongFormat,
    ErrorKind::Corrupt,
    ErrorKind::Refused,
    ErrorKind::Unsupported,
    ErrorKind::TooLarge,
    ErrorKind::Io,
];

impl From<&Error> for Fault {
    fn from(error: &Error) -> Self {
        let kind = KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or(KINDS.len() - 1);
        Self { kind: kind as u8, message: error.to_string(), hint: error.hint().map(str::to_owned) }
    }
}

impl Fault {
    pub(super) fn into_error(self) -> Error {
        let kind = KINDS.get(usize::from(self.kind)).copied().unwrap_or(ErrorKind::Io);
        let error = Error::new(kind, self.message);
        match self.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// Encodes what the other end gets with [`decode`].
pub(super) fn encode(value: &impl Serialize) -> io::Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(io::Error::other)
}

/// Decodes what the other end made with [`encode`], all of `bytes`.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    let mut decoder = postcard::Deserializer::from_flavor(Bounded { rest: bytes, structure: STRUCTURE_MAX });
    let value = T::deserialize(&mut decoder).map_err(io::Error::other)?;
    decoder.finalize().map_err(io::Error::other)?;
    Ok(value)
}

/// Bytes that are decoded; those outside of texts and contents are counted.
struct Bounded<'b> {
    rest: &'b [u8],
    structure: usize,
}

impl<'b> Flavor<'b> for Bounded<'b> {
    type Remainder = ();
    type Source = &'b [u8];

    fn pop(&mut self) -> postcard::Result<u8> {
        self.structure = self.structure.checked_sub(1).ok_or(postcard::Error::DeserializeBadEncoding)?;
        let (first, rest) = self.rest.split_first().ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        self.rest = rest;
        Ok(*first)
    }

    fn try_take_n(&mut self, count: usize) -> postcard::Result<&'b [u8]> {
        let taken = self.rest.split_at_checked(count).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        self.rest = taken.1;
        Ok(taken.0)
    }

    fn finalize(self) -> postcard::Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(postcard::Error::DeserializeBadEncoding) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::KINDS as FINDINGS;
    use crate::check::{Action, Evidence, Finding};

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut line = Vec::new();
        send(&mut line, Tag::Answer, 1 << 40, b"body").unwrap();
        let mut from = line.as_slice();
        let head = Head::read(&mut from).unwrap();
        assert_eq!(head, Head { tag: Tag::Answer, number: 1 << 40, length: 4 });
        assert_eq!(head.body(&mut from).unwrap(), b"body");
        assert!(head.body(&mut &b"bod"[..]).is_err());
        assert!(Head { length: u32::MAX, ..head }.body(&mut io::repeat(0)).is_err());
        line[0] = 99;
        assert!(Head::read(&mut line.as_slice()).is_err());
    }

    #[test]
    fn findings_go_by_their_ids_and_unknown_ones_are_refused() {
        let evidence = vec![Evidence { path: "/etc/fstab".into(), line: Some(3), value: None }];
        let finding = Finding { kind: FINDINGS[1], action: Action::Automatic, text: "it is so".into(), evidence };
        let bytes = encode(&finding).unwrap();
        assert_eq!(decode::<Finding>(&bytes).unwrap(), finding);
        assert!(decode::<Finding>(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode::<Finding>(&[&bytes[..], &[0]].concat()).is_err());
        let unknown: Vec<u8> = bytes.iter().map(|byte| if *byte == b'-' { b'+' } else { *byte }).collect();
        assert!(decode::<Finding>(&unknown).is_err());
    }

    #[test]
    fn a_value_takes_no_more_memory_than_it_may() {
        let texts = vec![String::new(); STRUCTURE_MAX - 8];
        assert_eq!(decode::<Vec<String>>(&encode(&texts).unwrap()).unwrap().len(), texts.len());
        assert!(decode::<Vec<String>>(&encode(&vec![""; STRUCTURE_MAX]).unwrap()).is_err());
        let long = "a".repeat(2 * STRUCTURE_MAX);
        assert_eq!(decode::<String>(&encode(&long).unwrap()).unwrap(), long);
    }
}
