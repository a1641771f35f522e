//! A new content that is an old one with some ranges replaced.

use bytes::Bytes;
use uuid::Uuid;

use crate::head::Head;
use crate::reader::Reader;
use crate::store::Store;
use crate::writer::{WriteStats, Writer};
use crate::{Error, Result};

/// Writes a content as the difference to another one: what is written replaces what was there, and all else stays.
///
/// Writes come in ascending order and do not overlap; they may begin and end anywhere. What lies between them is
/// taken over by manifest: full segments that no write touches are not even opened, of the others only entries are
/// read, and data is read only where a write leaves a part of a chunk. So the cost follows the changes, and not the
/// size: a changed chunk costs itself, its segment and the root. A writer's memory is all that it takes, beside that
/// of a reader.
///
/// Dropping it gives up, as with a [`Writer`]. A call that failed or was given up half way leaves a splice that only
/// fails.
pub struct Splice {
    old: Reader,
    /// Its length is where the next byte of the new content goes, and where that of the old one lies.
    writer: Writer,
    broken: bool,
}

impl Store {
    /// Starts writing `content` as a changed copy of the content of `head`, in the same domain.
    ///
    /// # Errors
    /// `KeyRefused` when the key service does not open the head, `Corrupt` when the head or its root is damaged.
    pub async fn splice(&self, head: &[u8], content: Uuid) -> Result<Splice> {
        let old = self.reader(head).await?;
        let writer = self.writer(old.domain(), content).await?;
        Ok(Splice { old, writer, broken: false })
    }
}

impl Splice {
    /// Replaces what lies at `offset` by `bytes`. An offset past the end of the old content leaves zeros between.
    ///
    /// # Errors
    /// `Invalid` when a write before this one ended behind `offset`.
    pub async fn write(&mut self, offset: u64, bytes: Bytes) -> Result<()> {
        self.begin()?;
        self.keep_until(offset).await?;
        self.writer.write(bytes).await?;
        self.broken = false;
        Ok(())
    }

    /// Replaces `length` bytes at `offset` by zeros, which costs next to nothing where they fill whole chunks.
    ///
    /// # Errors
    /// As [`Splice::write`].
    pub async fn write_zeros(&mut self, offset: u64, length: u64) -> Result<()> {
        self.begin()?;
        self.keep_until(offset).await?;
        self.writer.write_zeros(length).await?;
        self.broken = false;
        Ok(())
    }

    /// Returns what was done so far, as [`Writer::stats`] does.
    #[must_use]
    pub fn stats(&self) -> WriteStats {
        self.writer.stats()
    }

    /// Keeps the rest of the old content, makes the new one durable and returns its head. A splice that is made again
    /// with the same writes returns the first head. Afterwards nothing can be written, and [`Splice::stats`] counts all that was.
    ///
    /// # Errors
    /// `Conflict` when the old content was forgotten meanwhile, `Exists` when the new one's id has other bytes already.
    pub async fn finish(&mut self) -> Result<Head> {
        let length = self.old.len().max(self.writer.length());
        self.finish_at(length).await
    }

    /// Like [`Splice::finish`] for a content of `length` bytes: the old one is cut there, or zeros follow it.
    ///
    /// # Errors
    /// `Invalid` when a write ended behind `length`.
    pub async fn finish_at(&mut self, length: u64) -> Result<Head> {
        self.begin()?;
        if length == self.old.len() {
            let kept = self.writer.length()..length;
            if !kept.is_empty() {
                self.writer.append_last(&self.old, kept).await?;
            }
        }
        self.keep_until(length).await?;
        self.writer.finish_from(&[self.old.head()]).await
    }

    /// Marks the splice broken until the call that begins here succeeds.
    fn begin(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.broken, true) {
            let message = format!("the splice of content {} failed before and cannot go on", self.old.content());
            return Err(Error::invalid(message).with_hint("splice it again from its beginning"));
        }
        Ok(())
    }

    /// Takes over what lies before `offset`, and fills up with zeros what lies nowhere.
    async fn keep_until(&mut self, offset: u64) -> Result<()> {
        let at = self.writer.length();
        if offset < at {
            let message = format!("a splice is written in ascending order: offset {offset} comes after byte {at}");
            return Err(Error::invalid(message));
        }
        let kept = at..offset.min(self.old.len());
        if !kept.is_empty() {
            self.writer.append(&self.old, kept).await?;
        }
        self.writer.write_zeros(offset - self.writer.length()).await
    }
}
