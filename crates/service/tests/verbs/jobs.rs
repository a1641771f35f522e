//! Jobs: what each kind makes, how it fails, and how it is cancelled.

use model::images::{ImageState, Visibility};
use model::jobs::JobState;
use model::{DiskFormat, JobId};
use service::{ErrorKind, Export, JobQuery, NewImage};

use crate::fixture::{from_object, new_image};
use crate::payload::{disk, from_qcow2, noise, qcow2, qcow2_over};
use crate::shop::{self, Shop};

fn export(key: &str, format: DiskFormat, overwrite: bool) -> Export {
    Export { overwrite, ..shop::export(key, format.as_str(), &[]) }
}

#[tokio::test]
async fn an_image_from_a_raw_object_shares_its_bytes() {
    let shop = Shop::new().await;
    let content = shop.f.put(&shop.who, "disks", "web.raw", &disk(1)).await;
    let stored = shop.f.backend.pack_bytes().await;
    let from = from_object("disks", "web.raw", Some(DiskFormat::Raw));
    let (image, job) = shop.f.service.images().create_from_object(&shop.who, from).await.unwrap();
    let job = shop.carry_out(job.id).await;
    assert_eq!((job.state, job.percent, job.error), (JobState::Done, 100, None));
    let image = shop.f.service.images().get(&shop.who, image.id).await.unwrap();
    assert_eq!((image.state, image.content), (ImageState::Active, Some(content)));
    assert_eq!((image.size, image.size_virtual), (Some(1 << 20), Some(1 << 20)));
    assert_eq!(shop.f.backend.pack_bytes().await, stored, "no byte was written");
    assert!(shop.lines(job.id).await.contains("copy: the file is the disk itself"));
    // The image keeps what the object let go.
    shop.f.service.objects().delete(&shop.who, "disks", "web.raw").await.unwrap();
    assert_eq!(shop.f.image_bytes(&shop.who, image.id).await, disk(1));
    shop.f.service.images().delete(&shop.who, image.id).await.unwrap();
    assert_eq!(shop.f.contents().await, 0);
}

#[tokio::test]
async fn an_image_from_a_qcow2_object_is_the_disk_inside() {
    let shop = Shop::new().await;
    shop.f.put(&shop.who, "disks", "web.qcow2", &qcow2(disk(2))).await;
    for format in [None, Some(DiskFormat::Qcow2)] {
        let from = from_object("disks", "web.qcow2", format);
        let (image, job) = shop.f.service.images().create_from_object(&shop.who, from).await.unwrap();
        let job = shop.carry_out(job.id).await;
        assert_eq!((job.state, job.error), (JobState::Done, None));
        let image = shop.f.service.images().get(&shop.who, image.id).await.unwrap();
        assert_eq!((image.disk_format, image.size), (Some(DiskFormat::Raw), Some(1 << 20)));
        assert_eq!(shop.f.image_bytes(&shop.who, image.id).await, disk(2));
    }
    // Two images of one disk: two contents, one set of chunks.
    assert_eq!(shop.f.contents().await, 3);
}

#[tokio::test]
async fn an_image_goes_out_and_comes_back_as_it_was() {
    let shop = Shop::new().await;
    let image = shop.f.image(&shop.who, new_image(DiskFormat::Raw), &disk(3)).await;
    let images = shop.f.service.images();
    let job = images.export(&shop.who, image.id, export("out.qcow2", DiskFormat::Qcow2, false)).await.unwrap();
    assert_eq!(shop.carry_out(job.id).await.state, JobState::Done);
    let file = shop.f.object(&shop.who, "disks", "out.qcow2").await;
    assert!(file.len() < 1 << 20, "the hole is not written");
    assert_eq!(from_qcow2(file), disk(3));

    let stored = shop.f.backend.pack_bytes().await;
    let job = images.export(&shop.who, image.id, export("out.raw", DiskFormat::Raw, false)).await.unwrap();
    assert_eq!(shop.carry_out(job.id).await.state, JobState::Done);
    assert_eq!(shop.f.object(&shop.who, "disks", "out.raw").await, disk(3));
    assert_eq!(shop.f.backend.pack_bytes().await, stored, "kept so already, so no byte is written");
    images.delete(&shop.who, image.id).await.unwrap();
    assert_eq!(shop.f.object(&shop.who, "disks", "out.raw").await, disk(3));
}

#[tokio::test]
async fn an_export_replaces_only_when_asked() {
    let shop = Shop::new().await;
    let image = shop.f.image(&shop.who, new_image(DiskFormat::Raw), &disk(4)).await;
    let images = shop.f.service.images();
    let early = images.export(&shop.who, image.id, export("out", DiskFormat::Qcow2, false)).await.unwrap();
    let before = shop.f.put(&shop.who, "disks", "out", b"mine").await;
    let refused = images.export(&shop.who, image.id, export("out", DiskFormat::Qcow2, false)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    // The object that appeared after the request is not replaced either.
    let early = shop.carry_out(early.id).await;
    assert_eq!(early.state, JobState::Failed);
    assert!(early.error.as_deref().unwrap().contains("`out` has appeared in bucket `disks`"), "{early:?}");
    assert_eq!(shop.f.object(&shop.who, "disks", "out").await, b"mine");
    let job = images.export(&shop.who, image.id, export("out", DiskFormat::Qcow2, true)).await.unwrap();
    assert_eq!(shop.carry_out(job.id).await.state, JobState::Done);
    assert_eq!(from_qcow2(shop.f.object(&shop.who, "disks", "out").await), disk(4));
    assert!(!shop.f.is_kept(before).await);
}

#[tokio::test]
async fn an_export_of_what_is_not_there_is_refused() {
    let shop = Shop::new().await;
    let images = shop.f.service.images();
    let image = shop.f.image(&shop.who, new_image(DiskFormat::Raw), &disk(5)).await;
    let queued = images.create(&shop.who, new_image(DiskFormat::Raw)).await.unwrap();
    let raw = || export("out", DiskFormat::Raw, false);
    let cases = [
        (ErrorKind::Conflict, images.export(&shop.who, queued.id, raw()).await),
        (ErrorKind::NotFound, images.export(&shop.who, image.id, Export { bucket: "none".into(), ..raw() }).await),
        (ErrorKind::Invalid, images.export(&shop.who, image.id, export("out", DiskFormat::Zvhd, false)).await),
        (ErrorKind::Invalid, images.export(&shop.who, image.id, export("", DiskFormat::Raw, false)).await),
    ];
    for (kind, refused) in cases {
        assert_eq!(refused.unwrap_err().kind(), kind);
    }
    let job = images.export(&shop.who, image.id, raw()).await.unwrap();
    images.delete(&shop.who, image.id).await.unwrap();
    let job = shop.carry_out(job.id).await;
    assert_eq!(job.state, JobState::Failed);
    assert!(job.error.unwrap().contains("was deleted before it was exported"));
    assert_eq!(shop.f.contents().await, 0);
}

#[tokio::test]
async fn a_public_image_is_exported_into_ones_own_bucket() {
    let shop = Shop::new().await;
    let root = shop.f.root().await;
    let theirs = shop.f.principal(&shop.f.project("theirs").await, model::identity::Role::Member).await;
    let public = NewImage { visibility: Visibility::Public, ..new_image(DiskFormat::Raw) };
    let image = shop.f.image(&root, public, &disk(6)).await;
    shop.f.service.buckets().create(&theirs, "disks").await.unwrap();
    let job = shop.f.service.images().export(&theirs, image.id, export("out", DiskFormat::Raw, false)).await.unwrap();
    let runner = shop.f.run().await;
    assert_eq!(shop.f.ended(&theirs, job.id).await.state, JobState::Done);
    runner.stop(&shop.f.service).await.unwrap();
    let (object, _) = shop.f.service.objects().get(&theirs, "disks", "out").await.unwrap();
    assert_ne!(Some(object.content), image.content, "its own copy, in its own dedup domain");
    shop.f.service.images().delete(&root, image.id).await.unwrap();
    assert_eq!(shop.f.object(&theirs, "disks", "out").await, disk(6));
}

/// Every failure ends the job with a sentence, and the image as Error with the same one.
#[tokio::test]
async fn what_is_no_disk_fails_with_a_sentence() {
    let shop = Shop::new().await;
    let mut cut = qcow2(disk(7));
    cut.truncate(cut.len() / 2);
    let cases = [
        ("text", b"just a text, and no disk at all\n".repeat(100), None, "no known disk format"),
        ("backed", qcow2_over("/etc/shadow"), None, "/etc/shadow"),
        ("as-raw", qcow2(disk(7)), Some(DiskFormat::Raw), "declared as raw, and it is in the format qcow2"),
        ("as-vmdk", disk(7), Some(DiskFormat::Vmdk), "declared as vmdk"),
        ("cut", cut, None, ""),
        ("deleted", disk(7), None, "was deleted before it was read"),
    ];
    for (key, bytes, format, said) in cases {
        shop.f.put(&shop.who, "disks", key, &bytes).await;
        let from = from_object("disks", key, format);
        let (image, job) = shop.f.service.images().create_from_object(&shop.who, from).await.unwrap();
        if key == "deleted" {
            shop.f.service.objects().delete(&shop.who, "disks", key).await.unwrap();
        }
        let job = shop.carry_out(job.id).await;
        let why = job.error.unwrap();
        assert_eq!((job.state, job.attempt), (JobState::Failed, 1), "{key}: {why}");
        assert!(why.contains(said) && why.contains(' ') && why.contains(key), "{key}: {why}");
        let image = shop.f.service.images().get(&shop.who, image.id).await.unwrap();
        assert_eq!((image.state, image.reason.as_ref()), (ImageState::Error, Some(&why)), "{key}");
        assert_eq!(image.content, None);
        shop.f.service.images().delete(&shop.who, image.id).await.unwrap();
        shop.f.service.objects().delete(&shop.who, "disks", key).await.unwrap();
        assert_eq!(shop.f.contents().await, 0, "{key}");
    }
}

#[tokio::test]
async fn an_empty_or_absent_object_begins_no_job() {
    let shop = Shop::new().await;
    let images = shop.f.service.images();
    shop.f.put(&shop.who, "disks", "empty", b"").await;
    let cases = [
        (ErrorKind::BadContent, "disks", "empty", None),
        (ErrorKind::NotFound, "disks", "absent", None),
        (ErrorKind::NotFound, "absent", "empty", None),
        (ErrorKind::BadContent, "disks", "empty", Some(DiskFormat::Zvhd2)),
    ];
    for (kind, bucket, key, format) in cases {
        let refused = images.create_from_object(&shop.who, from_object(bucket, key, format)).await.unwrap_err();
        assert_eq!(refused.kind(), kind, "{refused}");
    }
    assert!(images.list(&shop.who, service::ImageFilter::default()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_queued_job_is_cancelled_at_once() {
    let shop = Shop::new().await;
    shop.f.put(&shop.who, "disks", "web", &disk(8)).await;
    let from = from_object("disks", "web", None);
    let (image, job) = shop.f.service.images().create_from_object(&shop.who, from).await.unwrap();
    let cancelled = shop.f.service.jobs().cancel(&shop.who, job.id).await.unwrap();
    assert_eq!(cancelled.state, JobState::Cancelled);
    let image = shop.f.service.images().get(&shop.who, image.id).await.unwrap();
    assert_eq!((image.state, image.reason.unwrap().as_str()), (ImageState::Error, "it was cancelled before it began"));
    assert_eq!(shop.f.service.jobs().cancel(&shop.who, job.id).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_running_job_is_cancelled_and_leaves_nothing() {
    let shop = Shop::new().await;
    let mut large = noise(9, 4 << 20);
    large[510..512].copy_from_slice(&[0x55, 0xAA]);
    shop.f.put(&shop.who, "disks", "web", &qcow2(large)).await;
    let gate = shop.f.backend.written.hold("packs/");
    let from = from_object("disks", "web", None);
    let (image, job) = shop.f.service.images().create_from_object(&shop.who, from).await.unwrap();
    let runner = shop.f.run().await;
    // All that is copied is known already, so the first pack is the one with the manifest: the copy is at its end.
    gate.reached().await;
    let asked = shop.f.service.jobs().cancel(&shop.who, job.id).await.unwrap();
    assert!(asked.cancel_requested && asked.state == JobState::Running);
    gate.open();
    let job = shop.f.ended(&shop.who, job.id).await;
    // The bytes go a moment after the job's end is told, and not at all if the runner is stopped in between.
    let forgotten = async || (shop.f.backend.heads().await.len() == 1).then_some(());
    shop.f.until("the bytes are gone", forgotten).await;
    runner.stop(&shop.f.service).await.unwrap();
    assert_eq!((job.state, job.error.as_deref()), (JobState::Cancelled, Some("it was cancelled")));
    let image = shop.f.service.images().get(&shop.who, image.id).await.unwrap();
    assert_eq!((image.state, image.reason.as_deref()), (ImageState::Error, Some("it was cancelled")));
    assert_eq!(shop.f.contents().await, 1, "the object's alone");
}

#[tokio::test]
async fn lists_of_jobs_go_on_after_a_marker_of_ones_own() {
    let shop = Shop::new().await;
    let theirs = shop.f.principal(&shop.f.project("theirs").await, model::identity::Role::Member).await;
    shop.f.put(&shop.who, "disks", "web", &disk(10)).await;
    let mut made = Vec::new();
    for _ in 0..3 {
        shop.f.clock.pass(1);
        let from = from_object("disks", "web", None);
        made.push(shop.f.service.images().create_from_object(&shop.who, from).await.unwrap().1.id);
    }
    let jobs = shop.f.service.jobs();
    let page = async |marker| {
        let listed = jobs.list(&shop.who, JobQuery { marker, limit: 2, ..Default::default() }).await.unwrap();
        listed.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(page(None).await, [made[2], made[1]]);
    assert_eq!(page(Some(made[1])).await, [made[0]]);
    let with = |marker| JobQuery { marker: Some(marker), limit: 2, ..Default::default() };
    let hidden = jobs.list(&theirs, with(made[0])).await.unwrap_err();
    let absent = jobs.list(&theirs, with(JobId::new())).await.unwrap_err();
    assert_eq!((hidden.kind(), hidden.to_string()), (absent.kind(), absent.to_string()));
}
