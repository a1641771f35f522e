//! Writing an image into a bucket as a file of a given format.
//!
//! open: which bytes, and whether they are the wanted file already.
//! write: the file's layout becomes a content of its own, data extents only.

use std::sync::Arc;

use async_trait::async_trait;
use catalog::{Tx, buckets, contents, images, objects};
use model::buckets::Object;
use model::contents::Content;
use model::{BucketId, ContentId, DiskFormat};
use serde::{Deserialize, Serialize};

use crate::content::{self, ContentSource};
use crate::error::{Error, ErrorKind, Result};
use crate::formats;
use crate::image_state::active;
use crate::jobs::create_image::{copy_into, decode, parse};
use crate::jobs::run::{Run, Step, Work, output};
use crate::jobs::stop::Stop;

/// What the job was asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExportImage {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) format: String,
    pub(crate) overwrite: bool,
}

/// What `open` found.
#[derive(Debug, Serialize, Deserialize)]
struct Opened {
    from: String,
    format: String,
    /// The content that `write` will make.
    to: String,
}

/// What `write` made.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    content: String,
    length: u64,
    /// The new content's head in hexadecimal; none where the image's own content is shared.
    head: Option<String>,
}

/// The work of [`model::jobs::JobKind::ExportImage`].
pub(crate) struct ExportImageWork;

#[async_trait]
impl Work for ExportImageWork {
    fn steps(&self) -> &'static [Step] {
        &[Step { name: "open", from: 0 }, Step { name: "write", from: 2 }]
    }

    async fn run(&self, step: &str, run: &Run<'_>) -> Result<serde_json::Value, Stop> {
        match step {
            "open" => output(&open(run).await?),
            _ => output(&write(run).await?),
        }
    }

    async fn finish(&self, tx: &mut Tx, run: &Run<'_>) -> Result<Vec<ContentId>, Stop> {
        let params: ExportImage = run.params()?;
        let written: Written = run.output("write")?;
        let bucket: BucketId = parse(&params.bucket)?;
        let gone = || Error::new(ErrorKind::NotFound, "the bucket was deleted while the image was exported");
        let bucket = buckets::by_id(tx, bucket).await?.ok_or_else(gone)?;
        if !params.overwrite && objects::get(tx, bucket.id, &params.key).await?.is_some() {
            let message = format!("an object `{}` has appeared in bucket `{}` meanwhile", params.key, bucket.name);
            return Err(Error::conflict(message).with_hint("export to another key, or ask to overwrite it").into());
        }
        let id: ContentId = parse(&written.content)?;
        let now = run.service.now();
        if let Some(head) = &written.head {
            let content =
                Content { id, project: run.job.project, length: written.length, head: decode(head)?, created_at: now };
            content::commit(tx, &content).await?;
        } else if contents::get(tx, id).await?.is_none() {
            return Err(Error::new(ErrorKind::NotFound, "the image was deleted while it was exported").into());
        }
        let object = Object {
            bucket: bucket.id,
            key: params.key,
            content: id,
            size: written.length,
            // In the form of a multipart ETag, which no client takes for an MD5: the bytes were never hashed by one.
            etag: format!("{}-1", id.uuid().simple()),
            content_type: Some("application/octet-stream".into()),
            metadata: std::collections::BTreeMap::new(),
            created_at: now,
        };
        let replaced = objects::put(tx, &object).await?;
        match replaced.filter(|replaced| *replaced != id) {
            Some(replaced) => Ok(content::release(tx, replaced).await?.into_iter().collect()),
            None => Ok(Vec::new()),
        }
    }
}

async fn open(run: &Run<'_>) -> Result<Opened, Stop> {
    let mut tx = run.service.parts.catalog.read().await?;
    let id = run.job.image.ok_or(Stop::Lost)?;
    let deleted = || Error::new(ErrorKind::NotFound, format!("image {id} was deleted before it was exported"));
    let image = images::get(&mut tx, id).await?.ok_or_else(deleted)?;
    active(&image)?;
    let content = image.content.ok_or_else(|| Error::new(ErrorKind::Corrupt, format!("image {id} has no content")))?;
    let format = image.disk_format.unwrap_or(DiskFormat::Raw);
    Ok(Opened { from: content.to_string(), format: format.to_string(), to: ContentId::new().to_string() })
}

async fn write(run: &Run<'_>) -> Result<Written, Stop> {
    let params: ExportImage = run.params()?;
    let opened: Opened = run.output("open")?;
    let service = run.service;
    let (source, target) = (parse::<DiskFormat>(&opened.format)?, parse::<DiskFormat>(&params.format)?);
    let mut tx = service.parts.catalog.read().await?;
    let content = contents::get(&mut tx, parse(&opened.from)?).await?;
    drop(tx);
    let content =
        content.ok_or_else(|| Error::new(ErrorKind::NotFound, "the image was deleted while it was exported"))?;
    if source == target && content.project == run.job.project {
        run.log("write", &format!("the image is kept as {target} already: its bytes are shared, none is copied"))
            .await?;
        return Ok(Written { content: opened.from, length: content.length, head: None });
    }
    let file = ContentSource::new(service.parts.store.reader(&content.head).await.map_err(Error::from)?);
    let layout = service.permits.run(move || formats::layout(Arc::new(file), source, target)).await??;
    let to: ContentId = parse(&opened.to)?;
    run.fence().await?;
    service.parts.store.forget(to.uuid()).await.map_err(Error::from)?;
    let mut writer = service.parts.store.writer(run.job.project.uuid(), to.uuid()).await.map_err(Error::from)?;
    copy_into(run, "write", layout, &mut writer, (2, 99)).await?;
    let stats = writer.stats();
    let head = writer.finish().await.map_err(Error::from)?;
    let text = format!(
        "{} bytes of {target} written: {} chunks, {} zero, {} known already",
        head.length, stats.chunks, stats.zero, stats.known
    );
    run.log("write", &text).await?;
    Ok(Written { content: opened.to, length: head.length, head: Some(hex::encode(head.bytes)) })
}
