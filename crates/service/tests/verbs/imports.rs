//! Imports of files that are compressed as a whole, and of appliances: what becomes of them, and that nothing is left.

use disk::Format;
use model::DiskFormat;
use model::images::ImageState;
use model::jobs::JobState;
use service::ErrorKind;

use crate::fixture::from_object;
use crate::payload::{disk, file, noise};
use crate::shop::{BUCKET, Shop};

/// A gzip file can only be read in order.
const GZIP: &[&str] = &["wrap=gzip"];
const TEXT: &[u8] = b"just a text, and no disk at all\n";

#[tokio::test]
async fn a_compressed_bare_disk_is_unpacked_into_the_image() {
    let shop = Shop::new().await;
    let (image, job) = shop.import("web.gz", &file(disk(30), Format::Raw, GZIP), |_| ()).await;
    assert_eq!((job.state, job.percent, job.error), (JobState::Done, 100, None));
    assert_eq!((image.state, image.disk_format), (ImageState::Active, Some(DiskFormat::Raw)));
    assert_eq!((image.size, image.size_virtual), (Some(1 << 20), Some(1 << 20)));
    assert_eq!(shop.f.image_bytes(&shop.who, image.id).await, disk(30));
    let lines = shop.lines(job.id).await;
    assert!(lines.contains("open: object `web.gz` in bucket `disks` is a gzip file of"), "{lines}");
    assert!(lines.contains("unpack: what was unpacked is a raw file of 1048576 bytes"), "{lines}");
    assert!(lines.contains("copy: the file is the disk itself"), "no second copy is made: {lines}");
    assert_eq!(shop.f.contents().await, 2, "the object and the image");
    shop.remove(&image, "web.gz").await;
}

#[tokio::test]
async fn a_compressed_disk_file_is_unpacked_and_forgotten() {
    let shop = Shop::new().await;
    for (format, key) in [(Format::Qcow2, "qcow2.gz"), (Format::Vhdx, "vhdx.gz"), (Format::Vdi, "vdi.gz")] {
        let (image, job) = shop.import(key, &file(disk(31), format, GZIP), |_| ()).await;
        assert_eq!((job.state, job.error), (JobState::Done, None), "{key}");
        let lines = shop.lines(job.id).await;
        assert!(lines.contains(&format!("unpack: what was unpacked is a {format}")), "{lines}");
        assert_eq!(shop.f.image_bytes(&shop.who, image.id).await[..1 << 20], disk(31), "{key}");
        assert_eq!(shop.f.contents().await, 2, "{key}: the object and the image");
        shop.remove(&image, key).await;
    }
}

#[tokio::test]
async fn what_can_be_read_in_part_is_not_unpacked() {
    let shop = Shop::new().await;
    for format in [Format::Raw, Format::Qcow2] {
        let (image, job) = shop.import("web.zst", &file(disk(32), format, &["wrap=zstd"]), |_| ()).await;
        assert_eq!((job.state, job.error), (JobState::Done, None));
        let lines = shop.lines(job.id).await;
        assert!(lines.contains("file in zstd of") && !lines.contains("unpack"), "{lines}");
        assert_eq!(shop.f.image_bytes(&shop.who, image.id).await, disk(32));
        assert_eq!(shop.f.contents().await, 2);
        shop.remove(&image, "web.zst").await;
    }
}

#[tokio::test]
async fn a_declared_format_is_that_of_what_is_inside() {
    let shop = Shop::new().await;
    // No partition table and no boot signature: nobody can see that it is a disk.
    let bare = noise(33, 200_000);
    for wrap in ["wrap=gzip", "wrap=zstd"] {
        let packed = file(bare.clone(), Format::Raw, &[wrap]);
        let (image, job) = shop.import("x", &packed, |_| ()).await;
        Shop::assert_failed(&image, &job, "no known disk format");
        shop.remove(&image, "x").await;
        let (image, job) = shop.import("x", &packed, |from| from.format = Some(DiskFormat::Raw)).await;
        assert_eq!((job.state, job.error), (JobState::Done, None), "{wrap}");
        assert_eq!(shop.f.image_bytes(&shop.who, image.id).await, bare);
        shop.remove(&image, "x").await;
        let (image, job) = shop.import("x", &packed, |from| from.format = Some(DiskFormat::Qcow2)).await;
        Shop::assert_failed(&image, &job, "declared as qcow2, and it is in no known disk format");
        shop.remove(&image, "x").await;
    }
}

#[tokio::test]
async fn what_is_wrong_inside_is_told_and_nothing_is_left() {
    let shop = Shop::new().await;
    let gzip = file(disk(34), Format::Raw, GZIP);
    let mut cut = gzip.clone();
    cut.truncate(gzip.len() / 2);
    let mut changed = gzip.clone();
    changed[gzip.len() / 2] ^= 0xff;
    let text = TEXT.repeat(100);
    let cases = [
        ("cut.gz", cut, "the gzip data go on where the file ends"),
        ("changed.gz", changed, "gzip"),
        ("head.gz", gzip[..12].to_vec(), "gzip"),
        ("text.gz", file(text.clone(), Format::Raw, GZIP), "no known disk format"),
        ("text.zst", file(text, Format::Raw, &["wrap=zstd"]), "no known disk format"),
        ("twice.gz", file(gzip.clone(), Format::Raw, GZIP), "compressed twice"),
        ("twice.zst", file(gzip, Format::Raw, &["wrap=zstd"]), "compressed twice"),
        ("empty.gz", file(Vec::new(), Format::Raw, GZIP), "no bytes"),
        ("cut-inside.gz", file(file(disk(34), Format::Qcow2, &[])[..700_000].to_vec(), Format::Raw, GZIP), ""),
    ];
    for (key, bytes, said) in cases {
        let (image, job) = shop.import(key, &bytes, |_| ()).await;
        Shop::assert_failed(&image, &job, said);
        assert!(job.error.as_deref().unwrap().contains(key), "{job:?}");
        assert_eq!(shop.f.contents().await, 1, "{key}: the object alone");
        shop.remove(&image, key).await;
    }
}

#[tokio::test]
async fn unpacking_may_be_interrupted_anywhere() {
    // The unpacked file is a content, and so is the copy, if there is one.
    for (format, places) in [(Format::Raw, 2), (Format::Qcow2, 3)] {
        for place in 0..places {
            let shop = Shop::new().await;
            let (f, who) = (&shop.f, &shop.who);
            f.put(who, BUCKET, "web.gz", &file(disk(35), format, GZIP)).await;
            let (image, job) =
                f.service.images().create_from_object(who, from_object(BUCKET, "web.gz", None)).await.unwrap();
            let gate = match place {
                0 => f.backend.reading.hold("packs/"),
                nth => f.backend.written.hold_nth("heads/", nth),
            };
            let runner = f.run().await;
            gate.reached().await;
            runner.stop(&f.service).await.unwrap();
            gate.open();
            let done = shop.carry_out(job.id).await;
            assert_eq!((done.state, done.attempt, done.error), (JobState::Done, 2, None), "{format} {place}");
            assert_eq!(f.image_bytes(who, image.id).await, disk(35), "{format} {place}");
            assert_eq!(f.contents().await, 2, "{format} {place}: the object and the image");
        }
    }
}

#[tokio::test]
async fn a_cancelled_import_of_a_compressed_file_leaves_nothing() {
    for place in 1..3 {
        let shop = Shop::new().await;
        let (f, who) = (&shop.f, &shop.who);
        f.put(who, BUCKET, "web.gz", &file(disk(36), Format::Qcow2, GZIP)).await;
        let (image, job) =
            f.service.images().create_from_object(who, from_object(BUCKET, "web.gz", None)).await.unwrap();
        let gate = f.backend.written.hold_nth("heads/", place);
        let runner = f.run().await;
        gate.reached().await;
        f.service.jobs().cancel(who, job.id).await.unwrap();
        gate.open();
        let ended = f.ended(who, job.id).await;
        runner.stop(&f.service).await.unwrap();
        assert_eq!(ended.state, JobState::Cancelled, "place {place}");
        let image = f.service.images().get(who, image.id).await.unwrap();
        assert_eq!(image.state, ImageState::Error);
        assert_eq!(f.contents().await, 1, "place {place}: the object alone");
    }
}

/// A job that waits for its next attempt has nobody who would clear up after it.
#[tokio::test]
async fn an_import_that_is_cancelled_between_two_attempts_leaves_nothing() {
    for delete in [false, true] {
        let shop = Shop::new().await;
        let (f, who) = (&shop.f, &shop.who);
        f.put(who, BUCKET, "web.gz", &file(disk(37), Format::Qcow2, GZIP)).await;
        let (image, job) =
            f.service.images().create_from_object(who, from_object(BUCKET, "web.gz", None)).await.unwrap();
        let gate = f.backend.written.hold_nth("heads/", 2);
        let runner = f.run().await;
        gate.reached().await;
        runner.stop(&f.service).await.unwrap();
        gate.open();
        let mut tx = f.catalog.write().await.unwrap();
        assert!(catalog::jobs::requeue(&mut tx, job.id, 1, 600).await.unwrap());
        tx.commit().await.unwrap();
        assert_eq!(f.backend.heads().await.len(), 3, "the object, what was unpacked and the copy");
        if delete {
            f.service.images().delete(who, image.id).await.unwrap();
        } else {
            f.service.jobs().cancel(who, job.id).await.unwrap();
        }
        assert_eq!(f.service.jobs().get(who, job.id).await.unwrap().state, JobState::Cancelled);
        assert_eq!(f.contents().await, 1, "the object alone");
    }
}

#[tokio::test]
async fn the_disk_of_an_appliance_is_chosen_by_its_name() {
    let shop = Shop::new().await;
    let ova = file(disk(38), Format::Ova, &["name=web"]);
    for member in [None, Some("web-disk1.vmdk")] {
        let (image, job) = shop.import("web.ova", &ova, |from| from.member = member.map(Into::into)).await;
        assert_eq!((job.state, job.error), (JobState::Done, None), "{member:?}");
        assert_eq!(shop.f.image_bytes(&shop.who, image.id).await, disk(38));
        shop.remove(&image, "web.ova").await;
    }
    let (image, job) = shop.import("web.ova", &ova, |from| from.member = Some("web-disk2.vmdk".into())).await;
    Shop::assert_failed(&image, &job, "no disk called \"web-disk2.vmdk\": web-disk1.vmdk");
    shop.remove(&image, "web.ova").await;
    let (image, job) = shop.import("web", &disk(38), |from| from.member = Some("disk1.vmdk".into())).await;
    Shop::assert_failed(&image, &job, "the file is no appliance");
    let mut long = from_object(BUCKET, "web", None);
    long.member = Some("x".repeat(256));
    let refused = shop.f.service.images().create_from_object(&shop.who, long).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");
    shop.remove(&image, "web").await;
}
