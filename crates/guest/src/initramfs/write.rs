//! A segment to be appended to an initramfs: an archive that the kernel unpacks after the others, over what they made.
//!
//! The same entries make the same bytes. Two things must be known where entries are chosen: the kernel makes no folders
//! that have no entry, and an entry of another kind takes the place of what stands there, so that a folder `lib` would
//! remove a link `lib` and all that is found through it. After a segment of lz4 nothing is found (see `lz4`).

use super::cpio::{HEADER, KIND, REGULAR, TRAILER};

/// One entry of a segment.
#[derive(Debug, Clone, Copy)]
pub struct InitramfsEntry<'a> {
    /// From the root, without `/` before it.
    pub path: &'a str,
    /// Kind and permissions; a regular file where it has no kind.
    pub mode: u32,
    /// Content of a file, target of a link, nothing for a folder.
    pub bytes: &'a [u8],
}

/// Makes the segment for a file that has `length` bytes now; it begins with the zeros that must lie between.
///
/// None where a content or a path is too long for the format.
#[must_use]
pub fn initramfs_segment(length: u64, entries: &[InitramfsEntry<'_>], mtime: u32) -> Option<Vec<u8>> {
    // At most three bytes.
    let gap = (length.next_multiple_of(4) - length) as usize;
    let mut out = vec![0; gap];
    for (number, entry) in (1..).zip(entries) {
        write(&mut out, gap, number, entry, mtime)?;
    }
    write(&mut out, gap, 0, &InitramfsEntry { path: TRAILER, mode: 0, bytes: b"" }, 0)?;
    Some(out)
}

fn write(out: &mut Vec<u8>, gap: usize, number: u32, entry: &InitramfsEntry<'_>, mtime: u32) -> Option<()> {
    let mode = if number > 0 && entry.mode & KIND == 0 { entry.mode | REGULAR } else { entry.mode };
    let links = u32::from(number > 0);
    let length = u32::try_from(entry.bytes.len()).ok()?;
    let name = u32::try_from(entry.path.len() + 1).ok()?;
    // Number, mode, owner, group, links, time, length, two devices of two numbers, length of the name, checksum.
    let fields = [number, mode, 0, 0, links, mtime, length, 0, 0, 0, 0, name, 0];
    out.reserve(HEADER + entry.path.len() + entry.bytes.len() + 8);
    out.extend(b"070701");
    fields.iter().for_each(|field| out.extend(format!("{field:08X}").bytes()));
    out.extend(entry.path.bytes().chain([0]));
    pad(out, gap);
    out.extend(entry.bytes);
    pad(out, gap);
    Some(())
}

/// Fills up to a multiple of four bytes from the beginning of the archive.
fn pad(out: &mut Vec<u8>, gap: usize) {
    out.resize((out.len() - gap).next_multiple_of(4) + gap, 0);
}
