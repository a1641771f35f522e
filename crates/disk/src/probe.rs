//! Telling the format of a file by its magic numbers, at the beginning and at the end.
//!
//! This is done once, when a file comes in, and the answer is kept beside the file: a raw disk belongs to its guest, who can
//! write there whatever makes the next probe see another format.

use crate::error::{Error, ErrorKind, Result};
use crate::fields::{be32, le32, read_bytes};
use crate::format::Format;
use crate::formats::{ova, vdi, vhd, vmdk};
use crate::source::Source;

/// Where the first volume descriptor of a disc begins; its name stands one byte later.
const DISC: u64 = 32768;
const HEAD: u64 = 4096;

/// Returns the format of `source`: the one whose magic number is found, or raw if there is none.
///
/// A file that could be read as two formats is refused, because somebody else would read the other one.
/// A disc image with a partition table for booting from USB is none of these: partition tables are raw.
pub fn probe(source: &dyn Source) -> Result<Format> {
    let head = read_bytes(source, 0, source.len().min(HEAD) as usize, "the beginning")?;
    let mut found: Vec<Format> = MAGICS
        .iter()
        .filter(|(_, at, magic)| head.get(*at..).is_some_and(|bytes| bytes.starts_with(magic)))
        .map(|(format, ..)| *format)
        .collect();
    if head.starts_with(b"QFI\xfb") && head.len() >= 8 {
        found.push(if be32(&head, 4) == 1 { Format::Qcow1 } else { Format::Qcow2 });
    }
    if head.len() >= 68 && le32(&head, 64) == vdi::SIGNATURE {
        found.push(Format::Vdi);
    }
    if vmdk::is_descriptor(&head) {
        found.push(Format::Vmdk);
    }
    if ova::is_header(&head) {
        found.push(Format::Ova);
    }
    if skips_to_zstd(&head) {
        found.push(Format::Zstd);
    }
    if is_disc(source)? {
        found.push(Format::Iso);
    }
    if ends_with_footer(source)? {
        found.push(Format::Vhd);
    }
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [] => Ok(Format::Raw),
        [format] => Ok(*format),
        several => {
            let names: Vec<_> = several.iter().map(|format| format.as_str()).collect();
            Err(Error::refused(format!("the file is more than one format at once: {}", names.join(" and ")))
                .with_hint("convert it to a single format where it was made"))
        }
    }
}

/// Checks that `source` is in the format that its sender declared.
pub fn confirm(source: &dyn Source, declared: Format) -> Result<()> {
    let found = probe(source)?;
    if found == declared {
        return Ok(());
    }
    Err(Error::new(ErrorKind::WrongFormat, format!("the file was declared as {declared}, and it is {found}"))
        .with_hint(format!("declare it as {found} if that is what you mean")))
}

/// Magic numbers at fixed places in the first bytes.
const MAGICS: &[(Format, usize, &[u8])] = &[
    (Format::Vhd, 0, vhd::COOKIE),
    (Format::Vmdk, 0, vmdk::MAGIC),
    (Format::Vmdk, 0, vmdk::COW_DISK),
    (Format::Vmdk, 0, vmdk::SE_SPARSE),
    (Format::Vhdx, 0, b"vhdxfile"),
    (Format::Qed, 0, b"QED\0"),
    (Format::Parallels, 0, b"WithoutFreeSpace"),
    (Format::Parallels, 0, b"WithouFreSpacExt"),
    (Format::Luks, 0, b"LUKS\xba\xbe"),
    (Format::Gzip, 0, b"\x1f\x8b\x08"),
    (Format::Xz, 0, b"\xfd7zXZ\0"),
    (Format::Zstd, 0, b"\x28\xb5\x2f\xfd"),
    (Format::Bzip2, 4, b"1AY&SY"),
    (Format::Zip, 0, b"PK\x03\x04"),
    (Format::Ova, 257, b"ustar"),
];

/// Returns the format of a file that is compressed as a whole and begins with `head`, at least 10 bytes if it has them.
pub(crate) fn wrapper_of(head: &[u8]) -> Option<Format> {
    let wraps = |format| matches!(format, Format::Gzip | Format::Xz | Format::Zstd | Format::Bzip2 | Format::Zip);
    let begins = |at: usize, magic: &[u8]| head.get(at..).is_some_and(|bytes| bytes.starts_with(magic));
    let found = MAGICS.iter().find(|(format, at, magic)| wraps(*format) && begins(*at, magic));
    found.map(|(format, ..)| *format).or_else(|| skips_to_zstd(head).then_some(Format::Zstd))
}

/// Returns whether `head` is a frame that zstd skips, and a zstd frame after it, as `pzstd` writes them.
fn skips_to_zstd(head: &[u8]) -> bool {
    head.len() >= 8
        && le32(head, 0) & !0xf == 0x184d_2a50
        && head[8..].get(le32(head, 4) as usize..).is_some_and(|next| next.starts_with(b"\x28\xb5\x2f\xfd"))
}

fn is_disc(source: &dyn Source) -> Result<bool> {
    if source.len() < DISC + 6 {
        return Ok(false);
    }
    let bytes = read_bytes(source, DISC + 1, 5, "the volume descriptor")?;
    Ok(matches!(bytes.as_slice(), b"CD001" | b"NSR02" | b"NSR03" | b"BEA01"))
}

/// A fixed VHD has no other mark than its footer, which in old files is 511 bytes long.
fn ends_with_footer(source: &dyn Source) -> Result<bool> {
    for length in [vhd::FOOTER_LENGTH, vhd::FOOTER_LENGTH - 1] {
        if let Some(offset) = source.len().checked_sub(length)
            && read_bytes(source, offset, vhd::COOKIE.len(), "the end")? == vhd::COOKIE
        {
            return Ok(true);
        }
    }
    Ok(false)
}
