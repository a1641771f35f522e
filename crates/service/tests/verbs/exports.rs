//! Exports: what is served by its name, how long, and what is kept for it.

use jiff::SignedDuration;
use model::exports::Exported;
use model::identity::Principal;
use model::images::ImageState;
use model::{DiskFormat, ExportId, ImageId};
use service::{ErrorKind, NewExport, OpenedExport};

use crate::fixture::{Fixture, new_image};
use crate::payload::{disk, noise, qcow2, qcow2_over, read_disk};

fn of_image(id: ImageId) -> NewExport {
    NewExport { of: Exported::Image(id), format: None, seconds: None }
}

fn of_object(key: &str) -> NewExport {
    NewExport { of: Exported::Object { bucket: "shelf".into(), key: key.into() }, format: None, seconds: None }
}

async fn open(f: &Fixture, who: &Principal, new: NewExport) -> OpenedExport {
    f.service.exports().open(who, new).await.unwrap()
}

/// Returns the bytes of an export, or why there are none.
async fn read(f: &Fixture, opened: &OpenedExport) -> Result<Vec<u8>, ErrorKind> {
    let disk = f.service.exports().disk(&opened.name).await.map_err(|error| error.kind())?;
    assert_eq!(disk.len(), opened.size);
    Ok(read_disk(disk).await.unwrap())
}

#[tokio::test]
async fn a_name_opens_the_disk_in_any_format() {
    let f = Fixture::new().await;
    let who = f.member().await;
    f.service.buckets().create(&who, "shelf").await.unwrap();
    let image = f.image(&who, new_image(DiskFormat::Qcow2), &qcow2(disk(1))).await;
    f.put(&who, "shelf", "disk.qcow2", &qcow2(disk(2))).await;
    f.put(&who, "shelf", "bytes", &noise(3, 70_001)).await;
    let (of_image, of_file, of_bytes) = (
        open(&f, &who, of_image(image.id)).await,
        open(&f, &who, of_object("disk.qcow2")).await,
        open(&f, &who, of_object("bytes")).await,
    );
    assert_eq!(read(&f, &of_image).await.unwrap(), disk(1));
    assert_eq!(read(&f, &of_file).await.unwrap(), disk(2));
    assert_eq!(read(&f, &of_bytes).await.unwrap(), noise(3, 70_001));
    assert_eq!([&of_image, &of_file, &of_bytes].map(|opened| &*opened.export.format), ["qcow2", "qcow2", "raw"]);
    // The file itself is served where that is what was asked for.
    let raw = open(&f, &who, NewExport { format: Some("raw".into()), ..of_object("disk.qcow2") }).await;
    assert_eq!(read(&f, &raw).await.unwrap(), qcow2(disk(2)));

    let names = [&of_image, &of_file, &of_bytes, &raw].map(|opened| opened.name.clone());
    assert!(names.iter().all(|name| name.len() == 32 && name.bytes().all(|byte| byte.is_ascii_hexdigit())));
    assert!((0..4).all(|at| !names[..at].contains(&names[at])), "{names:?}");
    let listed = f.service.exports().list(&who).await.unwrap();
    assert_eq!(listed, [of_image.export, of_file.export, of_bytes.export, raw.export]);
    let lives = listed[0].expires_at.duration_since(listed[0].created_at);
    assert_eq!(lives, SignedDuration::from_hours(4));
}

#[tokio::test]
async fn names_that_nothing_has() {
    let f = Fixture::new().await;
    let who = f.member().await;
    let image = f.image(&who, new_image(DiskFormat::Raw), &disk(1)).await;
    let opened = open(&f, &who, of_image(image.id)).await;
    let id = opened.export.id.to_string();
    for name in ["", "x", &id, &opened.name[..31], &opened.name.to_uppercase(), &format!("{}0", opened.name)] {
        let refused = f.service.exports().disk(name).await.err().map(|error| (error.kind(), error.to_string()));
        assert_eq!(refused, Some((ErrorKind::NotFound, "no export has this name".into())), "{name}");
    }
    for name in ["server/", "server/1", &format!("server/{}", model::ServerId::new()), &opened.name] {
        let refused = f.service.server_disk(name).await.err().map(|error| (error.kind(), error.to_string()));
        assert_eq!(refused, Some((ErrorKind::NotFound, "no server has this disk".into())), "{name}");
    }
}

#[tokio::test]
async fn an_export_keeps_what_it_serves_until_it_is_closed() {
    let f = Fixture::new().await;
    let who = f.member().await;
    let image = f.image(&who, new_image(DiskFormat::Raw), &disk(1)).await;
    let (first, second) = (open(&f, &who, of_image(image.id)).await, open(&f, &who, of_image(image.id)).await);
    f.service.images().delete(&who, image.id).await.unwrap();
    assert!(f.is_kept(first.export.content).await);
    f.service.exports().close(&who, first.export.id).await.unwrap();
    assert_eq!(read(&f, &first).await, Err(ErrorKind::NotFound));
    assert_eq!(read(&f, &second).await.unwrap(), disk(1));
    // A client that is connected reads for some seconds yet, and then no more.
    let connected = f.service.exports().disk(&second.name).await.unwrap();
    f.service.exports().close(&who, second.export.id).await.unwrap();
    assert!(!f.is_kept(second.export.content).await);
    f.clock.pass(5);
    for _ in 0..2 {
        let error = read_disk(connected.clone()).await.unwrap_err();
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "it has ended");
    }
    assert_eq!(f.service.exports().close(&who, second.export.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(f.contents().await, 0);
}

#[tokio::test]
async fn an_export_expires_by_itself() {
    let f = Fixture::new().await;
    let who = f.member().await;
    let image = f.image(&who, new_image(DiskFormat::Raw), &disk(1)).await;
    let opened = open(&f, &who, NewExport { seconds: Some(60), ..of_image(image.id) }).await;
    let connected = f.service.exports().disk(&opened.name).await.unwrap();
    f.service.images().delete(&who, image.id).await.unwrap();
    f.clock.pass(59);
    assert_eq!(read(&f, &opened).await.unwrap(), disk(1));
    assert_eq!(read_disk(connected.clone()).await.unwrap(), disk(1));
    f.clock.pass(6);
    assert_eq!(read(&f, &opened).await, Err(ErrorKind::NotFound));
    assert!(read_disk(connected).await.is_err());
    assert!(f.service.exports().list(&who).await.unwrap().is_empty());
    // The next one that is opened sweeps it away; without one, the runner does.
    let other = f.image(&who, new_image(DiskFormat::Raw), &disk(2)).await;
    open(&f, &who, of_image(other.id)).await;
    assert!(!f.is_kept(opened.export.content).await);
    assert_eq!(f.contents().await, 1);
}

#[tokio::test]
async fn a_deactivated_image_is_closed_to_its_exports() {
    let f = Fixture::new().await;
    let who = f.member().await;
    let mut image = f.image(&who, new_image(DiskFormat::Raw), &disk(1)).await;
    let opened = open(&f, &who, of_image(image.id)).await;
    let connected = f.service.exports().disk(&opened.name).await.unwrap();
    image.state = ImageState::Deactivated;
    let mut tx = f.catalog.write().await.unwrap();
    assert!(catalog::images::update(&mut tx, &image, ImageState::Active).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(read(&f, &opened).await, Err(ErrorKind::Forbidden));
    f.clock.pass(5);
    assert!(read_disk(connected).await.is_err());
    let refused = f.service.exports().open(&who, of_image(image.id)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Forbidden);
}

#[tokio::test]
async fn what_cannot_be_served_is_told_at_once() {
    let f = Fixture::new().await;
    let who = f.member().await;
    f.service.buckets().create(&who, "shelf").await.unwrap();
    let image = f.image(&who, new_image(DiskFormat::Raw), &disk(1)).await;
    let queued = f.service.images().create(&who, new_image(DiskFormat::Raw)).await.unwrap();
    f.put(&who, "shelf", "over", &qcow2_over("/etc/passwd")).await;
    f.put(&who, "shelf", "cut", &qcow2(disk(1))[..300_000]).await;
    f.put(&who, "shelf", "raw", &disk(1)).await;
    let cases = [
        (ErrorKind::NotFound, of_image(ImageId::new())),
        (ErrorKind::Conflict, of_image(queued.id)),
        (ErrorKind::Invalid, NewExport { format: Some("raw".into()), ..of_image(image.id) }),
        (ErrorKind::Invalid, NewExport { seconds: Some(0), ..of_image(image.id) }),
        (ErrorKind::Invalid, NewExport { seconds: Some(7 * 24 * 3600 + 1), ..of_image(image.id) }),
        (ErrorKind::NotFound, of_object("none")),
        (ErrorKind::Invalid, NewExport { format: Some("floppy".into()), ..of_object("raw") }),
        (ErrorKind::BadContent, NewExport { format: Some("vmdk".into()), ..of_object("raw") }),
        (ErrorKind::BadContent, of_object("over")),
        (ErrorKind::BadContent, of_object("cut")),
    ];
    for (kind, new) in cases {
        let refused = f.service.exports().open(&who, new.clone()).await.unwrap_err();
        assert_eq!(refused.kind(), kind, "{new:?}: {refused}");
    }
    assert!(f.service.exports().list(&who).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_project_has_so_many_and_no_more() {
    let f = Fixture::new().await;
    let who = f.member().await;
    let image = f.image(&who, new_image(DiskFormat::Raw), &disk(1)).await;
    let first = open(&f, &who, of_image(image.id)).await.export;
    let mut tx = f.catalog.write().await.unwrap();
    for number in 1..256_u16 {
        let mut hash = [0; 32];
        hash[..2].copy_from_slice(&number.to_be_bytes());
        let export = model::exports::Export { id: ExportId::new(), ..first.clone() };
        catalog::exports::insert(&mut tx, &export, &hash).await.unwrap();
    }
    tx.commit().await.unwrap();
    let refused = f.service.exports().open(&who, of_image(image.id)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
    f.service.exports().close(&who, first.id).await.unwrap();
    open(&f, &who, of_image(image.id)).await;
}
