//! The two headers of a VHDX file, of which the newer is in force, and the two copies of its region table.

use uuid::Uuid;

use super::structures::{
    BAT_REGION, HEADER_LENGTH, HEADERS, MAX_ENTRIES, METADATA_REGION, MIB, REGION_TABLES, SIGNATURE, TABLE_LENGTH,
    guid, is_sound,
};
use crate::claims::Claims;
use crate::error::{Error, ErrorKind, Result};
use crate::fields::{check_inside, le16, le32, le64, read_bytes};
use crate::source::Source;

/// A part of the file, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Region {
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl Region {
    /// Checks that the region of `what` begins and ends at whole MiB, behind the header section and inside the file.
    fn check(&self, what: &str, file: &dyn Source) -> Result<()> {
        let Self { offset, length } = *self;
        if offset < MIB || !offset.is_multiple_of(MIB) || !length.is_multiple_of(MIB) {
            return Err(Error::corrupt(format!(
                "{what} has {length} bytes at byte {offset}; it must be whole MiB behind the first"
            )));
        }
        check_inside(what, offset, length, file.len())
    }

    fn claim(&self, what: &str, claims: &mut Claims) -> Result<()> {
        if claims.take(self.offset, self.length) {
            return Ok(());
        }
        Err(Error::corrupt(format!("{what} at byte {} of the file overlaps another structure", self.offset)))
    }
}

/// What the header in force says.
#[derive(Debug)]
pub(super) struct Header {
    /// The log is empty if this is nil; else its entries bear it.
    pub(super) log_guid: Uuid,
    pub(super) log: Region,
}

impl Header {
    /// Reads both headers and checks the one in force (MS-VHDX 2.2.2).
    pub(super) fn read(file: &dyn Source) -> Result<Self> {
        let begins = file.len() >= SIGNATURE.len() as u64;
        if !begins || read_bytes(file, 0, SIGNATURE.len(), "the VHDX signature")? != SIGNATURE {
            return Err(Error::new(ErrorKind::WrongFormat, "the file does not have the signature of VHDX"));
        }
        let read = |at| read_bytes(file, at, HEADER_LENGTH, "a VHDX header");
        let bytes = current(read(HEADERS[0])?, read(HEADERS[1])?)?;
        if le16(&bytes, 66) != 1 {
            return Err(Error::unsupported(format!("VHDX version {}; only 1 is read", le16(&bytes, 66))));
        }
        let log = Region { offset: le64(&bytes, 72), length: u64::from(le32(&bytes, 68)) };
        let header = Self { log_guid: guid(&bytes, 48), log };
        if !header.log_guid.is_nil() && le16(&bytes, 64) != 0 {
            return Err(Error::unsupported(format!("VHDX log version {}; only 0 is read", le16(&bytes, 64))));
        }
        header.log.check("the log", file)?;
        Ok(header)
    }
}

/// Returns the header that is valid and has the higher sequence number. Some writers make two that are the same.
fn current(first: Vec<u8>, second: Vec<u8>) -> Result<Vec<u8>> {
    let sequence = |bytes: &[u8]| is_sound(bytes, b"head").then(|| le64(bytes, 8));
    match (sequence(&first), sequence(&second)) {
        (None, None) => Err(Error::corrupt("neither header of the VHDX is sound: both signatures or checksums fail")
            .with_hint("the file is damaged: copy it again and compare checksums")),
        (one, other) if one > other => Ok(first),
        (one, other) if one == other && first != second => {
            Err(Error::corrupt("the two headers of the VHDX have one sequence number and differ"))
        }
        _ => Ok(second),
    }
}

/// The regions that every VHDX file has.
#[derive(Debug)]
pub(super) struct Regions {
    pub(super) bat: Region,
    pub(super) metadata: Region,
}

impl Regions {
    /// Reads the region table (MS-VHDX 2.2.3) and claims the header section, the log and all regions.
    pub(super) fn read(file: &dyn Source, log: &Region, claims: &mut Claims) -> Result<Self> {
        Region { offset: 0, length: MIB }.claim("the header section", claims)?;
        log.claim("the log", claims)?;
        let bytes = region_table(file)?;
        let count = le32(&bytes, 8) as usize;
        if count > MAX_ENTRIES {
            return Err(Error::corrupt(format!("the region table has {count} entries, at most {MAX_ENTRIES} fit")));
        }
        let (mut bat, mut metadata) = (None, None);
        for entry in bytes[16..].chunks_exact(32).take(count) {
            let id = guid(entry, 0);
            let region = Region { offset: le64(entry, 16), length: u64::from(le32(entry, 24)) };
            let slot = match id {
                BAT_REGION => &mut bat,
                METADATA_REGION => &mut metadata,
                _ if le32(entry, 28) & 1 == 0 => &mut None,
                _ => return Err(Error::unsupported(format!("the VHDX requires the region {id}, which is not known"))),
            };
            if slot.replace(region).is_some() {
                return Err(Error::corrupt(format!("the region table names the region {id} twice")));
            }
            region.check(&format!("the region {id}"), file)?;
            region.claim(&format!("the region {id}"), claims)?;
        }
        match (bat, metadata) {
            (Some(bat), Some(metadata)) => Ok(Self { bat, metadata }),
            (None, _) => Err(Error::corrupt("the region table names no block allocation table")),
            (_, None) => Err(Error::corrupt("the region table names no metadata region")),
        }
    }
}

/// Returns the region table. Both copies are written through the log, so what is sound in both must be the same.
fn region_table(file: &dyn Source) -> Result<Vec<u8>> {
    let read = |at| read_bytes(file, at, TABLE_LENGTH, "a VHDX region table");
    let (first, second) = (read(REGION_TABLES[0])?, read(REGION_TABLES[1])?);
    match (is_sound(&first, b"regi"), is_sound(&second, b"regi")) {
        (true, true) if first != second => Err(Error::corrupt("the two region tables of the VHDX differ")),
        (true, _) => Ok(first),
        (false, true) => Ok(second),
        (false, false) => {
            Err(Error::corrupt("neither region table of the VHDX is sound: both signatures or checksums fail"))
        }
    }
}
