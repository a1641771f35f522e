//! Quotas: who gets in when many try at once, what is left of the refused, and what goes on all the same.

use std::sync::Arc;

use catalog::Catalog;
use chunks::{Options, Store};
use futures::future::join_all;
use futures::stream;
use keys::LocalKms;
use model::identity::Principal;
use model::images::ImageState;
use model::jobs::JobState;
use model::quotas::{Quota, Resource};
use model::{DiskFormat, ProjectId};
use service::{CatalogIndex, Error, ErrorKind, Incoming, PartTag, PutObject, UploadAt};

use crate::fixture::{Fixture, from_object, new_image};
use crate::payload::{body, disk, noise, qcow2};
use crate::shop::{BUCKET, Shop, export};

/// Asserts that a quota refused, with this in the sentence and with a way out.
#[track_caller]
fn assert_refused(error: &Error, says: &str) {
    assert_eq!(error.kind(), ErrorKind::QuotaExceeded, "{error}");
    assert!(error.to_string().contains(says), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("ask an administrator")), "{:?}", error.hint());
}

async fn put(shop: &Shop, key: &str, bytes: &[u8]) -> service::Result<()> {
    shop.f.service.objects().put(&shop.who, BUCKET, key, PutObject::default(), body(bytes)).await.map(drop)
}

/// Collects until what nothing refers to is gone.
async fn collect(f: &Fixture) {
    let root = f.root().await;
    for _ in 0..2 {
        f.service.store().collect(&root, false).await.unwrap();
    }
}

fn project(who: &Principal) -> ProjectId {
    who.project.id
}

#[tokio::test]
async fn new_projects_have_the_limits_of_the_settings() {
    let f = Fixture::with_quotas([(Resource::StoredBytes, 5 << 30), (Resource::Images, 50)].into()).await;
    let root = f.root().await;
    let made = f.project("made").await.id;
    let quota = |resource, limit| Quota { resource, limit, used: 0 };
    let expect = [
        quota(Resource::StoredBytes, Some(5 << 30)),
        quota(Resource::Objects, None),
        quota(Resource::Images, Some(50)),
    ];
    for id in [made, root.project.id] {
        assert_eq!(f.service.quotas().get(&root, id).await.unwrap(), expect);
    }
    let changes = [(Resource::Images, None), (Resource::Objects, Some(0))].into();
    let set = f.service.quotas().set(&root, made, &changes).await.unwrap();
    let limits: Vec<_> = set.iter().map(|quota| quota.limit).collect();
    assert_eq!(limits, [Some(5 << 30), Some(0), None]);
    assert_eq!(f.service.quotas().get(&root, made).await.unwrap(), set);
    assert_eq!(f.service.quotas().get(&root, root.project.id).await.unwrap(), expect);
    let absent = f.service.quotas().get(&root, ProjectId::new()).await.unwrap_err();
    assert_eq!((absent.kind(), absent.noun()), (ErrorKind::NotFound, Some("project")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_objects_and_images_are_made_as_fit() {
    let shop = Shop::new().await;
    let (f, who) = (&shop.f, &shop.who);
    f.limit(project(who), Resource::Objects, Some(5)).await;
    f.limit(project(who), Resource::Images, Some(4)).await;
    let bodies: Vec<_> = (0..12).map(|number| (format!("key-{number}"), noise(number, 100_000))).collect();
    let puts = join_all(bodies.iter().map(|(key, bytes)| put(&shop, key, bytes))).await;
    assert_eq!(puts.iter().filter(|put| put.is_ok()).count(), 5);
    for refused in puts.iter().filter_map(|put| put.as_ref().err()) {
        assert_refused(refused, "5 objects, has 5, and 0 are left");
    }
    let images = f.service.images();
    let made = join_all((0..12).map(|_| images.create(who, new_image(DiskFormat::Raw)))).await;
    assert_eq!(made.iter().filter(|image| image.is_ok()).count(), 4);
    for refused in made.iter().filter_map(|image| image.as_ref().err()) {
        assert_refused(refused, "4 images, has 4, and 0 are left");
    }
    // What was refused has left nothing, and what was there is counted.
    assert_eq!(f.contents().await, 5);
    assert_eq!((f.used(project(who), Resource::Objects).await, f.used(project(who), Resource::Images).await), (5, 4));
    // A job's image counts from the moment it is asked for.
    let key = &bodies.iter().zip(&puts).find(|(_, put)| put.is_ok()).unwrap().0.0;
    let refused = images.create_from_object(who, from_object(BUCKET, key, None)).await.unwrap_err();
    assert_refused(&refused, "4 images");
    images.delete(who, made.iter().flatten().next().unwrap().id).await.unwrap();
    images.create_from_object(who, from_object(BUCKET, key, None)).await.unwrap();
}

#[tokio::test]
async fn one_object_too_many_is_refused_before_its_bytes_flow() {
    let shop = Shop::new().await;
    let (f, who) = (&shop.f, &shop.who);
    put(&shop, "one", b"1").await.unwrap();
    let image = f.image(who, new_image(DiskFormat::Raw), &disk(1)).await;
    f.limit(project(who), Resource::Objects, Some(1)).await;
    let unread = stream::poll_fn(|_| panic!("the body was read"));
    let unread = Incoming { stream: Box::pin(unread), length: None, md5: None };
    let refused = f.service.objects().put(who, BUCKET, "two", PutObject::default(), unread).await.unwrap_err();
    assert_refused(&refused, "1 objects, has 1");
    let refused = f.service.uploads().begin(who, BUCKET, "two", PutObject::default()).await.unwrap_err();
    assert_refused(&refused, "1 objects, has 1");
    let refused = f.service.images().export(who, image.id, export("two", "raw", &[])).await.unwrap_err();
    assert_refused(&refused, "1 objects, has 1");
    let refused = f.service.objects().copy(who, (BUCKET, "one"), (BUCKET, "two"), None).await.unwrap_err();
    assert_refused(&refused, "1 objects, has 1");
    // Replacing adds none.
    put(&shop, "one", b"2").await.unwrap();
    f.service.uploads().begin(who, BUCKET, "one", PutObject::default()).await.unwrap();
    assert_eq!(f.used(project(who), Resource::Objects).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_uploads_never_store_more_than_the_limit() {
    let shop = Shop::new().await;
    let (f, who) = (&shop.f, &shop.who);
    f.limit(project(who), Resource::StoredBytes, Some(4_500_000)).await;
    let bodies: Vec<_> = (0..10).map(|number| (format!("key-{number}"), noise(number, 1_000_000))).collect();
    let puts = join_all(bodies.iter().map(|(key, bytes)| put(&shop, key, bytes))).await;
    for refused in puts.iter().filter_map(|put| put.as_ref().err()) {
        assert_refused(refused, "may store 4.2 MiB, has ");
        assert!(refused.hint().unwrap().contains("garbage"));
    }
    let kept = puts.iter().filter(|put| put.is_ok()).count();
    let used = f.used(project(who), Resource::StoredBytes).await;
    assert_eq!((kept, f.contents().await), (4, 4));
    assert!(used > 4_000_000 && used <= 4_500_000, "{used}");
    // Packs hold a little beside their chunks; those that were refused are gone.
    assert!(f.backend.pack_bytes().await < used + 50_000);

    // What others have is not counted here, and what is there already is stored once.
    let others = f.principal(&f.project("others").await, model::identity::Role::Member).await;
    f.service.buckets().create(&others, BUCKET).await.unwrap();
    f.put(&others, BUCKET, "key", &bodies[0].1).await;
    assert!(f.used(project(&others), Resource::StoredBytes).await > 1_000_000);
    let (key, bytes) = bodies.iter().zip(&puts).find(|(_, put)| put.is_ok()).unwrap().0;
    put(&shop, "again", bytes).await.unwrap();
    assert_eq!(f.used(project(who), Resource::StoredBytes).await, used);

    // Room comes back with collection, and not before.
    for name in ["again", key] {
        f.service.objects().delete(who, BUCKET, name).await.unwrap();
    }
    assert_refused(&put(&shop, "new", &noise(99, 1_000_000)).await.unwrap_err(), "may store");
    collect(f).await;
    let fell = used - f.used(project(who), Resource::StoredBytes).await;
    assert!(fell > 1_000_000, "{fell}");
    put(&shop, "new", &noise(99, 1_000_000)).await.unwrap();
    assert_eq!(f.contents().await, 5);
}

#[tokio::test]
async fn a_job_that_finds_no_room_fails_with_the_sentence_and_leaves_nothing() {
    let shop = Shop::new().await;
    let (f, who) = (&shop.f, &shop.who);
    f.put(who, BUCKET, "disk", &qcow2(disk(3))).await;
    let used = f.used(project(who), Resource::StoredBytes).await;
    f.limit(project(who), Resource::StoredBytes, Some(used)).await;
    let (image, job) = f.service.images().create_from_object(who, from_object(BUCKET, "disk", None)).await.unwrap();
    let job = shop.carry_out(job.id).await;
    let image = f.service.images().get(who, image.id).await.unwrap();
    Shop::assert_failed(&image, &job, "are left, which are not enough");
    assert!(job.error.as_ref().unwrap().contains("ask an administrator"), "{job:?}");
    assert_eq!(f.used(project(who), Resource::StoredBytes).await, used);
    // The limit is raised: the same works.
    f.limit(project(who), Resource::StoredBytes, None).await;
    let (_, job) = f.service.images().create_from_object(who, from_object(BUCKET, "disk", None)).await.unwrap();
    assert_eq!(shop.carry_out(job.id).await.state, JobState::Done);
    assert_eq!(f.contents().await, 2);
}

#[tokio::test]
async fn an_image_upload_that_finds_no_room_can_be_sent_again() {
    let shop = Shop::new().await;
    let (f, who) = (&shop.f, &shop.who);
    f.limit(project(who), Resource::StoredBytes, Some(500_000)).await;
    let image = f.service.images().create(who, new_image(DiskFormat::Raw)).await.unwrap();
    let refused = f.service.images().upload(who, image.id, body(&disk(4))).await.unwrap_err();
    assert_refused(&refused, "may store 488.2 KiB, has 0 bytes");
    assert_eq!(f.service.images().get(who, image.id).await.unwrap().state, ImageState::Queued);
    assert_eq!(f.contents().await, 0);
    f.limit(project(who), Resource::StoredBytes, Some(1 << 20)).await;
    let image = f.service.images().upload(who, image.id, body(&disk(4))).await.unwrap();
    assert_eq!(image.state, ImageState::Active);
}

#[tokio::test]
async fn the_bytes_of_parts_count_at_once_and_their_object_when_it_is_made() {
    let shop = Shop::new().await;
    let (f, who) = (&shop.f, &shop.who);
    f.limit(project(who), Resource::Objects, Some(1)).await;
    f.limit(project(who), Resource::StoredBytes, Some(1_300_000)).await;
    let uploads = f.service.uploads();
    let begin = async |key| {
        let upload = uploads.begin(who, BUCKET, key, PutObject::default()).await.unwrap().id;
        UploadAt { bucket: BUCKET, key, upload }
    };
    let (first, second) = (begin("first").await, begin("second").await);
    let mut tags = Vec::new();
    for at in [first, second] {
        let part = uploads.put_part(who, at, 1, body(&noise(1, 1_000_000))).await.unwrap();
        tags.push(vec![PartTag { number: 1, etag: part.etag }]);
    }
    assert_eq!(f.used(project(who), Resource::Objects).await, 0);
    assert!(f.used(project(who), Resource::StoredBytes).await > 1_000_000);
    let refused = uploads.put_part(who, first, 2, body(&noise(2, 1_000_000))).await.unwrap_err();
    assert_refused(&refused, "are not enough for");
    uploads.complete(who, first, tags[0].clone()).await.unwrap();
    assert_refused(&uploads.complete(who, second, tags[1].clone()).await.unwrap_err(), "1 objects, has 1");
    // Nothing is lost: with more room it is completed as it is.
    f.limit(project(who), Resource::Objects, Some(2)).await;
    uploads.complete(who, second, tags[1].clone()).await.unwrap();
    assert_eq!((f.used(project(who), Resource::Objects).await, f.contents().await), (2, 2));
}

#[tokio::test]
async fn a_limit_below_what_is_there_stops_only_what_adds() {
    let shop = Shop::new().await;
    let (f, who) = (&shop.f, &shop.who);
    let bytes = disk(5);
    f.put(who, BUCKET, "disk", &bytes).await;
    f.put(who, BUCKET, "other", &noise(6, 100_000)).await;
    let image = f.image(who, new_image(DiskFormat::Raw), &bytes).await;
    for resource in [Resource::StoredBytes, Resource::Objects] {
        f.limit(project(who), resource, Some(0)).await;
    }
    assert_refused(&put(&shop, "new", b"x").await.unwrap_err(), "0 objects, has 2");
    assert_refused(&put(&shop, "other", b"x").await.unwrap_err(), "may store 0 bytes");
    assert_eq!(f.object(who, BUCKET, "disk").await, bytes);
    assert_eq!(f.image_bytes(who, image.id).await, bytes);
    // The same bytes, and an image that shares them, take no more room.
    put(&shop, "disk", &bytes).await.unwrap();
    let (shared, job) = f.service.images().create_from_object(who, from_object(BUCKET, "disk", None)).await.unwrap();
    assert_eq!(shop.carry_out(job.id).await.state, JobState::Done);
    for id in [image.id, shared.id] {
        f.service.images().delete(who, id).await.unwrap();
    }
    for key in ["disk", "other"] {
        f.service.objects().delete(who, BUCKET, key).await.unwrap();
    }
    collect(f).await;
    for resource in Resource::ALL {
        assert_eq!(f.used(project(who), *resource).await, 0, "{resource}");
    }
}

#[tokio::test]
async fn a_rebuilt_index_counts_what_is_stored() {
    let shop = Shop::new().await;
    put(&shop, "one", &noise(1, 700_000)).await.unwrap();
    put(&shop, "two", &noise(2, 300_000)).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::connect(&format!("sqlite://{}/catalog.db", folder.path().display())).await.unwrap();
    let kms = Arc::new(LocalKms::open_or_create(&folder.path().join("master.key")).unwrap());
    let index = Arc::new(CatalogIndex::new(catalog.clone(), 0));
    let store = Store::open(shop.f.backend.clone(), index, kms, Options::default()).await.unwrap();
    for _ in 0..2 {
        store.reindex().await.unwrap();
        let mut tx = catalog.read().await.unwrap();
        let counted = catalog::quotas::list(&mut tx, project(&shop.who)).await.unwrap();
        assert_eq!(counted[0].used, shop.f.used(project(&shop.who), Resource::StoredBytes).await);
    }
}
