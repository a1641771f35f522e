//! Making an image from a bucket object.
//!
//! open: which bytes, which format, how large; refuses what is no disk.
//! copy: the disk inside becomes a content of its own (a raw object is shared: no bytes move).
//! inspect: what operating system is inside.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use catalog::{Tx, contents, images, objects};
use disk::source::Source;
use model::contents::Content;
use model::{BucketId, ContainerFormat, ContentId, DiskFormat};
use serde::{Deserialize, Serialize};

use crate::content::{self, ContentSource};
use crate::error::{Error, ErrorKind, Result};
use crate::formats;
use crate::image_state::activate;
use crate::inspection;
use crate::jobs::run::{Run, Step, Work, output};
use crate::jobs::stop::Stop;

/// What the job was asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CreateImage {
    pub(crate) bucket: String,
    pub(crate) bucket_name: String,
    pub(crate) key: String,
    pub(crate) format: Option<String>,
}

/// What `open` found.
#[derive(Debug, Serialize, Deserialize)]
struct Opened {
    /// The object's content.
    from: String,
    /// The object's format.
    format: String,
    /// Length of the disk in bytes.
    size_virtual: u64,
    /// The content that `copy` will make; named here so that a repeated `copy` leaves no second one.
    to: String,
}

/// What `copy` made.
#[derive(Debug, Serialize, Deserialize)]
struct Copied {
    content: String,
    length: u64,
    /// The new content's head in hexadecimal; none where the object's own content is shared.
    head: Option<String>,
}

/// What `inspect` found, as properties of the image.
#[derive(Debug, Serialize, Deserialize)]
struct Inspected {
    properties: BTreeMap<String, String>,
}

/// The work of [`model::jobs::JobKind::CreateImage`].
pub(crate) struct CreateImageWork;

#[async_trait]
impl Work for CreateImageWork {
    fn steps(&self) -> &'static [Step] {
        &[Step { name: "open", from: 0 }, Step { name: "copy", from: 2 }, Step { name: "inspect", from: 95 }]
    }

    async fn run(&self, step: &str, run: &Run<'_>) -> Result<serde_json::Value, Stop> {
        match step {
            "open" => output(&open(run).await?),
            "copy" => output(&copy(run).await?),
            _ => output(&inspect(run).await?),
        }
    }

    async fn finish(&self, tx: &mut Tx, run: &Run<'_>) -> Result<Vec<ContentId>, Stop> {
        let (opened, copied, inspected) =
            (run.output::<Opened>("open")?, run.output::<Copied>("copy")?, run.output::<Inspected>("inspect")?);
        let id = run.job.image.ok_or(Stop::Lost)?;
        // A deleted image cancels its job; if this transaction sees it first, there is nothing left to do.
        let mut image = images::get(tx, id).await?.ok_or(Stop::Cancelled)?;
        let content = match &copied.head {
            Some(head) => new_content(run, &copied, head)?,
            None => contents::get(tx, parse(&copied.content)?).await?.ok_or_else(|| Stop::Fail(vanished()))?,
        };
        image.disk_format = Some(DiskFormat::Raw);
        image.container_format = Some(ContainerFormat::Bare);
        image.size_virtual = Some(opened.size_virtual);
        for (name, value) in inspected.properties {
            // What the user said about the image stands; what was found fills the gaps.
            image.properties.entry(name).or_insert(value);
        }
        image.reason = None;
        image.updated_at = run.service.now();
        activate(tx, &mut image, &content).await?;
        Ok(Vec::new())
    }
}

async fn open(run: &Run<'_>) -> Result<Opened, Stop> {
    let params: CreateImage = run.params()?;
    let name = format!("`{}` in bucket `{}`", params.key, params.bucket_name);
    let mut tx = run.service.parts.catalog.read().await?;
    let object = objects::get(&mut tx, parse::<BucketId>(&params.bucket)?, &params.key).await?;
    drop(tx);
    let object = object
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("object {name} was deleted before it was read")))?;
    let declared = params.format.as_deref().map(parse::<DiskFormat>).transpose()?;
    let file = ContentSource::new(content::open(run.service, object.content).await?);
    let found = run.service.permits.run(move || formats::detect(Arc::new(file), declared)).await?;
    let found = found.map_err(|error| error.about(&name))?;
    let (format, size_virtual) = (found.format.to_string(), found.disk.len());
    let variant = if found.variant.is_empty() { String::new() } else { format!(" ({})", found.variant) };
    run.log(
        "open",
        &format!(
            "object {name} is a {format}{variant} file of {} bytes with a disk of {size_virtual} bytes",
            object.size
        ),
    )
    .await?;
    for note in &found.notes {
        run.log("open", note).await?;
    }
    Ok(Opened { from: object.content.to_string(), format, size_virtual, to: ContentId::new().to_string() })
}

async fn copy(run: &Run<'_>) -> Result<Copied, Stop> {
    let opened: Opened = run.output("open")?;
    let from: ContentId = parse(&opened.from)?;
    let service = run.service;
    let mut tx = service.parts.catalog.read().await?;
    let content = contents::get(&mut tx, from).await?.ok_or_else(|| Stop::Fail(vanished()))?;
    drop(tx);
    let format: disk::Format = opened.format.parse().map_err(Error::from)?;
    if format == disk::Format::Raw {
        run.log("copy", "the file is the disk itself: its bytes are shared, none is copied").await?;
        return Ok(Copied { content: opened.from, length: content.length, head: None });
    }
    let to: ContentId = parse(&opened.to)?;
    // A run that died here may have finished the content without recording it.
    run.fence().await?;
    service.parts.store.forget(to.uuid()).await.map_err(Error::from)?;
    let file = ContentSource::new(service.parts.store.reader(&content.head).await.map_err(Error::from)?);
    let disk = service.permits.run(move || formats::open_found(Arc::new(file), format)).await??;
    let mut writer = service.parts.store.writer(run.job.project.uuid(), to.uuid()).await.map_err(Error::from)?;
    copy_into(run, "copy", disk, &mut writer, (2, 95)).await?;
    let stats = writer.stats();
    let head = writer.finish().await.map_err(Error::from)?;
    let text = format!(
        "{} bytes of disk kept: {} chunks, {} zero, {} known already, {} bytes stored",
        head.length, stats.chunks, stats.zero, stats.known, stats.stored_bytes
    );
    run.log("copy", &text).await?;
    Ok(Copied { content: opened.to, length: head.length, head: Some(hex::encode(head.bytes)) })
}

/// Copies a disk or a file's layout while telling the job's percent between the two given.
pub(crate) async fn copy_into(
    run: &Run<'_>,
    step: &str,
    source: Arc<dyn Source>,
    writer: &mut chunks::Writer,
    (from, to): (u8, u8),
) -> Result<(), Stop> {
    let total = source.len().max(1);
    let mut stop = Ok(());
    let mut middle = false;
    let span = u64::from(to - from);
    content::copy_source(run.service, source, writer, |done| {
        // Exact enough in 128 bits, and at most 100.
        let percent = u128::from(from) + u128::from(done) * u128::from(span) / u128::from(total);
        run.held.tell(step, u8::try_from(percent).unwrap_or(to));
        if !middle && done * 2 >= total {
            middle = true;
            run.point(&format!("{step}/middle"));
        }
        stop = run.held.check();
        stop.is_ok()
    })
    .await?;
    stop
}

async fn inspect(run: &Run<'_>) -> Result<Inspected, Stop> {
    let opened: Opened = run.output("open")?;
    let copied: Copied = run.output("copy")?;
    let reader = match &copied.head {
        Some(head) => run.service.parts.store.reader(&decode(head)?).await.map_err(Error::from)?,
        None => content::open(run.service, parse(&opened.from)?).await?,
    };
    let disk: Arc<dyn Source> = Arc::new(ContentSource::new(reader));
    let report = run.service.permits.run(move || guest::inspect(disk)).await?;
    let properties = match report {
        Ok(report) => {
            run.log("inspect", &inspection::sentence(&report)).await?;
            inspection::properties(&report)
        }
        Err(error) => {
            run.log("inspect", &format!("the disk could not be inspected: {error}")).await?;
            BTreeMap::new()
        }
    };
    Ok(Inspected { properties })
}

fn new_content(run: &Run<'_>, copied: &Copied, head: &str) -> Result<Content, Stop> {
    let id = parse(&copied.content)?;
    Ok(Content {
        id,
        project: run.job.project,
        length: copied.length,
        head: decode(head)?,
        created_at: run.service.now(),
    })
}

/// Reads back what an earlier step of this program wrote.
pub(crate) fn parse<T: std::str::FromStr>(text: &str) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|bad: T::Err| Error::internal("a job's record is damaged", bad))
}

pub(crate) fn decode(head: &str) -> Result<Vec<u8>> {
    hex::decode(head).map_err(|bad| Error::internal("a job's record is damaged", bad))
}

fn vanished() -> Error {
    Error::new(ErrorKind::NotFound, "the object was deleted while it was read")
        .with_hint("put it again, then create the image again")
}
