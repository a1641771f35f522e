//! Manifest blobs: segments, which list chunks, and the root, which lists segments.
//!
//! Both have one layout. The *refs* part (header and ids) is plain, so that collection and replication need
//! no key; the *keys* part (the key of each entry that is not zero) is sealed under the blob's own key, and
//! that seal binds the refs. Layout in `docs/formats/store.md`, section "Segments and roots".

use keys::cipher;
use zeroize::Zeroizing;

use crate::blob::{Binding, BlobId, BlobKey, Kind, ZERO_ID};
use crate::record::{Fields, VERSION};
use crate::{Error, Result};

/// Bytes before the first id.
const HEADER_LENGTH: usize = 24;
const ID_LENGTH: usize = 32;
/// Segments that one root may list: contents end at 65536 x 1024 chunks of 512 KiB = 32 TiB.
pub(crate) const ROOT_ENTRIES_MAX: usize = 64 * 1024;
/// Largest plain form of a segment or root.
pub(crate) const NODE_LENGTH_MAX: usize = HEADER_LENGTH + ROOT_ENTRIES_MAX * (ID_LENGTH + cipher::KEY_LENGTH);

/// A child of a segment or root: its id and the key that opens it, or zeros.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) id: BlobId,
    pub(crate) key: BlobKey,
}

impl Entry {
    /// The entry of a child that is all zero.
    pub(crate) fn zero() -> Self {
        Self { id: ZERO_ID, key: Zeroizing::new([0; cipher::KEY_LENGTH]) }
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.id == ZERO_ID
    }
}

/// A segment or root with its keys.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) chunk_size: u32,
    /// Bytes of content that its entries cover.
    pub(crate) length: u64,
    pub(crate) entries: Vec<Entry>,
}

impl Node {
    /// Returns the refs part.
    fn refs(&self) -> Vec<u8> {
        let mut refs = Vec::with_capacity(HEADER_LENGTH + self.entries.len() * ID_LENGTH);
        refs.extend_from_slice(&VERSION.to_le_bytes());
        refs.extend_from_slice(&self.chunk_size.to_le_bytes());
        refs.extend_from_slice(&self.length.to_le_bytes());
        refs.extend_from_slice(&count_of(&self.entries).to_le_bytes());
        refs.extend_from_slice(&(self.kind as u32).to_le_bytes());
        for entry in &self.entries {
            refs.extend_from_slice(&entry.id);
        }
        refs
    }

    /// Returns the plain form, of which the id is made: the refs and then the keys of what is not zero.
    pub(crate) fn plain(&self) -> Zeroizing<Vec<u8>> {
        // Sized in advance: a vector that grows would leave copies of keys behind.
        let mut plain = Vec::with_capacity(HEADER_LENGTH + self.entries.len() * (ID_LENGTH + cipher::KEY_LENGTH));
        plain.extend_from_slice(&self.refs());
        for entry in self.entries.iter().filter(|entry| !entry.is_zero()) {
            plain.extend_from_slice(&*entry.key);
        }
        Zeroizing::new(plain)
    }

    /// Returns the stored form: the refs, then the sealed keys.
    pub(crate) fn seal(&self, binding: &Binding, key: &BlobKey) -> Result<Vec<u8>> {
        let (refs, plain) = (self.refs(), self.plain());
        let sealed = cipher::seal(key, &aad(binding, &refs), &plain[refs.len()..])
            .map_err(|e| Error::keys("seal a manifest", e))?;
        Ok([refs, sealed].concat())
    }

    /// Opens what [`Node::seal`] made. `stored` must be bounded by the caller.
    pub(crate) fn open(stored: &[u8], binding: &Binding, key: &BlobKey) -> Result<Self> {
        let refs = Refs::parse(binding.kind, stored)?;
        let (plain_refs, sealed) = stored.split_at(HEADER_LENGTH + refs.ids.len() * ID_LENGTH);
        let keys = cipher::open(key, &aad(binding, plain_refs), sealed)
            .map(Zeroizing::new)
            .map_err(|e| Error::corrupt(format!("the seal of a {} is broken", binding.kind)).with_source(e))?;
        let (mut keys, rest) = keys.as_chunks::<{ cipher::KEY_LENGTH }>();
        let mut entries = Vec::with_capacity(refs.ids.len());
        for id in refs.ids {
            let mut entry = Entry { id, ..Entry::zero() };
            if !entry.is_zero() {
                let Some((key, after)) = keys.split_first() else { return Err(wrong_keys(binding.kind)) };
                entry.key = Zeroizing::new(*key);
                keys = after;
            }
            entries.push(entry);
        }
        if !keys.is_empty() || !rest.is_empty() {
            return Err(wrong_keys(binding.kind));
        }
        Ok(Self { kind: binding.kind, chunk_size: refs.chunk_size, length: refs.length, entries })
    }
}

/// What a segment or root says to those who have no key.
pub(crate) struct Refs {
    pub(crate) chunk_size: u32,
    pub(crate) length: u64,
    pub(crate) ids: Vec<BlobId>,
}

impl Refs {
    /// Reads the refs part at the beginning of a stored segment or root.
    pub(crate) fn parse(kind: Kind, stored: &[u8]) -> Result<Self> {
        let what = format!("a {kind}");
        let mut fields = Fields::new(&what, stored);
        // A head leads only to blobs of its own version, so another one here is damage.
        if fields.u32()? != VERSION {
            return Err(Error::corrupt(format!("{what} has an impossible version")));
        }
        let (chunk_size, length, count) = (fields.u32()?, fields.u64()?, fields.u32()? as usize);
        if fields.u32()? != kind as u32 || count > ROOT_ENTRIES_MAX {
            return Err(Error::corrupt(format!("{what} has impossible fields")));
        }
        let (ids, _) = fields.take(count * ID_LENGTH)?.as_chunks::<ID_LENGTH>();
        Ok(Self { chunk_size, length, ids: ids.to_vec() })
    }
}

fn count_of(entries: &[Entry]) -> u32 {
    u32::try_from(entries.len()).expect("a node has at most ROOT_ENTRIES_MAX entries")
}

fn aad(binding: &Binding, refs: &[u8]) -> Vec<u8> {
    [binding.aad(0).as_slice(), refs].concat()
}

fn wrong_keys(kind: Kind) -> Error {
    Error::corrupt(format!("a {kind} has the wrong number of keys"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn binding(id: u8, plain: usize) -> Binding {
        let plain = u32::try_from(plain).unwrap();
        Binding { kind: Kind::Segment, domain: Uuid::nil(), generation: 1, id: [id; 32], plain }
    }

    fn entry(number: u8) -> Entry {
        if number == 0 { Entry::zero() } else { Entry { id: [number; 32], key: Zeroizing::new([!number; 32]) } }
    }

    proptest! {
        #[test]
        fn opens_what_it_sealed_and_its_refs_need_no_key(numbers in proptest::collection::vec(0_u8..5, 0..40)) {
            let entries: Vec<_> = numbers.iter().copied().map(entry).collect();
            let node = Node { kind: Kind::Segment, chunk_size: 4096, length: 77, entries };
            let (binding, key) = (binding(9, node.plain().len()), Zeroizing::new([3; 32]));
            let stored = node.seal(&binding, &key).unwrap();
            prop_assert_eq!(stored.len(), node.plain().len() + cipher::OVERHEAD);

            let opened = Node::open(&stored, &binding, &key).unwrap();
            prop_assert_eq!((opened.chunk_size, opened.length), (4096, 77));
            prop_assert!(opened.entries.iter().zip(&node.entries).all(|(a, b)| a.id == b.id && *a.key == *b.key));
            let refs = Refs::parse(Kind::Segment, &stored).unwrap();
            prop_assert_eq!(refs.ids, numbers.iter().map(|number| [*number; 32]).collect::<Vec<_>>());
            prop_assert!(Refs::parse(Kind::Root, &stored).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(mut stored in proptest::collection::vec(any::<u8>(), 0..300), frame: bool) {
            if frame && stored.len() >= 24 {
                stored[..4].copy_from_slice(&VERSION.to_le_bytes());
                stored[17..20].fill(0);
                stored[20..24].copy_from_slice(&[2, 0, 0, 0]);
            }
            prop_assert!(Node::open(&stored, &binding(9, 100), &Zeroizing::new([3; 32])).is_err());
        }
    }
}
