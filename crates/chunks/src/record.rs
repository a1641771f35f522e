//! Small stored records: fixed fields, little-endian, with a checksum in the last 32 bytes.
//!
//! In every version of every record `magic (8) | version (4)` come first and the BLAKE3 hash of all bytes
//! before it comes last. So damage is told from a newer release: the checksum is looked at first.

use uuid::Uuid;

use crate::{Error, ErrorKind, Result};

/// The version of every record that this release writes, and the only one it reads.
pub(crate) const VERSION: u32 = 1;
pub(crate) const CHECKSUM_LENGTH: usize = 32;

/// Builds a record.
pub(crate) struct RecordWriter(Vec<u8>);

impl RecordWriter {
    pub(crate) fn new(magic: [u8; 8]) -> Self {
        Self(magic.to_vec()).u32(VERSION)
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Returns what was written so far, which a seal may bind.
    pub(crate) fn so_far(&self) -> &[u8] {
        &self.0
    }

    /// Appends the checksum.
    pub(crate) fn finish(self) -> Vec<u8> {
        let checksum = blake3::hash(&self.0);
        self.bytes(checksum.as_bytes()).0
    }
}

/// Checks the frame of the record that `what` names and returns its fields.
pub(crate) fn open_record<'a>(what: &'a str, magic: [u8; 8], record: &'a [u8]) -> Result<Fields<'a>> {
    let Some((body, checksum)) = record.split_last_chunk::<CHECKSUM_LENGTH>() else {
        return Err(Error::corrupt(format!("{what} is cut short: it has {} bytes", record.len())));
    };
    if blake3::hash(body) != *checksum {
        return Err(Error::corrupt(format!("{what} was changed: its checksum is wrong")));
    }
    let mut fields = Fields { what, rest: body };
    if fields.array()? != magic {
        return Err(Error::corrupt(format!("{what} is something else: it begins with the wrong bytes")));
    }
    let version = fields.u32()?;
    if version != VERSION {
        let message = format!("{what} has format version {version}; this release knows only version {VERSION}");
        return Err(Error::new(ErrorKind::Version, message).with_hint("use a release at least as new as its writer"));
    }
    Ok(fields)
}

/// Takes fields from bytes, one after the other, refusing bytes that end early.
pub(crate) struct Fields<'a> {
    what: &'a str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(what: &'a str, bytes: &'a [u8]) -> Self {
        Self { what, rest: bytes }
    }

    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(length) else {
            return Err(Error::corrupt(format!("{} ends too early", self.what)));
        };
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    /// Takes all that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    /// Refuses bytes after the last field.
    pub(crate) fn end(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Error::corrupt(format!("{} has {} bytes too many", self.what, self.rest.len())))
    }
}
