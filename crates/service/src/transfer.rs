//! Negotiated transfer: a client names the chunks that its project has, and sends the others.
//!
//! terms (how ids are made) -> offer (which are missing?) -> pieces, as a part of an upload or as the bytes of an image
//!
//! An offer holds nothing: what it found may be collected before it is named. Then the pieces are refused with a conflict,
//! nothing of them is left, and the client offers again. What a client says about bytes is never believed: chunks that are
//! sent are hashed here, and those that are named are looked up in the client's own project and nowhere else.

use std::collections::HashMap;
use std::pin::{Pin, pin};

use bytes::Bytes;
use catalog::images;
use futures::{Stream, StreamExt};
use keys::Secret;
use model::buckets::Part;
use model::identity::{Principal, Role};
use model::images::Image;
use model::{ContentId, ImageId, ProjectId};
use tokio::sync::Mutex;

use crate::content;
use crate::digest::{Digesting, Digests, Wanted};
use crate::error::{Error, ErrorKind, Result};
use crate::policy;
use crate::service::Service;
use crate::uploads::{UploadAt, check_number};

/// Most chunks that one offer or one list of ids names; 256 KiB of ids.
pub const IDS_MAX: usize = 8192;
/// Named chunks that are looked up at once.
const KNOWN_AT_ONCE: usize = 1024;
/// Zeros that are digested as they come; a run of that length is in memory for it.
const ZEROS_DIGESTED: u64 = 16 << 20;
/// Pieces that are read from images ahead of the writer, and kept beside them.
const READ_AHEAD: usize = 4;
/// Images that one body may copy from: what is open of each takes memory.
const SOURCES_MAX: usize = 4;

/// The id of a chunk.
pub type ChunkId = [u8; 32];

/// A piece of a content, in order; all chunks but the last of the content are whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// So many zero bytes.
    Zeros(u64),
    /// A chunk that the project has.
    Known(ChunkId),
    /// The bytes of one chunk.
    Data(Bytes),
    /// One chunk as a zstd frame.
    Packed {
        /// Bytes of the chunk.
        plain: u32,
        /// The frame.
        frame: Bytes,
    },
    /// A chunk that lies in an image which the client may read.
    Copy {
        /// The image.
        image: ImageId,
        /// Where in its bytes, as they are downloaded.
        offset: u64,
        /// Bytes of the chunk.
        length: u32,
        /// Their BLAKE3, without a key.
        hash: [u8; 32],
    },
}

/// Pieces as they arrive.
pub type Pieces = Pin<Box<dyn Stream<Item = Result<Piece>> + Send>>;

/// What a client needs to know to name chunks of its project.
#[derive(Debug)]
pub struct Terms {
    /// Bytes of every chunk but the last of a content.
    pub chunk_size: u32,
    /// The id of a chunk is BLAKE3 of its bytes under this key.
    pub id_key: Secret,
}

/// Ids of the chunks of an image.
#[derive(Debug)]
pub struct ChunkIds {
    /// Bytes of every chunk but the last.
    pub chunk_size: u32,
    /// Bytes of the image.
    pub size: u64,
    /// The ids; all zero for a chunk of zeros.
    pub ids: Vec<ChunkId>,
}

/// Verbs of negotiated transfer.
pub struct Transfer<'s>(pub(crate) &'s Service);

impl Service {
    /// Returns the verbs of negotiated transfer.
    #[must_use]
    pub fn transfer(&self) -> Transfer<'_> {
        Transfer(self)
    }
}

impl Transfer<'_> {
    /// Tells how ids are made in the principal's project. With the key one can find out whether the project has given
    /// bytes, no more: it is for those who may put objects, and so may read all that is there.
    pub async fn terms(&self, who: &Principal) -> Result<Terms> {
        policy::require(who, Role::Member, "send chunks")?;
        let store = &self.0.parts.store;
        let key = store.chunk_id_key(who.project.id.uuid()).await?;
        Ok(Terms { chunk_size: store.chunk_size(), id_key: Secret::new(key.to_vec()) })
    }

    /// Returns which of the chunks `ids` the principal's project has, in the same order. Other projects are not asked.
    pub async fn offer(&self, who: &Principal, ids: &[ChunkId]) -> Result<Vec<bool>> {
        policy::require(who, Role::Member, "send chunks")?;
        if ids.len() > IDS_MAX {
            return Err(Error::invalid(format!("an offer names at most {IDS_MAX} chunks, not {}", ids.len())));
        }
        Ok(self.0.parts.store.has_chunks(who.project.id.uuid(), ids).await?)
    }

    /// Keeps a part of an upload; it replaces an earlier one of the same number. Its ETag follows from its bytes, and is no
    /// MD5 of them.
    pub async fn put_part(&self, who: &Principal, at: UploadAt<'_>, number: u32, pieces: Pieces) -> Result<Part> {
        policy::require(who, Role::Member, "put objects")?;
        check_number(number)?;
        self.0.uploads().find(who, at).await?;
        let (id, head, _) = keep_pieces(self.0, who, who.project.id, pieces, None).await?;
        let etag = hex::encode(head.tag()?);
        let content = content::record(self.0, who.project.id, id, head);
        let part = Part { number, content: id, size: content.length, etag, created_at: self.0.now() };
        let added = self.0.uploads().add_part(who, at, &content, &part).await;
        content::or_forget(self.0, id, added).await?;
        Ok(part)
    }

    /// Keeps the bytes of a queued image and makes it Active, as [`crate::Images::upload`] does.
    pub async fn put_image(&self, who: &Principal, id: ImageId, pieces: Pieces) -> Result<Image> {
        self.0.images().upload_pieces(who, id, pieces).await
    }

    /// Returns the ids of at most `count` chunks of an image whose bytes the principal may read, from the chunk `first` on.
    pub async fn image_chunks(&self, who: &Principal, id: ImageId, first: u64, count: usize) -> Result<ChunkIds> {
        let reader = read_image(self.0, who, id).await?;
        let ids = reader.chunk_ids(first, count.min(IDS_MAX) as u64).await.map_err(asked)?;
        Ok(ChunkIds { chunk_size: self.0.parts.store.chunk_size(), size: reader.len(), ids })
    }
}

/// Makes a content of pieces and returns its durable head. On any failure nothing is left but chunks that nobody refers to.
///
/// The digests that are wanted are returned where all bytes came along: what was only named passes nowhere.
pub(crate) async fn keep_pieces(
    service: &Service,
    who: &Principal,
    project: ProjectId,
    pieces: Pieces,
    wanted: Option<Wanted>,
) -> Result<(ContentId, chunks::Head, Option<Digests>)> {
    let id = ContentId::new();
    let writer = service.parts.store.writer(project.uuid(), id.uuid()).await?;
    let sources = Sources { service, who, open: Mutex::default() };
    let mut loaded = pin!(pieces.map(|piece| sources.load(piece)).buffered(READ_AHEAD));
    let (chunk_size, digesting) = (service.parts.store.chunk_size(), wanted.map(Digesting::start));
    let mut receiver = Receiver { chunk_size, writer, known: Vec::new(), digesting };
    while let Some(piece) = loaded.next().await {
        receiver.take(piece?).await?;
    }
    receiver.grant().await?;
    let digests = match receiver.digesting {
        Some(digesting) => Some(digesting.finish().await?),
        None => None,
    };
    Ok((id, receiver.writer.finish().await?, digests))
}

/// Takes pieces in order.
struct Receiver {
    chunk_size: u32,
    writer: chunks::Writer,
    /// Named chunks that are not looked up yet.
    known: Vec<ChunkId>,
    /// Nothing once bytes were not seen.
    digesting: Option<Digesting>,
}

impl Receiver {
    async fn take(&mut self, piece: Piece) -> Result<()> {
        if let Piece::Known(id) = piece {
            self.digesting = None;
            self.known.push(id);
            return if self.known.len() < KNOWN_AT_ONCE { Ok(()) } else { self.grant().await };
        }
        self.grant().await?;
        self.writer.check_whole().map_err(asked)?;
        match piece {
            Piece::Known(_) | Piece::Copy { .. } => {}
            Piece::Zeros(length) => {
                self.writer.write_zeros(length).await.map_err(asked)?;
                self.digest_zeros(length).await?;
            }
            Piece::Data(bytes) => {
                check_length(bytes.len() as u64, self.chunk_size)?;
                self.digest(&bytes).await?;
                self.writer.write(bytes).await.map_err(asked)?;
            }
            Piece::Packed { plain, frame } => {
                let bytes = self.writer.write_packed(frame, plain).await.map_err(asked)?;
                self.digest(&bytes).await?;
            }
        }
        Ok(())
    }

    async fn digest(&self, bytes: &Bytes) -> Result<()> {
        match &self.digesting {
            Some(digesting) => digesting.update(bytes).await,
            None => Ok(()),
        }
    }

    /// Adds zeros to the digests. A run of them that takes more than a moment ends those: they are made later, where the
    /// work can be stopped.
    async fn digest_zeros(&mut self, length: u64) -> Result<()> {
        if length > ZEROS_DIGESTED {
            self.digesting = None;
        }
        if self.digesting.is_some() {
            self.digest(&vec![0; length as usize].into()).await?;
        }
        Ok(())
    }

    /// Appends the chunks that were named, if all are there.
    async fn grant(&mut self) -> Result<()> {
        if self.known.is_empty() {
            return Ok(());
        }
        let missing = self.writer.write_known(&self.known).await.map_err(asked)?;
        self.known.clear();
        let Some(first) = missing.first() else { return Ok(()) };
        let message = format!("{} of the chunks named are not there, {} the first", missing.len(), hex::encode(first));
        Err(Error::conflict(message)
            .with_hint("they may have been removed since they were offered: offer again, and send what is missing"))
    }
}

fn check_length(length: u64, chunk_size: u32) -> Result<()> {
    if length <= u64::from(chunk_size) {
        return Ok(());
    }
    Err(Error::invalid(format!("a chunk has at most {chunk_size} bytes, not {length}")))
}

/// Images that are copied from.
struct Sources<'a> {
    service: &'a Service,
    who: &'a Principal,
    open: Mutex<HashMap<ImageId, chunks::Reader>>,
}

impl Sources<'_> {
    /// Turns a chunk that is to be copied into its bytes; other pieces stay as they are.
    async fn load(&self, piece: Result<Piece>) -> Result<Piece> {
        let piece = piece?;
        let Piece::Copy { image, offset, length, hash } = piece else { return Ok(piece) };
        check_length(length.into(), self.service.parts.store.chunk_size())?;
        let source = self.source(image).await?;
        if offset.checked_add(length.into()).is_none_or(|end| end > source.len()) {
            return Err(other_base(image, offset));
        }
        let bytes = source.read(offset, length as usize).await?;
        let hashed = bytes.clone();
        if self.service.permits.run(move || blake3::hash(&hashed)).await? != hash {
            return Err(other_base(image, offset));
        }
        Ok(Piece::Data(bytes))
    }

    async fn source(&self, image: ImageId) -> Result<chunks::Reader> {
        let mut open = self.open.lock().await;
        if let Some(reader) = open.get(&image) {
            return Ok(reader.clone());
        }
        if open.len() == SOURCES_MAX {
            return Err(Error::invalid(format!("chunks are copied from at most {SOURCES_MAX} images at once")));
        }
        let reader = read_image(self.service, self.who, image).await?;
        open.insert(image, reader.clone());
        Ok(reader)
    }
}

/// Takes over a failure of the store, which is the client's where the store was asked what cannot be: all of it came from
/// there.
fn asked(error: chunks::Error) -> Error {
    if error.kind() != chunks::ErrorKind::Invalid {
        return error.into();
    }
    let hint = error.hint().unwrap_or("cut the content into chunks as the terms of the transfer say").to_owned();
    Error::invalid(error.to_string()).with_hint(hint).caused_by(error)
}

fn other_base(image: ImageId, offset: u64) -> Error {
    let message = format!("image {image} has other bytes at {offset} than those that are to be copied");
    Error::new(ErrorKind::BadContent, message).with_hint("name the image that the bytes were taken from, unchanged")
}

/// Opens the bytes of an image that the principal may read.
async fn read_image(service: &Service, who: &Principal, id: ImageId) -> Result<chunks::Reader> {
    let mut tx = service.parts.catalog.read().await?;
    let image = policy::read_image(who, id, images::get(&mut tx, id).await?)?;
    drop(tx);
    match image.content {
        Some(content) => content::open(service, content).await,
        None => {
            Err(Error::conflict(format!("image {id} has no bytes yet")).with_hint("wait until its state is active"))
        }
    }
}
