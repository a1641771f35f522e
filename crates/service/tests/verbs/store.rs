//! The store as an operator sees it: what it holds, damage that is found and healed, and a catalog that was lost.

use chunks::Index as _;
use model::identity::Role;
use model::images::ImageState;
use model::jobs::{Job, JobState};
use model::{DiskFormat, JobId};
use service::{CatalogIndex, ErrorKind, ListObjects};

use crate::fixture::{Fixture, new_image};
use crate::payload::{CHUNK, disk, noise};

/// Runs a job to its end; returns it and what it wrote.
async fn run(f: &Fixture, job: &Job) -> (Job, Vec<String>) {
    let root = f.root().await;
    let runner = f.run().await;
    let ended = f.ended(&root, job.id).await;
    runner.stop(&f.service).await.unwrap();
    (ended, lines(f, job.id).await)
}

async fn lines(f: &Fixture, job: JobId) -> Vec<String> {
    let lines = f.service.jobs().lines(&f.root().await, job, 0).await.unwrap();
    lines.into_iter().map(|line| line.text).collect()
}

async fn verify(f: &Fixture, deep: bool) -> (Job, Vec<String>) {
    let job = f.service.store().verify(&f.root().await, deep).await.unwrap();
    run(f, &job).await
}

#[tokio::test]
async fn a_whole_store_verifies() {
    let f = Fixture::new().await;
    let who = f.member().await;
    for deep in [false, true] {
        let (job, lines) = verify(&f, deep).await;
        assert_eq!((job.state, job.error), (JobState::Done, None), "{lines:?}");
    }
    f.service.buckets().create(&who, "bucket").await.unwrap();
    f.put(&who, "bucket", "key", &noise(1, 3 * CHUNK)).await;
    f.image(&who, new_image(DiskFormat::Raw), &noise(2, CHUNK)).await;
    let (job, lines) = verify(&f, true).await;
    assert_eq!(job.state, JobState::Done, "{lines:?}");
    assert!(lines.last().unwrap().starts_with("2 contents are whole: every byte was read"), "{lines:?}");
}

#[tokio::test]
async fn damage_is_named_by_who_holds_it_and_healed_by_writing_again() {
    let f = Fixture::new().await;
    let (root, who) = (f.root().await, f.member().await);
    f.service.buckets().create(&who, "bucket").await.unwrap();
    let bytes = noise(1, 4 * CHUNK);
    f.put(&who, "bucket", "first", &bytes).await;
    let pack = f.backend.packs().await.remove(0);
    let image = f.image(&who, new_image(DiskFormat::Raw), &bytes).await;
    f.put(&who, "bucket", "other", &noise(2, CHUNK)).await;
    f.backend.spoil(&pack, CHUNK + 77).await;

    // All is where it should be; only reading tells.
    let (job, lines) = verify(&f, false).await;
    assert_eq!(job.state, JobState::Done, "{lines:?}");
    let (job, lines) = verify(&f, true).await;
    assert_eq!(job.state, JobState::Failed);
    let error = job.error.unwrap();
    assert!(
        error.starts_with("2 of 3 contents are damaged") && error.contains("upload the same bytes again"),
        "{error}"
    );
    let named = |text: &str| lines.iter().filter(|line| line.starts_with("damaged: ") && line.contains(text)).count();
    assert_eq!((named("object `bucket/first`"), named(&image.id.to_string()), named("other")), (1, 1, 0), "{lines:?}");
    // Now the store knows the pack, so that it is told at once.
    let (job, _) = verify(&f, false).await;
    assert_eq!(job.state, JobState::Failed);
    let state = f.service.store().state(&root).await.unwrap();
    assert_eq!((state.checked.damaged, state.damaged.len()), (1, 1));
    assert_eq!(format!("packs/{}", state.damaged[0].pack), pack);

    f.put(&who, "bucket", "again", &bytes).await;
    assert_eq!(f.object(&who, "bucket", "first").await, bytes);
    assert_eq!(f.image_bytes(&who, image.id).await, bytes);
    let (job, lines) = verify(&f, true).await;
    assert_eq!(job.state, JobState::Done, "{lines:?}");
    for _ in 0..3 {
        f.service.store().collect(&root, false).await.unwrap();
    }
    assert!(!f.backend.packs().await.contains(&pack));
    assert_eq!(f.service.store().state(&root).await.unwrap().checked.damaged, 0);
    assert_eq!(f.object(&who, "bucket", "first").await, bytes);
}

#[tokio::test]
async fn what_the_store_holds_is_counted() {
    let f = Fixture::new().await;
    let (root, who) = (f.root().await, f.member().await);
    let other = f.principal(&f.project("other").await, Role::Member).await;
    let empty = f.service.store().stats(&root, 10).await.unwrap();
    assert_eq!((empty.sum.contents, empty.projects.len(), empty.contents.len()), (0, 0, 0));
    assert!((empty.sum.dedup_ratio() - 1.0).abs() < f64::EPSILON);

    f.service.buckets().create(&who, "bucket").await.unwrap();
    f.service.buckets().create(&other, "bucket").await.unwrap();
    let (shared, own) = (noise(1, 8 * CHUNK), noise(2, 2 * CHUNK));
    f.put(&who, "bucket", "twice", &shared).await;
    f.put(&who, "bucket", "more", &[shared.clone(), own, vec![0; 6 * CHUNK]].concat()).await;
    f.put(&other, "bucket", "foreign", &shared).await;

    let stats = f.service.store().stats(&root, 2).await.unwrap();
    let chunk = CHUNK as u64;
    assert_eq!((stats.sum.contents, stats.sum.length, stats.sum.data), (3, 32 * chunk, 26 * chunk));
    // Ten different chunks in one project, eight in the other: equal bytes are never shared between them.
    assert_eq!((stats.sum.held.chunks, stats.sum.held.plain), (18, 18 * chunk));
    let sizes: Vec<_> =
        stats.projects.iter().map(|found| (found.project.id, found.sizes.contents, found.sizes.held.chunks)).collect();
    assert!(sizes.contains(&(who.project.id, 2, 10)) && sizes.contains(&(other.project.id, 1, 8)), "{sizes:?}");
    // Whose deletion frees most comes first: the foreign one holds all of its chunks alone.
    let freed: Vec<_> = stats.contents.iter().map(|found| (found.holders[0].id.as_str(), found.freed.chunks)).collect();
    assert_eq!(freed, [("bucket/foreign", 8), ("bucket/more", 2)]);
    assert!(stats.pack_bytes > stats.sum.held.stored && stats.packs >= 2);

    // What it says is freed is what collection then frees.
    let before = f.service.store().stats(&root, 0).await.unwrap().sum.held;
    f.service.objects().delete(&who, "bucket", "more").await.unwrap();
    let after = f.service.store().stats(&root, 0).await.unwrap().sum.held;
    assert_eq!(before.stored - after.stored, stats.contents[1].freed.stored);
}

#[tokio::test]
async fn a_lost_catalog_loses_no_image() {
    let f = Fixture::new().await;
    let who = f.member().await;
    f.service.buckets().create(&who, "bucket").await.unwrap();
    let (text, disk) = (b"not a disk".repeat(100), disk(1));
    f.put(&who, "bucket", "text", &text).await;
    f.image(&who, new_image(DiskFormat::Raw), &disk).await;
    let deleted = f.put(&who, "bucket", "deleted", &noise(3, CHUNK)).await;
    f.service.objects().delete(&who, "bucket", "deleted").await.unwrap();
    assert!(!f.is_kept(deleted).await);
    let project = who.project.clone();

    let f = f.lose_catalog().await;
    let root = f.root().await;
    // Nothing is removed while nothing is known.
    let refused = f.service.store().collect(&root, false).await.unwrap_err();
    assert!(refused.hint().unwrap().contains("rebuild"), "{refused:?}");
    assert_eq!(f.service.store().state(&root).await.unwrap().checked.packs, 0);

    let job = f.service.store().rebuild(&root).await.unwrap();
    let (ended, log) = run(&f, &job).await;
    assert_eq!(ended.state, JobState::Done, "{log:?}");
    let found = log.iter().filter(|line| line.contains(&format!("in project `recovered-{}`", project.id))).count();
    assert_eq!(found, 2, "{log:?}");

    // Who asked may go there.
    let mut tx = f.catalog.read().await.unwrap();
    let recovered = catalog::projects::get(&mut tx, project.id).await.unwrap().unwrap();
    assert_eq!(catalog::roles::list(&mut tx, root.user.id, project.id).await.unwrap(), [Role::Admin]);
    drop(tx);
    let who = f.principal(&recovered, Role::Member).await;
    let everything = ListObjects { prefix: String::new(), delimiter: None, after: None, limit: 10 };
    let page = f.service.objects().list(&who, "recovered", everything).await.unwrap();
    let [object] = &page.objects[..] else { panic!("one object was expected: {page:?}") };
    assert_eq!(f.object(&who, "recovered", &object.key).await, text);
    let images = f.service.images().list(&who, service::ImageFilter { limit: 10, ..Default::default() }).await.unwrap();
    let [image] = &images[..] else { panic!("one image was expected: {images:?}") };
    assert_eq!((image.state, image.disk_format), (ImageState::Active, Some(DiskFormat::Raw)));
    assert_eq!(f.image_bytes(&who, image.id).await, disk);
    // The dedup domain is the same as well: what is known is not stored again.
    let before = f.backend.pack_bytes().await;
    f.put(&who, "recovered", "again", &disk).await;
    assert_eq!(f.backend.pack_bytes().await, before);

    // Again there is nothing to do, and collection goes on and removes what was deleted before.
    let job = f.service.store().rebuild(&root).await.unwrap();
    let (ended, log) = run(&f, &job).await;
    assert_eq!(ended.state, JobState::Done);
    assert!(log.iter().any(|line| line.contains("0 of them were recovered now")), "{log:?}");
    let packs = f.backend.packs().await.len();
    for _ in 0..3 {
        f.service.store().collect(&root, false).await.unwrap();
    }
    assert!(f.backend.packs().await.len() < packs);
    let (job, log) = verify(&f, true).await;
    assert_eq!(job.state, JobState::Done, "{log:?}");
    assert_eq!(f.image_bytes(&who, image.id).await, disk);
}

#[tokio::test]
async fn a_content_that_lost_a_pack_is_not_recovered_and_said_so() {
    let f = Fixture::new().await;
    let who = f.member().await;
    f.service.buckets().create(&who, "bucket").await.unwrap();
    f.put(&who, "bucket", "whole", &noise(1, CHUNK)).await;
    let before = f.backend.packs().await;
    f.put(&who, "bucket", "broken", &noise(2, CHUNK)).await;
    let lost = f.backend.packs().await.into_iter().find(|pack| !before.contains(pack)).unwrap();
    let size = chunks::Backend::size(&*f.backend, &lost).await.unwrap();
    f.backend.spoil(&lost, usize::try_from(size).unwrap() - 1).await;
    let f = f.lose_catalog().await;
    let job = f.service.store().rebuild(&f.root().await).await.unwrap();
    let (ended, log) = run(&f, &job).await;
    assert_eq!(ended.state, JobState::Done, "{log:?}");
    let told = |text: &str| log.iter().filter(|line| line.contains(text)).count();
    assert_eq!((told("cannot be recorded"), told("cannot be recovered"), told("object `")), (1, 1, 1), "{log:?}");
}

#[tokio::test]
async fn a_pack_is_scrubbed_once_in_its_time() {
    let f = Fixture::new().await;
    let who = f.member().await;
    f.service.buckets().create(&who, "bucket").await.unwrap();
    f.put(&who, "bucket", "key", &noise(1, CHUNK)).await;
    let index = CatalogIndex::new(f.catalog.clone(), 0);
    assert!(index.next_to_scrub(3600).await.unwrap().is_none(), "it was written just now");
    let (pack, size) = index.next_to_scrub(0).await.unwrap().unwrap();
    assert_eq!(f.backend.packs().await, [format!("packs/{pack}")]);
    assert_eq!(size, f.backend.pack_bytes().await);
    assert!(index.next_to_scrub(0).await.unwrap().is_none(), "somebody has it");
    index.scrubbed(pack, Some("bad")).await.unwrap();
    assert_eq!(f.service.store().state(&f.root().await).await.unwrap().damaged[0].damage, "bad");
    assert_eq!(f.service.store().verify(&who, false).await.unwrap_err().kind(), ErrorKind::Forbidden);
}
