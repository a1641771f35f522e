//! Preparing an image that is there, the reports that are kept with images, and the way back to what one was before.

use catalog::{contents, images, jobs, reports};
use guest::Choice;
use model::identity::Principal;
use model::images::{Image, ImageState};
use model::jobs::{Job, JobKind};
use model::{DiskFormat, ImageId};
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Result};
use crate::image_state::{active, at_rest, save};
use crate::images::Images;
use crate::jobs::prepare_image::PrepareImage;
use crate::jobs::record::new_job;
use crate::original::{self, parse};
use crate::{content, formats, policy, preparation};

/// The jobs during which an image keeps the bytes that it has.
const AT_WORK: &[JobKind] = &[JobKind::PrepareImage, JobKind::ExportImage];

impl Images<'_> {
    /// Returns what was found inside the image when it was made, and what was done about it, as JSON. Those who may read the
    /// image but do not own it learn nothing of what prepare took out of it.
    pub async fn report(&self, who: &Principal, id: ImageId) -> Result<Value> {
        let mut tx = self.0.parts.catalog.read().await?;
        let image = policy::read_image(who, id, images::get(&mut tx, id).await?)?;
        let kept = reports::get(&mut tx, id).await?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("no report is kept with image {id}"))
                .with_hint("a report is made when an image is made from a file in a bucket, or prepared; check the image to see it as it is now")
        })?;
        let mut report = parse(&kept.report)?;
        if !policy::owns(who, image.project) {
            preparation::without_the_disk_before(&mut report);
        }
        Ok(report)
    }

    /// Begins the job that repairs the guest in an image as `choice` says. What the image had before is kept beside it.
    pub async fn prepare(&self, who: &Principal, id: ImageId, choice: Choice) -> Result<Job> {
        self.0.choice(choice.clone()).check().map_err(Error::invalid)?;
        let mut tx = self.0.parts.catalog.write().await?;
        let mut image = policy::change_image(who, id, images::get(&mut tx, id).await?)?;
        unprotected(&image)?;
        active(&image)?;
        formats::openable(image.disk_format.unwrap_or(DiskFormat::Raw))?;
        at_rest(&mut tx, &image, AT_WORK).await?;
        let params = PrepareImage { prepare: choice.into() };
        let mut job = new_job(self.0, who, JobKind::PrepareImage, Some(id), None, &params)?;
        // What it makes belongs to whom the image belongs to, whoever asks.
        job.project = image.project;
        image.job = Some(job.id);
        jobs::insert(&mut tx, &job).await?;
        save(&mut tx, &image, image.state).await?;
        tx.commit().await?;
        self.0.wake.notify_one();
        Ok(job)
    }

    /// Gives an image back the bytes that it had before it was prepared. None is copied.
    pub async fn undo_prepare(&self, who: &Principal, id: ImageId) -> Result<Image> {
        let mut tx = self.0.parts.catalog.write().await?;
        let mut image = policy::change_image(who, id, images::get(&mut tx, id).await?)?;
        unprotected(&image)?;
        at_rest(&mut tx, &image, AT_WORK).await?;
        let kept = reports::get(&mut tx, id).await?.filter(|kept| kept.original.is_some());
        let whole = matches!(image.state, ImageState::Active | ImageState::Deactivated);
        let (Some(mut kept), Some(prepared), true) = (kept, image.content, whole) else {
            return Err(Error::conflict(format!("image {id} holds no changes of prepare that could be undone")));
        };
        let missing = || Error::new(ErrorKind::Corrupt, format!("the original of image {id} has no record"));
        let original = kept.original.take().ok_or_else(missing)?;
        let before = contents::get(&mut tx, original).await?.ok_or_else(missing)?;
        let mut report = parse(&kept.report)?;
        original::give_back(&mut report, &mut image)?;
        report["state"] = json!("undone");
        kept.report = report.to_string();
        image.content = Some(original);
        image.size = Some(before.length);
        let blocking = usize::try_from(report["blocking"].as_u64().unwrap_or_default()).unwrap_or_default();
        preparation::describe(&mut image, "undone", blocking);
        image.updated_at = self.0.now();
        save(&mut tx, &image, image.state).await?;
        reports::put(&mut tx, id, &kept).await?;
        let released = content::release(&mut tx, prepared).await?;
        tx.commit().await?;
        content::forget(self.0, released).await;
        Ok(image)
    }
}

fn unprotected(image: &Image) -> Result<()> {
    if !image.protected {
        return Ok(());
    }
    let message = format!("image {} is protected", image.id);
    Err(Error::new(ErrorKind::Forbidden, message).with_hint("clear its protection first"))
}
