//! Joining contents end to end, by manifests where the chunks line up.

use futures::StreamExt;
use uuid::Uuid;

use crate::fetch::Place;
use crate::head::Head;
use crate::node::Entry;
use crate::reader::Reader;
use crate::store::Store;
use crate::writer::Writer;
use crate::{Error, Result};

impl Store {
    /// Makes the content `content` of the bytes of `heads`, one after the other, all of `domain`.
    ///
    /// When all but the last are a whole number of chunks, no data is read or written, only manifests; full
    /// segments that stay in line are not even opened. From a content that ends inside a chunk on, the data
    /// is read and cut anew, until the end of a content falls on the border of a chunk again.
    ///
    /// # Errors
    /// `Invalid` when a head is of another domain, since ids and keys of chunks hold for one domain only.
    pub async fn concat(&self, domain: Uuid, content: Uuid, heads: &[Vec<u8>]) -> Result<Head> {
        let mut readers = Vec::with_capacity(heads.len());
        for head in heads {
            let reader = self.reader(head).await?;
            if reader.domain() != domain {
                let message = format!("content {} is in another dedup domain than {domain}", reader.content());
                return Err(Error::invalid(message));
            }
            // An empty content adds nothing, and is not what a shorter chunk is followed by.
            if !reader.is_empty() {
                readers.push(reader);
            }
        }
        let mut writer = self.writer(domain, content).await?;
        writer.reuse(readers.iter().map(Reader::content));
        for (number, reader) in readers.iter().enumerate() {
            let is_last = number + 1 == readers.len();
            if writer.is_aligned() {
                self.append(&mut writer, reader, is_last).await?;
            } else {
                copy(&mut writer, reader, 0).await?;
            }
        }
        writer.finish().await
    }

    /// Appends the chunks of `reader` by manifest; a shorter last chunk as data unless nothing follows.
    async fn append(&self, writer: &mut Writer, reader: &Reader, is_last: bool) -> Result<()> {
        let chunk_size = u64::from(self.chunk_size());
        let end = if is_last { reader.len() } else { reader.len() / chunk_size * chunk_size };
        for index in 0..reader.segment_count() {
            let start = index * self.segment_size();
            let length = end.saturating_sub(start).min(self.segment_size());
            if length == self.segment_size() && writer.append_segment(reader.segment_entry(index)).await? {
                continue;
            }
            let entry = |place: Option<Place>| place.map_or_else(Entry::zero, |place| place.entry);
            let count = length.div_ceil(chunk_size) as usize;
            let entries = match reader.segment_places(index).await? {
                Some(places) => places.into_iter().take(count).map(entry).collect(),
                None => vec![Entry::zero(); count],
            };
            writer.append_known(entries, length).await?;
        }
        copy(writer, reader, end).await
    }
}

/// Appends the bytes of `reader` from `offset` on as data.
async fn copy(writer: &mut Writer, reader: &Reader, mut offset: u64) -> Result<()> {
    while offset < reader.len() {
        let (zero, length) = reader.extent(offset).await?;
        if zero {
            writer.write_zeros(length).await?;
        } else {
            let mut pieces = std::pin::pin!(reader.stream(offset..offset + length));
            while let Some(piece) = pieces.next().await {
                writer.write(piece?).await?;
            }
        }
        offset += length;
    }
    Ok(())
}
