//! Collection over a real catalog: what records let go is gone, and what they hold stays, whatever runs beside it.

use service::{ErrorKind, Fate};

use crate::fixture::{Fixture, from_object};
use crate::payload::{body, noise, read};

#[tokio::test]
async fn what_was_deleted_is_gone_after_two_runs() {
    let f = Fixture::new().await;
    let (root, who) = (f.root().await, f.member().await);
    f.service.buckets().create(&who, "bucket").await.unwrap();
    let (kept, gone) = (noise(1, 3_000_000), noise(2, 3_000_000));
    f.put(&who, "bucket", "kept", &kept).await;
    let packs = f.backend.packs().await.len();
    f.put(&who, "bucket", "gone", &gone).await;
    f.put(&who, "bucket", "replaced", &noise(3, 3_000_000)).await;
    f.put(&who, "bucket", "replaced", &kept).await;
    f.service.objects().delete(&who, "bucket", "gone").await.unwrap();

    let dry = f.service.store().collect(&root, true).await.unwrap();
    assert_eq!((dry.sum(Fate::InUse).count, dry.sum(Fate::Condemned).count > 0), (packs as u64, true), "{dry:?}");
    f.service.store().collect(&root, false).await.unwrap();
    let second = f.service.store().collect(&root, false).await.unwrap();
    assert!(second.removed.bytes > 6_000_000, "{second:?}");
    assert_eq!(f.backend.packs().await.len(), packs);
    assert_eq!(f.backend.heads().await.len(), 2);
    assert_eq!(f.object(&who, "bucket", "kept").await, kept);
    assert_eq!(f.object(&who, "bucket", "replaced").await, kept);
    // What comes back is stored anew.
    f.put(&who, "bucket", "gone", &gone).await;
    assert_eq!(f.object(&who, "bucket", "gone").await, gone);
}

#[tokio::test]
async fn uploads_jobs_and_downloads_go_on_while_it_runs() {
    let f = Fixture::new().await;
    let (root, who) = (f.root().await, f.member().await);
    f.service.buckets().create(&who, "bucket").await.unwrap();
    let collecting = async {
        let mut removed = 0;
        for _ in 0..40 {
            removed += f.service.store().collect(&root, false).await.unwrap().removed.count;
            tokio::task::yield_now().await;
        }
        removed
    };
    let writing = async {
        for round in 0..12_u8 {
            // Each shares half with the one before, which is removed in the middle of the next upload.
            let bytes = [noise(round.into(), 400_000), noise((round + 1).into(), 400_000)].concat();
            let key = format!("key-{round}");
            f.put(&who, "bucket", &key, &bytes).await;
            if round > 0 {
                f.service.objects().delete(&who, "bucket", &format!("key-{}", round - 1)).await.unwrap();
            }
            let (_, download) = f.service.objects().get(&who, "bucket", &key).await.unwrap();
            assert!(read(download.stream_all()).await == bytes, "{round}");
        }
    };
    let (removed, ()) = tokio::join!(collecting, writing);
    assert!(removed > 0, "nothing was collected beside the writer");
    assert_eq!(f.service.store().state(&root).await.unwrap().alarm, None);
    for _ in 0..3 {
        f.service.store().collect(&root, false).await.unwrap();
    }
    assert_eq!(f.backend.heads().await.len(), 1);
    let last = [noise(11, 400_000), noise(12, 400_000)].concat();
    assert_eq!(f.object(&who, "bucket", "key-11").await, last);
    let stored = f.backend.pack_bytes().await;
    assert!(stored < 2 * last.len() as u64, "{stored} bytes are left");
}

#[tokio::test]
async fn what_a_job_has_made_waits_for_its_end() {
    let f = Fixture::new().await;
    let (root, who) = (f.root().await, f.member().await);
    f.service.buckets().create(&who, "bucket").await.unwrap();
    let bytes = noise(5, 1_000_000);
    f.put(&who, "bucket", "disk", &bytes).await;
    let from = from_object("bucket", "disk", Some(model::DiskFormat::Raw));
    let (image, job) = f.service.images().create_from_object(&who, from).await.unwrap();
    f.service.objects().delete(&who, "bucket", "disk").await.unwrap();
    for _ in 0..3 {
        f.service.store().collect(&root, false).await.unwrap();
    }
    // The object is gone before the job read it, so the job fails with a sentence and leaves nothing.
    let runner = service::Runner::start(f.service.clone()).await.unwrap();
    let ended = f.ended(&who, job.id).await;
    runner.stop(&f.service).await.unwrap();
    assert!(ended.error.unwrap().contains("deleted"));
    assert_eq!(f.service.images().get(&who, image.id).await.unwrap().state, model::images::ImageState::Error);
    f.service.store().collect(&root, false).await.unwrap();
    assert!(f.backend.packs().await.is_empty() && f.backend.heads().await.is_empty());
}

#[tokio::test]
async fn an_upload_that_broke_off_leaves_nothing() {
    let f = Fixture::new().await;
    let (root, who) = (f.root().await, f.member().await);
    f.service.buckets().create(&who, "bucket").await.unwrap();
    let short = service::Incoming { length: Some(9_000_000), ..body(&noise(1, 8_000_000)) };
    let put = f.service.objects().put(&who, "bucket", "half", service::PutObject::default(), short).await;
    assert_eq!(put.unwrap_err().kind(), ErrorKind::BadContent);
    for _ in 0..2 {
        f.service.store().collect(&root, false).await.unwrap();
    }
    assert!(f.backend.packs().await.is_empty() && f.backend.heads().await.is_empty());
}
