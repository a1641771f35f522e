//! Negotiated transfer: what a client has to know to name chunks of its own domain, and which of them are there.
//!
//! Who has a domain's id key can tell the id of any bytes, and so ask whether the domain has them: it is for those who
//! may read all that is in the domain. It opens nothing: seals have keys of their own.

use model::packs::PackState;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::blob::{BlobId, ZERO_ID};
use crate::head::{Head, HeadFields};
use crate::index::Found;
use crate::reader::Reader;
use crate::store::Store;
use crate::{Error, Result};

impl Store {
    /// Returns the key of which the ids of chunks in `domain` are made, by BLAKE3's keyed hash over the plain bytes. The
    /// domain is made when it is new.
    pub async fn chunk_id_key(&self, domain: Uuid) -> Result<Zeroizing<[u8; 32]>> {
        Ok(self.domain(domain).await?.chunk_id_key().clone())
    }

    /// Returns which of the chunks `ids` are in `domain`, in the same order. That holds for this moment only: a writer that
    /// is to refer to them asks again.
    pub async fn has_chunks(&self, domain: Uuid, ids: &[BlobId]) -> Result<Vec<bool>> {
        // A writer revives what is condemned; what is damaged is better sent again, which makes it whole.
        let usable = |found: &Found| !found.damaged && matches!(found.state, PackState::Sealed | PackState::Condemned);
        Ok(self.find(domain, ids).await?.iter().map(|found| found.as_ref().is_some_and(usable)).collect())
    }
}

impl Reader {
    /// Returns the ids of at most `count` chunks from the chunk `first` on, fewer where the content ends. Reads manifests
    /// only: one segment for each 1024 chunks that are not all zero.
    ///
    /// # Errors
    /// `Invalid` when the content ends before `first`.
    pub async fn chunk_ids(&self, first: u64, count: u64) -> Result<Vec<BlobId>> {
        let (chunks, per_segment) = (self.chunk_count(), self.chunks_per_segment());
        if first > chunks {
            let message = format!("content {} has {chunks} chunks, none from {first} on", self.content());
            return Err(Error::invalid(message));
        }
        let end = first.saturating_add(count).min(chunks);
        let (mut ids, mut at) = (Vec::new(), first);
        while at < end {
            let (segment, skip) = (at / per_segment, (at % per_segment) as usize);
            let here = (end - at).min(per_segment - skip as u64) as usize;
            if self.is_zero_segment(segment) {
                ids.extend(std::iter::repeat_n(ZERO_ID, here));
            } else {
                let entries = self.segment_entries(segment).await?;
                ids.extend(entries.iter().skip(skip).take(here).map(|entry| entry.id));
            }
            at += here as u64;
        }
        Ok(ids)
    }
}

impl Head {
    /// Returns what names the bytes of this content inside its domain: contents of the same bytes have the same one, as
    /// long as the domain's secret is not rotated.
    ///
    /// # Errors
    /// `Corrupt` when the head is damaged.
    pub fn tag(&self) -> Result<[u8; 16]> {
        let HeadFields { domain, length, root, .. } = HeadFields::parse(&self.bytes)?;
        let mut hasher = blake3::Hasher::new_derive_key("molde store 2026 v1 tag of a content");
        hasher.update(domain.as_bytes()).update(&length.to_le_bytes()).update(&root);
        let mut tag = [0; 16];
        hasher.finalize_xof().fill(&mut tag);
        Ok(tag)
    }
}
