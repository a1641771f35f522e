//! Objects: put, replace, copy, delete, and what is left of the bytes.

use md5::{Digest, Md5};
use service::{Error, ErrorKind, Incoming, ListObjects, PutObject, Range};

use crate::fixture::Fixture;
use crate::payload::{body, broken, noise, read};

async fn fixture() -> (Fixture, model::identity::Principal) {
    let f = Fixture::new().await;
    let who = f.member().await;
    f.service.buckets().create(&who, "bucket").await.unwrap();
    (f, who)
}

#[tokio::test]
async fn an_object_comes_back_as_it_was_put() {
    let (f, who) = fixture().await;
    let bytes = noise(1, 200_001);
    let put = PutObject { content_type: Some("text/x".into()), metadata: [("owner".into(), "josé".into())].into() };
    let object = f.service.objects().put(&who, "bucket", "a/b c", put.clone(), body(&bytes)).await.unwrap();
    assert_eq!((object.size, object.etag.as_str()), (200_001, hex::encode(Md5::digest(&bytes)).as_str()));
    let (head, download) = f.service.objects().get(&who, "bucket", "a/b c").await.unwrap();
    assert_eq!(head, object);
    assert_eq!((head.content_type, head.metadata), (put.content_type, put.metadata));
    assert_eq!((download.length(), read(download.stream_all()).await), (200_001, bytes.clone()));
    for (offset, length) in [(0, 1), (65_535, 2), (200_000, 1), (1, 200_000)] {
        let part = read(download.stream(Range { offset, length })).await;
        assert_eq!(part, bytes[offset as usize..(offset + length) as usize]);
    }
    let empty = f.service.objects().put(&who, "bucket", "empty", PutObject::default(), body(b"")).await.unwrap();
    assert_eq!((empty.size, empty.etag.as_str()), (0, "d41d8cd98f00b204e9800998ecf8427e"));
    assert_eq!(f.object(&who, "bucket", "empty").await, b"");
}

#[tokio::test]
async fn replacing_and_deleting_release_the_old_bytes() {
    let (f, who) = fixture().await;
    let first = f.put(&who, "bucket", "key", &noise(1, 100_000)).await;
    let second = f.put(&who, "bucket", "key", &noise(2, 100_000)).await;
    assert!(!f.is_kept(first).await && f.is_kept(second).await);
    assert_eq!(f.object(&who, "bucket", "key").await, noise(2, 100_000));
    f.service.objects().delete(&who, "bucket", "key").await.unwrap();
    f.service.objects().delete(&who, "bucket", "key").await.expect("absent is fine");
    assert_eq!(f.contents().await, 0);
    assert_eq!(f.service.objects().head(&who, "bucket", "key").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_copy_shares_the_bytes_and_outlives_the_first() {
    let (f, who) = fixture().await;
    f.service.buckets().create(&who, "other").await.unwrap();
    let bytes = noise(3, 150_000);
    let content = f.put(&who, "bucket", "one", &bytes).await;
    let stored = f.backend.pack_bytes().await;
    let copied = f.service.objects().copy(&who, ("bucket", "one"), ("other", "two"), None).await.unwrap();
    assert_eq!((copied.content, f.backend.pack_bytes().await), (content, stored));
    let onto_itself = f.service.objects().copy(&who, ("other", "two"), ("other", "two"), None).await.unwrap();
    assert_eq!(onto_itself.content, content);
    f.service.objects().delete(&who, "bucket", "one").await.unwrap();
    assert!(f.is_kept(content).await);
    assert_eq!(f.object(&who, "other", "two").await, bytes);
    // Copied over an object with other bytes, it releases those.
    let other = f.put(&who, "bucket", "one", &noise(4, 1000)).await;
    f.service.objects().copy(&who, ("other", "two"), ("bucket", "one"), None).await.unwrap();
    assert!(!f.is_kept(other).await);
    for (bucket, key) in [("other", "two"), ("bucket", "one")] {
        f.service.objects().delete(&who, bucket, key).await.unwrap();
    }
    assert_eq!(f.contents().await, 0);
}

#[tokio::test]
async fn equal_bytes_are_stored_once() {
    let (f, who) = fixture().await;
    let bytes = noise(5, 256 << 10);
    f.put(&who, "bucket", "one", &bytes).await;
    let stored = f.backend.pack_bytes().await;
    f.put(&who, "bucket", "two", &bytes).await;
    assert_eq!(f.backend.pack_bytes().await, stored);
    // A new object of the same bytes is another content: deleting one leaves the other.
    f.service.objects().delete(&who, "bucket", "one").await.unwrap();
    assert_eq!(f.object(&who, "bucket", "two").await, bytes);
}

#[tokio::test]
async fn a_body_that_is_wrong_leaves_nothing() {
    let (f, who) = fixture().await;
    let kept = f.put(&who, "bucket", "key", b"before").await;
    let bytes = noise(6, 200_000);
    let told = |length| Incoming { length: Some(length), ..body(&bytes) };
    let cases = [
        (ErrorKind::BadContent, told(199_999)),
        (ErrorKind::BadContent, told(200_001)),
        (ErrorKind::BadContent, told(0)),
        (ErrorKind::BadContent, Incoming { length: Some(1), ..body(b"") }),
        (ErrorKind::BadContent, broken(&bytes)),
        (ErrorKind::BadDigest, Incoming { md5: Some([7; 16]), ..body(&bytes) }),
    ];
    for (number, (kind, incoming)) in cases.into_iter().enumerate() {
        let put = f.service.objects().put(&who, "bucket", "key", PutObject::default(), incoming).await;
        assert_eq!(put.as_ref().unwrap_err().kind(), kind, "case {number}: {put:?}");
        assert_eq!(f.object(&who, "bucket", "key").await, b"before", "case {number}");
        assert!(f.is_kept(kept).await);
        assert_eq!(f.contents().await, 1, "case {number}");
    }
    let list = ListObjects { prefix: String::new(), delimiter: None, after: None, limit: 10 };
    assert_eq!(f.service.objects().list(&who, "bucket", list).await.unwrap().objects.len(), 1);
}

#[tokio::test]
async fn a_bucket_goes_only_when_it_is_empty() {
    let (f, who) = fixture().await;
    let buckets = f.service.buckets();
    let conflict = |error: Error| assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    conflict(buckets.create(&who, "bucket").await.unwrap_err());
    f.put(&who, "bucket", "key", b"x").await;
    conflict(buckets.delete(&who, "bucket").await.unwrap_err());
    f.service.objects().delete(&who, "bucket", "key").await.unwrap();
    let upload = f.service.uploads().begin(&who, "bucket", "key", PutObject::default()).await.unwrap();
    conflict(buckets.delete(&who, "bucket").await.unwrap_err());
    let at = service::UploadAt { bucket: "bucket", key: "key", upload: upload.id };
    f.service.uploads().abort(&who, at).await.unwrap();
    buckets.delete(&who, "bucket").await.unwrap();
    assert_eq!(buckets.get(&who, "bucket").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_bucket_that_goes_while_bytes_come_leaves_nothing() {
    let (f, who) = fixture().await;
    let gate = f.backend.written.hold("packs/");
    let (service, putter) = (f.service.clone(), who.clone());
    let put = tokio::spawn(async move {
        let body = body(&noise(7, 100_000));
        service.objects().put(&putter, "bucket", "key", PutObject::default(), body).await
    });
    gate.reached().await;
    f.service.buckets().delete(&who, "bucket").await.unwrap();
    gate.open();
    put.await.unwrap().unwrap_err();
    assert_eq!(f.contents().await, 0);
}
