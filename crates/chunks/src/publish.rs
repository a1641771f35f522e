//! The last step of every new content: its head is written, and stays only if what it leads to stays.

use bytes::Bytes;
use uuid::Uuid;

use crate::head::{self, Head, HeadFields};
use crate::node::Entry;
use crate::store::Store;
use crate::writer::Writing;
use crate::{Error, ErrorKind, Result};

impl Store {
    /// Writes the head of a content whose blobs are durable and indexed, keeps the content, and returns the head. Doing
    /// it again with the same bytes returns the first head, so that a job's step may run again.
    ///
    /// `sources` are the contents from whose manifests blobs were taken over without a question to the index. Such a
    /// blob is held by its source alone until the new content is kept. So every source must be kept at the moment at
    /// which the new one comes to be: a mark that reads what is kept, all of it at one moment, sees one or the other.
    ///
    /// # Errors
    /// `Conflict` when a source was forgotten meanwhile or the session was given up; the head is taken back if this call
    /// wrote it. One that lay there before is not: another writer of the same content may have kept it.
    pub(crate) async fn publish(
        &self,
        writing: &mut Writing,
        fields: HeadFields,
        root: &Entry,
        sources: &[HeadFields],
    ) -> Result<Head> {
        let (name, head) = (head::name(fields.content), fields.seal(root, self.kms()).await?);
        let (head, made) = match self.backend().put(&name, vec![Bytes::from(head.bytes.clone())]).await {
            Ok(()) => (head, true),
            Err(error) if error.kind() == ErrorKind::Exists => (self.same(fields, error).await?, false),
            Err(error) => return Err(error),
        };
        let sources: Vec<Uuid> = sources.iter().map(|source| source.content).collect();
        let kept = writing.keep(&head, &sources).await;
        if made
            && let Err(error) = &kept
            && error.kind() == ErrorKind::Conflict
        {
            self.backend().delete(&name).await.map_err(|e| {
                let message = format!("cannot take back the head of {}, which must not stay: {error}", fields.content);
                Error::new(e.kind(), message).with_source(e).with_hint("remove the content")
            })?;
        }
        kept.map(|()| head)
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
}
