//! Passphrases: they open what they should, and are nowhere to be read, neither while a job waits nor afterwards.

use disk::Format;
use model::DiskFormat;
use model::jobs::JobState;
use service::{ErrorKind, Secret};

use crate::fixture::{from_object, new_image};
use crate::payload::{disk, disk_in, file, luks};
use crate::shop::{BUCKET, Shop, export};

const PASSPHRASE: &str = "open sesame, please";

fn secret(text: &str) -> Option<Secret> {
    Some(Secret::new(text.into()))
}

/// Neither in clear nor as hexadecimal digits.
#[track_caller]
fn assert_hidden(text: &str) {
    let clear = text.contains(PASSPHRASE) || text.contains(&hex::encode(PASSPHRASE));
    assert!(!clear, "{text}");
}

#[tokio::test]
async fn an_encrypted_disk_becomes_an_image() {
    let shop = Shop::new().await;
    let packed = file(luks(disk(40), PASSPHRASE.as_bytes()), Format::Raw, &["wrap=gzip"]);
    for (key, bytes) in [("web.luks", luks(disk(40), PASSPHRASE.as_bytes())), ("web.luks.gz", packed)] {
        let (image, job) = shop.import(key, &bytes, |from| from.passphrase = secret(PASSPHRASE)).await;
        assert_eq!((job.state, job.error), (JobState::Done, None), "{key}");
        assert_eq!(shop.f.image_bytes(&shop.who, image.id).await, disk(40), "{key}");
        assert_eq!((image.size_virtual, image.disk_format), (Some(1 << 20), Some(DiskFormat::Raw)));
        assert_hidden(&shop.lines(job.id).await);
        assert!(!shop.params(job.id).await.contains("passphrase"), "{}", shop.params(job.id).await);
        shop.remove(&image, key).await;
    }
}

#[tokio::test]
async fn without_the_right_passphrase_it_fails_with_a_sentence() {
    let shop = Shop::new().await;
    let bytes = luks(disk(41), PASSPHRASE.as_bytes());
    for (given, said) in [(None, "no passphrase was given"), (secret("open barley"), "does not open")] {
        let (image, job) = shop.import("web.luks", &bytes, |from| from.passphrase = given).await;
        Shop::assert_failed(&image, &job, said);
        assert!(!format!("{job:?}{}", shop.lines(job.id).await).contains("barley"), "{job:?}");
        assert!(!shop.params(job.id).await.contains("passphrase"));
        shop.remove(&image, "web.luks").await;
    }
    for (given, said) in [("", "is empty"), (&*"x".repeat(70_000), "the limit is")] {
        let mut from = from_object(BUCKET, "web.luks", None);
        from.passphrase = secret(given);
        let error = shop.f.service.images().create_from_object(&shop.who, from).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains(said), "{error}");
    }
}

#[tokio::test]
async fn a_waiting_job_keeps_it_sealed_and_every_end_erases_it() {
    let shop = Shop::new().await;
    shop.f.put(&shop.who, BUCKET, "web.luks", &luks(disk(42), PASSPHRASE.as_bytes())).await;
    let images = shop.f.service.images();
    let mut sealed = Vec::new();
    for end in ["cancel", "delete", "done"] {
        let mut from = from_object(BUCKET, "web.luks", None);
        from.passphrase = secret(PASSPHRASE);
        let (image, job) = images.create_from_object(&shop.who, from).await.unwrap();
        assert_hidden(&format!("{job:?}"));
        let params = shop.params(job.id).await;
        assert!(params.contains("sealed_passphrase"), "{params}");
        assert_hidden(&params);
        sealed.push((job.id, params));
        match end {
            "cancel" => drop(shop.f.service.jobs().cancel(&shop.who, job.id).await.unwrap()),
            "delete" => images.delete(&shop.who, image.id).await.unwrap(),
            _ => assert_eq!(shop.carry_out(job.id).await.state, JobState::Done),
        }
        let after = shop.params(job.id).await;
        assert!(!after.contains("passphrase") && after.contains("web.luks"), "{end}: {after}");
    }
    // What is sealed for one job opens nothing in another.
    let mut from = from_object(BUCKET, "web.luks", None);
    from.passphrase = secret(PASSPHRASE);
    let (_, job) = images.create_from_object(&shop.who, from).await.unwrap();
    let mut tx = shop.f.catalog.write().await.unwrap();
    assert!(catalog::jobs::set_params(&mut tx, job.id, &sealed[0].1).await.unwrap());
    tx.commit().await.unwrap();
    let runner = shop.f.run().await;
    let waits = shop.f.until("the job is tried again", async || {
        let job = shop.f.service.jobs().get(&shop.who, job.id).await.unwrap();
        (job.state == JobState::Queued && job.attempt == 1).then_some(job)
    });
    assert_ne!(waits.await.state, JobState::Done);
    runner.stop(&shop.f.service).await.unwrap();
}

#[tokio::test]
async fn an_image_goes_out_encrypted() {
    let shop = Shop::new().await;
    let image = shop.f.image(&shop.who, new_image(DiskFormat::Raw), &disk(43)).await;
    for (format, options) in [("luks", &["iter-time=1"][..]), ("qcow2", &["encrypt=luks", "iter-time=1"])] {
        let mut asked = export(format, format, options);
        asked.passphrase = secret(PASSPHRASE);
        let job = shop.f.service.images().export(&shop.who, image.id, asked).await.unwrap();
        assert_hidden(&shop.params(job.id).await);
        let job = shop.carry_out(job.id).await;
        assert_eq!((job.state, job.error), (JobState::Done, None), "{format}");
        assert!(!shop.params(job.id).await.contains("passphrase"));
        let file = shop.f.object(&shop.who, BUCKET, format).await;
        assert_eq!(disk_in(file, Some(PASSPHRASE.as_bytes())), disk(43), "{format}");
    }
}
