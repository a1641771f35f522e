//! The last step of every new content: its head is written, and stays only if what it leads to stays.

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::head::{self, Head, HeadFields};
use crate::node::Entry;
use crate::store::Store;
use crate::{Error, ErrorKind, Result};

/// Heads of sources that are looked at together.
const LOOKS: usize = 16;

impl Store {
    /// Writes the head of a content whose blobs are durable and indexed, and returns it. Doing it again with the
    /// same bytes returns the first head, so that a job's step may run again.
    ///
    /// `sources` are the contents from whose manifests blobs were taken over without a question to the index. Such
    /// a blob is kept by its source alone until the new head is there. So every source must have its head still
    /// *after* the new one was written: then whenever collection walked the heads, one of the two was among them
    /// (a walk that both escape, because it had passed the new one's place before and comes to the source's after
    /// it went, is followed by a second one, which meets the new one).
    ///
    /// # Errors
    /// `Conflict` when a source was forgotten meanwhile; the head is taken back if this call wrote it. One that lay
    /// there before is not: what another call promised stays. So that none is promised by one call and taken back by
    /// another that wrote it and was slow to look, a content has to be made by one caller at a time.
    pub(crate) async fn publish(&self, fields: HeadFields, root: &Entry, sources: &[HeadFields]) -> Result<Head> {
        let head = fields.seal(root, self.kms()).await?;
        let put = self.backend().put(&head::name(fields.content), vec![Bytes::from(head.bytes.clone())]).await;
        let head = match put {
            Ok(()) => head,
            Err(error) if error.kind() == ErrorKind::Exists => {
                let head = self.same(fields, error).await?;
                return self.check_sources(fields, sources).await.map(|()| head);
            }
            Err(error) => return Err(error),
        };
        if let Err(error) = self.check_sources(fields, sources).await {
            self.forget(fields.content).await.map_err(|e| {
                let message = format!("cannot take back the head of {}, which must not stay: {error}", fields.content);
                Error::new(e.kind(), message).with_source(e).with_hint("remove the content")
            })?;
            return Err(error);
        }
        Ok(head)
    }

    /// Returns the head that lies under a content's name, which must lead to the same bytes.
    async fn same(&self, fields: HeadFields, exists: Error) -> Result<Head> {
        let stored = self.head(fields.content).await?;
        if HeadFields::parse(&stored.bytes)? == fields {
            return Ok(stored);
        }
        let message = format!("content {} exists already with other bytes", fields.content);
        Err(Error::new(ErrorKind::Exists, message).with_source(exists))
    }

    async fn check_sources(&self, fields: HeadFields, sources: &[HeadFields]) -> Result<()> {
        let looks = stream::iter(sources.iter().copied()).map(|source| self.check_source(fields, source));
        looks.buffer_unordered(LOOKS).try_collect().await
    }

    /// Refuses a source that is gone, or whose id was given to other bytes since.
    async fn check_source(&self, fields: HeadFields, source: HeadFields) -> Result<()> {
        let gone = match self.head(source.content).await {
            Ok(head) => HeadFields::parse(&head.bytes)?.root != source.root,
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        if !gone {
            return Ok(());
        }
        let (source, content) = (source.content, fields.content);
        let message = format!("content {source} was removed while {content} was made of it");
        Err(Error::new(ErrorKind::Conflict, message).with_hint("make the new content from one that is there"))
    }
}
