//! Attributes of a record, one after the other, and the list that names those in other records.

use crate::fields::{le16, le32, le64};

/// End of the attributes of a record.
const END: u32 = 0xffff_ffff;
/// Shortest attribute: the header of a resident one.
const LENGTH_MIN: usize = 24;

/// One attribute, or one piece of it.
#[derive(Clone, Copy)]
pub(super) struct Attribute<'a> {
    bytes: &'a [u8],
}

impl<'a> Attribute<'a> {
    pub(super) fn kind(&self) -> u32 {
        le32(self.bytes, 0)
    }

    /// Returns whether it has this name, which is empty for most.
    pub(super) fn is_named(&self, name: &str) -> bool {
        is_name(self.bytes, self.bytes[9].into(), le16(self.bytes, 10).into(), name)
    }

    pub(super) fn flags(&self) -> u16 {
        le16(self.bytes, 12)
    }

    /// Returns the bytes of a value that lies in the record itself.
    pub(super) fn value(&self) -> Option<&'a [u8]> {
        let at = usize::from(le16(self.bytes, 20));
        let length = usize::try_from(le32(self.bytes, 16)).ok()?;
        self.bytes.get(at..at.checked_add(length)?).filter(|_| !self.is_outside())
    }

    /// Returns whether the value lies in clusters of its own.
    pub(super) fn is_outside(&self) -> bool {
        self.bytes[8] != 0
    }

    pub(super) fn first_vcn(&self) -> u64 {
        if self.is_outside() { le64(self.bytes, 16) } else { 0 }
    }

    /// Returns the packed list of runs of a value outside.
    pub(super) fn runs(&self) -> &'a [u8] {
        self.bytes.get(usize::from(le16(self.bytes, 32))..).unwrap_or_default()
    }

    /// Returns the power of two of clusters that are compressed together.
    pub(super) fn compression_power(&self) -> u16 {
        le16(self.bytes, 34)
    }

    pub(super) fn size(&self) -> u64 {
        le64(self.bytes, 48)
    }

    /// Returns how many bytes were ever written; what follows reads as zero.
    pub(super) fn initialized(&self) -> u64 {
        le64(self.bytes, 56)
    }
}

fn is_name(bytes: &[u8], length: usize, at: usize, name: &str) -> bool {
    let found = bytes.get(at..at + 2 * length).unwrap_or_default();
    let units = found.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]]));
    found.len() == 2 * length && units.eq(name.encode_utf16())
}

/// Iterates over the attributes of a record until its end or the first that is broken.
pub(super) fn attributes(record: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    let used = usize::try_from(le32(record, 24)).unwrap_or(usize::MAX).min(record.len());
    let mut at = usize::from(le16(record, 20));
    std::iter::from_fn(move || {
        let length = usize::try_from(le32(record, at + 4)).ok().filter(|length| *length >= LENGTH_MIN)?;
        let end = at.checked_add(length).filter(|end| *end <= used && le32(record, at) != END)?;
        let attribute = Attribute { bytes: &record[at..end] };
        at = end;
        // A header outside is longer; one that was cut reads as zeros.
        Some(attribute)
    })
}

/// Returns the references to the records that hold pieces of the attribute, in the order of `list`.
pub(super) fn listed(list: &[u8], kind: u32, name: &str) -> Vec<u64> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(entry) = list.get(at..).filter(|rest| rest.len() >= 26) {
        if le32(entry, 0) == kind && is_name(entry, entry[6].into(), entry[7].into(), name) {
            found.push(le64(entry, 16));
        }
        match usize::from(le16(entry, 4)) {
            length @ 26.. => at += length,
            _ => break,
        }
    }
    found
}
