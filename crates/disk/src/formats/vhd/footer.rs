//! The footer of a VHD file: 512 bytes at the end, big-endian, and for all but fixed disks a copy at the beginning.

use crate::error::{Error, ErrorKind, Result};
use crate::fields::{be16, be32, be64, read_bytes};
use crate::source::Source;

/// The first bytes of a footer.
pub(crate) const COOKIE: &[u8; 8] = b"conectix";
/// Bytes of a footer.
pub(crate) const LENGTH: u64 = 512;
/// Bytes of the footer that versions of Virtual PC before 2004 wrote.
const OLD_LENGTH: u64 = 511;
/// The largest geometry there is, 65535 x 16 x 255 sectors; disks from here on have no exact geometry.
const MAX_GEOMETRY: u64 = 65535 * 16 * 255;
/// 2040 GiB, the largest disk of the format.
pub(super) const MAX_SIZE: u64 = 2040 << 30;

/// What kind of disk it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Fixed,
    Dynamic,
    Differencing,
}

/// A footer that passed all checks.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) kind: Kind,
    /// Bytes of the disk that the guest sees.
    pub(super) size: u64,
    /// The size field, which may be larger than what the geometry makes of it.
    pub(super) current_size: u64,
    /// Where the dynamic header lies.
    pub(super) data_offset: u64,
    /// Where the footer begins, which is where the data end.
    pub(super) offset: u64,
}

impl Footer {
    /// Reads and checks the footer, and its copy unless the disk is fixed.
    pub(super) fn read(file: &dyn Source) -> Result<Self> {
        let (offset, bytes) = find(file)?;
        check_sum(&bytes, 64, "the footer")?;
        let version = be32(&bytes, 12);
        if version >> 16 != 1 {
            return Err(Error::unsupported(format!("VHD format version {version:#x} is not known")));
        }
        let kind = match be32(&bytes, 60) {
            2 => Kind::Fixed,
            3 => Kind::Dynamic,
            4 => Kind::Differencing,
            other => return Err(Error::corrupt(format!("VHD disk type {other}, allowed are 2, 3 and 4"))),
        };
        let current_size = be64(&bytes, 48);
        let footer = Self { kind, size: guest_size(&bytes)?, current_size, data_offset: be64(&bytes, 16), offset };
        if kind != Kind::Fixed {
            footer.check_copy(file, &bytes)?;
        }
        Ok(footer)
    }

    fn check_copy(&self, file: &dyn Source, footer: &[u8]) -> Result<()> {
        let length = (file.len() - self.offset) as usize;
        let copy = read_bytes(file, 0, length, "the copy of the VHD footer")?;
        if copy == footer[..length] {
            return Ok(());
        }
        Err(Error::corrupt("the VHD footer and its copy at the beginning of the file differ"))
    }
}

/// Finds the footer at the end of the file; returns where it begins and its bytes, filled up to 512.
fn find(file: &dyn Source) -> Result<(u64, Vec<u8>)> {
    for length in [LENGTH, OLD_LENGTH] {
        let Some(offset) = file.len().checked_sub(length) else { continue };
        let mut bytes = read_bytes(file, offset, length as usize, "the VHD footer")?;
        if bytes.starts_with(COOKIE) {
            bytes.resize(LENGTH as usize, 0);
            return Ok((offset, bytes));
        }
    }
    let begins = file.len() >= LENGTH && read_bytes(file, 0, 8, "the VHD footer")? == COOKIE;
    if begins {
        return Err(Error::corrupt("the VHD file does not end with its footer")
            .with_hint("the file was cut or is damaged: copy it again and compare checksums"));
    }
    Err(Error::new(ErrorKind::WrongFormat, "the file does not end with the footer of a VHD"))
}

/// Checks the sum of all bytes, complemented, that stands at `at`.
pub(super) fn check_sum(bytes: &[u8], at: usize, what: &str) -> Result<()> {
    let (stated, found) = (be32(bytes, at), sum_without(bytes, at));
    // A fuzzer would hardly ever hit the right sum, and never see what lies behind it.
    if stated == found || cfg!(fuzzing) {
        return Ok(());
    }
    Err(Error::corrupt(format!(
        "the checksum of {what} of the VHD is {stated:#010x}, and its bytes make {found:#010x}"
    )))
}

/// Returns the complement of the sum of all bytes except the four at `at`.
fn sum_without(bytes: &[u8], at: usize) -> u32 {
    let others = bytes.iter().enumerate().filter(|(i, _)| !(at..at + 4).contains(i));
    !others.map(|(_, byte)| u32::from(*byte)).sum::<u32>()
}

/// Writes the checksum of `bytes` at `at`.
pub(super) fn seal(bytes: &mut [u8], at: usize) {
    let sum = sum_without(bytes, at);
    bytes[at..at + 4].copy_from_slice(&sum.to_be_bytes());
}

/// Virtual PC, and QEMU as its imitator, show the guest what the geometry holds; all others the size field.
fn guest_size(bytes: &[u8]) -> Result<u64> {
    let current = be64(bytes, 48);
    let geometry = u64::from(be16(bytes, 56)) * u64::from(bytes[58]) * u64::from(bytes[59]);
    let by_geometry = matches!(&bytes[28..32], b"vpc " | b"qemu") && geometry < MAX_GEOMETRY;
    let size = if by_geometry { geometry * 512 } else { current };
    if current > MAX_SIZE {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("a VHD of {current} bytes, at most {MAX_SIZE} are allowed"),
        ));
    }
    if size > current {
        return Err(Error::corrupt(format!("the geometry of the VHD holds {size} bytes, and its size is {current}")));
    }
    if !size.is_multiple_of(512) {
        return Err(Error::corrupt(format!("the size of the VHD, {size} bytes, is not a multiple of 512")));
    }
    Ok(size)
}
