//! Archives of cpio in the forms that the kernel reads: "newc" and, with checksums that are not verified, "crc".
//!
//! ```text
//! "070701" or "070702", then thirteen numbers of eight hexadecimal digits | name, NUL, to 4 | content, to 4 | ...
//! ```

use std::io;

use super::input::Ahead;

/// Length of a header.
pub(super) const HEADER: usize = 110;
/// Ends an archive.
pub(super) const TRAILER: &str = "TRAILER!!!";
/// A regular file among the kinds of entries, as in `stat`.
pub(super) const REGULAR: u32 = 0o100_000;
pub(super) const KIND: u32 = 0o170_000;
/// Longest name, as the kernel has it (`PATH_MAX`).
const NAME_MAX: usize = 4096;
/// Most entries of all archives of a file; a large initramfs has some 4,000.
const ENTRIES_MAX: usize = 100_000;
/// Most archives of a file.
const ARCHIVES_MAX: usize = 64;
/// Longest content that is kept when it is asked for.
const KEPT_MAX: u32 = 64 << 10;

/// What stands in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The path without `/` or `./` before it, as it stands there: it may have `..` and any byte but NUL.
    pub(crate) name: Vec<u8>,
    /// Kind and permissions, as in `stat`.
    pub(crate) mode: u32,
    /// Length of the content.
    pub(crate) length: u32,
}

impl Entry {
    /// Returns whether it is a regular file.
    pub(crate) fn is_file(&self) -> bool {
        self.mode & KIND == REGULAR
    }
}

/// What is to be done with the content of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Pass over it.
    Skip,
    /// Show it, if it is short.
    Show,
    /// Read nothing more of the file.
    Stop,
}

/// Who is shown the entries.
pub(crate) trait Visitor {
    fn entry(&mut self, entry: &Entry) -> Wish;

    /// Is shown the content of an entry for which it wished so.
    fn content(&mut self, _entry: &Entry, _content: Vec<u8>) {}
}

/// What is left of the limits of a file.
pub(super) struct Limits {
    entries: usize,
    archives: usize,
}

impl Limits {
    pub(super) fn new() -> Self {
        Self { entries: ENTRIES_MAX, archives: ARCHIVES_MAX }
    }
}

/// Returns whether an archive begins with `head`.
pub(super) fn starts(head: &[u8]) -> bool {
    head.starts_with(b"070701") || head.starts_with(b"070702")
}

/// Shows the entries of one archive to `visitor`; returns whether that one stopped.
pub(super) fn read(input: &mut dyn Ahead, limits: &mut Limits, visitor: &mut dyn Visitor) -> io::Result<bool> {
    limits.archives = limits
        .archives
        .checked_sub(1)
        .ok_or_else(|| io::Error::other(format!("it has more than {ARCHIVES_MAX} archives")))?;
    loop {
        let Some(entry) = read_header(input)? else { return Ok(false) };
        limits.entries = limits
            .entries
            .checked_sub(1)
            .ok_or_else(|| io::Error::other(format!("it has more than {ENTRIES_MAX} entries")))?;
        let is_last = entry.name == TRAILER.as_bytes();
        let wish = if is_last { Wish::Skip } else { visitor.entry(&entry) };
        let padded = u64::from(entry.length).next_multiple_of(4);
        match wish {
            Wish::Stop => return Ok(true),
            Wish::Show if entry.length <= KEPT_MAX => {
                let mut content = vec![0; entry.length as usize];
                input.read_exact(&mut content)?;
                input.skip(padded - u64::from(entry.length))?;
                visitor.content(&entry, content);
            }
            // What is after the last content may be cut off.
            Wish::Show | Wish::Skip => input.skip(if is_last { entry.length.into() } else { padded })?,
        }
        if is_last {
            return Ok(false);
        }
    }
}

/// Reads a header with its name; none where the stream has ended instead, as some writers of archives leave it.
fn read_header(input: &mut dyn Ahead) -> io::Result<Option<Entry>> {
    let header = input.peek(HEADER)?;
    if header.is_empty() {
        return Ok(None);
    }
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "a header of its cpio archive is broken");
    if !starts(header) {
        return Err(broken());
    }
    let number = |at: usize| {
        let digits = header.get(6 + at * 8..14 + at * 8).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        digits.and_then(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
    };
    let (mode, length, name_length) = (number(1), number(6), number(11));
    let (Some(mode), Some(length), Some(name_length)) = (mode, length, name_length) else { return Err(broken()) };
    let name_length = usize::try_from(name_length).ok().filter(|length| (1..=NAME_MAX).contains(length));
    let name_length = name_length.ok_or_else(broken)?;
    input.skip(HEADER as u64)?;
    let mut name = vec![0; name_length];
    input.read_exact(&mut name)?;
    if name.pop() != Some(0) {
        return Err(broken());
    }
    // The last name may be the end of the file.
    let padding = (HEADER + name_length).next_multiple_of(4) - (HEADER + name_length);
    let left = input.peek(padding)?.len();
    input.skip(left as u64)?;
    Ok(Some(Entry { name: plain(&name).to_vec(), mode, length }))
}

/// Returns a path without what some writers put before it.
fn plain(mut name: &[u8]) -> &[u8] {
    while let Some(rest) = name.strip_prefix(b"./").or_else(|| name.strip_prefix(b"/")) {
        name = rest;
    }
    name
}
