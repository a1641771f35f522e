//! Images: their life through the verbs, what is refused, and what is left afterwards.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt, stream};
use md5::{Digest, Md5};
use model::images::{Checksums, ImageState, Visibility};
use model::jobs::JobState;
use model::names::{NAME_MAX, PROPERTIES_MAX, TAGS_MAX, VALUE_MAX};
use model::{ContainerFormat, DiskFormat, ImageId};
use service::{ErrorKind, ImageChange, Incoming, NewImage};
use tokio::sync::mpsc;

use crate::fixture::{Fixture, from_object, new_image};
use crate::payload::{body, broken, disk, from_qcow2, noise, qcow2, qcow2_over};

#[tokio::test]
async fn an_image_lives_from_queued_to_gone() {
    let f = Fixture::new().await;
    let (who, images) = (f.member().await, f.service.images());
    let image = images.create(&who, new_image(DiskFormat::Raw)).await.unwrap();
    assert_eq!((image.state, image.content, image.size), (ImageState::Queued, None, None));
    assert!(images.download(&who, image.id).await.unwrap().is_none());

    f.clock.pass(60);
    let bytes = disk(1);
    let active = images.upload(&who, image.id, body(&bytes)).await.unwrap();
    assert_eq!(active.state, ImageState::Active);
    assert_eq!((active.size, active.size_virtual), (Some(1 << 20), Some(1 << 20)));
    assert!(active.updated_at > image.updated_at && active.created_at == image.created_at);
    assert_eq!(images.get(&who, image.id).await.unwrap(), active, "what a verb returns is what is read back");
    assert_eq!(f.image_bytes(&who, image.id).await, bytes);
    let job = f.service.jobs().get(&who, active.job.unwrap()).await.unwrap();
    assert_eq!((job.state, job.percent), (JobState::Done, 100));

    let again = images.upload(&who, image.id, body(&bytes)).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict, "{again}");
    assert!(f.is_kept(active.content.unwrap()).await);

    images.delete(&who, image.id).await.unwrap();
    assert_eq!(images.get(&who, image.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(f.contents().await, 0);
}

#[tokio::test]
async fn an_upload_that_breaks_off_may_be_sent_again() {
    let f = Fixture::new().await;
    let (who, images) = (f.member().await, f.service.images());
    let image = images.create(&who, new_image(DiskFormat::Raw)).await.unwrap();
    let bytes = disk(2);
    let failed = images.upload(&who, image.id, broken(&bytes[..300_000])).await.unwrap_err();
    assert_eq!(failed.to_string(), "the connection was closed");
    let queued = images.get(&who, image.id).await.unwrap();
    assert_eq!((queued.state, queued.content, queued.checksums), (ImageState::Queued, None, None));
    let job = f.service.jobs().get(&who, queued.job.unwrap()).await.unwrap();
    assert_eq!((job.state, job.error.as_deref()), (JobState::Failed, Some("the connection was closed")));
    assert_eq!(f.contents().await, 0);

    for (told, sent) in [(bytes.len() as u64 + 1, &bytes[..]), (bytes.len() as u64 - 1, &bytes[..])] {
        let wrong = images.upload(&who, image.id, Incoming { length: Some(told), ..body(sent) }).await.unwrap_err();
        assert_eq!(wrong.kind(), ErrorKind::BadContent, "{wrong}");
        assert_eq!(images.get(&who, image.id).await.unwrap().state, ImageState::Queued);
        assert_eq!(f.contents().await, 0);
    }

    let active = images.upload(&who, image.id, body(&bytes)).await.unwrap();
    assert_eq!((active.state, active.reason), (ImageState::Active, None));
    assert_eq!(f.image_bytes(&who, image.id).await, bytes);
}

#[tokio::test]
async fn a_file_must_be_what_it_is_declared_to_be() {
    let f = Fixture::new().await;
    let (who, images) = (f.member().await, f.service.images());
    let cases = [
        (DiskFormat::Raw, qcow2(disk(3)), "declared as raw, and it is in the format qcow2"),
        (DiskFormat::Qcow2, disk(3), "declared as qcow2, and it is in no known disk format"),
        (DiskFormat::Qcow2, qcow2_over("/etc/shadow"), "/etc/shadow"),
        (DiskFormat::Vmdk, qcow2(disk(3)), "declared as vmdk"),
    ];
    for (format, bytes, said) in cases {
        let image = images.create(&who, new_image(format)).await.unwrap();
        let refused = images.upload(&who, image.id, body(&bytes)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::BadContent, "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
        assert_eq!(images.get(&who, image.id).await.unwrap().state, ImageState::Queued);
        assert_eq!(f.contents().await, 0);
    }
}

#[tokio::test]
async fn an_uploaded_file_is_kept_byte_for_byte() {
    let f = Fixture::new().await;
    let who = f.member().await;
    let file = qcow2(disk(4));
    let image = f.image(&who, new_image(DiskFormat::Qcow2), &file).await;
    assert_eq!((image.size, image.size_virtual), (Some(file.len() as u64), Some(1 << 20)));
    let back = f.image_bytes(&who, image.id).await;
    assert_eq!(back, file);
    assert_eq!(from_qcow2(back), disk(4));
}

/// A million times the letter `a`: the third test message of FIPS 180-4 and of RFC 1321's kin, so the values are not ours.
#[tokio::test]
async fn checksums_are_those_that_others_compute() {
    let f = Fixture::new().await;
    let who = f.member().await;
    let image = f.image(&who, new_image(DiskFormat::Raw), &vec![b'a'; 1_000_000]).await;
    let expected = Checksums {
        md5: "7707d6ae4e027c70eea2a935c2296f21".into(),
        sha256: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0".into(),
        sha512: "e718483d0ce769644e2e42c7bc15b4638e1f98b13b2044285632a803afa973eb\
                 de0ff244877ea60a4cb0432ce577c31beb009c5c2c49aa2e4eadb217ad8cc09b"
            .into(),
    };
    assert_eq!(image.checksums, Some(expected));
}

#[tokio::test]
async fn a_wrong_md5_of_the_body_is_refused() {
    let f = Fixture::new().await;
    let (who, images) = (f.member().await, f.service.images());
    let image = images.create(&who, new_image(DiskFormat::Raw)).await.unwrap();
    let bytes = disk(5);
    let wrong = Incoming { md5: Some(Md5::digest(b"other").into()), ..body(&bytes) };
    assert_eq!(images.upload(&who, image.id, wrong).await.unwrap_err().kind(), ErrorKind::BadDigest);
    assert_eq!(f.contents().await, 0);
    let right = Incoming { md5: Some(Md5::digest(&bytes).into()), ..body(&bytes) };
    images.upload(&who, image.id, right).await.unwrap();
}

#[tokio::test]
async fn formats_come_before_bytes_and_stay() {
    let f = Fixture::new().await;
    let (who, images) = (f.member().await, f.service.images());
    let bare = NewImage { disk_format: None, container_format: None, ..new_image(DiskFormat::Raw) };
    let image = images.create(&who, bare).await.unwrap();
    let early = images.upload(&who, image.id, body(&disk(6))).await.unwrap_err();
    assert_eq!(early.kind(), ErrorKind::Conflict, "{early}");
    let change = ImageChange {
        disk_format: Some(Some(DiskFormat::Raw)),
        container_format: Some(Some(ContainerFormat::Bare)),
        ..ImageChange::default()
    };
    images.update(&who, image.id, change.clone()).await.unwrap();
    images.upload(&who, image.id, body(&disk(6))).await.unwrap();
    assert_eq!(images.update(&who, image.id, change).await.unwrap_err().kind(), ErrorKind::Forbidden);
}

#[tokio::test]
async fn a_protected_image_stays() {
    let f = Fixture::new().await;
    let (who, images) = (f.member().await, f.service.images());
    let image = f.image(&who, NewImage { protected: true, ..new_image(DiskFormat::Raw) }, &disk(7)).await;
    for who in [&who, &f.root().await] {
        assert_eq!(images.delete(who, image.id).await.unwrap_err().kind(), ErrorKind::Forbidden);
    }
    assert_eq!(f.image_bytes(&who, image.id).await, disk(7));
    let change = ImageChange { protected: Some(false), ..ImageChange::default() };
    images.update(&who, image.id, change).await.unwrap();
    images.delete(&who, image.id).await.unwrap();
    assert_eq!(f.contents().await, 0);
}

#[tokio::test]
async fn limits_of_a_record() {
    let f = Fixture::new().await;
    let (who, images) = (f.member().await, f.service.images());
    let numbered = |count: usize| (0..count).map(|number| number.to_string());
    let properties =
        |count: usize| numbered(count).map(|name| (name, "v".into())).collect::<BTreeMap<String, String>>();
    let tags = |count: usize| numbered(count).collect::<BTreeSet<_>>();
    let pair = |name: usize, value: usize| BTreeMap::from([("é".repeat(name), "ü".repeat(value))]);
    let new = || new_image(DiskFormat::Raw);
    let fits = [
        NewImage { name: Some("ü".repeat(NAME_MAX)), ..new() },
        NewImage { properties: properties(PROPERTIES_MAX), tags: tags(TAGS_MAX), ..new() },
        NewImage { properties: pair(NAME_MAX, VALUE_MAX), ..new() },
        NewImage { tags: BTreeSet::from(["x".repeat(NAME_MAX)]), ..new() },
        NewImage { min_disk_gib: i32::MAX as u32, min_ram_mib: i32::MAX as u32, ..new() },
    ];
    for new in fits {
        let made = images.create(&who, new.clone()).await.unwrap();
        let known = images.get(&who, made.id).await.unwrap();
        assert_eq!((known.name, known.properties, known.tags), (new.name, new.properties, new.tags));
    }
    let (large, wrong) = (ErrorKind::TooLarge, ErrorKind::Invalid);
    let exceeds = [
        (wrong, NewImage { name: Some("x".repeat(NAME_MAX + 1)), ..new() }),
        (wrong, NewImage { name: Some("a\nb".into()), ..new() }),
        (large, NewImage { properties: properties(PROPERTIES_MAX + 1), ..new() }),
        (large, NewImage { tags: tags(TAGS_MAX + 1), ..new() }),
        (wrong, NewImage { properties: pair(NAME_MAX + 1, 1), ..new() }),
        (wrong, NewImage { properties: pair(1, VALUE_MAX + 1), ..new() }),
        (wrong, NewImage { properties: pair(0, 1), ..new() }),
        (wrong, NewImage { properties: BTreeMap::from([("p".into(), "a\0b".into())]), ..new() }),
        (wrong, NewImage { tags: BTreeSet::from([String::new()]), ..new() }),
        (wrong, NewImage { tags: BTreeSet::from(["x".repeat(NAME_MAX + 1)]), ..new() }),
        (wrong, NewImage { min_disk_gib: i32::MAX as u32 + 1, ..new() }),
    ];
    let image = images.create(&who, new()).await.unwrap();
    for (kind, new) in exceeds {
        let change = ImageChange {
            name: Some(new.name.clone()),
            set_properties: new.properties.clone(),
            tags: Some(new.tags.clone()),
            min_disk_gib: Some(new.min_disk_gib),
            ..ImageChange::default()
        };
        let (created, updated) = (images.create(&who, new).await, images.update(&who, image.id, change).await);
        assert_eq!(created.unwrap_err().kind(), kind);
        assert_eq!(updated.unwrap_err().kind(), kind);
    }
    assert_eq!(images.get(&who, image.id).await.unwrap(), image, "a refused change changes nothing");
}

#[tokio::test]
async fn a_wanted_id_is_given_once() {
    let f = Fixture::new().await;
    let (who, images) = (f.member().await, f.service.images());
    let id = ImageId::new();
    let new = || NewImage { id: Some(id), ..new_image(DiskFormat::Raw) };
    assert_eq!(images.create(&who, new()).await.unwrap().id, id);
    assert_eq!(images.create(&who, new()).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn deleting_while_bytes_arrive_ends_the_upload() {
    let f = Fixture::new().await;
    let who = f.member().await;
    let image = f.service.images().create(&who, new_image(DiskFormat::Raw)).await.unwrap();
    let (pieces, arriving) = mpsc::channel(1);
    let stream = stream::unfold(arriving, async |mut arriving: mpsc::Receiver<Bytes>| {
        arriving.recv().await.map(|piece| (Ok(piece), arriving))
    });
    let incoming = Incoming { stream: stream.boxed(), length: None, md5: None };
    let (service, uploader) = (f.service.clone(), who.clone());
    let upload = tokio::spawn(async move { service.images().upload(&uploader, image.id, incoming).await });
    pieces.send(Bytes::from(noise(1, 100_000))).await.unwrap();
    pieces.send(Bytes::from(noise(2, 100_000))).await.unwrap();
    let saving = f.service.images().get(&who, image.id).await.unwrap();
    assert_eq!(saving.state, ImageState::Saving);

    f.service.images().delete(&who, image.id).await.unwrap();
    drop(pieces);
    let ended = upload.await.unwrap().unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::NotFound, "{ended}");
    let job = f.service.jobs().get(&who, saving.job.unwrap()).await.unwrap();
    assert!(job.cancel_requested && job.state.is_ended() && job.state != JobState::Done, "{job:?}");
    assert_eq!(f.service.images().get(&who, image.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(f.contents().await, 0);
}

#[tokio::test]
async fn deleting_an_image_in_the_making_cancels_its_job() {
    let f = Fixture::new().await;
    let who = f.member().await;
    f.service.buckets().create(&who, "disks").await.unwrap();
    f.put(&who, "disks", "web.qcow2", &qcow2(disk(8))).await;
    let (image, job) =
        f.service.images().create_from_object(&who, from_object("disks", "web.qcow2", None)).await.unwrap();
    assert_eq!(image.state, ImageState::Saving);
    f.service.images().delete(&who, image.id).await.unwrap();
    let runner = f.run().await;
    assert_eq!(f.ended(&who, job.id).await.state, JobState::Cancelled);
    runner.stop(&f.service).await.unwrap();
    assert_eq!(f.contents().await, 1, "the object's alone");
}

#[tokio::test]
async fn lists_show_what_may_be_seen() {
    let f = Fixture::new().await;
    let (ours, theirs) = (f.member().await, f.project("theirs").await);
    let (theirs, root) = (f.principal(&theirs, model::identity::Role::Member).await, f.root().await);
    let make = async |who, visibility| {
        f.service.images().create(who, NewImage { visibility, ..new_image(DiskFormat::Raw) }).await.unwrap().id
    };
    let private = make(&ours, Visibility::Private).await;
    let shared = make(&ours, Visibility::Shared).await;
    let community = make(&ours, Visibility::Community).await;
    let public = make(&root, Visibility::Public).await;
    let seen = async |who| {
        let images = f.service.images().list(who, service::ImageFilter::default()).await.unwrap();
        images.into_iter().map(|image| image.id).collect::<BTreeSet<_>>()
    };
    assert_eq!(seen(&ours).await, BTreeSet::from([private, shared, community, public]));
    assert_eq!(seen(&theirs).await, BTreeSet::from([public]));
    assert!(f.service.images().get(&theirs, community).await.is_ok());
    let outside = service::ImageFilter { marker: Some(private), ..service::ImageFilter::default() };
    let absent = service::ImageFilter { marker: Some(ImageId::new()), ..service::ImageFilter::default() };
    let hidden = f.service.images().list(&theirs, outside).await.unwrap_err();
    let absent = f.service.images().list(&theirs, absent).await.unwrap_err();
    assert_eq!((hidden.kind(), hidden.to_string()), (absent.kind(), absent.to_string()));
}
