//! A part of a content as a content of its own.

use std::ops::Range;

use uuid::Uuid;

use crate::Result;
use crate::head::Head;
use crate::store::Store;

impl Store {
    /// Makes the content `content` of the bytes `range` of that of `head`, in the same domain.
    ///
    /// When the range begins at the border of a chunk, no data is read or written, only manifests, except for a chunk
    /// that the range leaves in its middle; full segments are not even opened when the range begins at the border of
    /// one. When the range begins inside a chunk, all of its data is read and cut anew.
    ///
    /// # Errors
    /// `Invalid` when the range goes past the end, `Conflict` when the content was forgotten meanwhile.
    pub async fn slice(&self, head: &[u8], range: Range<u64>, content: Uuid) -> Result<Head> {
        let from = self.reader(head).await?;
        let range = from.checked(range)?;
        let mut writer = self.writer(from.domain(), content).await?;
        writer.append_last(&from, range).await?;
        writer.finish_from(&[from.head()]).await
    }
}
