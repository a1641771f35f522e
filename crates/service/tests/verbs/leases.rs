//! Leases: who lost a job changes nothing more, a job whose node died goes on, and a step may run twice.

use bytes::Bytes;
use futures::{StreamExt, stream};
use model::identity::Principal;
use model::images::ImageState;
use model::jobs::{Job, JobState};
use model::servers::ServerState;
use model::{DiskFormat, ImageId, JobId, ServerId};
use service::{ErrorKind, Export, Incoming, NewServer};
use tokio::sync::mpsc;

use crate::fixture::{Fixture, NODE, from_object, new_image};
use crate::gate::Gate;
use crate::payload::{disk, from_qcow2, noise, qcow2, read_disk};

async fn fixture() -> (Fixture, Principal) {
    let f = Fixture::new().await;
    let who = f.member().await;
    f.service.buckets().create(&who, "disks").await.unwrap();
    f.put(&who, "disks", "web.qcow2", &qcow2(disk(1))).await;
    (f, who)
}

/// Gives the running job to another node, as if the lease of this one had run out.
async fn claim_elsewhere(f: &Fixture) -> Job {
    let mut tx = f.catalog.write().await.unwrap();
    assert_eq!(catalog::jobs::release_owned(&mut tx, NODE).await.unwrap(), 1);
    let job = catalog::jobs::claim(&mut tx, "node-2", 600).await.unwrap().unwrap();
    tx.commit().await.unwrap();
    job
}

#[tokio::test]
async fn who_lost_the_lease_changes_nothing() {
    let (f, who) = fixture().await;
    let runner = f.run().await;
    let gate = f.backend.written.hold("heads/");
    let from = from_object("disks", "web.qcow2", None);
    let (image, job) = f.service.images().create_from_object(&who, from).await.unwrap();
    gate.reached().await;
    let taken = claim_elsewhere(&f).await;
    assert_eq!((taken.id, taken.attempt), (job.id, 2));
    gate.open();
    // The only worker takes this one when it is done with the first.
    f.put(&who, "disks", "next.raw", &disk(2)).await;
    let (_, next) = f.service.images().create_from_object(&who, from_object("disks", "next.raw", None)).await.unwrap();
    assert_eq!(f.ended(&who, next.id).await.state, JobState::Done);

    let seen = f.service.jobs().get(&who, job.id).await.unwrap();
    assert_eq!((seen.state, seen.attempt, seen.error), (JobState::Running, 2, None));
    assert_eq!(steps(&f, job.id).await, ["open", "unpack"], "the copy was made, and is not recorded");
    let image = f.service.images().get(&who, image.id).await.unwrap();
    assert_eq!((image.state, image.content, image.reason), (ImageState::Saving, None, None));

    // The other node dies as well: the job comes back, and ends well.
    let mut tx = f.catalog.write().await.unwrap();
    catalog::jobs::release_owned(&mut tx, "node-2").await.unwrap();
    tx.commit().await.unwrap();
    let job = f.ended(&who, job.id).await;
    assert_eq!((job.state, job.attempt), (JobState::Done, 3));
    assert_eq!(f.image_bytes(&who, image.id).await, disk(1));
    runner.stop(&f.service).await.unwrap();
    assert_eq!(f.contents().await, 3, "two objects, one of them shared with its image, and the disk");
}

async fn steps(f: &Fixture, job: JobId) -> Vec<String> {
    let mut tx = f.catalog.read().await.unwrap();
    catalog::jobs::steps(&mut tx, job).await.unwrap().into_iter().map(|(step, _)| step).collect()
}

#[tokio::test]
async fn an_upload_whose_node_died_ends_as_an_error() {
    let (f, who) = fixture().await;
    let image = f.service.images().create(&who, new_image(DiskFormat::Raw)).await.unwrap();
    let (pieces, arriving) = mpsc::channel(1);
    let stream = stream::unfold(arriving, async |mut arriving: mpsc::Receiver<Bytes>| {
        arriving.recv().await.map(|piece| (Ok(piece), arriving))
    });
    let incoming = Incoming { stream: stream.boxed(), length: None, md5: None };
    let (service, uploader) = (f.service.clone(), who.clone());
    let upload = tokio::spawn(async move { service.images().upload(&uploader, image.id, incoming).await });
    for seed in 0..2 {
        pieces.send(Bytes::from(noise(seed, 100_000))).await.unwrap();
    }
    let job = f.service.images().get(&who, image.id).await.unwrap().job.unwrap();
    // To the records the node is dead: another has claimed the job, and died too.
    claim_elsewhere(&f).await;
    let mut tx = f.catalog.write().await.unwrap();
    catalog::jobs::release_owned(&mut tx, "node-2").await.unwrap();
    tx.commit().await.unwrap();
    let runner = f.run().await;
    let job = f.ended(&who, job).await;
    let why = "the upload was interrupted before all bytes were kept (delete the image and upload it again)";
    assert_eq!((job.state, job.error.as_deref()), (JobState::Failed, Some(why)));
    drop(pieces);
    assert_eq!(upload.await.unwrap().unwrap_err().kind(), ErrorKind::Conflict, "its lease is lost");
    let killed = f.service.images().get(&who, image.id).await.unwrap();
    assert_eq!((killed.state, killed.reason.as_deref(), killed.content), (ImageState::Error, Some(why), None));
    f.service.images().delete(&who, image.id).await.unwrap();
    runner.stop(&f.service).await.unwrap();
    assert_eq!(f.contents().await, 1, "the object's alone");
}

#[tokio::test]
async fn a_cancelled_upload_waits_for_bytes_again() {
    let (f, who) = fixture().await;
    let image = f.service.images().create(&who, new_image(DiskFormat::Raw)).await.unwrap();
    let gate = f.backend.written.hold("heads/");
    let (service, uploader) = (f.service.clone(), who.clone());
    let upload =
        tokio::spawn(async move { service.images().upload(&uploader, image.id, crate::payload::body(&disk(2))).await });
    gate.reached().await;
    let job = f.service.images().get(&who, image.id).await.unwrap().job.unwrap();
    f.service.jobs().cancel(&who, job).await.unwrap();
    gate.open();
    assert_eq!(upload.await.unwrap().unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(f.service.jobs().get(&who, job).await.unwrap().state, JobState::Cancelled);
    assert_eq!(f.service.images().get(&who, image.id).await.unwrap().state, ImageState::Queued);
    assert_eq!(f.contents().await, 1, "the object's alone");
    f.service.images().upload(&who, image.id, crate::payload::body(&disk(2))).await.unwrap();
}

/// Begins a job, stops the node when `gate` is reached, and lets the next life of the node finish it.
async fn interrupt(f: &Fixture, who: &Principal, job: JobId, gate: Gate) {
    let runner = f.run().await;
    gate.reached().await;
    runner.stop(&f.service).await.unwrap();
    let left = f.service.jobs().get(who, job).await.unwrap();
    assert_eq!((left.state, left.attempt), (JobState::Running, 1));
    gate.open();
    let runner = f.run().await;
    let done = f.ended(who, job).await;
    assert_eq!((done.state, done.attempt, done.error), (JobState::Done, 2, None));
    runner.stop(&f.service).await.unwrap();
}

/// Where the making of an image or its export is interrupted: in the reading of its first step, and between a new
/// content's being durable and the record of its step.
fn places(f: &Fixture) -> [Gate; 2] {
    [f.backend.reading.hold("packs/"), f.backend.written.hold("heads/")]
}

#[tokio::test]
async fn making_an_image_may_be_interrupted_anywhere() {
    for place in 0..2 {
        let (f, who) = fixture().await;
        let from = from_object("disks", "web.qcow2", None);
        let (image, job) = f.service.images().create_from_object(&who, from).await.unwrap();
        let gate = places(&f).into_iter().nth(place).unwrap();
        interrupt(&f, &who, job.id, gate).await;
        let image = f.service.images().get(&who, image.id).await.unwrap();
        assert_eq!(image.state, ImageState::Active);
        assert_eq!(f.image_bytes(&who, image.id).await, disk(1), "place {place}");
        assert_eq!(f.contents().await, 2, "place {place}: the object and the image");
    }
}

#[tokio::test]
async fn an_export_may_be_interrupted_anywhere() {
    for place in 0..2 {
        let (f, who) = fixture().await;
        let image = f.image(&who, new_image(DiskFormat::Raw), &disk(3)).await;
        let export = Export { bucket: "disks".into(), key: "out".into(), format: "qcow2".into(), ..Export::default() };
        let job = f.service.images().export(&who, image.id, export).await.unwrap();
        let gate = places(&f).into_iter().nth(place).unwrap();
        interrupt(&f, &who, job.id, gate).await;
        assert_eq!(from_qcow2(f.object(&who, "disks", "out").await), disk(3), "place {place}");
        assert_eq!(f.contents().await, 3, "place {place}: two objects and the image");
    }
}

async fn begin_server(f: &Fixture, who: &Principal, image: ImageId) -> (ServerId, JobId) {
    let new = NewServer {
        name: "web".into(),
        image,
        flavor: "m1.nano".into(),
        user_data: None,
        ssh_key: None,
        guest_ports: vec![],
    };
    let (server, job) = f.service.servers().create(who, new).await.unwrap();
    (server.id, job.id)
}

#[tokio::test]
async fn making_a_server_may_be_interrupted_anywhere() {
    for place in 0..2 {
        let (f, who) = fixture().await;
        let image = f.image(&who, new_image(DiskFormat::Raw), &disk(4)).await;
        let (server, job) = begin_server(&f, &who, image.id).await;
        let gates = [f.backend.reading.hold("packs/"), f.driver.started.hold("")];
        let gate = gates.into_iter().nth(place).unwrap();
        interrupt(&f, &who, job, gate).await;
        assert_eq!(f.service.servers().get(&who, server).await.unwrap().state, ServerState::Active);
        let served = f.service.server_disk(&f.driver.spec(server).base.export).await.unwrap();
        assert_eq!(read_disk(served).await.unwrap(), disk(4), "place {place}");
    }
}

#[tokio::test]
async fn what_does_not_answer_is_tried_again() {
    let (f, who) = fixture().await;
    let image = f.image(&who, new_image(DiskFormat::Raw), &disk(5)).await;
    f.driver.refuse_next("QEMU did not answer");
    let (server, job) = begin_server(&f, &who, image.id).await;
    let runner = f.run().await;
    let waits = f.until("the job waits", async || {
        let job = f.service.jobs().get(&who, job).await.unwrap();
        (job.attempt == 1 && job.state == JobState::Queued).then_some(job)
    });
    assert_eq!(waits.await.error, None);
    let lines = f.service.jobs().lines(&who, job, 0).await.unwrap();
    assert!(lines.iter().any(|line| line.text == "QEMU did not answer; trying again in 2 s"), "{lines:?}");
    assert_eq!(f.service.servers().get(&who, server).await.unwrap().state, ServerState::Build);
    let done = f.ended(&who, job).await;
    assert_eq!((done.state, done.attempt), (JobState::Done, 2));
    runner.stop(&f.service).await.unwrap();
}

#[tokio::test]
async fn a_step_that_panics_ends_its_job_and_not_the_worker() {
    let (f, who) = fixture().await;
    let image = f.image(&who, new_image(DiskFormat::Raw), &disk(6)).await;
    f.driver.panic_next();
    let (server, job) = begin_server(&f, &who, image.id).await;
    let runner = f.run().await;
    let failed = f.ended(&who, job).await;
    let why = "a step of the job ended unexpectedly";
    assert_eq!((failed.state, failed.error.as_deref()), (JobState::Failed, Some(why)));
    let server = f.service.servers().get(&who, server).await.unwrap();
    assert_eq!((server.state, server.reason.as_deref()), (ServerState::Error, Some(why)));
    // The only worker is still there.
    let (_, next) = begin_server(&f, &who, image.id).await;
    assert_eq!(f.ended(&who, next).await.state, JobState::Done);
    runner.stop(&f.service).await.unwrap();
}
