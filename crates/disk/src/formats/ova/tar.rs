//! The tar around an appliance: its members by position, and nothing but flat regular files among them.
//!
//! After POSIX.1-2017 `pax` (ustar and its extended headers) and the GNU tar manual, "Basic Tar Format". The archive is
//! never unpacked; an extended header counts only where the plain one cannot say it, so that every reader sees the same members.

use std::collections::HashSet;
use std::ops::Range;

use crate::error::{Error, ErrorKind, Result};
use crate::fields::{past_end, read_bytes};
use crate::source::Source;

pub(super) const BLOCK: u64 = 512;
/// Headers of an archive, extended ones included.
const MAX_HEADERS: usize = 1000;
/// Bytes of an extended header; names and times need a few hundred.
const MAX_EXTENDED: u64 = 64 << 10;
const MAX_NAME: usize = 255;

const NAME: Range<usize> = 0..100;
const SIZE: Range<usize> = 124..136;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
const MAGIC: Range<usize> = 257..263;
const PREFIX: Range<usize> = 345..500;
/// The first size that eleven octal digits cannot say.
const OCTAL_END: u64 = 1 << 33;

/// A file in the archive.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    /// Where its bytes begin.
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What extended headers say about the member after them.
#[derive(Default)]
struct Extended {
    name: Option<String>,
    size: Option<u64>,
}

/// Returns whether `block` is a header by its checksum alone, as old archives without a magic number have it.
pub(crate) fn is_header(block: &[u8]) -> bool {
    let Some(block) = block.get(..BLOCK as usize) else { return false };
    block[0] != 0 && octal(&block[CHECKSUM]) == Some(checksum(block))
}

/// Returns the members of `file`, all of which lie inside it and have names of their own without a folder.
pub(super) fn members(file: &dyn Source) -> Result<Vec<Member>> {
    let (mut members, mut names) = (Vec::new(), HashSet::new());
    let (mut at, mut extended) = (0, Extended::default());
    for _ in 0..=MAX_HEADERS {
        if at >= file.len() {
            return Err(Error::corrupt(format!("the archive has no end: its file stops at byte {at} after a member"))
                .with_hint("the file was cut: copy it again and compare checksums"));
        }
        let header = read_bytes(file, at, BLOCK as usize, "a header of the archive")?;
        if header.iter().all(|byte| *byte == 0) {
            check_end(file, at, &extended)?;
            return Ok(members);
        }
        let (name, length) = read_header(&header, at)?;
        let kind = header[TYPE];
        let length = if matches!(kind, b'x' | b'g' | b'L') { length } else { extended.length(length, at)? };
        let (start, end) = content(file, at, length)?;
        match kind {
            b'x' | b'g' | b'L' => extended.read(file, kind, start, length)?,
            b'0' | 0 => {
                let name = member_name(&header, &extended.name.take().unwrap_or(name), at)?;
                extended.size = None;
                if !names.insert(name.clone()) {
                    return Err(Error::corrupt(format!("the archive holds {name:?} twice, again at byte {at}")));
                }
                members.push(Member { name, offset: start, length });
            }
            // What `tar -c .` puts first; it holds nothing.
            b'5' if length == 0 && matches!(name.as_str(), "." | "./") => extended = Extended::default(),
            other => return Err(refused_kind(other, &name, at)),
        }
        at = end;
    }
    Err(Error::new(ErrorKind::TooLarge, format!("the archive has more than {MAX_HEADERS} members")))
}

/// Returns the name and size that a header says itself.
fn read_header(header: &[u8], at: u64) -> Result<(String, u64)> {
    if octal(&header[CHECKSUM]) != Some(checksum(header)) {
        return Err(Error::corrupt(format!("the checksum of the header at byte {at} of the archive is wrong"))
            .with_hint("the file was cut or is damaged: copy it again and compare checksums"));
    }
    let name = text(&header[NAME]);
    let size = number(&header[SIZE]).ok_or_else(|| {
        Error::corrupt(format!("the size of {name:?} at byte {at} of the archive is no number that a file can have"))
    })?;
    Ok((name, size))
}

/// Returns where the content of the member at `at` begins, and where the next header is.
fn content(file: &dyn Source, at: u64, length: u64) -> Result<(u64, u64)> {
    let start = at + BLOCK;
    let end = length.checked_next_multiple_of(BLOCK).and_then(|length| start.checked_add(length));
    match end {
        Some(end) if end <= file.len() => Ok((start, end)),
        _ => Err(past_end("a member of the archive", start, length, file.len())),
    }
}

/// The end is two blocks of zeros; what follows them is no part of the archive.
fn check_end(file: &dyn Source, at: u64, extended: &Extended) -> Result<()> {
    if extended.name.is_some() || extended.size.is_some() {
        return Err(Error::corrupt(format!("the archive ends at byte {at} after an extended header")));
    }
    let length = (file.len() - at).min(2 * BLOCK) as usize;
    if read_bytes(file, at, length, "the end of the archive")?.iter().any(|byte| *byte != 0) {
        return Err(Error::corrupt(format!("the archive goes on after an empty header at byte {at}")));
    }
    Ok(())
}

impl Extended {
    /// Takes the name and size from an extended header of `kind`, if they are such as no plain header can say.
    fn read(&mut self, file: &dyn Source, kind: u8, start: u64, length: u64) -> Result<()> {
        if length > MAX_EXTENDED {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("the extended header before byte {start} of the archive has {length} bytes"),
            ));
        }
        let bytes = read_bytes(file, start, length as usize, "an extended header of the archive")?;
        if kind == b'L' {
            return self.set_name(text(&bytes), start);
        }
        for record in pax_records(&bytes) {
            let (key, value) = record.ok_or_else(|| {
                Error::corrupt(format!("the extended header at byte {start} of the archive is not made of records"))
            })?;
            match key {
                "path" if kind == b'x' => self.set_name(value.to_owned(), start)?,
                "size" if kind == b'x' => self.set_size(value, start)?,
                "path" | "size" | "linkpath" | "hdrcharset" | "charset" => return Err(refused_record(key, start)),
                key if key.starts_with("GNU.sparse") => return Err(refused_record(key, start)),
                // Times, owners, comments, and what file systems keep beside a file.
                _ => {}
            }
        }
        Ok(())
    }

    fn set_name(&mut self, name: String, at: u64) -> Result<()> {
        let needed = name.len() >= NAME.len() || !name.is_ascii();
        if !needed || self.name.is_some() {
            return Err(Error::refused(format!(
                "the extended header at byte {at} of the archive renames a member to {name:?} without need"
            ))
            .with_hint("another reader would see another name: pack the archive again with tar --format=ustar"));
        }
        self.name = Some(name);
        Ok(())
    }

    /// Returns the length of a member whose plain header says `own`.
    fn length(&self, own: u64, at: u64) -> Result<u64> {
        // Writers put nothing there, all digits 7, or the digits that fit.
        match self.size {
            Some(size) if ![0, OCTAL_END - 1, size % OCTAL_END].contains(&own) => {
                Err(Error::refused(format!("the member at byte {at} of the archive has two sizes, {own} and {size}")))
            }
            size => Ok(size.unwrap_or(own)),
        }
    }

    fn set_size(&mut self, value: &str, at: u64) -> Result<()> {
        let size = value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse::<u64>().ok()).flatten();
        match size {
            Some(size) if size >= OCTAL_END && self.size.is_none() => {
                self.size = Some(size);
                Ok(())
            }
            _ => Err(Error::refused(format!(
                "the extended header at byte {at} of the archive sets the size {value:?} without need"
            ))
            .with_hint("another reader would see other members: pack the archive again with tar --format=ustar")),
        }
    }
}

/// Splits an extended header into its records `LENGTH KEY=VALUE\n`; `None` stands for what is none.
fn pax_records(mut bytes: &[u8]) -> impl Iterator<Item = Option<(&str, &str)>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let record = pax_record(bytes);
        bytes = record.map_or(&[], |(_, rest)| rest);
        Some(record.map(|(pair, _)| pair))
    })
}

fn pax_record(bytes: &[u8]) -> Option<((&str, &str), &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ').filter(|space| (1..=6).contains(space))?;
    let length: usize = std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let pair = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = pair.iter().position(|byte| *byte == b'=')?;
    // Values of other keys need be no text.
    let value = std::str::from_utf8(&pair[equals + 1..]).unwrap_or("");
    Some(((std::str::from_utf8(&pair[..equals]).ok()?, value), rest))
}

/// Returns the bare name of a regular file.
fn member_name(header: &[u8], name: &str, at: u64) -> Result<String> {
    // GNU tar keeps other things where POSIX has the folder, and ends its magic with spaces.
    let folder = header[MAGIC] == *b"ustar\0" && header[PREFIX.start] != 0;
    let bare = name.strip_prefix("./").unwrap_or(name);
    if folder || !is_bare(bare) {
        return Err(bad_name(name, at));
    }
    Ok(bare.to_owned())
}

/// Returns whether `name` is that of a file without any folder.
pub(super) fn is_bare(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= MAX_NAME
        && !name
            .chars()
            .any(|letter| matches!(letter, '/' | '\\' | ':' | char::REPLACEMENT_CHARACTER) || letter.is_control())
}

fn bad_name(name: &str, at: u64) -> Error {
    Error::refused(format!("the archive holds {:?} at byte {at}, which is no bare file name", shortened(name)))
        .with_hint("an appliance is a flat archive: pack its files without folders")
}

fn refused_record(key: &str, at: u64) -> Error {
    Error::refused(format!("the extended header at byte {at} of the archive sets {key:?}"))
        .with_hint("pack the archive again with tar --format=ustar")
}

fn refused_kind(kind: u8, name: &str, at: u64) -> Error {
    let what = match kind {
        b'1' => "a hard link",
        b'2' | b'K' => "a symbolic link",
        b'3' | b'4' => "a device",
        b'5' => "a folder",
        b'6' => "a FIFO",
        b'S' => "a sparse file",
        _ => "no regular file",
    };
    Error::refused(format!("{:?} at byte {at} of the archive is {what}", shortened(name)))
        .with_hint("an appliance holds regular files only")
}

fn shortened(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

/// Returns the text before the first zero byte. A name that was cut inside of a letter ends in a replacement character.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// Returns an octal number, or one in binary as GNU writes those of 8 GiB and more, never a negative one.
fn number(field: &[u8]) -> Option<u64> {
    match field {
        [0x80, high @ .., _, _, _, _, _, _, _, _] => {
            let low = field.last_chunk().map(|low| u64::from_be_bytes(*low))?;
            (high.iter().all(|byte| *byte == 0) && low <= i64::MAX as u64).then_some(low)
        }
        _ => octal(field),
    }
}

/// Returns the octal number in `field`, which zeros or spaces may follow and spaces precede.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_start_matches(' ').trim_end_matches(['\0', ' ']);
    let digits = !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    digits.then(|| u64::from_str_radix(text, 8).ok()).flatten()
}

/// Returns the sum of the bytes of a header in which the sum itself counts as spaces.
fn checksum(header: &[u8]) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    sum(&header[..CHECKSUM.start]) + 8 * u64::from(b' ') + sum(&header[CHECKSUM.end..])
}

/// Returns how many zeros follow a member of `length` bytes.
pub(super) fn padding(length: u64) -> u64 {
    length.wrapping_neg() % BLOCK
}

/// Returns the header of a file that anybody may read, of no owner and time; always the same for the same file.
pub(super) fn header(name: &str, length: u64) -> Result<Vec<u8>> {
    if name.len() >= NAME.len() {
        return Err(Error::unsupported(format!("{name:?} is too long for a name in an archive")));
    }
    let mut header = vec![0; BLOCK as usize];
    header[..name.len()].copy_from_slice(name.as_bytes());
    for (at, text) in [(100, "0000644"), (108, "0000000"), (116, "0000000"), (136, "00000000000")] {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    }
    if length < OCTAL_END {
        header[SIZE.start..SIZE.end - 1].copy_from_slice(format!("{length:011o}").as_bytes());
    } else {
        // As GNU tar does it, because importers know that better than extended headers.
        header[SIZE.start] = 0x80;
        header[SIZE.end - 8..SIZE.end].copy_from_slice(&length.to_be_bytes());
    }
    header[TYPE] = b'0';
    header[MAGIC.start..MAGIC.end + 2].copy_from_slice(b"ustar\x0000");
    let sum = format!("{:06o}\0 ", checksum(&header));
    header[CHECKSUM].copy_from_slice(sum.as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in [0, 1, 512, OCTAL_END - 1, OCTAL_END, 64 << 40] {
            let header = header("disk.vmdk", length).unwrap();
            assert!(is_header(&header));
            assert_eq!(read_header(&header, 0).unwrap(), ("disk.vmdk".to_owned(), length));
        }
        assert!(header(&"n".repeat(99), 0).is_ok() && header(&"n".repeat(100), 0).is_err());
    }
}
