//! Packs: objects of about 16 MiB that hold blobs in the order of writing, with a footer that lists them.
//!
//! blob | blob | ... | one entry per blob | trailer. The footer needs no key, so an index is rebuilt, and
//! every blob is scrubbed or copied, without one. Layout in `docs/formats/store.md`, section "Packs".

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::backend::Backend;
use crate::blob::{BlobId, Kind};
use crate::index::Location;
use crate::record::{CHECKSUM_LENGTH, Fields, VERSION};
use crate::{Error, ErrorKind, Result};

const MAGIC: [u8; 8] = *b"MOLDE-PK";
const ENTRY_LENGTH: usize = 100;
const TRAILER_LENGTH: usize = 84;
/// Length of blobs at which a pack is closed, unless the options say otherwise.
pub(crate) const BLOBS_LENGTH: u32 = 16 * 1024 * 1024;
/// Length of blobs at which a pack is closed where too many are in memory.
const SMALL_LENGTH: usize = 1024 * 1024;
/// Largest length at which a pack may be closed.
pub(crate) const BLOBS_LENGTH_MAX: u32 = 32 * 1024 * 1024;
/// A pack is closed at this many blobs, which bounds its footer to 400 KiB.
pub(crate) const BLOBS_MAX: usize = 4096;
/// Read at the end of a pack in the hope that the whole footer is inside: it is for 160 blobs.
const TAIL_LENGTH: u64 = 16 * 1024 + TRAILER_LENGTH as u64;

/// Returns the name of a pack.
pub(crate) fn name(pack: Uuid) -> String {
    format!("packs/{pack}")
}

/// Returns the id of the pack that has this name.
pub(crate) fn id_of(name: &str) -> Option<Uuid> {
    let id = name.strip_prefix("packs/").and_then(|id| Uuid::try_parse(id).ok())?;
    (self::name(id) == name).then_some(id)
}

/// What the footer says of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackEntry {
    pub(crate) kind: Kind,
    pub(crate) domain: Uuid,
    pub(crate) id: BlobId,
    pub(crate) location: Location,
    /// BLAKE3 of the stored bytes.
    pub(crate) outer: [u8; 32],
}

/// A pack that is being filled.
pub(crate) struct PackBuilder {
    pub(crate) id: Uuid,
    store: Uuid,
    rooms: Arc<Semaphore>,
    /// The room in which it lies, once it has a blob; without one it stays small.
    room: Option<OwnedSemaphorePermit>,
    /// The pack is closed before its blobs exceed this; a single larger blob has a pack of its own.
    limit: usize,
    blobs: Vec<Bytes>,
    pub(crate) entries: Vec<PackEntry>,
    length: usize,
}

impl PackBuilder {
    /// Begins a pack of up to `limit` bytes of blobs, or [`SMALL_LENGTH`] if all of `rooms` are taken at its first one.
    pub(crate) fn new(store: Uuid, limit: u32, rooms: Arc<Semaphore>) -> Self {
        // Random, not by time: the last digits of the id choose a folder.
        let id = Uuid::new_v4();
        let (limit, blobs, entries) = (limit as usize, Vec::new(), Vec::new());
        Self { id, store, rooms, room: None, limit, blobs, entries, length: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether a blob of `stored` bytes still fits.
    pub(crate) fn fits(&self, stored: usize) -> bool {
        self.is_empty() || (self.length + stored <= self.limit && self.entries.len() < BLOBS_MAX)
    }

    /// Appends a blob.
    pub(crate) fn push(&mut self, blob: SealedBlob) {
        if self.is_empty() {
            self.room = Arc::clone(&self.rooms).try_acquire_owned().ok();
            if self.room.is_none() {
                self.limit = self.limit.min(SMALL_LENGTH);
            }
        }
        let location = Location {
            pack: self.id,
            offset: self.length as u32,
            stored: blob.stored.len() as u32,
            plain: blob.plain,
            generation: blob.generation,
        };
        self.length += blob.stored.len();
        self.entries.push(PackEntry { kind: blob.kind, domain: blob.domain, id: blob.id, location, outer: blob.outer });
        self.blobs.push(blob.stored);
    }

    /// Closes the pack: the parts of its object, and what it holds.
    pub(crate) fn finish(self) -> FullPack {
        let footer = footer(self.id, self.store, self.length as u32, &self.entries);
        let size = (self.length + footer.len()) as u64;
        let mut parts = self.blobs;
        parts.push(footer.into());
        FullPack { id: self.id, size, parts, entries: self.entries, _room: self.room }
    }
}

/// A blob ready to be packed.
pub(crate) struct SealedBlob {
    pub(crate) kind: Kind,
    pub(crate) domain: Uuid,
    pub(crate) id: BlobId,
    pub(crate) generation: u32,
    pub(crate) plain: u32,
    pub(crate) outer: [u8; 32],
    pub(crate) stored: Bytes,
}

/// A pack ready to be written.
pub(crate) struct FullPack {
    pub(crate) id: Uuid,
    pub(crate) size: u64,
    pub(crate) parts: Vec<Bytes>,
    pub(crate) entries: Vec<PackEntry>,
    /// Held until it is written.
    _room: Option<OwnedSemaphorePermit>,
}

fn footer(pack: Uuid, store: Uuid, blobs_length: u32, entries: &[PackEntry]) -> Vec<u8> {
    let mut footer = Vec::with_capacity(entries.len() * ENTRY_LENGTH + TRAILER_LENGTH);
    for entry in entries {
        let Location { offset, stored, plain, generation, .. } = entry.location;
        for number in [entry.kind as u32, offset, stored, plain, generation] {
            footer.extend_from_slice(&number.to_le_bytes());
        }
        footer.extend_from_slice(entry.domain.as_bytes());
        footer.extend_from_slice(&entry.id);
        footer.extend_from_slice(&entry.outer);
    }
    footer.extend_from_slice(&(entries.len() as u32).to_le_bytes());
    footer.extend_from_slice(&blobs_length.to_le_bytes());
    footer.extend_from_slice(pack.as_bytes());
    footer.extend_from_slice(store.as_bytes());
    footer.extend_from_slice(&MAGIC);
    footer.extend_from_slice(&VERSION.to_le_bytes());
    let checksum = blake3::hash(&footer);
    footer.extend_from_slice(checksum.as_bytes());
    footer
}

/// Reads and checks the footer of a pack; returns the entries, which cover the pack without a gap.
pub(crate) async fn read_footer(backend: &dyn Backend, pack: Uuid, store: Uuid) -> Result<(u64, Vec<PackEntry>)> {
    let (name, what) = (name(pack), format!("the footer of pack {pack}"));
    let missing = |error: Error| match error.kind() {
        ErrorKind::NotFound => Error::corrupt(format!("pack {pack} is missing")).with_source(error),
        _ => error,
    };
    let size = backend.size(&name).await.map_err(missing)?;
    let length = size.min(TAIL_LENGTH);
    let mut tail = backend.get_range(&name, size - length, length as usize).await.map_err(missing)?;
    let length = footer_length(&what, size, &tail)?;
    if length > tail.len() as u64 {
        tail = backend.get_range(&name, size - length, length as usize).await.map_err(missing)?;
    }
    let footer = tail.slice(tail.len() - length as usize..);
    parse_footer(&what, pack, store, size, &footer).map(|entries| (size, entries))
}

/// Returns how long the footer is that ends with `tail`, at most the pack.
fn footer_length(what: &str, size: u64, tail: &[u8]) -> Result<u64> {
    let cut = || Error::corrupt(format!("{what} is cut short"));
    let trailer = tail.last_chunk::<TRAILER_LENGTH>().ok_or_else(cut)?;
    let count = u64::from(Fields::new(what, trailer).u32()?);
    let length = count * ENTRY_LENGTH as u64 + TRAILER_LENGTH as u64;
    if count > BLOBS_MAX as u64 || length > size {
        return Err(Error::corrupt(format!("{what} was changed: it cannot list {count} blobs")));
    }
    Ok(length)
}

fn parse_footer(what: &str, pack: Uuid, store: Uuid, size: u64, footer: &[u8]) -> Result<Vec<PackEntry>> {
    let Some((body, checksum)) = footer.split_last_chunk::<CHECKSUM_LENGTH>() else {
        return Err(Error::corrupt(format!("{what} is cut short")));
    };
    if blake3::hash(body) != *checksum {
        return Err(Error::corrupt(format!("{what} was changed: its checksum is wrong")));
    }
    let (entries, trailer) = body.split_at(footer.len() - TRAILER_LENGTH);
    let mut fields = Fields::new(what, trailer);
    let (_count, blobs_length) = (fields.u32()?, fields.u32()?);
    if (fields.uuid()?, fields.uuid()?, fields.array()?) != (pack, store, MAGIC) {
        return Err(Error::corrupt(format!("{what} is that of another pack or store")));
    }
    let version = fields.u32()?;
    if version != VERSION {
        let message = format!("{what} has format version {version}; this release knows only version {VERSION}");
        return Err(Error::new(ErrorKind::Version, message));
    }
    let (entries, _) = entries.as_chunks::<ENTRY_LENGTH>();
    let mut end = 0;
    let mut parsed = Vec::with_capacity(entries.len());
    for entry in entries {
        let entry = parse_entry(what, pack, entry)?;
        if entry.location.offset != end {
            return Err(Error::corrupt(format!("{what} leaves a gap at offset {end}")));
        }
        end = end.checked_add(entry.location.stored).ok_or_else(|| Error::corrupt(format!("{what} overflows")))?;
        parsed.push(entry);
    }
    if end != blobs_length || u64::from(end) + footer.len() as u64 != size {
        return Err(Error::corrupt(format!("{what} does not match the length of the pack")));
    }
    Ok(parsed)
}

fn parse_entry(what: &str, pack: Uuid, bytes: &[u8]) -> Result<PackEntry> {
    let mut fields = Fields::new(what, bytes);
    let kind = u8::try_from(fields.u32()?).ok().and_then(Kind::from_byte);
    let kind = kind.ok_or_else(|| Error::corrupt(format!("{what} lists a blob of an unknown kind")))?;
    let (offset, stored, plain, generation) = (fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?);
    Ok(PackEntry {
        kind,
        domain: fields.uuid()?,
        id: fields.array()?,
        location: Location { pack, offset, stored, plain, generation },
        outer: fields.array()?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PACK: Uuid = Uuid::from_u128(1);
    const STORE: Uuid = Uuid::from_u128(2);

    fn entry(offset: u32, stored: u32) -> PackEntry {
        let location = Location { pack: PACK, offset, stored, plain: 5, generation: 1 };
        PackEntry { kind: Kind::Chunk, domain: Uuid::nil(), id: [1; 32], location, outer: [2; 32] }
    }

    fn parse(blobs: u32, entries: &[PackEntry]) -> Result<Vec<PackEntry>> {
        let footer = footer(PACK, STORE, blobs, entries);
        parse_footer("the footer", PACK, STORE, u64::from(blobs) + footer.len() as u64, &footer)
    }

    #[test]
    fn a_footer_must_cover_the_pack_without_gap_or_overlap() {
        let good = [entry(0, 10), entry(10, 0), entry(10, 7)];
        assert_eq!(parse(17, &good).unwrap(), good);
        assert_eq!(parse(0, &[]).unwrap(), []);
        for (blobs, bad) in [
            (17, vec![entry(0, 10), entry(11, 6)]),
            (17, vec![entry(0, 10), entry(9, 8)]),
            (17, vec![entry(7, 10)]),
            (18, good.to_vec()),
            (16, good.to_vec()),
            (9, vec![entry(0, u32::MAX), entry(u32::MAX, 10)]),
        ] {
            assert_eq!(parse(blobs, &bad).unwrap_err().kind(), ErrorKind::Corrupt, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_footer_with_a_right_checksum_is_refused_without_a_panic(
            mut body in proptest::collection::vec(any::<u8>(), TRAILER_LENGTH - CHECKSUM_LENGTH..500),
            size: u64,
        ) {
            let checksum = blake3::hash(&body);
            body.extend_from_slice(checksum.as_bytes());
            prop_assert!(parse_footer("the footer", PACK, STORE, size, &body).is_err());
            let _ = footer_length("the footer", size, &body);
        }
    }
}
