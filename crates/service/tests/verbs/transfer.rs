//! Negotiated transfer: what is offered, named, sent and copied; whose chunks are known; what a refusal leaves.

use bytes::Bytes;
use futures::stream;
use model::identity::{Principal, Role};
use model::images::ImageState;
use model::quotas::Resource;
use model::{DiskFormat, ImageId, UploadId};
use service::{ChunkId, Error, ErrorKind, PartTag, Piece, Pieces, PutObject, Result, UploadAt};

use crate::fixture::{Fixture, new_image};
use crate::payload::{CHUNK, disk, noise};

const KEY: &str = "key";

fn pieces(pieces: Vec<Piece>) -> Pieces {
    Box::pin(stream::iter(pieces.into_iter().map(Ok)))
}

/// Makes the ids of a client's chunks, with the key that it was told.
async fn ids(f: &Fixture, who: &Principal, bytes: &[u8]) -> Vec<ChunkId> {
    let terms = f.service.transfer().terms(who).await.unwrap();
    assert_eq!(terms.chunk_size as usize, CHUNK);
    let key: [u8; 32] = terms.id_key.expose().try_into().unwrap();
    bytes.chunks(CHUNK).map(|chunk| *blake3::keyed_hash(&key, chunk).as_bytes()).collect()
}

/// Sends bytes as a client does: zeros as zeros, what is missing as data, and the rest by name. Returns the pieces and how
/// many chunks are data.
async fn negotiate(f: &Fixture, who: &Principal, bytes: &[u8]) -> (Vec<Piece>, usize) {
    let ids = ids(f, who, bytes).await;
    let there = f.service.transfer().offer(who, &ids).await.unwrap();
    let mut sent = 0;
    let piece = |((chunk, id), there): ((&[u8], ChunkId), bool)| match there {
        _ if chunk.iter().all(|byte| *byte == 0) => Piece::Zeros(chunk.len() as u64),
        true => Piece::Known(id),
        false => {
            sent += 1;
            Piece::Data(Bytes::copy_from_slice(chunk))
        }
    };
    let made = bytes.chunks(CHUNK).zip(ids).zip(there).map(piece).collect();
    (made, sent)
}

struct Bench {
    f: Fixture,
    who: Principal,
    upload: UploadId,
}

impl Bench {
    async fn new() -> Self {
        let f = Fixture::new().await;
        let who = f.member().await;
        f.service.buckets().create(&who, "bucket").await.unwrap();
        let upload = f.service.uploads().begin(&who, "bucket", KEY, PutObject::default()).await.unwrap().id;
        Self { f, who, upload }
    }

    fn at(&self) -> UploadAt<'static> {
        UploadAt { bucket: "bucket", key: KEY, upload: self.upload }
    }

    async fn put(&self, number: u32, made: Vec<Piece>) -> Result<PartTag> {
        let part = self.f.service.transfer().put_part(&self.who, self.at(), number, pieces(made)).await?;
        Ok(PartTag { number: part.number, etag: part.etag })
    }

    /// Puts a part that must be refused, and returns why; nothing may be left of it.
    async fn refused(&self, made: Vec<Piece>) -> Error {
        let before = self.f.contents().await;
        let refused = self.put(9, made).await.unwrap_err();
        assert_eq!(self.f.contents().await, before, "{refused}");
        refused
    }
}

#[tokio::test]
async fn an_object_is_made_of_what_is_there_and_what_is_sent() {
    let b = Bench::new().await;
    let known = noise(1, 3 * CHUNK);
    b.f.put(&b.who, "bucket", "other", &known).await;
    let first = [&known[CHUNK..], &vec![0; 2 * CHUNK], &noise(2, CHUNK)].concat();
    let second = [&known[..CHUNK], &noise(3, 100)].concat();
    let mut tags = Vec::new();
    for (number, bytes) in [(1, &first), (2, &second)] {
        let (made, sent) = negotiate(&b.f, &b.who, bytes).await;
        assert_eq!(sent, 1);
        tags.push(b.put(number, made).await.unwrap());
    }
    // The same bytes have the same tag, however they came.
    let (made, sent) = negotiate(&b.f, &b.who, &first).await;
    assert_eq!((sent, b.put(1, made).await.unwrap()), (0, tags[0].clone()));
    assert_ne!(tags[0].etag, tags[1].etag);
    let object = b.f.service.uploads().complete(&b.who, b.at(), tags).await.unwrap();
    assert!(object.etag.ends_with("-2"), "{}", object.etag);
    assert_eq!(b.f.object(&b.who, "bucket", KEY).await, [first, second].concat());
    assert_eq!(b.f.contents().await, 2);
}

#[tokio::test]
async fn chunks_of_another_project_are_missing() {
    let b = Bench::new().await;
    let project = b.f.project("other").await;
    let other = b.f.principal(&project, Role::Member).await;
    let bytes = noise(1, 3 * CHUNK);
    b.f.put(&b.who, "bucket", "other", &bytes).await;
    let (ours, theirs) = (ids(&b.f, &b.who, &bytes).await, ids(&b.f, &other, &bytes).await);
    for ids in [&ours, &theirs] {
        assert_eq!(b.f.service.transfer().offer(&other, ids).await.unwrap(), [false; 3]);
    }
    assert_eq!(b.f.service.transfer().offer(&b.who, &ours).await.unwrap(), [true; 3]);
    // To know the id of another project's chunk opens nothing.
    let image = b.f.service.images().create(&other, new_image(DiskFormat::Raw)).await.unwrap();
    let named = pieces(ours.iter().map(|id| Piece::Known(*id)).collect());
    let refused = b.f.service.transfer().put_image(&other, image.id, named).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(b.f.contents().await, 1);
}

#[tokio::test]
async fn what_vanished_after_the_offer_is_a_conflict_that_sending_solves() {
    let b = Bench::new().await;
    let bytes = noise(1, 3 * CHUNK);
    b.f.put(&b.who, "bucket", "other", &bytes).await;
    let (made, _) = negotiate(&b.f, &b.who, &bytes).await;
    b.f.service.objects().delete(&b.who, "bucket", "other").await.unwrap();
    let root = b.f.root().await;
    for _ in 0..2 {
        b.f.service.store().collect(&root, false).await.unwrap();
    }
    let refused = b.refused(made).await;
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert!(refused.to_string().starts_with("3 of the chunks named are not there"), "{refused}");
    let (made, sent) = negotiate(&b.f, &b.who, &bytes).await;
    assert_eq!(sent, 3);
    let tag = b.put(1, made).await.unwrap();
    b.f.service.uploads().complete(&b.who, b.at(), vec![tag]).await.unwrap();
    assert_eq!(b.f.object(&b.who, "bucket", KEY).await, bytes);
}

#[tokio::test]
async fn a_part_holds_its_chunks_while_garbage_is_collected() {
    let b = Bench::new().await;
    let bytes = noise(1, 3 * CHUNK);
    b.f.put(&b.who, "bucket", "other", &bytes).await;
    let (made, _) = negotiate(&b.f, &b.who, &bytes).await;
    let tag = b.put(1, made).await.unwrap();
    b.f.service.objects().delete(&b.who, "bucket", "other").await.unwrap();
    let root = b.f.root().await;
    for _ in 0..3 {
        b.f.service.store().collect(&root, false).await.unwrap();
    }
    b.f.service.uploads().complete(&b.who, b.at(), vec![tag]).await.unwrap();
    assert_eq!(b.f.object(&b.who, "bucket", KEY).await, bytes);
}

#[tokio::test]
async fn pieces_that_cannot_be_are_refused_and_leave_nothing() {
    let b = Bench::new().await;
    let frame = Bytes::from_static(b"no frame");
    let data = |length: usize| Piece::Data(noise(1, length).into());
    let cases = [
        (vec![data(CHUNK + 1)], "a chunk has at most"),
        (vec![data(5), data(5)], "shorter than the others"),
        (vec![Piece::Zeros(5), data(5)], "shorter than the others"),
        (vec![data(5), Piece::Zeros(CHUNK as u64)], "shorter than the others"),
        (vec![Piece::Zeros(u64::MAX)], "a content has at most"),
        (vec![Piece::Packed { plain: CHUNK as u32, frame: frame.clone() }], "does not decompress"),
        (vec![Piece::Packed { plain: CHUNK as u32 + 1, frame }], "a chunk has at most"),
    ];
    for (made, said) in cases {
        let refused = b.refused(made).await;
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
    }
    let broken = Error::new(ErrorKind::BadContent, "the connection was closed");
    let body: Pieces = Box::pin(stream::iter([Ok(data(CHUNK)), Err(broken)]));
    let refused = b.f.service.transfer().put_part(&b.who, b.at(), 1, body).await.unwrap_err();
    assert_eq!((refused.kind(), b.f.contents().await), (ErrorKind::BadContent, 0));
    for number in [0, 10_001] {
        assert_eq!(b.put(number, vec![]).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    let many = vec![[1; 32]; service::IDS_MAX + 1];
    assert_eq!(b.f.service.transfer().offer(&b.who, &many).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_quota_holds_for_what_is_sent_and_not_for_what_is_named() {
    let b = Bench::new().await;
    let bytes = noise(1, 8 * CHUNK);
    b.f.put(&b.who, "bucket", "other", &bytes).await;
    let used = b.f.used(b.who.project.id, Resource::StoredBytes).await;
    b.f.limit(b.who.project.id, Resource::StoredBytes, Some(used)).await;
    let (made, sent) = negotiate(&b.f, &b.who, &bytes).await;
    assert_eq!(sent, 0);
    b.put(1, made).await.unwrap();
    let (made, _) = negotiate(&b.f, &b.who, &noise(2, CHUNK)).await;
    assert_eq!(b.refused(made).await.kind(), ErrorKind::QuotaExceeded);
}

#[tokio::test]
async fn an_image_of_pieces_is_as_one_that_was_sent_whole() {
    let b = Bench::new().await;
    let bytes = disk(1);
    let whole = b.f.image(&b.who, new_image(DiskFormat::Raw), &bytes).await;
    let image = b.f.service.images().create(&b.who, new_image(DiskFormat::Raw)).await.unwrap();
    let (made, sent) = negotiate(&b.f, &b.who, &bytes).await;
    assert_eq!(sent, 0);
    let image = b.f.service.transfer().put_image(&b.who, image.id, pieces(made)).await.unwrap();
    assert_eq!((image.state, image.size, image.size_virtual), (ImageState::Active, whole.size, whole.size_virtual));
    assert!(image.checksums.is_some() && image.checksums == whole.checksums);
    assert_eq!(b.f.image_bytes(&b.who, image.id).await, bytes);

    // What is refused leaves an image that waits for bytes, and may get them.
    let queued = b.f.service.images().create(&b.who, new_image(DiskFormat::Qcow2)).await.unwrap();
    let (made, _) = negotiate(&b.f, &b.who, &bytes).await;
    let refused = b.f.service.transfer().put_image(&b.who, queued.id, pieces(made)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BadContent, "a disk that is no qcow2: {refused}");
    let named = pieces(vec![Piece::Known([1; 32])]);
    let refused = b.f.service.transfer().put_image(&b.who, queued.id, named).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    assert_eq!(b.f.service.images().get(&b.who, queued.id).await.unwrap().state, ImageState::Queued);
    assert_eq!(b.f.contents().await, 2);
}

fn copy(image: ImageId, bytes: &[u8], offset: usize, length: usize) -> Piece {
    let hash = *blake3::hash(&bytes[offset..offset + length]).as_bytes();
    Piece::Copy { image, offset: offset as u64, length: length as u32, hash }
}

#[tokio::test]
async fn chunks_are_copied_from_images_that_may_be_read() {
    let b = Bench::new().await;
    let project = b.f.project("other").await;
    let other = b.f.principal(&project, Role::Member).await;
    let bytes = disk(1);
    let base = b.f.image(&other, new_image(DiskFormat::Raw), &bytes).await;
    // At any place, not only at the borders of chunks.
    let made = vec![
        copy(base.id, &bytes, 3 * CHUNK, CHUNK),
        Piece::Data(noise(5, CHUNK).into()),
        copy(base.id, &bytes, 1000, CHUNK),
        copy(base.id, &bytes, bytes.len() - 100, 100),
    ];
    let refused = b.refused(made.clone()).await;
    assert_eq!(refused.kind(), ErrorKind::NotFound, "a private image of another project: {refused}");
    let public = service::ImageChange {
        visibility: Some(model::images::Visibility::Community),
        ..service::ImageChange::default()
    };
    b.f.service.images().update(&other, base.id, public).await.unwrap();
    let tag = b.put(1, made).await.unwrap();
    b.f.service.uploads().complete(&b.who, b.at(), vec![tag]).await.unwrap();
    let expect =
        [&bytes[3 * CHUNK..4 * CHUNK], &noise(5, CHUNK), &bytes[1000..1000 + CHUNK], &bytes[bytes.len() - 100..]];
    assert_eq!(b.f.object(&b.who, "bucket", KEY).await, expect.concat());
}

#[tokio::test]
async fn a_copy_of_other_bytes_is_refused_with_its_place() {
    let b = Bench::new().await;
    let bytes = disk(1);
    let base = b.f.image(&b.who, new_image(DiskFormat::Raw), &bytes).await;
    let upload = b.f.service.uploads().begin(&b.who, "bucket", KEY, PutObject::default()).await.unwrap().id;
    let end = bytes.len() as u64;
    for (offset, length) in [(CHUNK as u64, CHUNK as u32), (end, 1), (end - 1, 2), (u64::MAX, 1)] {
        let wrong = Piece::Copy { image: base.id, offset, length, hash: [7; 32] };
        let at = UploadAt { upload, ..b.at() };
        let refused = b.f.service.transfer().put_part(&b.who, at, 1, pieces(vec![wrong])).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::BadContent);
        assert!(refused.to_string().contains(&format!("has other bytes at {offset}")), "{refused}");
    }
    let empty = b.f.service.images().create(&b.who, new_image(DiskFormat::Raw)).await.unwrap();
    assert_eq!(b.refused(vec![copy(empty.id, &bytes, 0, 9)]).await.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn the_chunks_of_an_image_are_listed_in_pages() {
    let b = Bench::new().await;
    let bytes = disk(1);
    let image = b.f.image(&b.who, new_image(DiskFormat::Raw), &bytes).await;
    let mut expect = ids(&b.f, &b.who, &bytes).await;
    expect[4..10].fill([0; 32]);
    let transfer = b.f.service.transfer();
    let mut found = Vec::new();
    while found.len() < expect.len() {
        let page = transfer.image_chunks(&b.who, image.id, found.len() as u64, 3).await.unwrap();
        assert_eq!((page.size, page.chunk_size as usize), (bytes.len() as u64, CHUNK));
        found.extend(page.ids);
    }
    assert_eq!(found, expect);
    assert!(transfer.image_chunks(&b.who, image.id, 16, usize::MAX).await.unwrap().ids.is_empty());
    assert_eq!(transfer.image_chunks(&b.who, image.id, 17, 1).await.unwrap_err().kind(), ErrorKind::Invalid);
}
