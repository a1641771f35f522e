//! Preparing what an image is made from: what is kept, what is told of it, and the way back.

use std::fs;
use std::path::Path;
use std::process::Command;

use model::DiskFormat;
use model::images::Image;
use model::jobs::{Job, JobState};
use serde_json::Value;
use service::{Choice, ErrorKind, ImageChange};

use crate::payload::{disk, qcow2};
use crate::shop::Shop;

const FSTAB: &str = "/dev/sda / ext4 errors=remount-ro 0 1\n/dev/sdb1 /data ext4 defaults 0 2\n";

/// A bare file system of 16 MiB with a Debian that would stop at its own fstab.
pub(crate) fn guest() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n");
    put("etc/fstab", FSTAB);
    put("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
    put("usr/bin/cloud-init", "#!/bin/sh\n");
    let image = folder.path().join("disk.raw");
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-U", "01234567-89ab-cdef-0123-456789abcdef", "-d"])
        .args([root.as_path(), &image, Path::new("16M")])
        .status()
        .unwrap_or_else(|error| panic!("cannot run mke2fs, of Debian's package e2fsprogs: {error}"));
    assert!(made.success());
    fs::read(image).unwrap()
}

/// Makes an image of `bytes` that is prepared as `choice` says.
async fn import(shop: &Shop, bytes: &[u8], choice: Option<Choice>) -> (Image, Job) {
    shop.import("guest", bytes, |from| from.prepare = choice).await
}

pub(crate) fn list<'v>(report: &'v Value, name: &str, field: &str) -> Vec<&'v str> {
    report[name].as_array().unwrap().iter().map(|item| item[field].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_guest_is_repaired_and_what_it_was_is_kept_beside_it() {
    let shop = Shop::new().await;
    let before = guest();
    for (bytes, copies) in [(before.clone(), 0), (qcow2(before.clone()), 1)] {
        let stored = shop.f.backend.pack_bytes().await;
        let (image, job) = import(&shop, &bytes, Some(Choice::default())).await;
        assert_eq!((job.state, job.error), (JobState::Done, None));
        assert_eq!(image.properties["molde:prepare"], "prepared");
        assert_eq!((&*image.properties["__is_config_init"], &*image.properties["os_distro"]), ("true", "debian"));
        assert_eq!((&*image.properties["__platform"], &*image.properties["__os_type"]), ("Debian", "Linux"));
        let after = shop.f.image_bytes(&shop.who, image.id).await;
        assert_eq!(after.len(), before.len());
        let fstab = |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(fstab(&after, "UUID=01234567-89ab-cdef-0123-456789abcdef / ext4"));
        assert!(shop.lines(job.id).await.contains("prepare: edit /etc/fstab"), "{}", shop.lines(job.id).await);

        let report = shop.f.service.images().report(&shop.who, image.id).await.unwrap();
        assert_eq!(report["state"], "prepared");
        assert!(list(&report, "findings", "id").contains(&"fstab-device-name"), "{report}");
        assert!(!list(&report, "findings_after", "id").contains(&"fstab-device-name"), "{report}");
        assert!(list(&report, "changes", "path").contains(&"/etc/fstab"));
        assert_eq!(report["inspected"]["os"]["distro"], "debian");
        // What the report says was changed is all that was.
        let ranges: Vec<[usize; 2]> = serde_json::from_value(report["changed_ranges"].clone()).unwrap();
        let mut patched = before.clone();
        ranges.iter().for_each(|[start, end]| patched[*start..*end].copy_from_slice(&after[*start..*end]));
        assert!(patched == after && patched != before);

        assert_eq!(shop.f.contents().await, 2 + copies, "the object, what was copied of it, and the prepared disk");
        let undone = shop.f.service.images().undo_prepare(&shop.who, image.id).await.unwrap();
        assert_eq!(undone.properties["molde:prepare"], "undone");
        assert!(shop.f.image_bytes(&shop.who, image.id).await == before);
        assert_eq!(shop.f.contents().await, 1 + copies, "the prepared disk is gone");
        assert_eq!(shop.f.service.images().report(&shop.who, image.id).await.unwrap()["state"], "undone");
        let again = shop.f.service.images().undo_prepare(&shop.who, image.id).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Conflict);
        shop.remove(&image, "guest").await;
        assert!(shop.f.backend.pack_bytes().await >= stored);
    }
}

#[tokio::test]
async fn a_deleted_image_takes_its_original_along() {
    let shop = Shop::new().await;
    let (image, _) = import(&shop, &qcow2(guest()), Some(Choice::default())).await;
    assert_eq!(shop.f.contents().await, 3);
    shop.remove(&image, "guest").await;
}

#[tokio::test]
async fn what_is_not_asked_for_is_only_told() {
    let shop = Shop::new().await;
    let before = guest();
    let (image, _) = import(&shop, &before, None).await;
    assert!(shop.f.image_bytes(&shop.who, image.id).await == before);
    assert_eq!(image.properties["molde:prepare"], "not-asked");
    let report = shop.f.service.images().report(&shop.who, image.id).await.unwrap();
    assert!(list(&report, "findings", "id").contains(&"fstab-device-name"));
    assert!(list(&report, "changes", "path").contains(&"/etc/fstab"), "what prepare would change: {report}");
    assert_ne!(image.properties["molde:blocking"], "0");
    shop.remove(&image, "guest").await;

    let skip = Choice { only: vec!["machine-id".into()], ..Choice::default() };
    let (image, _) = import(&shop, &before, Some(skip)).await;
    let report = shop.f.service.images().report(&shop.who, image.id).await.unwrap();
    assert_eq!(list(&report, "changes", "path"), ["/etc/machine-id"], "{report}");
    shop.remove(&image, "guest").await;
}

#[tokio::test]
async fn what_holds_no_system_stays_as_it_is() {
    let shop = Shop::new().await;
    let (image, _) = import(&shop, &disk(40), Some(Choice::default())).await;
    assert_eq!(image.properties["molde:prepare"], "nothing-to-do");
    assert!(shop.f.image_bytes(&shop.who, image.id).await == disk(40));
    let none = shop.f.service.images().undo_prepare(&shop.who, image.id).await.unwrap_err();
    assert!(none.to_string().contains("holds no changes of prepare"), "{none}");
    assert_eq!(shop.f.contents().await, 1, "the image shares the object's bytes");
}

#[tokio::test]
async fn what_is_declared_otherwise_than_found_is_told() {
    let shop = Shop::new().await;
    let (image, job) = shop
        .import("guest", &guest(), |from| {
            from.prepare = Some(Choice::default());
            from.image.properties.insert("__os_type".into(), "Windows".into());
        })
        .await;
    assert_eq!(image.properties["__os_type"], "Windows", "what the user said stands");
    let told = "declared to hold Windows, and Debian GNU/Linux 12 was found";
    assert!(shop.lines(job.id).await.contains(told));
    let report = shop.f.service.images().report(&shop.who, image.id).await.unwrap();
    assert!(report["notes"].to_string().contains(told), "{report}");
}

#[tokio::test]
async fn an_unknown_finding_begins_no_job() {
    let shop = Shop::new().await;
    shop.f.put(&shop.who, "disks", "guest", &disk(41)).await;
    let mut from = crate::fixture::from_object("disks", "guest", Some(DiskFormat::Raw));
    from.prepare = Some(Choice { with: vec!["everything".into()], ..Choice::default() });
    let refused = shop.f.service.images().create_from_object(&shop.who, from).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("no finding `everything`"), "{refused}");
}

#[tokio::test]
async fn nobody_else_writes_what_molde_found() {
    let shop = Shop::new().await;
    let (image, _) = import(&shop, &guest(), None).await;
    for change in [
        ImageChange { set_properties: [("molde:prepare".into(), "prepared".into())].into(), ..ImageChange::default() },
        ImageChange { remove_properties: ["molde:blocking".into()].into(), ..ImageChange::default() },
    ] {
        let refused = shop.f.service.images().update(&shop.who, image.id, change).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Forbidden, "{refused}");
    }
    let stranger = shop.f.principal(&shop.f.project("theirs").await, model::identity::Role::Member).await;
    let unseen = shop.f.service.images().report(&stranger, image.id).await.unwrap_err();
    assert_eq!(unseen.kind(), ErrorKind::NotFound);
    let unseen = shop.f.service.images().undo_prepare(&stranger, image.id).await.unwrap_err();
    assert_eq!(unseen.kind(), ErrorKind::NotFound);
}
