//! Uploads in parts: any order, replaced parts, wrong lists, and what completing and aborting leave.

use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use md5::{Digest, Md5};
use model::UploadId;
use model::identity::Principal;
use service::{ErrorKind, Incoming, PartTag, PutObject, UploadAt};

use crate::fixture::Fixture;
use crate::payload::{CHUNK, body, noise};

struct Upload {
    f: Fixture,
    who: Principal,
    id: UploadId,
}

impl Upload {
    async fn begin() -> Self {
        let f = Fixture::new().await;
        let who = f.member().await;
        f.service.buckets().create(&who, "bucket").await.unwrap();
        let put = PutObject { content_type: Some("text/x".into()), metadata: [("a".into(), "b".into())].into() };
        let id = f.service.uploads().begin(&who, "bucket", "key", put).await.unwrap().id;
        Self { f, who, id }
    }

    fn at(&self) -> UploadAt<'static> {
        UploadAt { bucket: "bucket", key: "key", upload: self.id }
    }

    async fn part(&self, number: u32, bytes: &[u8]) -> PartTag {
        let part = self.f.service.uploads().put_part(&self.who, self.at(), number, body(bytes)).await.unwrap();
        assert_eq!((part.size, &part.etag), (bytes.len() as u64, &hex::encode(Md5::digest(bytes))));
        PartTag { number, etag: part.etag }
    }

    async fn complete(&self, tags: &[&PartTag]) -> service::Result<model::buckets::Object> {
        let tags = tags.iter().map(|tag| (*tag).clone()).collect();
        self.f.service.uploads().complete(&self.who, self.at(), tags).await
    }
}

#[tokio::test]
async fn parts_may_come_in_any_order_and_again() {
    let upload = Upload::begin().await;
    let (one, two, three) = (noise(1, CHUNK), noise(2, CHUNK), noise(3, 1000));
    let last = upload.part(30, &three).await;
    upload.part(2, b"an earlier second part").await;
    let first = upload.part(1, &one).await;
    let second = upload.part(2, &two).await;
    let listed = upload.f.service.uploads().parts(&upload.who, upload.at()).await.unwrap();
    assert_eq!(listed.iter().map(|part| part.number).collect::<Vec<_>>(), [1, 2, 30]);
    assert_eq!(upload.f.contents().await, 3, "the replaced part is gone");

    let object = upload.complete(&[&first, &second, &last]).await.unwrap();
    let sums: Vec<u8> = [&one, &two, &three].iter().flat_map(|part| Md5::digest(part).to_vec()).collect();
    assert_eq!(object.etag, format!("{}-3", hex::encode(Md5::digest(sums))));
    assert_eq!((object.content_type.as_deref(), object.metadata["a"].as_str()), (Some("text/x"), "b"));
    assert_eq!(upload.f.object(&upload.who, "bucket", "key").await, [one, two, three].concat());
    assert!(upload.f.service.uploads().list(&upload.who, "bucket").await.unwrap().is_empty());
    assert_eq!(upload.f.contents().await, 1, "the parts went with the upload");
    assert_eq!(upload.complete(&[&first]).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn only_listed_parts_are_joined_and_an_old_object_is_released() {
    let upload = Upload::begin().await;
    let old = upload.f.put(&upload.who, "bucket", "key", b"old").await;
    let (one, three) = (noise(1, CHUNK), noise(3, CHUNK));
    let first = upload.part(1, &one).await;
    upload.part(2, &noise(2, CHUNK)).await;
    let third = upload.part(3, &three).await;
    upload.complete(&[&first, &third]).await.unwrap();
    assert_eq!(upload.f.object(&upload.who, "bucket", "key").await, [one, three].concat());
    assert!(!upload.f.is_kept(old).await);
    assert_eq!(upload.f.contents().await, 1);
}

#[tokio::test]
async fn a_wrong_list_changes_nothing() {
    let upload = Upload::begin().await;
    let (first, second) = (upload.part(1, b"one").await, upload.part(2, b"two").await);
    let missing = PartTag { number: 3, etag: first.etag.clone() };
    let wrong = PartTag { number: 2, etag: first.etag.clone() };
    let cases = [
        (ErrorKind::Invalid, "part 3", vec![&first, &second, &missing]),
        (ErrorKind::Invalid, "part 2", vec![&first, &wrong]),
        (ErrorKind::BadOrder, "rise", vec![&second, &first]),
        (ErrorKind::BadOrder, "rise", vec![&first, &first]),
        (ErrorKind::Invalid, "empty", vec![]),
    ];
    for (kind, said, tags) in cases {
        let refused = upload.complete(&tags).await.unwrap_err();
        assert_eq!(refused.kind(), kind, "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
        assert_eq!(upload.f.contents().await, 2);
    }
    let head = upload.f.service.objects().head(&upload.who, "bucket", "key").await;
    assert_eq!(head.unwrap_err().kind(), ErrorKind::NotFound);
    upload.complete(&[&first, &second]).await.unwrap();
    assert_eq!(upload.f.object(&upload.who, "bucket", "key").await, b"onetwo");
}

/// Whole chunks are listed again and not stored again: completing adds nodes of the manifest and no chunk.
#[tokio::test]
async fn joining_whole_chunks_stores_no_chunk() {
    let upload = Upload::begin().await;
    let parts: Vec<_> = (0..4).map(|number| noise(number, 2 * CHUNK)).collect();
    let mut tags = Vec::new();
    for (number, part) in (1..).zip(&parts) {
        tags.push(upload.part(number, part).await);
    }
    tags.push(upload.part(5, &noise(9, 777)).await);
    let before = upload.f.backend.pack_bytes().await;
    upload.complete(&tags.iter().collect::<Vec<_>>()).await.unwrap();
    let added = upload.f.backend.pack_bytes().await - before;
    assert!(added < 4096, "{added} bytes stored to join {} bytes", 8 * CHUNK);
    let joined = upload.f.object(&upload.who, "bucket", "key").await;
    assert_eq!(joined, [parts.concat(), noise(9, 777)].concat());
}

#[tokio::test]
async fn parts_that_are_no_whole_chunks_are_joined_right() {
    let upload = Upload::begin().await;
    let lengths = [1, CHUNK - 1, CHUNK + 1, 3 * CHUNK, 12_345, 0, CHUNK];
    let parts: Vec<_> = (0..).zip(lengths).map(|(seed, length)| noise(seed, length)).collect();
    let mut tags = Vec::new();
    for (number, part) in (1..).zip(&parts) {
        tags.push(upload.part(number, part).await);
    }
    let object = upload.complete(&tags.iter().collect::<Vec<_>>()).await.unwrap();
    assert_eq!(object.size, lengths.iter().sum::<usize>() as u64);
    assert_eq!(upload.f.object(&upload.who, "bucket", "key").await, parts.concat());
    assert_eq!(upload.f.contents().await, 1);
}

#[tokio::test]
async fn aborting_leaves_nothing() {
    let upload = Upload::begin().await;
    let first = upload.part(1, &noise(1, 100_000)).await;
    upload.part(2, &noise(2, 100_000)).await;
    upload.f.service.uploads().abort(&upload.who, upload.at()).await.unwrap();
    assert_eq!(upload.f.contents().await, 0);
    let uploads = upload.f.service.uploads();
    let late = uploads.put_part(&upload.who, upload.at(), 3, body(b"late")).await.unwrap_err();
    assert_eq!((late.kind(), late.noun()), (ErrorKind::NotFound, Some("upload")));
    assert_eq!(upload.complete(&[&first]).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(uploads.abort(&upload.who, upload.at()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_part_that_is_wrong_leaves_the_one_before() {
    let upload = Upload::begin().await;
    let first = upload.part(1, b"one").await;
    let uploads = upload.f.service.uploads();
    for number in [0, 10_001, u32::MAX] {
        let refused = uploads.put_part(&upload.who, upload.at(), number, body(b"x")).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
    }
    let wrong = Incoming { md5: Some([0; 16]), ..body(b"other") };
    let refused = uploads.put_part(&upload.who, upload.at(), 1, wrong).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BadDigest);
    let wrong = Incoming { length: Some(6), ..body(b"other") };
    let refused = uploads.put_part(&upload.who, upload.at(), 1, wrong).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::BadContent);
    assert_eq!(upload.f.contents().await, 1);
    upload.complete(&[&first]).await.unwrap();
}

#[tokio::test]
async fn an_upload_aborted_while_a_part_comes_leaves_nothing() {
    let upload = Upload::begin().await;
    let (service, who, at) = (upload.f.service.clone(), upload.who.clone(), upload.at());
    let abort = async move {
        service.uploads().abort(&who, at).await?;
        Ok(Bytes::from(noise(1, 1000)))
    };
    let stream = stream::iter([Ok(Bytes::from(noise(2, 1000)))]).chain(abort.into_stream()).boxed();
    let incoming = Incoming { stream, length: Some(2000), md5: None };
    let late = upload.f.service.uploads().put_part(&upload.who, upload.at(), 1, incoming).await.unwrap_err();
    assert_eq!((late.kind(), late.noun()), (ErrorKind::NotFound, Some("upload")));
    assert_eq!(upload.f.contents().await, 0);
}

#[tokio::test]
async fn an_upload_aborted_while_it_is_completed_leaves_nothing() {
    let upload = Upload::begin().await;
    let first = upload.part(1, &noise(1, CHUNK)).await;
    let gate = upload.f.backend.written.hold("heads/");
    let (service, who, at) = (upload.f.service.clone(), upload.who.clone(), upload.at());
    let tags = vec![first.clone()];
    let slow = tokio::spawn(async move { service.uploads().complete(&who, at, tags).await });
    gate.reached().await;
    upload.f.service.uploads().abort(&upload.who, upload.at()).await.unwrap();
    gate.open();
    assert_eq!(slow.await.unwrap().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(upload.f.contents().await, 0);
}
