//! Copying a content: another head, whatever the size.

use uuid::Uuid;

use crate::Result;
use crate::head::Head;
use crate::store::Store;
use crate::writer::Writing;

impl Store {
    /// Makes the content `content` of the same bytes as that of `head`. It writes a head of a few hundred bytes and
    /// neither reads nor writes anything else. The two are equals: each may be forgotten without the other.
    ///
    /// *Sharing.* The new head has its own data key, wrapped for its own id, so whoever is given the copy can be
    /// refused it again without a change to the original. The copy stays in the dedup domain of its source: reading
    /// needs no secret of a domain, but what is made of the copy by [`Store::slice`] or [`Store::splice`] is written
    /// into that domain, and it is not joined with contents of another.
    ///
    /// *Re-keying.* The new data key is wrapped by the master key that the key service uses now. Objects are written
    /// once, so a head is not replaced in its place: a copy is made under a new id, one transaction points every
    /// record from the old id to the new one, and the old one is forgotten. A crash before the transaction leaves an
    /// unrecorded copy, one after it the old head unrecorded; a recorded content has its head at every moment.
    ///
    /// # Errors
    /// `KeyRefused` when the key service does not open the head, `Conflict` when its content was forgotten meanwhile,
    /// `Exists` when `content` has other bytes already.
    pub async fn copy(&self, head: &[u8], content: Uuid) -> Result<Head> {
        let (source, root) = self.open_head(head).await?;
        let mut fields = source;
        fields.content = content;
        let mut writing = Writing::begin(self, content).await?;
        self.publish(&mut writing, fields, &root, &[source]).await
    }
}
