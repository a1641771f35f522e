//! The store descriptor: the object `store`, which says how everything else is cut.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::backend::Backend;
use crate::record::{RecordWriter, open_record};
use crate::{Error, ErrorKind, Result};

const NAME: &str = "store";
const MAGIC: [u8; 8] = *b"MOLDE-ST";
/// Sizes that a chunk may have, in bytes; a power of two.
const CHUNK_SIZES: std::ops::RangeInclusive<u32> = 4 * 1024..=4 * 1024 * 1024;
/// Entries that a segment may have.
const SEGMENT_CHUNKS: std::ops::RangeInclusive<u32> = 2..=16 * 1024;

/// The constants of a repository, fixed when it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) store: Uuid,
    /// Bytes of every chunk but the last of a content.
    pub(crate) chunk_size: u32,
    /// Chunks of every segment but the last of a content.
    pub(crate) segment_chunks: u32,
}

impl Descriptor {
    /// Reads the descriptor of the store in `backend`, or makes one when there is no store yet.
    pub(crate) async fn open(backend: &Arc<dyn Backend>, chunk_size: u32, segment_chunks: u32) -> Result<Self> {
        match backend.get(NAME).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            found => return Self::parse(&found?),
        }
        if !backend.list("domains/").await?.is_empty() {
            return Err(Error::corrupt("the store has lost its descriptor, the object `store`")
                .with_hint("restore that object from a backup or a replica; do not start with an empty one"));
        }
        let new = Self { store: Uuid::new_v4(), chunk_size, segment_chunks };
        new.check()?;
        match backend.put(NAME, vec![Bytes::from(new.to_bytes())]).await {
            Err(error) if error.kind() != ErrorKind::Exists => Err(error),
            // Written, or another process was first: either way what lies there counts.
            _ => Self::parse(&backend.get(NAME).await?),
        }
    }

    fn check(&self) -> Result<()> {
        let Self { chunk_size, segment_chunks, .. } = self;
        if !CHUNK_SIZES.contains(chunk_size) || !chunk_size.is_power_of_two() {
            return Err(Error::invalid(format!("chunks cannot have {chunk_size} bytes")));
        }
        if !SEGMENT_CHUNKS.contains(segment_chunks) {
            return Err(Error::invalid(format!("segments cannot have {segment_chunks} chunks")));
        }
        Ok(())
    }

    fn to_bytes(self) -> Vec<u8> {
        RecordWriter::new(MAGIC).bytes(self.store.as_bytes()).u32(self.chunk_size).u32(self.segment_chunks).finish()
    }

    fn parse(bytes: &[u8]) -> Result<Self> {
        let mut fields = open_record("the store descriptor", MAGIC, bytes)?;
        let found = Self { store: fields.uuid()?, chunk_size: fields.u32()?, segment_chunks: fields.u32()? };
        fields.end()?;
        found.check().map_err(|e| Error::corrupt("the store descriptor has impossible sizes").with_source(e))?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBackend;

    async fn open(backend: &Arc<dyn Backend>) -> Result<Descriptor> {
        Descriptor::open(backend, 512 * 1024, 1024).await
    }

    #[tokio::test]
    async fn the_first_opening_decides() {
        let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        let first = open(&backend).await.unwrap();
        assert_eq!(Descriptor::open(&backend, 4096, 4).await.unwrap(), first);
        let zero = Descriptor::open(&(Arc::new(MemoryBackend::new()) as _), 5000, 4).await.unwrap_err();
        assert_eq!(zero.kind(), ErrorKind::Invalid);
    }

    #[tokio::test]
    async fn an_unknown_version_is_refused_with_a_sentence() {
        let memory = Arc::new(MemoryBackend::new());
        let mut newer = b"MOLDE-ST\x02\0\0\0".to_vec();
        newer.extend_from_slice(&[1; 40]);
        let checksum = blake3::hash(&newer);
        newer.extend_from_slice(checksum.as_bytes());
        memory.overwrite("store", newer.into());
        let error = open(&(memory as _)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Version);
        assert!(error.to_string().contains("version 2"), "{error}");
    }

    #[tokio::test]
    async fn a_lost_descriptor_is_not_replaced() {
        let memory = Arc::new(MemoryBackend::new());
        memory.overwrite("domains/x/00000001", Bytes::from_static(b"secret"));
        assert_eq!(open(&(memory as _)).await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
