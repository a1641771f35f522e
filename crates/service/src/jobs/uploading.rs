//! Keeping an image's bytes as a client sends them, as a job that its own request carries.
//!
//! The job is there so that an upload whose node dies does not stay in Creating for ever: its lease runs out, a
//! runner claims it, and the image becomes Error with the reason.

use std::sync::Arc;

use async_trait::async_trait;
use catalog::{Tx, images, jobs};
use futures::StreamExt;
use model::identity::Principal;
use model::images::{Image, ImageState};
use model::jobs::JobState;
use model::{ContentId, DiskFormat, ImageId};

use crate::content::{self, ContentSource, Kept};
use crate::digest::Wanted;
use crate::error::{Error, ErrorKind, Result};
use crate::formats;
use crate::image_state::{activate, save};
use crate::jobs::lease::Held;
use crate::jobs::run::{Run, Step, Work};
use crate::jobs::stop::Stop;
use crate::policy::no_image;
use crate::service::Service;
use crate::streams::Incoming;
use crate::transfer::{self, Pieces};

/// How an image's bytes come.
pub(crate) enum Sent {
    /// As they are.
    Bytes(Incoming),
    /// As pieces, which this principal has sent.
    Pieces(Principal, Pieces),
}

/// Receives an image's bytes and makes it Active; back to Queued, and nothing left, if that fails.
pub(crate) async fn receive(service: &Service, image: Image, held: Held, sent: Sent) -> Result<Image> {
    let id = image.id;
    let received = match keep(service, &image, &held, sent).await {
        Ok(kept) => {
            let content = kept.content.id;
            content::or_forget(service, content, finish(service, id, &held, kept).await).await
        }
        Err(error) => Err(error),
    };
    if let Err(error) = &received {
        give_up(service, id, &held, error).await;
    }
    received
}

/// Keeps the bytes, with all their digests.
async fn keep(service: &Service, image: &Image, held: &Held, sent: Sent) -> Result<Kept> {
    let (id, shared) = (image.id, held.shared());
    let check = move || shared.check().map_err(|_| stopped(id));
    match sent {
        Sent::Bytes(body) => {
            let stream = Box::pin(body.stream.map(move |piece| check().and(piece)));
            content::keep_stream(service, image.project, Incoming { stream, ..body }, Wanted::All).await
        }
        Sent::Pieces(who, pieces) => {
            let asking = check.clone();
            let pieces = Box::pin(pieces.map(move |piece| asking().and(piece)));
            let kept = transfer::keep_pieces(service, &who, image.project, pieces, Some(Wanted::All)).await?;
            let (content, head, digests) = kept;
            let content = content::record(service, image.project, content, head);
            let digests = match digests {
                Some(digests) => digests,
                // Chunks that were only named have passed nowhere, so all bytes are read for the image's checksums.
                None => {
                    let read = content::digest(service, &content, Wanted::All, check).await;
                    content::or_forget(service, content.id, read).await?
                }
            };
            Ok(Kept { content, digests })
        }
    }
}

/// Makes an image Active with the bytes that were kept.
async fn finish(service: &Service, id: ImageId, held: &Held, kept: Kept) -> Result<Image> {
    let mut tx = service.parts.catalog.read().await?;
    let format = images::get(&mut tx, id).await?.ok_or_else(|| gone(id))?.disk_format.unwrap_or(DiskFormat::Raw);
    drop(tx);
    let size_virtual = accept(service, &kept, format).await?;
    let mut tx = service.parts.catalog.write().await?;
    let mut image = images::get(&mut tx, id).await?.ok_or_else(|| gone(id))?;
    let cancelled = jobs::get(&mut tx, held.lease.job).await?.is_some_and(|job| job.cancel_requested);
    if cancelled || !jobs::finish(&mut tx, held.lease.job, held.lease.attempt, JobState::Done, None).await? {
        return Err(stopped(id));
    }
    image.checksums = kept.checksums();
    image.size_virtual = size_virtual;
    image.reason = None;
    image.updated_at = service.now();
    activate(&mut tx, &mut image, &kept.content).await?;
    tx.commit().await?;
    Ok(image)
}

/// Looks at what arrived: the declared format must be the real one where the file says what it is. Returns the length
/// of the disk inside, where it can be told.
async fn accept(service: &Service, kept: &Kept, format: DiskFormat) -> Result<Option<u64>> {
    if kept.content.length == 0 {
        return Ok(None);
    }
    let reader = service.parts.store.reader(&kept.content.head).await?;
    let file = Arc::new(ContentSource::new(reader));
    service.permits.run(move || formats::accept_upload(file, format)).await?
}

/// Ends an upload that failed: the image waits for bytes again, and nothing of the failed ones is left.
async fn give_up(service: &Service, id: ImageId, held: &Held, error: &Error) {
    if let Err(failed) = back_to_queued(service, id, held, error).await {
        tracing::error!(image = %id, error = %failed, "cannot record the end of an upload; its lease will run out");
    }
}

async fn back_to_queued(service: &Service, id: ImageId, held: &Held, error: &Error) -> Result<()> {
    let mut tx = service.parts.catalog.write().await?;
    let why = error.sentence();
    let job = jobs::get(&mut tx, held.lease.job).await?;
    let cancelled = job.is_some_and(|job| job.cancel_requested);
    let state = if cancelled { JobState::Cancelled } else { JobState::Failed };
    if !jobs::finish(&mut tx, held.lease.job, held.lease.attempt, state, Some(&why)).await? {
        return Ok(());
    }
    if let Some(mut image) = images::get(&mut tx, id).await?.filter(|image| image.state == ImageState::Saving) {
        image.state = ImageState::Queued;
        image.updated_at = service.now();
        save(&mut tx, &image, ImageState::Saving).await?;
    }
    Ok(tx.commit().await?)
}

fn stopped(id: ImageId) -> Error {
    Error::conflict(format!("the upload of image {id} was cancelled, or took too long to answer"))
}

fn gone(id: ImageId) -> Error {
    let error = no_image(id);
    Error::new(ErrorKind::NotFound, error.to_string()).with_hint("it was deleted while its bytes were on their way")
}

/// What a runner does with an upload whose node died: it says so.
pub(crate) struct UploadImageWork;

#[async_trait]
impl Work for UploadImageWork {
    fn steps(&self) -> &'static [Step] {
        &[Step { name: "receive", from: 0 }]
    }

    async fn run(&self, _step: &str, _run: &Run<'_>) -> Result<serde_json::Value, Stop> {
        let error = Error::new(ErrorKind::BadContent, "the upload was interrupted before all bytes were kept");
        Err(Stop::Fail(error.with_hint("delete the image and upload it again")))
    }

    async fn finish(&self, _tx: &mut Tx, _run: &Run<'_>) -> Result<Vec<ContentId>, Stop> {
        Ok(Vec::new())
    }
}
