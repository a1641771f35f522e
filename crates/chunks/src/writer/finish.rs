//! The end of the pipeline: entries become segments, segments a root, and the root a head.

use super::{Identifying, Writer, sealed_blob};
use crate::Result;
use crate::blob::Kind;
use crate::head::{Head, HeadFields};
use crate::node::{Entry, Node};

impl Writer {
    /// Makes the content durable and returns its head. Finishing the same content twice with the same bytes
    /// returns the first head, so that a job's step may run again. Afterwards nothing can be written, and
    /// [`Writer::stats`] counts all that was.
    ///
    /// # Errors
    /// `Exists` when the content's id has other bytes already.
    pub async fn finish(&mut self) -> Result<Head> {
        self.finish_from(&[]).await
    }

    /// Like [`Writer::finish`] for a content that took over blobs of `sources`; see `Store::publish`.
    pub(crate) async fn finish_from(&mut self, sources: &[HeadFields]) -> Result<Head> {
        self.begin(0)?;
        if !self.cutting.is_empty() {
            self.add_cut().await?;
        }
        self.drain().await?;
        if !self.entries.is_empty() {
            self.close_segment().await?;
        }
        let root = self.write_root().await?;
        self.packer.settle().await?;
        let fields = HeadFields {
            content: self.writing.content,
            domain: self.domain.id,
            length: self.length,
            chunk_size: self.store.chunk_size(),
            root: root.id,
        };
        self.store.publish(&mut self.writing, fields, &root, sources).await
    }

    /// Lists a chunk as the next of the content.
    pub(super) async fn list(&mut self, entry: Entry) -> Result<()> {
        self.entries.push(entry);
        if self.entries.len() == self.store.descriptor().segment_chunks as usize {
            self.close_segment().await?;
        }
        Ok(())
    }

    /// Lists `count` chunks of zeros; whole segments of them at once.
    pub(super) async fn list_zeros(&mut self, mut count: u64) -> Result<()> {
        let per_segment = u64::from(self.store.descriptor().segment_chunks);
        while count > 0 {
            if self.entries.is_empty() && count >= per_segment {
                self.segments.push(Entry::zero());
                count -= per_segment;
            } else {
                self.list(Entry::zero()).await?;
                count -= 1;
            }
        }
        Ok(())
    }

    /// Appends chunks that the domain has already, `length` bytes of them, without touching their bytes.
    /// Only between whole chunks; a shorter last chunk ends the content.
    pub(super) async fn append_known(&mut self, entries: Vec<Entry>, length: u64) -> Result<()> {
        self.begin(length)?;
        self.submit().await?;
        let zero = entries.iter().filter(|entry| entry.is_zero()).count() as u64;
        self.stats.chunks += entries.len() as u64;
        self.stats.zero += zero;
        self.stats.known += entries.len() as u64 - zero;
        self.identifying.push_back(Identifying::Known(entries));
        self.broken = false;
        Ok(())
    }

    /// Appends a full segment that the domain has already. Only between whole segments.
    pub(super) async fn append_segment(&mut self, segment: Entry) -> Result<()> {
        self.begin(self.store.segment_size())?;
        self.submit().await?;
        self.stats.chunks += u64::from(self.store.descriptor().segment_chunks);
        self.identifying.push_back(Identifying::Segment(segment));
        self.broken = false;
        Ok(())
    }

    async fn close_segment(&mut self) -> Result<()> {
        let entries = std::mem::take(&mut self.entries);
        let before = self.segments.len() as u64 * self.store.segment_size();
        let full = entries.len() as u64 * u64::from(self.store.chunk_size());
        let length = full.min(self.length - before);
        let segment = self.write_node(Kind::Segment, entries, length).await?;
        self.segments.push(segment);
        Ok(())
    }

    async fn write_root(&mut self) -> Result<Entry> {
        let segments = std::mem::take(&mut self.segments);
        self.write_node(Kind::Root, segments, self.length).await
    }

    /// Stores a segment or root unless it is known or all zero, and returns its entry.
    async fn write_node(&mut self, kind: Kind, entries: Vec<Entry>, length: u64) -> Result<Entry> {
        if entries.iter().all(Entry::is_zero) {
            return Ok(Entry::zero());
        }
        let node = Node { kind, chunk_size: self.store.chunk_size(), length, entries };
        let domain = std::sync::Arc::clone(&self.domain);
        let identify = move || {
            let plain = node.plain();
            (domain.blob_id(kind, &plain), plain.len(), node)
        };
        let (id, plain, node) = self.store.cpu().run(identify).await;
        if let Some(location) = self.store.claim(self.domain.id, &[id]).await?[0] {
            return Ok(Entry { id, key: self.domain.stored_key(location.generation, &id).await? });
        }
        let entry = Entry { id, key: self.domain.new_key(&id) };
        if !self.packer.promise(id) {
            let (binding, key) = (self.binding(kind, id, plain), entry.key.clone());
            let seal = move || Ok(sealed_blob(node.seal(&binding, &key)?, &binding));
            let blob = self.store.cpu().run(seal).await?;
            self.packer.push(blob).await?;
        }
        Ok(entry)
    }
}
