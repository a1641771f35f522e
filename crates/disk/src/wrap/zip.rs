//! zip archives of exactly one regular file, after the specification APPNOTE.TXT of PKWARE.
//!
//! ```text
//! local header | name | extra | data | descriptor? | central directory: one entry | zip64 end? | end | comment
//! ```
//! All of that must follow without gaps, so that every reader finds the same file.

use std::ops::Range;

use super::container::{CUT_HINT, Container, Decoded, Step};
use super::gzip::Inflate;
use super::input::Input;
use crate::error::{Error, ErrorKind, Result};
use crate::fields::{check_inside, le16, le32, le64, read_bytes};
use crate::source::Source;

const LOCAL: u32 = 0x0403_4b50;
const ENTRY: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;

const LOCAL_LENGTH: u64 = 30;
const ENTRY_LENGTH: usize = 46;
const END_LENGTH: u64 = 22;
const END64_LENGTH: u64 = 56;
const LOCATOR_LENGTH: u64 = 20;

/// A central directory of one entry is far smaller; of a larger one the names are not listed.
const MAX_DIRECTORY: u64 = 1 << 20;
/// As many names are listed of an archive that is refused.
const LISTED: usize = 8;

const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
const DESCRIPTOR: u16 = 1 << 3;

/// How the data of a member are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Stored,
    Deflated,
}

/// The one file in an archive.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) method: Method,
    /// Its data in the archive.
    pub(super) data: Range<u64>,
    /// Its length when unpacked.
    size: u64,
    crc: u32,
}

/// Finds the one file in the archive `source`.
pub(super) fn member(source: &dyn Source) -> Result<Member> {
    let directory = directory(source)?;
    let length = directory.end - directory.start;
    if length > MAX_DIRECTORY {
        return Err(Error::refused("the zip archive holds many files").with_hint(ONE_HINT));
    }
    let bytes = read_bytes(source, directory.start, length as usize, "the directory of the zip archive")?;
    let mut entries = Vec::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (entry, length) = Entry::parse(rest)?;
        entries.push(entry);
        rest = &rest[length..];
    }
    let [entry] = entries.as_slice() else {
        let names: Vec<_> = entries.iter().take(LISTED).map(|entry| format!("{:?}", entry.name)).collect();
        let more = if entries.len() > LISTED { ", ..." } else { "" };
        return Err(Error::refused(format!(
            "the zip archive holds {} files instead of one: {}{more}",
            entries.len(),
            names.join(", ")
        ))
        .with_hint(ONE_HINT));
    };
    entry.check()?;
    entry.locate(source, directory.start)
}

const ONE_HINT: &str = "unpack the archive, and give the disk in it alone";

/// Returns the container of the member's data.
pub(super) fn container(member: Member) -> Box<dyn Container> {
    Box::new(Zip { member, inflate: Inflate::new() })
}

/// Finds the central directory by the record at the end of the archive.
fn directory(source: &dyn Source) -> Result<Range<u64>> {
    let len = source.len();
    let start = len.saturating_sub(END_LENGTH + u64::from(u16::MAX));
    let tail = read_bytes(source, start, (len - start) as usize, "the end of the zip archive")?;
    // The record is followed by a comment of a stated length. A comment that looks like the record is a trap.
    let fits = |at: &usize| {
        let record = &tail[*at..];
        le32(record, 0) == END && record.len() as u64 == END_LENGTH + u64::from(le16(record, 20))
    };
    let found: Vec<_> = (0..(tail.len() + 1).saturating_sub(END_LENGTH as usize)).filter(fits).collect();
    let [at] = *found.as_slice() else {
        return Err(match found.is_empty() {
            true => Error::corrupt("the zip archive has no directory at its end").with_hint(CUT_HINT),
            false => Error::refused("the zip archive has two ends, and readers would see different files"),
        });
    };
    let (end, record) = (start + at as u64, &tail[at..]);
    let (disks, counts) = ([le16(record, 4), le16(record, 6)], [le16(record, 8), le16(record, 10)]);
    if disks.iter().any(|disk| ![0, u16::MAX].contains(disk)) || counts[0] != counts[1] {
        return Err(Error::unsupported("the zip archive is split into several files").with_hint(ONE_HINT));
    }
    let (length, offset) = (le32(record, 12), le32(record, 16));
    if counts[0] == u16::MAX || length == u32::MAX || offset == u32::MAX {
        return directory64(source, end);
    }
    joined(offset.into(), length.into(), end)
}

/// Finds the central directory of a zip64 archive whose end record is at byte `end`.
fn directory64(source: &dyn Source, end: u64) -> Result<Range<u64>> {
    let missing = || Error::corrupt(format!("the zip archive lacks its zip64 record before byte {end}"));
    let locator_at = end.checked_sub(LOCATOR_LENGTH).ok_or_else(missing)?;
    let locator = read_bytes(source, locator_at, LOCATOR_LENGTH as usize, "the locator of the zip archive")?;
    let at = le64(&locator, 8);
    if le32(&locator, 0) != LOCATOR64 || at.checked_add(END64_LENGTH) != Some(locator_at) {
        return Err(missing());
    }
    let record = read_bytes(source, at, END64_LENGTH as usize, "the zip64 record")?;
    if le32(&record, 0) != END64 || le64(&record, 4) != END64_LENGTH - 12 || le64(&record, 24) != le64(&record, 32) {
        return Err(missing());
    }
    joined(le64(&record, 48), le64(&record, 40), at)
}

/// Returns the directory, which must end where the next record begins.
fn joined(offset: u64, length: u64, next: u64) -> Result<Range<u64>> {
    if offset.checked_add(length) != Some(next) {
        return Err(Error::corrupt(format!(
            "the directory of the zip archive, {length} bytes at byte {offset}, does not end at byte {next}"
        )));
    }
    Ok(offset..next)
}

struct Entry {
    name: String,
    raw_name: Vec<u8>,
    /// The upper byte is the system that made it.
    version: u16,
    flags: u16,
    method: u16,
    crc: u32,
    length: u64,
    size: u64,
    attributes: u32,
    offset: u64,
}

impl Entry {
    /// Reads the entry at the beginning of `bytes`; returns how many bytes it takes, too.
    fn parse(bytes: &[u8]) -> Result<(Self, usize)> {
        let damaged = || Error::corrupt("an entry in the directory of the zip archive is damaged");
        if bytes.len() < ENTRY_LENGTH || le32(bytes, 0) != ENTRY {
            return Err(damaged());
        }
        let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(le16(bytes, at)));
        let total = ENTRY_LENGTH + name + extra + comment;
        let texts = bytes.get(ENTRY_LENGTH..total).ok_or_else(damaged)?;
        let (raw_name, extra) = (&texts[..name], &texts[name..name + extra]);
        let mut entry = Self {
            name: String::from_utf8_lossy(raw_name).into_owned(),
            raw_name: raw_name.to_vec(),
            version: le16(bytes, 4),
            flags: le16(bytes, 8),
            method: le16(bytes, 10),
            crc: le32(bytes, 16),
            length: le32(bytes, 20).into(),
            size: le32(bytes, 24).into(),
            attributes: le32(bytes, 38),
            offset: le32(bytes, 42).into(),
        };
        let mut wide = [&mut entry.size, &mut entry.length, &mut entry.offset]
            .into_iter()
            .filter(|value| **value == u64::from(u32::MAX))
            .collect::<Vec<_>>();
        if !wide.is_empty() {
            let field = zip64_field(extra).ok_or_else(damaged)?;
            for (number, value) in wide.iter_mut().enumerate() {
                **value = field.get(number * 8..number * 8 + 8).map(|bytes| le64(bytes, 0)).ok_or_else(damaged)?;
            }
        }
        Ok((entry, total))
    }

    /// Refuses everything but one regular file that has no folder.
    fn check(&self) -> Result<()> {
        let name = &self.name;
        let bare = !name.is_empty() && !name.contains(['/', '\\', '\0', ':']) && name != "." && name != "..";
        if !bare {
            return Err(Error::refused(format!(
                "the zip archive holds {name:?}, which is not the bare name of a file"
            ))
            .with_hint(ONE_HINT));
        }
        // The attributes are those of Unix if that made the archive, and those of DOS in any case.
        let kind = if self.version >> 8 == 3 { self.attributes >> 28 } else { 0 };
        if ![0, 0o10].contains(&kind) || self.attributes & 0x10 != 0 {
            return Err(Error::refused(format!("{name:?} in the zip archive is not a regular file")));
        }
        if self.flags & ENCRYPTED != 0 {
            return Err(Error::unsupported(format!("{name:?} in the zip archive is encrypted"))
                .with_hint("unpack the archive with its password, and give the disk in it alone"));
        }
        Ok(())
    }

    /// Finds the data and checks that the local header says the same as the entry.
    fn locate(&self, source: &dyn Source, directory: u64) -> Result<Member> {
        let method = match self.method {
            0 => Method::Stored,
            8 => Method::Deflated,
            other => {
                return Err(Error::unsupported(format!(
                    "{:?} in the zip archive is packed by method {other}",
                    self.name
                ))
                .with_hint("pack it with deflate, or without compression"));
            }
        };
        if self.offset != 0 {
            return Err(Error::refused(format!("the zip archive begins with {} bytes of something else", self.offset)));
        }
        let header = read_bytes(source, 0, LOCAL_LENGTH as usize, "the local header of the zip archive")?;
        let [name_length, extra_length] = [26, 28].map(|at| u64::from(le16(&header, at)));
        let name = read_bytes(source, LOCAL_LENGTH, name_length as usize, "the name in the zip archive")?;
        let delayed = self.flags & DESCRIPTOR != 0;
        let agrees = |at: usize, value: u64| {
            let stated = le32(&header, at);
            stated == u32::MAX || u64::from(stated) == value || delayed && stated == 0
        };
        let agree = le32(&header, 0) == LOCAL
            && le16(&header, 6) == self.flags
            && le16(&header, 8) == self.method
            && name == self.raw_name
            && (delayed && le32(&header, 14) == 0 || le32(&header, 14) == self.crc)
            && agrees(18, self.length)
            && agrees(22, self.size);
        if !agree || method == Method::Stored && self.length != self.size {
            return Err(Error::refused("the zip archive describes its file twice, and differently"));
        }
        let start = LOCAL_LENGTH + name_length + extra_length;
        check_inside("the file in the zip archive", start, self.length, directory)?;
        let gap = directory - start - self.length;
        let allowed: &[u64] = if delayed { &[12, 16, 20, 24] } else { &[0] };
        if !allowed.contains(&gap) {
            return Err(Error::refused(format!("the zip archive has {gap} bytes that belong to nothing")));
        }
        Ok(Member { method, data: start..start + self.length, size: self.size, crc: self.crc })
    }
}

/// Returns the content of the field for 64-bit sizes among the extra fields.
fn zip64_field(mut extra: &[u8]) -> Option<&[u8]> {
    while extra.len() >= 4 {
        let (id, length) = (le16(extra, 0), usize::from(le16(extra, 2)));
        let field = extra.get(4..4 + length)?;
        if id == 1 {
            return Some(field);
        }
        extra = &extra[4 + length..];
    }
    None
}

/// The data of the member as a container of one member.
struct Zip {
    member: Member,
    inflate: Inflate,
}

impl Container for Zip {
    fn starts(&self, _bytes: &[u8]) -> bool {
        true
    }

    fn begin(&mut self, _input: &mut Input) -> Result<()> {
        Ok(())
    }

    fn decode(&mut self, input: &[u8], out: &mut [u8]) -> Decoded<Step> {
        if self.member.method == Method::Deflated {
            return self.inflate.decode(input, out);
        }
        let length = input.len().min(out.len());
        let inflate = &mut self.inflate;
        out[..length].copy_from_slice(&input[..length]);
        inflate.crc.update(&input[..length]);
        inflate.made += length as u64;
        Ok(Step { used: length, made: length, ended: inflate.made == self.member.size })
    }

    fn end(&mut self, input: &mut Input) -> Result<()> {
        if self.inflate.crc.sum() != self.member.crc || self.inflate.made != self.member.size {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the file in the zip archive does not have the checksum or length that the archive states",
            ));
        }
        if !input.is_at_end() {
            return Err(Error::corrupt(format!("the data in the zip archive end early, at byte {}", input.position())));
        }
        Ok(())
    }
}
