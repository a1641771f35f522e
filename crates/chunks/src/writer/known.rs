//! Appending chunks that a client has cut: by their ids where the domain has them, or compressed already.

use bytes::Bytes;

use super::Writer;
use crate::blob::BlobId;
use crate::node::Entry;
use crate::{Error, Result};

impl Writer {
    /// Appends chunks that the domain has already, by their ids. They are granted as any chunk is that is found to be
    /// known: in this writer's session, so that collection leaves them alone.
    ///
    /// Returns the ids that the domain does not have, or not any more; then nothing is appended.
    ///
    /// # Errors
    /// `Invalid` when a chunk that is shorter than the others comes before the last of the content.
    pub async fn write_known(&mut self, ids: &[BlobId]) -> Result<Vec<BlobId>> {
        self.check_whole()?;
        let found = self.store.claim(self.domain.id, ids).await?;
        let missing: Vec<_> = ids.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(id, _)| *id).collect();
        if !missing.is_empty() {
            return Ok(missing);
        }
        let (mut entries, mut length) = (Vec::with_capacity(ids.len()), 0);
        for (id, location) in ids.iter().zip(found.into_iter().flatten()) {
            if length % u64::from(self.store.chunk_size()) != 0 {
                return Err(not_last());
            }
            length += u64::from(location.plain);
            entries.push(Entry { id: *id, key: self.domain.stored_key(location.generation, id).await? });
        }
        if !entries.is_empty() {
            self.append_known(entries, length).await?;
        }
        Ok(Vec::new())
    }

    /// Appends one chunk of `plain` bytes that come as a zstd frame, and returns the bytes. A frame that is short enough is
    /// kept as it came, which spares compressing the chunk again.
    ///
    /// # Errors
    /// `Invalid` when the frame opens to anything else, or the chunk is longer than chunks are, or not the last and shorter.
    pub async fn write_packed(&mut self, frame: Bytes, plain: u32) -> Result<Bytes> {
        self.check_whole()?;
        if plain > self.store.chunk_size() {
            return Err(Error::invalid(format!("a chunk has at most {} bytes, not {plain}", self.store.chunk_size())));
        }
        let (packed, length) = (frame.clone(), plain as usize);
        let opened = self.store.cpu().run(move || zstd::bulk::decompress(&packed, length)).await;
        let bytes = Bytes::from(opened.map_err(|e| Error::invalid("a chunk does not decompress").with_source(e))?);
        if bytes.len() != plain as usize {
            return Err(Error::invalid(format!("a chunk opens to {} bytes instead of {plain}", bytes.len())));
        }
        self.begin(plain.into())?;
        self.frame = Some(frame).filter(|frame| is_one_frame(frame));
        self.cut(bytes.clone()).await?;
        Ok(bytes)
    }

    /// Fails unless what was appended so far is a whole number of chunks.
    pub fn check_whole(&self) -> Result<()> {
        if self.length.is_multiple_of(self.store.chunk_size().into()) { Ok(()) } else { Err(not_last()) }
    }
}

/// Returns whether `bytes` are one frame and nothing else: the library would also open several, one after the other.
fn is_one_frame(bytes: &[u8]) -> bool {
    bytes.starts_with(&zstd::zstd_safe::MAGICNUMBER.to_le_bytes())
        && zstd::zstd_safe::find_frame_compressed_size(bytes).is_ok_and(|length| length == bytes.len())
}

fn not_last() -> Error {
    Error::invalid("a chunk that is shorter than the others is followed by another one")
        .with_hint("only the last chunk may be shorter")
}
