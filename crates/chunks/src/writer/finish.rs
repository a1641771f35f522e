//! The end of the pipeline: entries become segments, segments a root, and the root a head.

use bytes::Bytes;

use super::{Writer, sealed_blob};
use crate::blob::Kind;
use crate::head::{self, Head, HeadFields};
use crate::node::{Entry, Node};
use crate::{Error, ErrorKind, Result};

impl Writer {
    /// Makes the content durable and returns its head. Finishing the same content twice with the same bytes
    /// returns the first head, so that a job's step may run again.
    ///
    /// # Errors
    /// `Exists` when the content's id has other bytes already.
    pub async fn finish(mut self) -> Result<Head> {
        self.begin(0)?;
        if !self.cutting.is_empty() {
            self.batch.push(std::mem::take(&mut self.cutting));
        }
        self.drain().await?;
        if !self.entries.is_empty() {
            self.close_segment().await?;
        }
        let root = self.write_root().await?;
        self.packer.settle().await?;
        let (head, made) = self.write_head(&root).await?;
        let kept = self.writing.keep(&head, &self.sources).await;
        // What another writer of the same content has made may be kept by it.
        if made && kept.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict) {
            self.store.backend().delete(&head::name(head.content)).await?;
        }
        kept.map(|()| head)
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
    pub(crate) async fn append_known(&mut self, entries: Vec<Entry>, length: u64) -> Result<()> {
        self.begin(length)?;
        self.drain().await?;
        for entry in entries {
            self.stats.chunks += 1;
            *(if entry.is_zero() { &mut self.stats.zero } else { &mut self.stats.known }) += 1;
            self.list(entry).await?;
        }
        self.broken = false;
        Ok(())
    }

    /// Appends a full segment that the domain has already; returns whether that is possible here.
    pub(crate) async fn append_segment(&mut self, segment: Entry) -> Result<bool> {
        self.drain().await?;
        if !self.entries.is_empty() {
            return Ok(false);
        }
        self.begin(self.store.segment_size())?;
        self.stats.chunks += u64::from(self.store.descriptor().segment_chunks);
        self.segments.push(segment);
        self.broken = false;
        Ok(true)
    }

    /// Notes contents whose entries are appended: they must still be kept when this one is.
    pub(crate) fn reuse(&mut self, sources: impl IntoIterator<Item = uuid::Uuid>) {
        self.sources.extend(sources);
    }

    /// Returns whether the content so far is a whole number of chunks.
    pub(crate) fn is_aligned(&self) -> bool {
        self.length.is_multiple_of(u64::from(self.store.chunk_size()))
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

    /// Writes the head, and returns whether it was not there before.
    async fn write_head(&self, root: &Entry) -> Result<(Head, bool)> {
        let fields = HeadFields {
            content: self.writing.content,
            domain: self.domain.id,
            length: self.length,
            chunk_size: self.store.chunk_size(),
            root: root.id,
        };
        let head = fields.seal(root, self.store.kms()).await?;
        match self.store.backend().put(&head::name(self.writing.content), vec![Bytes::from(head.bytes.clone())]).await {
            Ok(()) => Ok((head, true)),
            Err(error) if error.kind() == ErrorKind::Exists => {
                let stored = self.store.head(self.writing.content).await?;
                if HeadFields::parse(&stored.bytes)? == fields {
                    return Ok((stored, false));
                }
                let message = format!("content {} exists already with other bytes", self.writing.content);
                Err(Error::new(ErrorKind::Exists, message).with_source(error))
            }
            Err(error) => Err(error),
        }
    }
}
