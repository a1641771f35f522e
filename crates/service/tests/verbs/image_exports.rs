//! Exports in every kind of file: the same disk comes out, wrong words are refused at once, and nothing is left behind.

use model::identity::Principal;
use model::jobs::JobState;
use model::{DiskFormat, ImageId};
use service::{ErrorKind, Secret};

use crate::fixture::{Fixture, new_image};
use crate::payload::{CHUNK, disk, disk_in, noise};
use crate::shop::{BUCKET, Shop, export};

/// Every kind of file that is made in order, and some of those that are laid out.
const KINDS: &[(&str, &[&str])] = &[
    ("qcow2", &["compression=zlib"]),
    ("qcow2", &["compression=zstd", "level=9"]),
    ("qcow2", &["compression=zstd", "cluster_size=512"]),
    ("qcow2", &["compression=zlib", "cluster_size=4K"]),
    ("qcow2", &["compression=zstd", "cluster_size=2M"]),
    ("qcow2", &["cluster_size=4K"]),
    ("qcow2", &["wrap=zstd"]),
    ("vmdk", &["subformat=streamOptimized"]),
    ("ova", &[]),
    ("ova", &["name=web", "firmware=efi"]),
    ("raw", &["wrap=gzip", "level=1"]),
    ("raw", &["wrap=zstd"]),
    ("vhd", &["wrap=gzip"]),
    ("vhdx", &["wrap=zstd"]),
];

#[tokio::test]
async fn every_kind_of_file_holds_the_same_disk() {
    let shop = Shop::new().await;
    let image = shop.f.image(&shop.who, new_image(DiskFormat::Raw), &disk(20)).await;
    for (number, (format, options)) in KINDS.iter().enumerate() {
        let key = format!("out-{number}");
        let job = shop.f.service.images().export(&shop.who, image.id, export(&key, format, options)).await.unwrap();
        let job = shop.carry_out(job.id).await;
        assert_eq!((job.state, job.percent, job.error), (JobState::Done, 100, None), "{format} {options:?}");
        let file = shop.f.object(&shop.who, BUCKET, &key).await;
        let told = format!("write: {} bytes of {format} written", file.len());
        assert!(shop.lines(job.id).await.contains(&told), "{told}");
        // A VHD of this size has a geometry, which rounds it up.
        let out = disk_in(file, None);
        assert_eq!(out[..1 << 20], disk(20), "{format} {options:?}");
        assert!(out[1 << 20..].iter().all(|byte| *byte == 0));
        assert_eq!(shop.f.contents().await, number + 2, "{format} {options:?}: the image and the objects");
    }
}

#[tokio::test]
async fn a_blank_disk_and_one_that_is_smaller_than_a_chunk() {
    let shop = Shop::new().await;
    let small = noise(21, 5000);
    for (number, bytes) in [vec![0; 3 << 20], small].into_iter().enumerate() {
        let image = shop.f.image(&shop.who, new_image(DiskFormat::Raw), &bytes).await;
        for (format, options) in
            [("qcow2", &["compression=zstd", "cluster_size=512"][..]), ("ova", &[]), ("raw", &["wrap=zstd"])]
        {
            let key = format!("{number}-{format}");
            let job = shop.f.service.images().export(&shop.who, image.id, export(&key, format, options)).await.unwrap();
            let job = shop.carry_out(job.id).await;
            assert_eq!((job.state, job.error), (JobState::Done, None), "{key}");
            let out = disk_in(shop.f.object(&shop.who, BUCKET, &key).await, None);
            assert_eq!(out[..bytes.len()], bytes, "{key}");
        }
    }
}

/// The first bytes of the file are known last, and nevertheless none is written twice.
#[tokio::test]
async fn a_stream_is_written_once() {
    let shop = Shop::new().await;
    let image = shop.f.image(&shop.who, new_image(DiskFormat::Raw), &noise(22, 4 << 20)).await;
    for options in [&["compression=zstd", "cluster_size=64K"][..], &["compression=zstd", "cluster_size=4K"]] {
        let before = shop.f.backend.pack_bytes().await;
        let asked = export(&format!("{options:?}"), "qcow2", options);
        let key = asked.key.clone();
        let job = shop.f.service.images().export(&shop.who, image.id, asked).await.unwrap();
        assert_eq!(shop.carry_out(job.id).await.state, JobState::Done);
        let file = shop.f.object(&shop.who, BUCKET, &key).await;
        assert_eq!(disk_in(file.clone(), None), noise(22, 4 << 20));
        let written = shop.f.backend.pack_bytes().await - before;
        let most = (file.len() + 2 * CHUNK) as u64;
        assert!(written < most, "{written} bytes for a file of {}", file.len());
    }
}

#[tokio::test]
async fn what_is_kept_so_already_is_shared_only_where_nothing_was_chosen() {
    let shop = Shop::new().await;
    let image = shop.f.image(&shop.who, new_image(DiskFormat::Raw), &disk(23)).await;
    let images = shop.f.service.images();
    for (key, options) in [("plain", &[][..]), ("packed", &["wrap=zstd"])] {
        let job = images.export(&shop.who, image.id, export(key, "raw", options)).await.unwrap();
        assert_eq!(shop.carry_out(job.id).await.state, JobState::Done);
        let (object, _) = shop.f.service.objects().get(&shop.who, BUCKET, key).await.unwrap();
        assert_eq!(Some(object.content) == image.content, options.is_empty(), "{key}");
    }
}

#[tokio::test]
async fn wrong_words_begin_no_job() {
    let shop = Shop::new().await;
    let image = shop.f.image(&shop.who, new_image(DiskFormat::Raw), &disk(24)).await;
    let cases: &[(&str, &[&str], &str, &str)] = &[
        ("zip", &[], "files in format zip are not written", "write raw, qcow2"),
        ("floppy", &[], "no disk format is called", "known names: raw, qcow2"),
        ("zvhd2", &[], "not public", "qcow2"),
        ("iso", &[], "files in format iso are not written", "write raw"),
        ("qcow2", &["compresion=zstd"], "no option called \"compresion\"", "compression"),
        ("qcow2", &["compression=lzma"], "compression=lzma", "none, zlib, zstd"),
        ("qcow2", &["cluster_size=100"], "cluster_size=100", "power of two"),
        ("qcow2", &["compression=zstd", "wrap=gzip"], "is not compressed again", "leave out wrap"),
        ("qcow2", &["encrypt=luks"], "needs a passphrase", "passphrase"),
        ("luks", &[], "needs a passphrase", "passphrase"),
        ("raw", &["compression=zstd"], "raw has no option called", "wrap"),
        ("vmdk", &["subformat=monolithicFlat"], "two files", "another subformat"),
        ("ova", &["firmware=openfirmware"], "firmware=openfirmware", "bios"),
    ];
    let before = shop.f.service.jobs().list(&shop.who, service::JobQuery { limit: 100, ..Default::default() }).await;
    for (format, options, said, hinted) in cases {
        let refused = shop.f.service.images().export(&shop.who, image.id, export("out", format, options)).await;
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert!(error.to_string().contains(said), "{error}");
        assert!(error.hint().unwrap().contains(hinted), "{error}: {:?}", error.hint());
    }
    for (passphrase, said) in [("", "is empty"), ("sesame", "would not be encrypted")] {
        let mut asked = export("out", "qcow2", &[]);
        asked.passphrase = Some(Secret::new(passphrase.into()));
        let error = shop.f.service.images().export(&shop.who, image.id, asked).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(said), "{error}");
    }
    let after = shop.f.service.jobs().list(&shop.who, service::JobQuery { limit: 100, ..Default::default() }).await;
    assert_eq!(before.unwrap(), after.unwrap());
}

async fn begun(f: &Fixture, who: &Principal, image: ImageId, options: &[&str]) -> model::JobId {
    f.service.images().export(who, image, export("out", "qcow2", options)).await.unwrap().id
}

/// A node stops in the middle of the reading, and after each of the contents that a stream is put together from.
#[tokio::test]
async fn a_stream_may_be_interrupted_anywhere() {
    for place in 0..4 {
        let shop = Shop::new().await;
        let (f, who) = (&shop.f, &shop.who);
        let image = f.image(who, new_image(DiskFormat::Raw), &disk(25)).await;
        let job = begun(f, who, image.id, &["compression=zstd", "cluster_size=4K"]).await;
        let gate = match place {
            0 => f.backend.reading.hold("packs/"),
            nth => f.backend.written.hold_nth("heads/", nth),
        };
        let runner = f.run().await;
        gate.reached().await;
        runner.stop(&f.service).await.unwrap();
        gate.open();
        let done = shop.carry_out(job).await;
        assert_eq!((done.state, done.attempt, done.error), (JobState::Done, 2, None), "place {place}");
        assert_eq!(disk_in(f.object(who, BUCKET, "out").await, None), disk(25), "place {place}");
        assert_eq!(f.contents().await, 2, "place {place}: the image and the object");
    }
}

#[tokio::test]
async fn a_cancelled_stream_leaves_nothing() {
    for place in 0..4 {
        let shop = Shop::new().await;
        let (f, who) = (&shop.f, &shop.who);
        let image = f.image(who, new_image(DiskFormat::Raw), &disk(26)).await;
        let job = begun(f, who, image.id, &["compression=zstd", "cluster_size=4K"]).await;
        let gate = match place {
            0 => f.backend.reading.hold("packs/"),
            nth => f.backend.written.hold_nth("heads/", nth),
        };
        let runner = f.run().await;
        gate.reached().await;
        f.service.jobs().cancel(who, job).await.unwrap();
        gate.open();
        let ended = f.ended(who, job).await;
        runner.stop(&f.service).await.unwrap();
        assert_eq!((ended.state, ended.error.as_deref()), (JobState::Cancelled, Some("it was cancelled")), "{place}");
        assert_eq!(f.contents().await, 1, "place {place}: the image alone");
    }
}
