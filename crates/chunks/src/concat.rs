//! Joining contents end to end, by manifests where the chunks line up.

use uuid::Uuid;

use crate::head::Head;
use crate::store::Store;
use crate::{Error, Result};

impl Store {
    /// Makes the content `content` of the bytes of `heads`, one after the other, all of `domain`.
    ///
    /// When all but the last are a whole number of chunks, no data is read or written, only manifests; full
    /// segments that stay in line are not even opened. From a content that ends inside a chunk on, the data
    /// is read and cut anew, until the end of a content falls on the border of a chunk again.
    ///
    /// # Errors
    /// `Invalid` when a head is of another domain, since ids and keys of chunks hold for one domain only; `Conflict`
    /// when one of the contents was forgotten meanwhile.
    pub async fn concat(&self, domain: Uuid, content: Uuid, heads: &[Vec<u8>]) -> Result<Head> {
        let (mut readers, mut sources) = (Vec::with_capacity(heads.len()), Vec::with_capacity(heads.len()));
        for head in heads {
            let reader = self.reader(head).await?;
            if reader.domain() != domain {
                let message = format!("content {} is in another dedup domain than {domain}", reader.content());
                return Err(Error::invalid(message));
            }
            sources.push(reader.head());
            // An empty content adds nothing, and is not what a shorter chunk is followed by.
            if !reader.is_empty() {
                readers.push(reader);
            }
        }
        let mut writer = self.writer(domain, content).await?;
        if let Some((last, others)) = readers.split_last() {
            for reader in others {
                writer.append(reader, 0..reader.len()).await?;
            }
            writer.append_last(last, 0..last.len()).await?;
        }
        writer.finish_from(&sources).await
    }
}
