//! The session of a writer: collection leaves alone what it finds and writes, until its content is kept or it is over.

use std::sync::Arc;

use uuid::Uuid;

use crate::head::Head;
use crate::index::{Index, Keeping, Session};
use crate::store::Store;
use crate::{Error, ErrorKind, Result};

/// A session that ends when it is dropped, unless its content was kept.
pub(crate) struct Writing {
    pub(crate) content: Uuid,
    pub(crate) session: Session,
    index: Arc<dyn Index>,
    over: bool,
}

impl Writing {
    /// Begins to write `content`.
    pub(crate) async fn begin(store: &Store, content: Uuid) -> Result<Self> {
        let index = store.shared_index();
        let session = index.begin(content).await.map_err(|e| Error::index("begin a session", e))?;
        let session = session.ok_or_else(|| {
            Error::new(ErrorKind::Conflict, format!("content {content} is being removed, so it cannot be written"))
                .with_hint("write it under another id")
        })?;
        Ok(Self { content, session, index, over: false })
    }

    /// Ends the session by keeping the content, whose head is durable.
    ///
    /// # Errors
    /// `Conflict` when the session was given up, or one of `sources` is not kept any more.
    pub(crate) async fn keep(&mut self, head: &Head, sources: &[Uuid]) -> Result<()> {
        let kept = self.index.keep(self.session, &head.bytes, sources).await;
        match kept.map_err(|e| Error::index("keep a content", e))? {
            Keeping::Kept => {
                self.over = true;
                Ok(())
            }
            Keeping::GivenUp => Err(given_up()),
            Keeping::SourceGone(source) => {
                let message = format!("content {source}, of which blobs are reused, was removed meanwhile");
                Err(Error::new(ErrorKind::Conflict, message))
            }
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.over {
            self.index.abandon(self.session);
        }
    }
}

/// What a writer is told whose session was ended by others.
pub(crate) fn given_up() -> Error {
    Error::new(ErrorKind::Conflict, "the write was silent for so long that it was given up")
        .with_hint("write the content again; look for what held up the process or its database")
}
