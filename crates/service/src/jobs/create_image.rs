//! Making an image from a bucket object.
//!
//! open: which bytes, which format, how large; refuses what is no disk.
//! unpack: a file compressed as a whole that can be read in order only becomes a content of its own.
//! copy: the disk inside becomes a content of its own (a raw file is shared: no bytes move).
//! inspect: what operating system is inside.
//! prepare: what keeps it from starting in a cloud is repaired, in a content of its own; what was copied stays beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use catalog::reports::Kept;
use catalog::{Tx, contents, images, objects, reports};
use disk::Format;
use disk::source::Source;
use model::{BucketId, ContainerFormat, ContentId, DiskFormat};
use serde::{Deserialize, Serialize};

use crate::content::{self, ContentSource};
use crate::error::{Error, ErrorKind, Result};
use crate::formats::{self, Asked, Detected, Found};
use crate::image_state::activate;
use crate::jobs::made::{Made, begin, copy_into, forget, parse};
use crate::jobs::preparing::{self, Base, Prepared, Wanted};
use crate::jobs::run::{Run, Step, Work, output};
use crate::jobs::sealed;
use crate::jobs::stop::Stop;
use crate::jobs::unpack::unpack;
use crate::{inspection, preparation};

/// The job's percent when a file that had to be unpacked is.
const UNPACKED: u8 = 60;

/// What the job was asked to do. A passphrase is kept beside it (`sealed`).
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CreateImage {
    pub(crate) bucket: String,
    pub(crate) bucket_name: String,
    pub(crate) key: String,
    pub(crate) format: Option<String>,
    pub(crate) member: Option<String>,
    /// What is repaired in the guest; none where it stays as it is.
    #[serde(default)]
    pub(crate) prepare: Option<Wanted>,
}

impl CreateImage {
    /// Returns what the object is called in sentences.
    fn name(&self) -> String {
        format!("`{}` in bucket `{}`", self.key, self.bucket_name)
    }
}

/// What `open` found.
#[derive(Debug, Serialize, Deserialize)]
struct Opened {
    /// The object's content.
    from: String,
    /// How the object is compressed, if it has to be unpacked.
    packed: Option<String>,
    /// What the object is, if it can be read where it lies.
    file: Option<File>,
    /// The content that `copy` will make; named here so that a repeated `copy` leaves no second one.
    to: String,
    /// The content that `unpack` will make; it stays where it is the disk itself.
    temporary: Vec<String>,
}

/// What `unpack` made.
#[derive(Debug, Serialize, Deserialize)]
struct Unpacked {
    /// The unpacked file and what it is; none where nothing was to be unpacked.
    made: Option<(Made, File)>,
}

/// A file with a disk.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct File {
    /// How it is compressed, if any part of it can be read all the same.
    wrapper: Option<String>,
    /// Its format, or that of what is inside.
    format: String,
    /// Length of the disk in bytes.
    size_virtual: u64,
}

/// What `copy` made.
#[derive(Debug, Serialize, Deserialize)]
struct Copied {
    /// None where the object's own content is shared.
    made: Option<Made>,
    size_virtual: u64,
}

/// What `inspect` found, as properties of the image.
#[derive(Debug, Serialize, Deserialize)]
struct Inspected {
    properties: BTreeMap<String, String>,
    /// The content that `prepare` may make.
    to: String,
}

/// The work of [`model::jobs::JobKind::CreateImage`].
pub(crate) struct CreateImageWork;

#[async_trait]
impl Work for CreateImageWork {
    fn steps(&self) -> &'static [Step] {
        &[
            Step { name: "open", from: 0 },
            Step { name: "unpack", from: 2 },
            Step { name: "copy", from: 2 },
            Step { name: "inspect", from: 95 },
            Step { name: "prepare", from: 96 },
        ]
    }

    async fn run(&self, step: &str, run: &Run<'_>) -> Result<serde_json::Value, Stop> {
        match step {
            "open" => output(&open(run).await?),
            "unpack" => output(&unpack_if_needed(run).await?),
            "copy" => output(&copy(run).await?),
            "inspect" => output(&inspect(run).await?),
            _ => output(&prepare(run).await?),
        }
    }

    async fn finish(&self, tx: &mut Tx, run: &Run<'_>) -> Result<Vec<ContentId>, Stop> {
        let (opened, copied) = (run.output::<Opened>("open")?, run.output::<Copied>("copy")?);
        let (inspected, prepared) = (run.output::<Inspected>("inspect")?, run.output::<Prepared>("prepare")?);
        let id = run.job.image.ok_or(Stop::Lost)?;
        // A deleted image cancels its job; if this transaction sees it first, there is nothing left to do.
        let mut image = images::get(tx, id).await?.ok_or(Stop::Cancelled)?;
        let copied_to = match &copied.made {
            Some(made) => made.record(run)?,
            None => contents::get(tx, parse(&opened.from)?).await?.ok_or_else(|| Stop::Fail(vanished()))?,
        };
        image.disk_format = Some(DiskFormat::Raw);
        image.container_format = Some(ContainerFormat::Bare);
        image.size_virtual = Some(copied.size_virtual);
        for (name, value) in inspected.properties {
            // What the user said about the image stands; what was found fills the gaps.
            image.properties.entry(name).or_insert(value);
        }
        preparation::describe(&mut image, &prepared.state, prepared.blocking);
        image.reason = None;
        image.updated_at = run.service.now();
        let original = match &prepared.made {
            Some(made) => {
                if contents::get(tx, copied_to.id).await?.is_none() {
                    content::commit(tx, &copied_to).await?;
                }
                activate(tx, &mut image, &made.record(run)?).await?;
                Some(copied_to.id)
            }
            None => {
                activate(tx, &mut image, &copied_to).await?;
                None
            }
        };
        reports::put(tx, id, &Kept { original, report: prepared.report.to_string() }).await?;
        Ok(Vec::new())
    }
}

/// Returns what was said about the object, and given for it.
async fn asked(run: &Run<'_>) -> Result<Asked> {
    let params: CreateImage = run.params()?;
    let declared = params.format.as_deref().map(parse::<DiskFormat>).transpose()?;
    Ok(Asked { declared, member: params.member, passphrase: sealed::get(run.service, run.job).await? })
}

async fn open(run: &Run<'_>) -> Result<Opened, Stop> {
    let params: CreateImage = run.params()?;
    let name = params.name();
    let mut tx = run.service.parts.catalog.read().await?;
    let object = objects::get(&mut tx, parse::<BucketId>(&params.bucket)?, &params.key).await?;
    drop(tx);
    let object = object
        .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("object {name} was deleted before it was read")))?;
    let asked = asked(run).await?;
    let file = ContentSource::new(content::open(run.service, object.content).await?);
    let sandbox = run.service.parts.sandbox.clone();
    let found = run.service.permits.run(move || formats::detect(&sandbox, Arc::new(file), &asked)).await?;
    let (packed, file) = match found.map_err(|error| error.about(&name))? {
        Found::Disk(found) => (None, Some(note(run, "open", &format!("object {name}"), object.size, found).await?)),
        Found::Packed(wrapper) => {
            let text = format!("object {name} is a {wrapper} file of {} bytes, which has to be unpacked", object.size);
            run.log("open", &text).await?;
            (Some(wrapper.to_string()), None)
        }
    };
    let (to, temporary) = (ContentId::new().to_string(), vec![ContentId::new().to_string()]);
    Ok(Opened { from: object.content.to_string(), packed, file, to, temporary })
}

/// Writes into the log what a file of `length` bytes is.
async fn note(run: &Run<'_>, step: &str, name: &str, length: u64, found: Detected) -> Result<File> {
    let Detected { wrapper, format, variant, notes, size } = found;
    let variant = if variant.is_empty() { String::new() } else { format!(" ({variant})") };
    let packed = wrapper.map(|wrapper| format!(" in {wrapper}")).unwrap_or_default();
    let text = format!("{name} is a {format}{variant} file{packed} of {length} bytes with a disk of {size} bytes");
    run.log(step, &text).await?;
    for note in &notes {
        run.log(step, note).await?;
    }
    let wrapper = wrapper.map(|wrapper| wrapper.to_string());
    Ok(File { wrapper, format: format.to_string(), size_virtual: size })
}

async fn unpack_if_needed(run: &Run<'_>) -> Result<Unpacked, Stop> {
    let opened: Opened = run.output("open")?;
    let (Some(packed), Some(to)) = (opened.packed, opened.temporary.first()) else {
        return Ok(Unpacked { made: None });
    };
    let wrapper: Format = parse(&packed)?;
    let name = run.params::<CreateImage>()?.name();
    let file = object_file(run, &opened.from).await?;
    let unpacked = unpack(run, file, wrapper, parse(to)?, (2, UNPACKED)).await;
    let made = unpacked.map_err(|stop| stop.about(&name))?;
    let (file, asked) = (made.open(run.service).await?, asked(run).await?);
    let sandbox = run.service.parts.sandbox.clone();
    let work = move || formats::detect_disk(&sandbox, Arc::new(file), None, &asked);
    let found = run.service.permits.run(work).await?;
    let found = found.map_err(|error| error.about(&name))?;
    let file = note(run, "unpack", "what was unpacked", made.length, found).await?;
    Ok(Unpacked { made: Some((made, file)) })
}

async fn copy(run: &Run<'_>) -> Result<Copied, Stop> {
    let opened: Opened = run.output("open")?;
    let (unpacked, file) = match (run.output::<Unpacked>("unpack")?.made, opened.file) {
        (Some((made, file)), _) => (Some(made), file),
        (None, Some(file)) => (None, file),
        (None, None) => return Err(Error::new(ErrorKind::Internal, "a job found no file to copy").into()),
    };
    let format: Format = parse(&file.format)?;
    let wrapper = file.wrapper.as_deref().map(parse).transpose()?;
    let size_virtual = file.size_virtual;
    if format == Format::Raw && wrapper.is_none() {
        run.log("copy", "the file is the disk itself: its bytes are shared, none is copied").await?;
        return Ok(Copied { made: unpacked, size_virtual });
    }
    let from = if unpacked.is_some() { UNPACKED } else { 2 };
    let file = match &unpacked {
        Some(made) => made.open(run.service).await?,
        None => object_file(run, &opened.from).await?,
    };
    let asked = asked(run).await?;
    let open = move || formats::open_found(Arc::new(file), wrapper, format, &asked);
    let disk = run.service.permits.run(open).await??;
    let to: ContentId = parse(&opened.to)?;
    let mut writer = begin(run, to).await?;
    copy_into(run, "copy", disk, &mut writer, (from, 95)).await?;
    let head = writer.finish().await.map_err(Error::from)?;
    let stats = writer.stats();
    let text = format!(
        "{} bytes of disk kept: {} chunks, {} zero, {} known already, {} bytes stored",
        head.length, stats.chunks, stats.zero, stats.known, stats.stored_bytes
    );
    run.log("copy", &text).await?;
    Ok(Copied { made: Some(Made::new(to, &head)), size_virtual })
}

/// Opens the object's file for reading.
async fn object_file(run: &Run<'_>, from: &str) -> Result<ContentSource, Stop> {
    let mut tx = run.service.parts.catalog.read().await?;
    let content = contents::get(&mut tx, parse(from)?).await?.ok_or_else(|| Stop::Fail(vanished()))?;
    drop(tx);
    Ok(ContentSource::new(run.service.parts.store.reader(&content.head).await.map_err(Error::from)?))
}

async fn inspect(run: &Run<'_>) -> Result<Inspected, Stop> {
    let opened: Opened = run.output("open")?;
    let copied: Copied = run.output("copy")?;
    // What was unpacked has served now that the copy is recorded, and not before: a repeated copy would read it.
    if let Some((unpacked, _)) = run.output::<Unpacked>("unpack")?.made
        && copied.made.as_ref().is_none_or(|made| made.content != unpacked.content)
    {
        forget(run, parse(&unpacked.content)?).await?;
    }
    let disk: Arc<dyn Source> = Arc::new(match &copied.made {
        Some(made) => made.open(run.service).await?,
        None => object_file(run, &opened.from).await?,
    });
    let sandbox = run.service.parts.sandbox.clone();
    let report = run.service.permits.run(move || sandbox.inspect(disk)).await?;
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
    Ok(Inspected { properties, to: ContentId::new().to_string() })
}

async fn prepare(run: &Run<'_>) -> Result<Prepared, Stop> {
    let (opened, copied) = (run.output::<Opened>("open")?, run.output::<Copied>("copy")?);
    let to = parse(&run.output::<Inspected>("inspect")?.to)?;
    let wanted = run.params::<CreateImage>()?.prepare;
    let mut tx = run.service.parts.catalog.read().await?;
    let image = images::get(&mut tx, run.job.image.ok_or(Stop::Lost)?).await?.ok_or(Stop::Cancelled)?;
    let head = match &copied.made {
        Some(made) => made.head()?,
        None => contents::get(&mut tx, parse(&opened.from)?).await?.ok_or_else(|| Stop::Fail(vanished()))?.head,
    };
    drop(tx);
    let base = Base { head, format: DiskFormat::Raw };
    preparing::prepare(run, &base, to, wanted, image.properties).await
}

fn vanished() -> Error {
    Error::new(ErrorKind::NotFound, "the object was deleted while it was read")
        .with_hint("put it again, then create the image again")
}
