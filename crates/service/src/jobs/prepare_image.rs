//! Preparing the guest in an image that is there.
//!
//! open: which bytes, and what the new content will be called.
//! prepare: what keeps the guest from starting in a cloud is repaired, in a content of its own that shares what did not change; of a
//! disk in another format than raw the whole disk is written, as raw.
//!
//! The image can be used all the while: it has its old bytes until the end, which gives it the new ones and keeps the old
//! ones beside it. Where older ones are kept already, those stay, so that undoing leads back to what the image came with.

use async_trait::async_trait;
use catalog::reports::Kept;
use catalog::{Tx, contents, images, reports};
use model::images::Image;
use model::{ContainerFormat, ContentId, DiskFormat};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::image_state::{active, save};
use crate::jobs::made::parse;
use crate::jobs::preparing::{self, Base, Prepared, Wanted};
use crate::jobs::run::{Run, Step, Work, output};
use crate::jobs::stop::Stop;
use crate::{content, formats, original, preparation};

/// What the job was asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PrepareImage {
    pub(crate) prepare: Wanted,
}

/// What `open` found.
#[derive(Debug, Serialize, Deserialize)]
struct Opened {
    /// The image's content, and what is in it.
    from: String,
    format: String,
    /// The content that `prepare` may make; named here so that a repeated `prepare` leaves no second one.
    to: String,
}

/// The work of [`model::jobs::JobKind::PrepareImage`].
pub(crate) struct PrepareImageWork;

#[async_trait]
impl Work for PrepareImageWork {
    fn steps(&self) -> &'static [Step] {
        &[Step { name: "open", from: 0 }, Step { name: "prepare", from: 2 }]
    }

    async fn run(&self, step: &str, run: &Run<'_>) -> Result<serde_json::Value, Stop> {
        match step {
            "open" => output(&open(run).await?),
            _ => output(&prepare(run).await?),
        }
    }

    async fn finish(&self, tx: &mut Tx, run: &Run<'_>) -> Result<Vec<ContentId>, Stop> {
        let (opened, prepared) = (run.output::<Opened>("open")?, run.output::<Prepared>("prepare")?);
        let mut image = image(tx, run).await?;
        let from: ContentId = parse(&opened.from)?;
        if image.content != Some(from) {
            let message = format!("image {} got other bytes while it was prepared", image.id);
            return Err(Error::conflict(message).with_hint("prepare it again").into());
        }
        let before = reports::get(tx, image.id).await?.filter(|kept| kept.original.is_some());
        if before.is_some() && prepared.made.is_none() {
            // The report of what was changed before still tells how the image is.
            return Ok(Vec::new());
        }
        let mut report = prepared.report.clone();
        let mut kept = Kept { original: None, report: String::new() };
        match &before {
            Some(before) => {
                kept.original = before.original;
                original::remember_report(&before.report, &mut report)?;
            }
            None if prepared.made.is_some() => {
                kept.original = Some(from);
                original::remember(&image, &mut report);
            }
            None => {}
        }
        kept.report = preparation::fit(report).to_string();
        change(tx, run, &mut image, prepared, parse(&opened.format)?).await?;
        reports::put(tx, image.id, &kept).await?;
        match before {
            Some(_) => Ok(content::release(tx, from).await?.into_iter().collect()),
            None => Ok(Vec::new()),
        }
    }
}

async fn image(tx: &mut Tx, run: &Run<'_>) -> Result<Image, Stop> {
    // A deleted image cancels its job; if this transaction sees it first, there is nothing left to do.
    images::get(tx, run.job.image.ok_or(Stop::Lost)?).await?.ok_or(Stop::Cancelled)
}

async fn open(run: &Run<'_>) -> Result<Opened, Stop> {
    let mut tx = run.service.parts.catalog.read().await?;
    let image = image(&mut tx, run).await?;
    active(&image)?;
    let missing = || Error::new(ErrorKind::Corrupt, format!("image {} has no content", image.id));
    let from = image.content.ok_or_else(missing)?;
    let format = image.disk_format.unwrap_or(DiskFormat::Raw);
    Ok(Opened { from: from.to_string(), format: format.to_string(), to: ContentId::new().to_string() })
}

async fn prepare(run: &Run<'_>) -> Result<Prepared, Stop> {
    let opened: Opened = run.output("open")?;
    let mut tx = run.service.parts.catalog.read().await?;
    let image = image(&mut tx, run).await?;
    let content = contents::get(&mut tx, parse(&opened.from)?).await?.ok_or(Stop::Cancelled)?;
    drop(tx);
    let base = Base { head: content.head, format: parse(&opened.format)? };
    let wanted = run.params::<PrepareImage>()?.prepare;
    let prepared = preparing::prepare(run, &base, parse(&opened.to)?, Some(wanted), image.properties).await?;
    if prepared.state == "refused" {
        let why = prepared.report["reason"].as_str().unwrap_or_default();
        return Err(Error::new(ErrorKind::BadContent, format!("the image stays as it is: {why}")).into());
    }
    if prepared.made.is_none() {
        run.log("prepare", "there is nothing to change").await?;
    }
    Ok(prepared)
}

/// Gives the image its new content, where one was made of it, and tells in its properties what was found and done.
async fn change(tx: &mut Tx, run: &Run<'_>, image: &mut Image, prepared: Prepared, format: DiskFormat) -> Result<()> {
    if let Some(made) = &prepared.made {
        let content = made.record(run)?;
        content::commit(tx, &content).await?;
        image.content = Some(content.id);
        image.size = Some(content.length);
        image.size_virtual = Some(content.length);
        image.checksums = None;
        if !formats::is_bare(format)? {
            image.disk_format = Some(DiskFormat::Raw);
            image.container_format = Some(ContainerFormat::Bare);
        }
    }
    for (name, value) in prepared.found {
        // What the user said about the image stands; what was found fills the gaps.
        image.properties.entry(name).or_insert(value);
    }
    preparation::describe(image, &prepared.state, prepared.blocking);
    image.updated_at = run.service.now();
    save(tx, image, image.state).await
}
