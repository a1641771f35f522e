//! Writing an image into a bucket as a file of a given format.
//!
//! open: which bytes, and what the new contents will be called.
//! write: the file becomes a content of its own: a layout by its data extents only, a stream as all cores make it.
//!
//! The first bytes of a stream may be known last. So they are kept until then together with the bytes after them up to
//! the end of a chunk, and what follows is a content of its own; the two are joined by their manifests:
//! ```text
//!   | head, known last | rest of its chunk | chunk | chunk | ... |
//!   |<------ first, from memory ---------->|<------ rest ------->|
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use catalog::{Tx, buckets, contents, images, objects};
use disk::Output;
use model::buckets::Object;
use model::{BucketId, ContentId, DiskFormat};
use serde::{Deserialize, Serialize};

use crate::content::{self, ContentSource};
use crate::error::{Error, ErrorKind, Result};
use crate::formats::Target;
use crate::image_state::active;
use crate::jobs::made::{Made, Telling, begin, copy_into, forget, parse};
use crate::jobs::run::{Run, Step, Work, output};
use crate::jobs::sealed;
use crate::jobs::stop::Stop;
use crate::pipe::{Pipe, Sink, pour};

/// The job's percent while the file is written.
const WRITING: (u8, u8) = (2, 99);

/// What the job was asked to do. A passphrase for the new file is kept beside it (`sealed`).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExportImage {
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) format: String,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) overwrite: bool,
}

/// What `open` found.
#[derive(Debug, Serialize, Deserialize)]
struct Opened {
    from: String,
    format: String,
    /// The content that `write` will make.
    to: String,
    /// The two contents that `write` joins to one, where the first bytes are known last.
    temporary: Vec<String>,
}

/// What `write` made.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    /// None where the image's own content is shared.
    made: Option<Made>,
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
        let (opened, written) = (run.output::<Opened>("open")?, run.output::<Written>("write")?);
        let bucket: BucketId = parse(&params.bucket)?;
        let gone = || Error::new(ErrorKind::NotFound, "the bucket was deleted while the image was exported");
        let bucket = buckets::by_id(tx, bucket).await?.ok_or_else(gone)?;
        if !params.overwrite && objects::get(tx, bucket.id, &params.key).await?.is_some() {
            let message = format!("an object `{}` has appeared in bucket `{}` meanwhile", params.key, bucket.name);
            return Err(Error::conflict(message).with_hint("export to another key, or ask to overwrite it").into());
        }
        let content = match &written.made {
            Some(made) => {
                let content = made.record(run)?;
                content::commit(tx, &content).await?;
                content
            }
            None => contents::get(tx, parse(&opened.from)?).await?.ok_or_else(vanished)?,
        };
        let id = content.id;
        let object = Object {
            bucket: bucket.id,
            key: params.key,
            content: id,
            size: content.length,
            // In the form of a multipart ETag, which no client takes for an MD5: the bytes were never hashed by one.
            etag: format!("{}-1", id.uuid().simple()),
            content_type: Some("application/octet-stream".into()),
            metadata: BTreeMap::new(),
            created_at: run.service.now(),
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
    let new = || ContentId::new().to_string();
    Ok(Opened { from: content.to_string(), format: format.to_string(), to: new(), temporary: vec![new(), new()] })
}

async fn write(run: &Run<'_>) -> Result<Written, Stop> {
    let params: ExportImage = run.params()?;
    let opened: Opened = run.output("open")?;
    let service = run.service;
    let kept: DiskFormat = parse(&opened.format)?;
    let passphrase = sealed::get(service, run.job).await?;
    let target = Target::new(&params.format, &params.options, passphrase.as_ref())?;
    let mut tx = service.parts.catalog.read().await?;
    let content = contents::get(&mut tx, parse(&opened.from)?).await?.ok_or_else(vanished)?;
    drop(tx);
    if target.is_kept_as(kept) && content.project == run.job.project {
        let text = format!("the image is kept as {} already: its bytes are shared, none is copied", params.format);
        run.log("write", &text).await?;
        return Ok(Written { made: None });
    }
    let file = ContentSource::new(service.parts.store.reader(&content.head).await.map_err(Error::from)?);
    let written = service.permits.run(move || target.write(Arc::new(file), kept)).await??;
    let to: ContentId = parse(&opened.to)?;
    let (head, stats) = match written {
        Output::Layout(layout) => {
            let mut writer = begin(run, to).await?;
            copy_into(run, "write", layout, &mut writer, WRITING).await?;
            (writer.finish().await.map_err(Error::from)?, writer.stats())
        }
        Output::Stream(stream) => stream_out(run, stream, to, &opened.temporary).await?,
        // Refused when the job was asked for.
        Output::Flat(_) => return Err(Error::new(ErrorKind::Internal, "a file in two parts was to be written").into()),
    };
    let text = format!(
        "{} bytes of {} written: {} chunks, {} zero, {} known already",
        head.length, params.format, stats.chunks, stats.zero, stats.known
    );
    run.log("write", &text).await?;
    Ok(Written { made: Some(Made::new(to, &head)) })
}

/// Writes a file that is made in order; its first bytes, where they are known last, are joined to the others.
async fn stream_out(
    run: &Run<'_>,
    stream: Box<dyn disk::Stream>,
    to: ContentId,
    temporary: &[String],
) -> Result<(chunks::Head, chunks::WriteStats), Stop> {
    let store = &run.service.parts.store;
    let head_length = stream.head_length();
    if head_length == 0 {
        let mut sink = Sink::new(begin(run, to).await?, 0);
        make(run, stream, &mut sink).await?;
        return Ok((sink.writer.finish().await.map_err(Error::from)?, sink.writer.stats()));
    }
    let [first, rest] = temporary else {
        return Err(Error::new(ErrorKind::Internal, "a job has no names for what it joins").into());
    };
    let (first, rest): (ContentId, ContentId) = (parse(first)?, parse(rest)?);
    let chunk = u64::from(store.chunk_size());
    let keep = head_length.next_multiple_of(chunk) - head_length;
    // Below a chunk, so it fits.
    let mut sink = Sink::new(begin(run, rest).await?, keep as usize);
    let mut head = make(run, stream, &mut sink).await?;
    if head.len() as u64 != head_length {
        let message = format!("a stream has a head of {} bytes and promised {head_length}", head.len());
        return Err(Error::new(ErrorKind::Internal, message).into());
    }
    let mut writer = begin(run, first).await?;
    let (rest_head, stats) = (sink.writer.finish().await.map_err(Error::from)?, sink.writer.stats());
    head.append(&mut sink.first);
    writer.write(head.into()).await.map_err(Error::from)?;
    let first_head = writer.finish().await.map_err(Error::from)?;
    run.point("write/joining");
    forget(run, to).await?;
    let heads = [first_head.bytes, rest_head.bytes];
    let joined = store.concat(run.job.project.uuid(), to.uuid(), &heads).await.map_err(Error::from)?;
    for part in [first, rest] {
        forget(run, part).await?;
    }
    Ok((joined, stats))
}

/// Lets all cores make the file; returns its first bytes where these are known last.
async fn make(run: &Run<'_>, stream: Box<dyn disk::Stream>, sink: &mut Sink) -> Result<Vec<u8>, Stop> {
    let work = move |pipe: &mut Pipe| {
        let done = pipe.done();
        stream.write(0, &|made, total| done.tell(made, total), pipe)
    };
    let mut telling = Telling::new(run, "write", WRITING);
    let head = pour(sink, work, |done, total| telling.tell(done, total)).await?;
    telling.end()?;
    Ok(head.unwrap_or_default())
}

fn vanished() -> Error {
    Error::new(ErrorKind::NotFound, "the image was deleted while it was exported")
}
