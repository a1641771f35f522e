//! The bridge between contents and disks: a content as a readable disk, a disk or a stream as a new content.
//!
//! ```text
//!   stream of bytes --keep_stream--> Writer        (each byte is seen once, digests beside it)
//!   disk::Source ----copy_source---> Writer        (only data extents are read, in order, a few at a time)
//!   Reader ----------ContentSource-> disk::Source  (for formats, layouts and guests)
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use catalog::{Tx, contents};
use disk::source::{Extent, ExtentKind, Source};
use futures::{StreamExt, stream};
use model::contents::Content;
use model::images::Checksums;
use model::{ContentId, ProjectId};
use tokio::runtime::Handle;

use crate::digest::{Digesting, Digests, Wanted};
use crate::error::{Error, ErrorKind, Result};
use crate::service::Service;
use crate::streams::Incoming;

/// Bytes read at once, aligned to it: the chunk of a store made by default, so that none is opened twice.
const BLOCK: u64 = 512 << 10;
/// Blocks kept by a [`ContentSource`]: disk formats jump between tables and data.
const BLOCKS_KEPT: usize = 16;
/// Reads of at most so many bytes are small.
const SMALL: usize = 64 << 10;
/// Blocks of a disk that are read ahead of the writer.
const READ_AHEAD: usize = 4;
/// Pieces planned at once; planning walks the extent map on a blocking thread.
const PLAN: usize = 256;

/// A content as bytes that are read by position; for blocking threads only.
pub(crate) struct ContentSource {
    reader: chunks::Reader,
    runtime: Handle,
    kept: Mutex<VecDeque<(u64, Arc<Block>)>>,
}

/// The bytes of a block once they are read. Whoever wants them while they are read waits, so that neighbours that are
/// read at once do not fetch what they share twice.
type Block = Mutex<Option<Bytes>>;

impl ContentSource {
    /// Wraps a reader; must be called inside the runtime whose threads serve the reads.
    pub(crate) fn new(reader: chunks::Reader) -> Self {
        Self { reader, runtime: Handle::current(), kept: Mutex::new(VecDeque::new()) }
    }

    fn block(&self, start: u64) -> disk::Result<Bytes> {
        let block = self.kept_block(start);
        let mut bytes = block.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = &*bytes {
            return Ok(bytes.clone());
        }
        let length = BLOCK.min(self.reader.len() - start);
        // At most one chunk, so it fits.
        let read = self.runtime.block_on(self.reader.read(start, length as usize));
        let read = read.map_err(|error| {
            disk::Error::io(format_args!("read the content at byte {start}"), std::io::Error::other(error))
        })?;
        Ok(bytes.insert(read).clone())
    }

    /// Reads a part of the block that begins at `start`. A small part of a block that is not kept comes from opened chunks
    /// if it can: guests read here and there, and to open half a megabyte for 4 KiB is slow.
    fn read_in_block(&self, buf: &mut [u8], start: u64, skip: usize) -> disk::Result<()> {
        let small = buf.len() <= SMALL;
        if small {
            if let Some(block) = self.block_at_hand(start) {
                buf.copy_from_slice(&block[skip..skip + buf.len()]);
                return Ok(());
            }
            if self.reader.read_at_hand(start + skip as u64, buf) {
                return Ok(());
            }
        }
        let block = self.block(start)?;
        buf.copy_from_slice(&block[skip..skip + buf.len()]);
        if small {
            self.reader.wanted_small(start, &block);
        }
        Ok(())
    }

    /// Returns a block that is kept and read.
    fn block_at_hand(&self, start: u64) -> Option<Bytes> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, block) = kept.iter().find(|(at, _)| *at == start)?;
        block.try_lock().ok()?.clone()
    }

    /// Returns the place of a block, empty where nobody has read it of late.
    fn kept_block(&self, start: u64) -> Arc<Block> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, block)) = kept.iter().find(|(at, _)| *at == start) {
            return Arc::clone(block);
        }
        if kept.len() == BLOCKS_KEPT {
            kept.pop_front();
        }
        let block = Arc::<Block>::default();
        kept.push_back((start, Arc::clone(&block)));
        block
    }
}

impl Source for ContentSource {
    fn len(&self) -> u64 {
        self.reader.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        let end = offset.checked_add(buf.len() as u64).filter(|end| *end <= self.len());
        if end.is_none() {
            let (length, size) = (buf.len(), self.len());
            return Err(disk::Error::corrupt(format!(
                "{length} bytes at {offset} lie past the end of the file ({size} bytes)"
            )));
        }
        let mut done = 0;
        while done < buf.len() {
            let at = offset + done as u64;
            let start = at - at % BLOCK;
            let skip = (at - start) as usize;
            let count = (BLOCK as usize - skip).min(buf.len() - done);
            self.read_in_block(&mut buf[done..done + count], start, skip)?;
            done += count;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> disk::Result<Extent> {
        let extent = self.runtime.block_on(self.reader.extent(offset));
        let (zero, length) =
            extent.map_err(|error| disk::Error::io("read the content's map", std::io::Error::other(error)))?;
        Ok(Extent { offset, length, kind: if zero { ExtentKind::Zero } else { ExtentKind::Data } })
    }
}

/// A run of a disk to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    Zero(u64),
    Data { offset: u64, length: usize },
}

impl Piece {
    fn length(self) -> u64 {
        match self {
            Self::Zero(length) => length,
            Self::Data { length, .. } => length as u64,
        }
    }
}

/// Cuts the disk from `offset` on into pieces: zero runs as long as they are, data in aligned blocks.
fn plan(source: &dyn Source, offset: u64) -> disk::Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut at = offset;
    while at < source.len() && pieces.len() < PLAN {
        let extent = source.extent_at(at)?;
        let end = extent.end().min(source.len());
        if extent.kind == ExtentKind::Zero {
            match pieces.last_mut() {
                Some(Piece::Zero(length)) => *length += end - at,
                _ => pieces.push(Piece::Zero(end - at)),
            }
            at = end;
            continue;
        }
        // Data runs to the end of its block even where a hole begins earlier: one read serves the whole chunk.
        let stop = (at - at % BLOCK + BLOCK).min(source.len());
        pieces.push(Piece::Data { offset: at, length: (stop - at) as usize });
        at = stop;
    }
    Ok(pieces)
}

/// Copies a disk into `writer`, in order, reading data extents only. `progress` hears the bytes done and answers
/// whether to go on; `false` ends the copy with `Ok(false)`.
pub(crate) async fn copy_source(
    service: &Service,
    source: Arc<dyn Source>,
    writer: &mut chunks::Writer,
    mut progress: impl FnMut(u64) -> bool + Send,
) -> Result<bool> {
    let total = source.len();
    let mut at = 0;
    while at < total {
        let planned = Arc::clone(&source);
        let pieces = service.permits.run(move || plan(planned.as_ref(), at)).await??;
        let reads = stream::iter(pieces).map(|piece| {
            let source = Arc::clone(&source);
            async move { Ok::<_, Error>((piece, read_piece(service, source, piece).await?)) }
        });
        let mut reads = std::pin::pin!(reads.buffered(READ_AHEAD));
        while let Some(read) = reads.next().await {
            let (piece, bytes) = read?;
            match bytes {
                Some(bytes) => writer.write(bytes).await?,
                None => writer.write_zeros(piece.length()).await?,
            }
            at += piece.length();
            if !progress(at) {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

async fn read_piece(service: &Service, source: Arc<dyn Source>, piece: Piece) -> Result<Option<Bytes>> {
    let Piece::Data { offset, length } = piece else {
        return Ok(None);
    };
    let read = service.permits.run(move || {
        let mut bytes = vec![0; length];
        source.read_at(&mut bytes, offset).map(|()| Bytes::from(bytes))
    });
    Ok(Some(read.await??))
}

/// A content that is durable and not yet in any record, with the digests of its bytes.
pub(crate) struct Kept {
    pub(crate) content: Content,
    pub(crate) digests: Digests,
}

impl Kept {
    /// Returns the digests as an image's checksums, where all were wanted.
    pub(crate) fn checksums(&self) -> Option<Checksums> {
        let (sha256, sha512) = self.digests.sha.clone()?;
        Some(Checksums { md5: hex::encode(self.digests.md5), sha256, sha512 })
    }
}

/// Keeps a client's bytes as a new content of `project`. On any failure, a wrong length or MD5 included, nothing is
/// left but chunks that nobody refers to.
pub(crate) async fn keep_stream(service: &Service, project: ProjectId, body: Incoming, wanted: Wanted) -> Result<Kept> {
    let Incoming { mut stream, length, md5 } = body;
    let id = ContentId::new();
    let mut writer = service.parts.store.writer(project.uuid(), id.uuid()).await?;
    let digesting = Digesting::start(wanted);
    while let Some(bytes) = stream.next().await {
        let bytes = bytes?;
        if length.is_some_and(|length| writer.length() + bytes.len() as u64 > length) {
            return Err(Error::new(ErrorKind::BadContent, "the body is longer than its Content-Length"));
        }
        digesting.update(&bytes).await?;
        writer.write(bytes).await?;
    }
    let got = writer.length();
    if let Some(length) = length.filter(|length| *length != got) {
        let message = format!("the body ended after {got} of {length} bytes");
        return Err(Error::new(ErrorKind::BadContent, message).with_hint("send it again"));
    }
    let digests = digesting.finish().await?;
    if md5.is_some_and(|md5| md5 != digests.md5) {
        let message = format!(
            "the MD5 of the bytes that arrived is {}, not the one that was sent with them",
            hex::encode(digests.md5)
        );
        return Err(Error::new(ErrorKind::BadDigest, message).with_hint("send it again"));
    }
    let head = writer.finish().await?;
    Ok(Kept { content: record(service, project, id, head), digests })
}

/// Reads a content for its digests; `check` may end that at every piece.
pub(crate) async fn digest(
    service: &Service,
    content: &Content,
    wanted: Wanted,
    check: impl Fn() -> Result<()>,
) -> Result<Digests> {
    let reader = service.parts.store.reader(&content.head).await?;
    let (digesting, mut pieces) = (Digesting::start(wanted), std::pin::pin!(reader.stream(0..content.length)));
    while let Some(bytes) = pieces.next().await {
        check()?;
        digesting.update(&bytes?).await?;
    }
    digesting.finish().await
}

/// Makes the record of a content whose head is durable.
pub(crate) fn record(service: &Service, project: ProjectId, id: ContentId, head: chunks::Head) -> Content {
    Content { id, project, length: head.length, head: head.bytes, created_at: service.now() }
}

/// Records a content that the store keeps.
pub(crate) async fn commit(tx: &mut Tx, content: &Content) -> Result<()> {
    if contents::commit(tx, content).await? {
        return Ok(());
    }
    Err(Error::conflict("the bytes waited for so long to be recorded that they were given up")
        .with_hint("send them again, or begin the job again"))
}

/// Opens a content for reading.
pub(crate) async fn open(service: &Service, id: ContentId) -> Result<chunks::Reader> {
    let mut tx = service.parts.catalog.read().await?;
    let content = contents::get(&mut tx, id).await?;
    drop(tx);
    let content = content.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("content {id} has no record")))?;
    Ok(service.parts.store.reader(&content.head).await?)
}

/// Removes the record of a content that nothing refers to any more; the caller forgets the returned ones in the
/// store after its transaction is committed ([`forget`]).
pub(crate) async fn release(tx: &mut Tx, id: ContentId) -> Result<Option<ContentId>> {
    if contents::is_referenced(tx, id).await? {
        return Ok(None);
    }
    Ok(contents::delete(tx, id).await?.then_some(id))
}

/// Passes an outcome on; where it is a refusal, which comes before any commit, the new content's head is removed.
/// After another failure nobody knows what was committed, so the head stays and may be an orphan.
pub(crate) async fn or_forget<T>(service: &Service, id: ContentId, outcome: Result<T>) -> Result<T> {
    let refused = |error: &Error| {
        matches!(
            error.kind(),
            ErrorKind::BadContent
                | ErrorKind::Conflict
                | ErrorKind::Invalid
                | ErrorKind::NotFound
                | ErrorKind::QuotaExceeded
        )
    };
    if outcome.as_ref().is_err_and(refused) {
        forget(service, [id]).await;
    }
    outcome
}

/// Removes the heads of released contents. A failure leaves an orphan that a later collection finds, so it is logged only.
pub(crate) async fn forget(service: &Service, released: impl IntoIterator<Item = ContentId>) {
    for id in released {
        if let Err(error) = service.parts.store.forget(id.uuid()).await {
            tracing::warn!(content = %id, %error, "could not remove the head of a released content");
        }
    }
}
