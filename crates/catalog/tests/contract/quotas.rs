//! Promises of quotas: what is counted is what the rows say, and nobody gets past a limit, however many try at once.

use std::time::Duration;

use catalog::chunks::{Location, add_pack, forget, forget_all, relocate};
use catalog::{Catalog, Error, ErrorKind, Result, Tx, contents, images, objects, projects, quotas};
use model::images::ImageState;
use model::quotas::{Quota, Resource};
use model::{BucketId, ContentId, ProjectId};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::fixture::{committed_project, content, project};
use crate::records::{bare_image, bucket, object};

async fn used(catalog: &Catalog, project: ProjectId, resource: Resource) -> u64 {
    let mut tx = catalog.read().await.unwrap();
    let all = quotas::list(&mut tx, project).await.unwrap();
    let quota = all.into_iter().find(|quota| quota.resource == resource).unwrap();
    assert_eq!(quota.used, quotas::recount(&mut tx, project, resource).await.unwrap(), "{resource}: counted and there");
    quota.used
}

async fn limit(catalog: &Catalog, project: ProjectId, resource: Resource, most: Option<u64>) {
    let mut tx = catalog.write().await.unwrap();
    quotas::set(&mut tx, project, resource, most).await.unwrap();
    tx.commit().await.unwrap();
}

/// Adds a project with a bucket and a content.
async fn shop(catalog: &Catalog) -> (ProjectId, BucketId, ContentId) {
    let project = committed_project(catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    let bucket = bucket(&mut tx, project, "bucket").await.id;
    let content = content(&mut tx, project).await.id;
    tx.commit().await.unwrap();
    (project, bucket, content)
}

async fn put(catalog: &Catalog, bucket: BucketId, key: &str, content: ContentId) -> Result<()> {
    let mut tx = catalog.write().await?;
    objects::put(&mut tx, &object(bucket, key, content)).await?;
    tx.commit().await
}

#[track_caller]
fn assert_refused(outcome: Result<()>, says: &str) {
    let error: Error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Quota, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

pub(crate) async fn limits_are_set_one_by_one(catalog: Catalog) {
    let mine = committed_project(&catalog).await;
    let read = async |project| quotas::list(&mut catalog.read().await.unwrap(), project).await.unwrap();
    let quota = |resource, limit| Quota { resource, limit, used: 0 };
    let expect = |stored, objects, images| {
        [quota(Resource::StoredBytes, stored), quota(Resource::Objects, objects), quota(Resource::Images, images)]
    };
    assert_eq!(read(mine.id).await, expect(None, None, None));
    limit(&catalog, mine.id, Resource::Objects, Some(5)).await;
    limit(&catalog, mine.id, Resource::StoredBytes, Some(1 << 60)).await;
    limit(&catalog, mine.id, Resource::Images, Some(0)).await;
    assert_eq!(read(mine.id).await, expect(Some(1 << 60), Some(5), Some(0)));
    limit(&catalog, mine.id, Resource::Objects, None).await;
    assert_eq!(read(mine.id).await, expect(Some(1 << 60), None, Some(0)));
    assert_eq!(read(ProjectId::new()).await, expect(None, None, None));

    let mut tx = catalog.write().await.unwrap();
    let other = project(&mut tx, mine.domain, "other").await.id;
    quotas::set(&mut tx, other, Resource::Images, Some(9)).await.unwrap();
    assert!(projects::delete(&mut tx, other).await.unwrap(), "its limits hold no project");
    assert_eq!(quotas::list(&mut tx, other).await.unwrap()[2].limit, None);
    let too_much = quotas::set(&mut tx, mine.id, Resource::Objects, Some(u64::MAX)).await.unwrap_err();
    assert_eq!(too_much.kind(), ErrorKind::Invalid);
    let nobody = quotas::set(&mut tx, ProjectId::new(), Resource::Objects, Some(1)).await.unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::Conflict);
}

pub(crate) async fn objects_and_images_are_refused_at_the_limit(catalog: Catalog) {
    let (project, bucket, content) = shop(&catalog).await;
    limit(&catalog, project, Resource::Objects, Some(2)).await;
    for key in ["a", "b", "a"] {
        put(&catalog, bucket, key, content).await.unwrap();
    }
    assert_refused(put(&catalog, bucket, "c", content).await, "2 objects, has 2, and 0 are left");
    assert_eq!(objects::get(&mut catalog.read().await.unwrap(), bucket, "c").await.unwrap(), None);
    put(&catalog, bucket, "b", content).await.expect("replacing adds none");
    let mut tx = catalog.write().await.unwrap();
    objects::delete(&mut tx, bucket, "b").await.unwrap();
    objects::delete(&mut tx, bucket, "never").await.unwrap();
    objects::put(&mut tx, &object(bucket, "c", content)).await.unwrap();
    tx.commit().await.expect("one goes and one comes");
    assert_eq!(used(&catalog, project, Resource::Objects).await, 2);

    let add = async || {
        let mut tx = catalog.write().await.unwrap();
        let image = bare_image(project);
        images::insert(&mut tx, &image).await.unwrap();
        tx.commit().await.map(|()| image.id)
    };
    let first = add().await.unwrap();
    add().await.unwrap();
    // A limit below what is there takes nothing away.
    limit(&catalog, project, Resource::Images, Some(1)).await;
    assert_refused(add().await.map(drop), "1 images, has 2, and 0 are left");
    let mut tx = catalog.write().await.unwrap();
    assert!(!images::delete(&mut tx, first, ImageState::Active).await.unwrap(), "it is queued");
    assert!(images::delete(&mut tx, first, ImageState::Queued).await.unwrap());
    tx.commit().await.unwrap();
    assert_refused(add().await.map(drop), "1 images, has 1, and 0 are left");
    assert_eq!(used(&catalog, project, Resource::Images).await, 1);
    limit(&catalog, project, Resource::Images, None).await;
    add().await.unwrap();
    assert_eq!(used(&catalog, project, Resource::Images).await, 2);
}

fn id(writer: usize, number: u8) -> [u8; 32] {
    let mut id = [number; 32];
    id[..8].copy_from_slice(&(writer as u64).to_be_bytes());
    id
}

fn blob(project: ProjectId, id: [u8; 32], pack: Uuid, stored: u32) -> (Uuid, [u8; 32], Location) {
    (project.uuid(), id, Location { pack, offset: 0, stored, plain: 512 << 10, generation: 1 })
}

pub(crate) async fn stored_bytes_are_what_the_chunks_take(catalog: Catalog) {
    let (mine, theirs) = (committed_project(&catalog).await.id, ProjectId::new());
    let (first, second, moved) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let stored = async |project| used(&catalog, project, Resource::StoredBytes).await;
    let add = async |pack, blobs: &[_]| {
        let mut tx = catalog.write().await.unwrap();
        add_pack(&mut tx, 1, pack, 10, blobs).await.unwrap();
        tx.commit().await
    };
    let mixed = [
        blob(mine, id(0, 1), first, 1000),
        blob(mine, id(0, 1), first, 1000),
        blob(theirs, id(0, 1), first, 30),
        blob(mine, id(0, 2), first, u32::MAX),
    ];
    // Twice: a pack that is recorded again adds nothing.
    for _ in 0..2 {
        add(first, &mixed).await.unwrap();
        assert_eq!((stored(mine).await, stored(theirs).await), (1000 + u64::from(u32::MAX), 30));
    }
    // What one has already counts once.
    add(second, &[blob(mine, id(0, 1), second, 999), blob(mine, id(0, 3), second, 5)]).await.unwrap();
    assert_eq!(stored(mine).await, 1005 + u64::from(u32::MAX));
    limit(&catalog, mine, Resource::StoredBytes, Some(7)).await;
    add(second, &[blob(mine, id(0, 3), second, 5)]).await.expect("it adds nothing");
    assert_refused(add(second, &[blob(mine, id(0, 4), second, 1)]).await, "may store 7 bytes, has 4");

    let mut tx = catalog.write().await.unwrap();
    tx.lift_limits();
    add_pack(&mut tx, 0, second, 10, &[blob(mine, id(0, 5), second, 9)]).await.unwrap();
    tx.commit().await.expect("a rebuild records what is there");
    assert_eq!(stored(mine).await, 1014 + u64::from(u32::MAX));

    let mut tx = catalog.write().await.unwrap();
    let to = |stored| blob(mine, id(0, 2), moved, stored).2;
    add_pack(&mut tx, 1, moved, 10, &[]).await.unwrap();
    let copies = [(mine.uuid(), id(0, 1), first, to(1)), (mine.uuid(), id(0, 2), first, to(u32::MAX))];
    relocate(&mut tx, &copies).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(stored(mine).await, 1014 + u64::from(u32::MAX), "copies take what the originals took");

    let mut tx = catalog.write().await.unwrap();
    let listed = [(mine.uuid(), id(0, 1)), (mine.uuid(), id(0, 2)), (theirs.uuid(), id(0, 1))];
    forget(&mut tx, &listed.map(|(domain, id)| (domain, id, first))).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!((stored(mine).await, stored(theirs).await), (14 + u64::from(u32::MAX), 0));
    for (pack, left) in [(second, u64::from(u32::MAX)), (moved, 0)] {
        let mut tx = catalog.write().await.unwrap();
        forget_all(&mut tx, pack).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(stored(mine).await, left);
    }
}

/// Twelve writers add eight packs each, all with one chunk in common: as many get in as fit, and not one more.
pub(crate) async fn many_writers_never_pass_the_limit(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    limit(&catalog, project, Resource::StoredBytes, Some(20 * 1000 + 100)).await;
    let tasks = (1..=12).map(|writer| {
        let catalog = catalog.clone();
        tokio::spawn(async move {
            let mut recorded = Vec::new();
            for number in 0..8 {
                let pack = Uuid::new_v4();
                let own = (0..10).map(|chunk| blob(project, id(writer, number * 10 + chunk), pack, 100));
                let blobs: Vec<_> = own.chain([blob(project, id(0, 0), pack, 100)]).collect();
                let mut tx = catalog.write().await.unwrap();
                add_pack(&mut tx, 1, pack, 16 << 20, &blobs).await.unwrap();
                match tx.commit().await {
                    Ok(()) => recorded.push(pack),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::Quota, "{error}"),
                }
            }
            recorded
        })
    });
    let mut recorded = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        recorded.extend(task.await.unwrap());
    }
    assert_eq!(recorded.len(), 20);
    assert_eq!(used(&catalog, project, Resource::StoredBytes).await, 20_100);
    let mut tx = catalog.read().await.unwrap();
    let mut packs: Vec<_> = catalog::packs::list(&mut tx).await.unwrap().iter().map(|pack| pack.id).collect();
    packs.sort_unstable();
    recorded.sort_unstable();
    assert_eq!(packs, recorded, "a refused pack leaves no row");
}

/// Thirty put an object and an image each, while others delete what they put: as many stay as fit.
pub(crate) async fn as_many_are_put_as_fit(catalog: Catalog) {
    let (project, bucket, content) = shop(&catalog).await;
    limit(&catalog, project, Resource::Objects, Some(10)).await;
    limit(&catalog, project, Resource::Images, Some(7)).await;
    let tasks = (0..30).map(|number| {
        let catalog = catalog.clone();
        tokio::spawn(async move {
            let object = put(&catalog, bucket, &format!("key-{number}"), content).await;
            let mut tx = catalog.write().await.unwrap();
            images::insert(&mut tx, &bare_image(project)).await.unwrap();
            let image = tx.commit().await;
            for refused in [&object, &image].into_iter().filter_map(|outcome| outcome.as_ref().err()) {
                assert_eq!(refused.kind(), ErrorKind::Quota, "{refused}");
            }
            (u64::from(object.is_ok()), u64::from(image.is_ok()))
        })
    });
    let (mut objects, mut images) = (0, 0);
    for task in tasks.collect::<Vec<_>>() {
        let (object, image) = task.await.unwrap();
        (objects, images) = (objects + object, images + image);
    }
    assert_eq!((objects, images), (10, 7));
    assert_eq!(used(&catalog, project, Resource::Objects).await, 10);
    assert_eq!(used(&catalog, project, Resource::Images).await, 7);
}

/// One deletes the last object of a content and then the content, while another gives it a second object: each holds a
/// row that the other wants, and would wait for ever if the one counted before the other's row was free.
pub(crate) async fn counting_makes_nobody_wait_in_a_circle(catalog: Catalog) {
    let (project, bucket, content) = shop(&catalog).await;
    put(&catalog, bucket, "first", content).await.unwrap();
    let mut deleting = catalog.write().await.unwrap();
    objects::delete(&mut deleting, bucket, "first").await.unwrap().unwrap();
    let (written, wait_until_written) = oneshot::channel();
    let copying = {
        let catalog = catalog.clone();
        tokio::spawn(async move {
            let mut tx = catalog.write().await?;
            objects::put(&mut tx, &object(bucket, "second", content)).await?;
            let _ = written.send(());
            tx.commit().await
        })
    };
    // On SQLite the other has to wait for this one's end.
    let _ = tokio::time::timeout(Duration::from_millis(300), wait_until_written).await;
    let deleted = delete_content(deleting, content).await;
    let copied = copying.await.unwrap();
    for refused in [&deleted, &copied].into_iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    }
    assert!(deleted.is_ok() != copied.is_ok(), "one of the two finds that the other was faster");
    assert_eq!(used(&catalog, project, Resource::Objects).await, if copied.is_ok() { 2 } else { 0 });
}

async fn delete_content(mut tx: Tx, content: ContentId) -> Result<()> {
    contents::delete(&mut tx, content).await?;
    tx.commit().await
}

/// Adds rows that a migration has to count: chunks of two domains, of which one has no project, objects and images.
pub(crate) async fn something_of_everything(catalog: &Catalog) -> [ProjectId; 2] {
    let (project, bucket, content) = shop(catalog).await;
    let stranger = ProjectId::new();
    let pack = Uuid::new_v4();
    let blobs =
        [blob(project, id(0, 1), pack, u32::MAX), blob(project, id(0, 2), pack, 5), blob(stranger, id(0, 1), pack, 7)];
    let mut tx = catalog.write().await.unwrap();
    add_pack(&mut tx, 1, pack, 10, &blobs).await.unwrap();
    for key in ["a", "b", "c"] {
        objects::put(&mut tx, &object(bucket, key, content)).await.unwrap();
    }
    images::insert(&mut tx, &bare_image(project)).await.unwrap();
    tx.commit().await.unwrap();
    [project, stranger]
}

/// Checks that all that [`something_of_everything`] added is counted.
pub(crate) async fn all_is_counted(catalog: &Catalog, [project, stranger]: [ProjectId; 2]) {
    let counts = async |project| {
        let mut counts = Vec::new();
        for resource in Resource::ALL {
            counts.push(used(catalog, project, *resource).await);
        }
        counts
    };
    assert_eq!(counts(project).await, [u64::from(u32::MAX) + 5, 3, 1]);
    assert_eq!(counts(stranger).await, [7, 0, 0]);
}
