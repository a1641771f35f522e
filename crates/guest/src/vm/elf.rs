//! What a program of the host needs to run elsewhere, its loader and its libraries by name, and how a kernel can be started.
//!
//! Read from the file itself ("System V Application Binary Interface", chapters 4 and 5): nothing is run to find out.

use crate::fields::{le16, le32, le64, stands_at};

const LOADED: u32 = 1;
const DYNAMIC: u32 = 2;
const INTERPRETER: u32 = 3;
const NOTES: u32 = 4;
const END: u64 = 0;
const NEEDED: u64 = 1;
const STRINGS: u64 = 5;
/// Most headers, and most entries of the dynamic section.
const HEADERS_MAX: u16 = 64;
const ENTRIES_MAX: usize = 4096;
const NAME_MAX: usize = 255;

/// What a program or library asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Path of the loader; libraries have none.
    pub(super) loader: Option<String>,
    /// File names of libraries.
    pub(super) libraries: Vec<String>,
}

struct Header {
    kind: u32,
    offset: u64,
    address: u64,
    length: u64,
}

/// Reads what `file` asks for; none where it is no whole program or library for x86-64.
pub(super) fn needs(file: &[u8]) -> Option<Needs> {
    let headers = headers(file)?;
    let part = |header: &Header| part(file, header);
    let of_kind = |kind: u32| headers.iter().find(|header| header.kind == kind);
    let loader = match of_kind(INTERPRETER) {
        Some(header) => Some(text(part(header)?)?),
        None => None,
    };
    let Some(dynamic) = of_kind(DYNAMIC) else { return Some(Needs { loader, libraries: Vec::new() }) };
    let entries: Vec<(u64, u64)> = part(dynamic)?
        .chunks_exact(16)
        .take(ENTRIES_MAX)
        .map(|entry| (le64(entry, 0), le64(entry, 8)))
        .take_while(|(tag, _)| *tag != END)
        .collect();
    let needed: Vec<u64> = entries.iter().filter(|(tag, _)| *tag == NEEDED).map(|(_, at)| *at).collect();
    if needed.is_empty() {
        return Some(Needs { loader, libraries: Vec::new() });
    }
    // An address is one of memory, where the file is loaded.
    let (_, address) = *entries.iter().find(|(tag, _)| *tag == STRINGS)?;
    let strings = headers.iter().find_map(|header| {
        let skip = address.checked_sub(header.address).filter(|skip| header.kind == LOADED && *skip < header.length)?;
        part(header)?.get(usize::try_from(skip).ok()?..)
    })?;
    let name = |at: &u64| text(strings.get(usize::try_from(*at).ok()?..)?).filter(|name| !name.contains('/'));
    let libraries = needed.iter().map(name).collect::<Option<Vec<String>>>()?;
    Some(Needs { loader, libraries })
}

/// Returns whether the kernel `file` has a door for whoever loaded it where it wants to lie ("x86/HVM direct boot ABI",
/// `XEN_ELFNOTE_PHYS32_ENTRY`).
pub(super) fn starts_directly(file: &[u8]) -> bool {
    let headers = headers(file).unwrap_or_default();
    let notes = headers.iter().filter(|header| header.kind == NOTES);
    notes.filter_map(|header| part(file, header)).any(has_door)
}

fn has_door(mut notes: &[u8]) -> bool {
    const DOOR: u32 = 18;
    // Name and value follow the three words, each filled up to whole words.
    while notes.len() >= 12 {
        let [name, value] = [le32(notes, 0), le32(notes, 4)].map(|length| length as usize);
        if name == 4 && le32(notes, 8) == DOOR && stands_at(notes, 12, b"Xen\0") {
            return true;
        }
        let length = 12_usize.saturating_add(name.next_multiple_of(4)).saturating_add(value.next_multiple_of(4));
        notes = notes.get(length..).unwrap_or_default();
    }
    false
}

/// Returns what a header tells of.
fn part<'a>(file: &'a [u8], header: &Header) -> Option<&'a [u8]> {
    let start = usize::try_from(header.offset).ok()?;
    file.get(start..start.checked_add(usize::try_from(header.length).ok()?)?)
}

/// Reads the headers of an ELF file for x86-64.
fn headers(file: &[u8]) -> Option<Vec<Header>> {
    const X86_64: u16 = 62;
    // 64 bits, the low byte first.
    if !stands_at(file, 0, b"\x7fELF\x02\x01") || le16(file, 18) != X86_64 {
        return None;
    }
    let (start, size, count) = (usize::try_from(le64(file, 32)).ok()?, usize::from(le16(file, 54)), le16(file, 56));
    if file.len() < 64 || size < 56 || count == 0 || count > HEADERS_MAX {
        return None;
    }
    let header = |number: u16| {
        let at = start.checked_add(usize::from(number) * size)?;
        let header = file.get(at..at.checked_add(size)?)?;
        let (offset, address, length) = (le64(header, 8), le64(header, 16), le64(header, 32));
        Some(Header { kind: le32(header, 0), offset, address, length })
    };
    (0..count).map(header).collect()
}

/// Returns the text up to its zero byte.
fn text(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().take(NAME_MAX + 1).position(|byte| *byte == 0)?;
    String::from_utf8(bytes[..end].to_vec()).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_itself_is_such_a_program() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let found = needs(&own).unwrap();
        assert!(found.loader.is_some_and(|loader| loader.starts_with("/lib")));
        assert!(found.libraries.iter().any(|name| name == "libc.so.6"), "{:?}", found.libraries);
        // Cut or altered anywhere in its head it is none, or asks for less.
        for at in 0..64 {
            let mut altered = own[..1 << 20].to_vec();
            altered[at] ^= 0xff;
            let _ = needs(&altered);
            assert_eq!(needs(&own[..at]), None);
        }
    }
}
