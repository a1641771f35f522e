//! The header of a sparse extent: 512 bytes, little-endian, and its second copy as a footer in a stream.

use crate::error::{Error, ErrorKind, Result};
use crate::fields::{check_inside, le16, le32, le64, past_end, read_bytes};
use crate::source::Source;

/// The first bytes of a sparse extent.
pub(crate) const MAGIC: &[u8; 4] = b"KDMV";
pub(super) const SECTOR: u64 = 512;
/// Stands for the grain directory where only the footer knows its place.
pub(super) const AT_END: u64 = u64::MAX;
/// The grain directory is at most 32 MiB: 256 TiB of disk with grains of 64 KiB.
pub(super) const MAX_DIRECTORY: u64 = (32 << 20) / 4;
const MAX_DESCRIPTOR: u64 = 1 << 20;
/// The byte of the header that says whether the file was not closed cleanly.
const UNCLEAN: usize = 72;
const LINE_ENDS: &[u8; 4] = b"\n \r\n";

const NEWLINE_TEST: u32 = 1 << 0;
const REDUNDANT: u32 = 1 << 1;
const ZERO_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
const MARKERS: u32 = 1 << 17;

/// Sectors of the descriptor in a new file, which follows the header.
pub(super) const DESCRIPTOR_SECTORS: u64 = 20;
/// Entries of a grain table in a new file.
pub(super) const ENTRIES: u64 = 512;
/// Bytes of a grain in a new file.
pub(super) const GRAIN: u64 = 64 << 10;

/// A header that passed all checks. Places and sizes are in bytes.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) size: u64,
    pub(super) grain: u64,
    pub(super) entries: u64,
    pub(super) directory_offset: u64,
    pub(super) descriptor_offset: u64,
    pub(super) descriptor_length: u64,
    /// No grain lies before this byte.
    pub(super) overhead: u64,
    pub(super) compressed: bool,
    /// Entry 1 of a grain table stands for a grain of zeros.
    pub(super) zero_grains: bool,
    pub(super) unclean: bool,
}

impl Header {
    pub(super) fn read(file: &dyn Source) -> Result<Self> {
        let len = file.len();
        let magic = read_bytes(file, 0, len.min(4) as usize, "the VMDK header")?;
        if magic != MAGIC {
            return Err(Error::new(ErrorKind::WrongFormat, "the file does not begin with the magic number of VMDK"));
        }
        if len < SECTOR {
            return Err(past_end("the VMDK header", 0, SECTOR, len));
        }
        let bytes = read_bytes(file, 0, SECTOR as usize, "the VMDK header")?;
        let (version, flags, algorithm) = (le32(&bytes, 4), le32(&bytes, 8), le16(&bytes, 77));
        if !(1..=3).contains(&version) {
            return Err(Error::unsupported(format!("VMDK version {version}; 1 to 3 are read")));
        }
        if flags & NEWLINE_TEST != 0 && bytes[73..77] != *LINE_ENDS {
            return Err(Error::corrupt("the line ends in the VMDK header were changed")
                .with_hint("the file was transferred as text: transfer it again as binary"));
        }
        let compressed = flags & COMPRESSED != 0;
        if compressed != (algorithm == 1) || algorithm > 1 || compressed != (flags & MARKERS != 0) {
            return Err(Error::unsupported(format!("VMDK flags {flags:#x} with compression {algorithm}")));
        }
        let (directory, unclean) = match le64(&bytes, 56) {
            AT_END => read_footer(file, &bytes)?,
            sector => (sector, bytes[UNCLEAN] != 0),
        };
        let header = Self {
            size: bytes_of("capacity", le64(&bytes, 12))?,
            grain: bytes_of("grain size", le64(&bytes, 20))?,
            entries: u64::from(le32(&bytes, 44)),
            directory_offset: bytes_of("grain directory", directory)?,
            descriptor_offset: bytes_of("descriptor", le64(&bytes, 28))?,
            descriptor_length: bytes_of("descriptor size", le64(&bytes, 36))?,
            overhead: bytes_of("overhead", le64(&bytes, 64))?,
            compressed,
            zero_grains: flags & ZERO_GRAINS != 0,
            unclean,
        };
        header.check(len)?;
        Ok(header)
    }

    /// Bytes of the disk that one grain table covers.
    pub(super) fn covered(&self) -> u64 {
        self.grain * self.entries
    }

    pub(super) fn directory_entries(&self) -> u64 {
        self.size.div_ceil(self.covered())
    }

    fn check(&self, len: u64) -> Result<()> {
        if !self.grain.is_power_of_two() || !(4096..=2 << 20).contains(&self.grain) {
            let grain = self.grain;
            return Err(Error::unsupported(format!(
                "VMDK grains of {grain} bytes; a power of two from 4 KiB to 2 MiB is read"
            )));
        }
        if !(1..=512).contains(&self.entries) {
            return Err(Error::corrupt(format!("grain tables of {} entries, allowed are 1 to 512", self.entries)));
        }
        if self.directory_entries() > MAX_DIRECTORY {
            let size = self.size;
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("a VMDK of {size} bytes needs a directory over 32 MiB"),
            ));
        }
        if self.descriptor_length > MAX_DESCRIPTOR {
            let length = self.descriptor_length;
            return Err(Error::new(ErrorKind::TooLarge, format!("a VMDK descriptor of {length} bytes")));
        }
        check_inside("the descriptor", self.descriptor_offset, self.descriptor_length, len)?;
        check_inside("the grain directory", self.directory_offset, self.directory_entries() * 4, len)
    }
}

/// The header of a new file; places and sizes are in sectors.
pub(super) struct NewHeader {
    pub(super) capacity: u64,
    /// The second copy of the grain directory, if there is one.
    pub(super) redundant: Option<u64>,
    pub(super) directory: u64,
    pub(super) overhead: u64,
    pub(super) compressed: bool,
}

impl NewHeader {
    /// Returns the bytes as VMware writes them: version 1 with two copies of the tables, version 3 for a stream.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let redundant = if self.redundant.is_some() { REDUNDANT } else { 0 };
        let compressed = if self.compressed { COMPRESSED | MARKERS } else { 0 };
        let mut header = Vec::with_capacity(SECTOR as usize);
        header.extend(MAGIC);
        header.extend(if self.compressed { 3_u32 } else { 1 }.to_le_bytes());
        header.extend((NEWLINE_TEST | redundant | compressed).to_le_bytes());
        header.extend(self.capacity.to_le_bytes());
        header.extend((GRAIN / SECTOR).to_le_bytes());
        header.extend(1_u64.to_le_bytes());
        header.extend(DESCRIPTOR_SECTORS.to_le_bytes());
        header.extend((ENTRIES as u32).to_le_bytes());
        header.extend(self.redundant.unwrap_or(0).to_le_bytes());
        header.extend(self.directory.to_le_bytes());
        header.extend(self.overhead.to_le_bytes());
        header.push(0); // Closed cleanly.
        header.extend(LINE_ENDS);
        header.extend(u16::from(self.compressed).to_le_bytes());
        header.resize(SECTOR as usize, 0);
        header
    }
}

/// The error for an extent that belongs to a descriptor elsewhere.
pub(super) fn one_of_several() -> Error {
    Error::refused("the VMDK has no descriptor: it is one extent of a disk of several files")
        .with_hint("give the descriptor file as the image and this file with it: --extent FILE")
}

/// Turns sectors into bytes.
pub(super) fn bytes_of(what: &str, sectors: u64) -> Result<u64> {
    match sectors.checked_mul(SECTOR) {
        // Such numbers are also safe to add to each other.
        Some(bytes) if bytes < 1 << 62 => Ok(bytes),
        _ => Err(Error::corrupt(format!("the {what} of the VMDK is {sectors} sectors"))),
    }
}

/// Reads the end of a stream: a marker, the footer, and the marker of the end. Returns where the directory lies, in sectors,
/// and whether the file was not closed cleanly: the header of a stream was written when that was not known.
fn read_footer(file: &dyn Source, header: &[u8]) -> Result<(u64, bool)> {
    let cut = "the VMDK stream does not end with its footer";
    let hint = "the file was cut or is damaged: copy it again and compare checksums";
    let Some(offset) = file.len().checked_sub(3 * SECTOR).filter(|offset| *offset >= SECTOR) else {
        return Err(Error::corrupt(cut).with_hint(hint));
    };
    let bytes = read_bytes(file, offset, 3 * SECTOR as usize, "the VMDK footer")?;
    let (marker, rest) = bytes.split_at(SECTOR as usize);
    let (footer, end) = rest.split_at(SECTOR as usize);
    if (le64(marker, 0), le32(marker, 8), le32(marker, 12)) != (1, 0, 3) || !footer.starts_with(MAGIC) {
        return Err(Error::corrupt(cut).with_hint(hint));
    }
    if end.iter().any(|byte| *byte != 0) {
        return Err(Error::corrupt("the VMDK stream does not end with the marker of its end"));
    }
    let same = |from: usize, to: usize| footer[from..to] == header[from..to];
    if !same(0, 56) || !same(64, UNCLEAN) || !same(UNCLEAN + 1, SECTOR as usize) {
        return Err(Error::corrupt("the VMDK footer differs from the header"));
    }
    match le64(footer, 56) {
        AT_END => Err(Error::corrupt("the VMDK footer does not say where the grain directory is")),
        sector => Ok((sector, footer[UNCLEAN] != 0)),
    }
}
