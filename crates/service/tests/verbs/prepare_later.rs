//! Preparing an image that is there: what it keeps, what it refuses, and that it is as it was until it is prepared.

use std::fs;
use std::process::Command;

use model::identity::Role;
use model::images::{Image, ImageState, Visibility};
use model::jobs::{Job, JobState};
use model::quotas::Resource;
use model::{ContainerFormat, DiskFormat, ImageId};
use service::{Choice, ErrorKind, ImageChange};

use crate::fixture::{from_object, new_image};
use crate::payload::{disk, qcow2};
use crate::preparing::{guest, list};
use crate::shop::{BUCKET, Shop, export};

const REPAIRED: &str = "UUID=01234567-89ab-cdef-0123-456789abcdef / ext4";

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

fn only(id: &str) -> Choice {
    Choice { only: vec![id.into()], ..Choice::default() }
}

impl Shop {
    async fn uploaded(&self, format: DiskFormat, bytes: &[u8]) -> Image {
        self.f.image(&self.who, new_image(format), bytes).await
    }

    async fn prepare(&self, image: ImageId, choice: Choice) -> (Image, Job) {
        let job = self.f.service.images().prepare(&self.who, image, choice).await.unwrap();
        let job = self.carry_out(job.id).await;
        (self.get(image).await, job)
    }

    async fn get(&self, image: ImageId) -> Image {
        self.f.service.images().get(&self.who, image).await.unwrap()
    }

    async fn report(&self, image: ImageId) -> serde_json::Value {
        self.f.service.images().report(&self.who, image).await.unwrap()
    }

    async fn bytes(&self, image: ImageId) -> Vec<u8> {
        self.f.image_bytes(&self.who, image).await
    }

    async fn undo(&self, image: ImageId) -> Image {
        self.f.service.images().undo_prepare(&self.who, image).await.unwrap()
    }
}

#[tokio::test]
async fn what_was_uploaded_is_prepared_and_given_back_as_it_was() {
    let shop = Shop::new().await;
    let before = guest();
    for (format, bytes) in [(DiskFormat::Raw, before.clone()), (DiskFormat::Qcow2, qcow2(before.clone()))] {
        let uploaded = shop.uploaded(format, &bytes).await;
        assert!(uploaded.checksums.is_some() && !uploaded.properties.contains_key("os_distro"));
        let (image, job) = shop.prepare(uploaded.id, Choice::default()).await;
        assert_eq!((job.state, job.error, job.percent), (JobState::Done, None, 100));
        assert!(shop.lines(job.id).await.contains("prepare: edit /etc/fstab"), "{}", shop.lines(job.id).await);
        assert_eq!((image.state, &image.checksums), (ImageState::Active, &None), "its bytes were made here");
        let formats = (Some(DiskFormat::Raw), Some(ContainerFormat::Bare));
        assert_eq!((image.disk_format, image.container_format), formats);
        assert_eq!((image.size, image.size_virtual), (Some(16 << 20), Some(16 << 20)));
        assert_eq!((&*image.properties["molde:prepare"], &*image.properties["os_distro"]), ("prepared", "debian"));
        let after = shop.bytes(image.id).await;
        assert!(after.len() == before.len() && holds(&after, REPAIRED));
        let report = shop.report(image.id).await;
        assert_eq!(report["state"], "prepared");
        assert!(!list(&report, "findings_after", "id").contains(&"fstab-device-name"), "{report}");
        assert_eq!(shop.f.contents().await, 2, "what was uploaded, and the prepared disk");

        let undone = shop.undo(image.id).await;
        let what = |image: &Image| {
            (image.disk_format, image.container_format, image.size, image.size_virtual, image.checksums.clone())
        };
        assert_eq!(what(&undone), what(&uploaded));
        assert_eq!(what(&shop.get(image.id).await), what(&uploaded));
        assert!(shop.bytes(image.id).await == bytes);
        let report = shop.report(image.id).await;
        assert_eq!((&report["state"], report.get("original")), (&"undone".into(), None));
        assert_eq!(shop.f.contents().await, 1);

        let (image, _) = shop.prepare(image.id, only("machine-id")).await;
        assert_eq!(image.properties["molde:prepare"], "prepared", "again, after it was undone");
        assert_eq!(shop.f.contents().await, 2);
        shop.f.service.images().delete(&shop.who, image.id).await.unwrap();
        assert_eq!(shop.f.contents().await, 0, "a deleted image takes its original along");
    }
}

#[tokio::test]
async fn what_the_disk_was_is_shown_to_its_owner_alone() {
    let shop = Shop::new().await;
    let (image, _) = shop.import("guest", &guest(), |from| from.prepare = Some(Choice::default())).await;
    let public = ImageChange { visibility: Some(Visibility::Public), ..ImageChange::default() };
    shop.f.service.images().update(&shop.f.root().await, image.id, public).await.unwrap();
    let stranger = shop.f.principal(&shop.f.project("theirs").await, Role::Member).await;
    let (own, other) =
        (shop.report(image.id).await, shop.f.service.images().report(&stranger, image.id).await.unwrap());
    assert!(own.to_string().contains("/dev/sda / ext4"), "the old line of fstab: {own}");
    assert!(!other.to_string().contains("/dev/sda / ext4"), "{other}");
    assert_eq!(list(&other, "changes", "path"), list(&own, "changes", "path"));
    assert_eq!(list(&other, "findings", "id"), list(&own, "findings", "id"));
    assert_eq!(other["findings_after"], own["findings_after"]);
    assert!(own.get("inspected").is_some() && other.get("inspected").is_none());
    shop.undo(image.id).await;
    let told = shop.f.service.images().report(&stranger, image.id).await.unwrap();
    assert_eq!(told, shop.report(image.id).await, "the disk is the one that was looked into");
}

#[tokio::test]
async fn what_shares_the_bytes_keeps_them() {
    let shop = Shop::new().await;
    let before = guest();
    let (image, _) = shop.import("guest", &before, |from| from.prepare = None).await;
    let mut shared = Vec::new();
    for _ in 0..2 {
        let from = from_object(BUCKET, "guest", None);
        let (other, job) = shop.f.service.images().create_from_object(&shop.who, from).await.unwrap();
        shop.carry_out(job.id).await;
        shared.push(shop.get(other.id).await);
    }
    let [other, again] = &shared[..] else { panic!("two were made") };
    assert!(other.content == image.content && again.content == image.content && image.content.is_some());
    let export = export("shared", "raw", &[]);
    let job = shop.f.service.images().export(&shop.who, other.id, export).await.unwrap();
    shop.carry_out(job.id).await;
    let stored = shop.f.backend.pack_bytes().await;
    shop.prepare(image.id, Choice::default()).await;
    assert!(shop.f.backend.pack_bytes().await - stored < 2 << 20, "what did not change is shared");
    assert!(holds(&shop.bytes(image.id).await, REPAIRED));
    for kept in [other.id, again.id] {
        assert!(shop.bytes(kept).await == before);
        assert_eq!(shop.get(kept).await.properties["molde:prepare"], "not-asked");
    }
    for key in ["guest", "shared"] {
        assert!(shop.f.object(&shop.who, BUCKET, key).await == before, "{key}");
    }
    // All others go: the original stays for the one that may want it again.
    for other in [other.id, again.id] {
        shop.f.service.images().delete(&shop.who, other).await.unwrap();
    }
    for key in ["guest", "shared"] {
        shop.f.service.objects().delete(&shop.who, BUCKET, key).await.unwrap();
    }
    shop.undo(image.id).await;
    assert!(shop.bytes(image.id).await == before);
}

#[tokio::test]
async fn the_first_original_is_kept_however_often_it_is_prepared() {
    let shop = Shop::new().await;
    let before = qcow2(guest());
    let uploaded = shop.uploaded(DiskFormat::Qcow2, &before).await;
    let id = uploaded.id;
    for (number, finding) in ["machine-id", "fstab-device-name", "fstab-missing-device"].into_iter().enumerate() {
        let (image, job) = shop.prepare(id, only(finding)).await;
        assert_eq!((job.state, job.error), (JobState::Done, None));
        let report = shop.report(id).await;
        assert_eq!(image.properties["molde:prepare"], "prepared", "{report}");
        let earlier: Vec<_> = report["earlier"].as_array().into_iter().flatten().collect();
        assert_eq!(earlier.len(), number, "{report}");
        assert!(earlier.iter().all(|earlier| earlier.get("earlier").is_none()));
        assert_eq!(shop.f.contents().await, 2, "the original, and the newest");
    }
    let told = shop.report(id).await;
    let (image, job) = shop.prepare(id, only("machine-id")).await;
    assert!(shop.lines(job.id).await.contains("there is nothing to change"));
    assert_eq!((shop.report(id).await, &*image.properties["molde:prepare"]), (told, "prepared"));
    let undone = shop.undo(id).await;
    assert_eq!((undone.disk_format, undone.checksums), (Some(DiskFormat::Qcow2), uploaded.checksums));
    assert!(shop.bytes(id).await == before);
    let report = shop.report(id).await;
    assert_eq!((&report["state"], list(&report, "changes", "path")), (&"undone".into(), vec!["/etc/machine-id"]));
    assert!(report.get("earlier").is_none() && report.get("original").is_none(), "{report}");
    assert_eq!(undone.properties["molde:blocking"], report["blocking"].to_string());
    assert_eq!(shop.f.contents().await, 1);
}

#[tokio::test]
async fn an_image_that_was_prepared_when_it_was_made_keeps_what_it_was_made_of() {
    let shop = Shop::new().await;
    let before = guest();
    let (image, _) = shop.import("guest", &qcow2(before.clone()), |from| from.prepare = Some(only("machine-id"))).await;
    shop.prepare(image.id, Choice::default()).await;
    assert_eq!(shop.f.contents().await, 3, "the object, the disk in it, and that as it was prepared last");
    assert_eq!(shop.report(image.id).await["earlier"][0]["changes"][0]["path"], "/etc/machine-id");
    let undone = shop.undo(image.id).await;
    assert_eq!((undone.disk_format, undone.size_virtual), (Some(DiskFormat::Raw), Some(16 << 20)));
    assert!(shop.bytes(image.id).await == before);
    shop.remove(&image, "guest").await;
}

#[tokio::test]
async fn what_has_nothing_to_change_stays_as_it_is() {
    let shop = Shop::new().await;
    let before = qcow2(disk(7));
    let uploaded = shop.uploaded(DiskFormat::Qcow2, &before).await;
    let (image, job) = shop.prepare(uploaded.id, Choice::default()).await;
    assert_eq!((job.state, &*image.properties["molde:prepare"]), (JobState::Done, "nothing-to-do"));
    assert_eq!((image.disk_format, &image.checksums), (Some(DiskFormat::Qcow2), &uploaded.checksums));
    assert!(shop.bytes(image.id).await == before);
    assert_eq!((&shop.report(image.id).await["state"], shop.f.contents().await), (&"nothing-to-do".into(), 1));
    let none = shop.f.service.images().undo_prepare(&shop.who, image.id).await.unwrap_err();
    assert_eq!(none.kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn a_guest_that_cannot_be_changed_fails_the_job_and_nothing_else() {
    let shop = Shop::new().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    fs::write(&path, guest()).unwrap();
    // The file system says of itself that it has errors.
    let marked = Command::new("debugfs").args(["-w", "-R", "ssv state 3"]).arg(&path).output();
    let marked = marked.unwrap_or_else(|error| panic!("cannot run debugfs, of Debian's package e2fsprogs: {error}"));
    assert!(marked.status.success());
    let bytes = fs::read(&path).unwrap();
    let uploaded = shop.uploaded(DiskFormat::Raw, &bytes).await;
    let (image, job) = shop.prepare(uploaded.id, Choice::default()).await;
    let why = job.error.unwrap_or_default();
    assert_eq!((job.state, job.attempt), (JobState::Failed, 1), "{why}");
    assert!(why.contains("the image stays as it is: ") && why.contains("errors"), "{why}");
    assert_eq!((image.state, image.reason, image.content), (ImageState::Active, None, uploaded.content));
    assert_eq!((image.properties, image.checksums), (uploaded.properties, uploaded.checksums));
    assert_eq!(shop.f.contents().await, 1);
}

#[tokio::test]
async fn a_project_without_room_keeps_its_image_as_it_is() {
    let shop = Shop::new().await;
    let uploaded = shop.uploaded(DiskFormat::Qcow2, &qcow2(guest())).await;
    let project = shop.who.project.id;
    let used = shop.f.used(project, Resource::StoredBytes).await;
    shop.f.limit(project, Resource::StoredBytes, Some(used)).await;
    let (image, job) = shop.prepare(uploaded.id, Choice::default()).await;
    assert_eq!(job.state, JobState::Failed);
    assert!(job.error.clone().unwrap_or_default().contains("quota"), "{:?}", job.error);
    assert_eq!((image.state, image.content), (ImageState::Active, uploaded.content));
    assert_eq!(shop.f.contents().await, 1);
    shop.f.limit(project, Resource::StoredBytes, None).await;
    let (image, _) = shop.prepare(uploaded.id, Choice::default()).await;
    assert_eq!(image.properties["molde:prepare"], "prepared");
    assert!(shop.f.used(project, Resource::StoredBytes).await > used);
}

#[tokio::test]
async fn an_image_is_worked_on_by_one_job_at_a_time() {
    let shop = Shop::new().await;
    let images = shop.f.service.images();
    let before = guest();
    let (image, _) = shop.import("guest", &before, |from| from.prepare = Some(only("machine-id"))).await;
    let job = images.prepare(&shop.who, image.id, Choice::default()).await.unwrap();
    let refused = |error: service::Error| {
        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains("a job (prepare_image) works on"), "{error}");
    };
    refused(images.prepare(&shop.who, image.id, Choice::default()).await.unwrap_err());
    refused(images.export(&shop.who, image.id, export("out", "raw", &[])).await.unwrap_err());
    refused(images.undo_prepare(&shop.who, image.id).await.unwrap_err());
    // It can be used, though.
    assert!(shop.bytes(image.id).await.len() == before.len());
    images.check(&shop.who, image.id, Choice::default()).await.unwrap();
    let stopped = shop.f.service.jobs().cancel(&shop.who, job.id).await.unwrap();
    assert_eq!(stopped.state, JobState::Cancelled);
    let kept = shop.get(image.id).await;
    assert_eq!((kept.state, kept.content), (ImageState::Active, image.content));

    let out = images.export(&shop.who, image.id, export("out", "qcow2", &[])).await.unwrap();
    let busy = images.prepare(&shop.who, image.id, Choice::default()).await.unwrap_err();
    assert!(busy.to_string().contains("a job (export_image) works on"), "{busy}");
    shop.carry_out(out.id).await;
    let job = images.prepare(&shop.who, image.id, Choice::default()).await.unwrap();
    images.delete(&shop.who, image.id).await.unwrap();
    assert_eq!(shop.carry_out(job.id).await.state, JobState::Cancelled);
    for key in ["guest", "out"] {
        shop.f.service.objects().delete(&shop.who, BUCKET, key).await.unwrap();
    }
    assert_eq!(shop.f.contents().await, 0);
}

#[tokio::test]
async fn an_image_that_goes_while_it_is_prepared_leaves_nothing() {
    let shop = Shop::new().await;
    let image = shop.uploaded(DiskFormat::Qcow2, &qcow2(guest())).await;
    let runner = shop.f.run().await;
    let gate = shop.f.backend.written.hold("heads/");
    let job = shop.f.service.images().prepare(&shop.who, image.id, Choice::default()).await.unwrap();
    gate.reached().await;
    shop.f.service.images().delete(&shop.who, image.id).await.unwrap();
    gate.open();
    assert_eq!(shop.f.ended(&shop.who, job.id).await.state, JobState::Cancelled);
    runner.stop(&shop.f.service).await.unwrap();
    assert_eq!(shop.f.contents().await, 0);
}

#[tokio::test]
async fn what_cannot_be_prepared_begins_no_job() {
    let shop = Shop::new().await;
    let (images, root) = (shop.f.service.images(), shop.f.root().await);
    let refusal = async |id: ImageId, choice: Choice| images.prepare(&shop.who, id, choice).await.unwrap_err().kind();
    let image = shop.uploaded(DiskFormat::Raw, &guest()).await;
    assert_eq!(refusal(image.id, only("everything")).await, ErrorKind::Invalid);
    let queued = images.create(&shop.who, new_image(DiskFormat::Raw)).await.unwrap();
    assert_eq!(refusal(queued.id, Choice::default()).await, ErrorKind::Conflict);
    let kernel = shop.uploaded(DiskFormat::Aki, b"a kernel").await;
    assert_eq!(refusal(kernel.id, Choice::default()).await, ErrorKind::BadContent);
    let protect = |protected| ImageChange { protected: Some(protected), ..ImageChange::default() };
    images.update(&shop.who, image.id, protect(true)).await.unwrap();
    assert_eq!(refusal(image.id, Choice::default()).await, ErrorKind::Forbidden);
    images.update(&shop.who, image.id, protect(false)).await.unwrap();

    let public = ImageChange { visibility: Some(Visibility::Public), ..ImageChange::default() };
    images.update(&root, image.id, public).await.unwrap();
    let stranger = shop.f.principal(&shop.f.project("theirs").await, Role::Member).await;
    let theirs = images.prepare(&stranger, image.id, Choice::default()).await.unwrap_err();
    assert_eq!(theirs.kind(), ErrorKind::Forbidden, "it was shown to them");
    assert_eq!(shop.f.contents().await, 2);
}

#[tokio::test]
async fn what_an_administrator_of_another_project_prepares_stays_its_owners() {
    let shop = Shop::new().await;
    let image = shop.uploaded(DiskFormat::Qcow2, &qcow2(guest())).await;
    let admin = shop.f.principal(&shop.f.project("theirs").await, Role::Admin).await;
    let used = shop.f.used(admin.project.id, Resource::StoredBytes).await;
    let job = shop.f.service.images().prepare(&admin, image.id, Choice::default()).await.unwrap();
    assert_eq!((job.project, job.user), (image.project, admin.user.id));
    shop.carry_out(job.id).await;
    let content = shop.get(image.id).await.content.unwrap();
    let mut tx = shop.f.catalog.read().await.unwrap();
    let content = catalog::contents::get(&mut tx, content).await.unwrap().unwrap();
    drop(tx);
    assert_eq!(content.project, image.project);
    assert_eq!(shop.f.used(admin.project.id, Resource::StoredBytes).await, used);
}
