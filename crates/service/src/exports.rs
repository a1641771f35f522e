//! Exports: open an image's or an object's disk to NBD clients for some time, list, close, and find by name.
//!
//! ```text
//!   open (who may read it) --> a name, told once --> disk(name), as often as a client connects --> expires or is closed
//! ```
//! The name is the right to read, as a token is: nobody is asked who shows it. An export is a row, so it outlives a restart,
//! any node can serve it, and its content is kept as long as the row is there.

use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::rand;
use catalog::{contents, exports, images, objects};
use disk::{Extent, Format, Source};
use jiff::SignedDuration;
use model::exports::{Export, Exported};
use model::identity::{Principal, Role};
use model::images::ImageState;
use model::{ContentId, DiskFormat, ExportId, Timestamp};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;

use crate::content::{self, ContentSource};
use crate::error::{Error, ErrorKind, Result};
use crate::service::Service;
use crate::{buckets, disks, formats, policy};

/// How long an export lives where its opener does not say, in seconds.
const LIFE: u32 = 4 * 3600;
/// Longest life of an export, in seconds: what it holds cannot be freed before.
const LIFE_MAX: u32 = 7 * 24 * 3600;
/// Most exports of a project at once.
const EXPORTS_MAX: usize = 256;
/// Clients of an export learn at most so late that it has ended.
const RECHECK: SignedDuration = SignedDuration::from_secs(5);
/// Expired exports that are removed in one transaction.
const SWEEP: u32 = 100;

/// What a client says about a new export.
#[derive(Debug, Clone)]
pub struct NewExport {
    /// What is served.
    pub of: Exported,
    /// The format of an object, such as `vmdk`; probed where it is not told.
    pub format: Option<String>,
    /// How many seconds it shall live, at most a week; four hours where that is not told.
    pub seconds: Option<u32>,
}

/// A new export and its name, which is shown once.
#[derive(Debug, Clone)]
pub struct OpenedExport {
    /// What is known of it.
    pub export: Export,
    /// The name by which NBD clients ask for it: 32 hexadecimal digits.
    pub name: String,
    /// Bytes of the disk.
    pub size: u64,
}

/// Verbs of exports.
pub struct Exports<'s>(pub(crate) &'s Service);

impl Service {
    /// Returns the verbs of exports.
    #[must_use]
    pub fn exports(&self) -> Exports<'_> {
        Exports(self)
    }
}

impl Exports<'_> {
    /// Opens the disk of an image or an object to whoever knows the name that is returned.
    pub async fn open(&self, who: &Principal, new: NewExport) -> Result<OpenedExport> {
        let seconds = new.seconds.unwrap_or(LIFE);
        if !(1..=LIFE_MAX).contains(&seconds) {
            return Err(Error::invalid(format!("an export lives 1 to {LIFE_MAX} seconds, not {seconds}")));
        }
        let (content, declared) = self.readable(who, &new).await?;
        let format = match declared {
            Some(format) => format,
            None => self.probe(content).await?,
        };
        // A file that cannot be opened is told here, to whom it concerns.
        let size = disks::open(self.0, content, format).await?.len();
        sweep(self.0).await?;
        let (name, now) = (new_name()?, self.0.now());
        let export = Export {
            id: ExportId::new(),
            project: who.project.id,
            user: who.user.id,
            of: new.of,
            content,
            format: format.as_str().to_owned(),
            created_at: now,
            expires_at: now + SignedDuration::from_secs(i64::from(seconds)),
        };
        let mut tx = self.0.parts.catalog.write().await?;
        if contents::get(&mut tx, content).await?.is_none() {
            return Err(Error::conflict("what was to be served was removed meanwhile").with_hint("look for it again"));
        }
        if exports::list(&mut tx, who.project.id).await?.len() >= EXPORTS_MAX {
            let message = format!("project `{}` has {EXPORTS_MAX} exports, which is the most", who.project.name);
            return Err(Error::new(ErrorKind::TooLarge, message).with_hint("close some, or wait until they expire"));
        }
        exports::insert(&mut tx, &export, &hash(&name)).await?;
        tx.commit().await?;
        Ok(OpenedExport { export, name, size })
    }

    /// Lists the project's exports that have not expired, without their names.
    pub async fn list(&self, who: &Principal) -> Result<Vec<Export>> {
        let now = self.0.now();
        let mut tx = self.0.parts.catalog.read().await?;
        let mut list = exports::list(&mut tx, who.project.id).await?;
        list.retain(|export| export.expires_at > now);
        Ok(list)
    }

    /// Ends an export of the project: no client connects any more, and those that are connected are cut off soon.
    pub async fn close(&self, who: &Principal, id: ExportId) -> Result<()> {
        let mut tx = self.0.parts.catalog.read().await?;
        let export = exports::get(&mut tx, id).await?.filter(|export| policy::owns(who, export.project));
        drop(tx);
        let export = export.ok_or_else(|| Error::not_found("export", id))?;
        if export.user != who.user.id {
            policy::require(who, Role::Member, "close exports of others")?;
        }
        end(self.0, &[export]).await
    }

    /// Returns the disk of the export with this name, for as long as it lives. To be read on threads that may block.
    ///
    /// The name is the right: `NotFound` if nothing has it, `Forbidden` if its image was deactivated.
    pub async fn disk(&self, name: &str) -> Result<Arc<dyn Source>> {
        let name_hash = hash(name);
        let export = self.live(&name_hash).await?;
        let disk = disks::open(self.0, export.content, export.format.parse()?).await?;
        Ok(Arc::new(Living {
            disk,
            service: self.0.clone(),
            runtime: Handle::current(),
            name_hash,
            seen_at: Mutex::new(Some(self.0.now())),
        }))
    }

    /// Finds what may be read, and its format where that is known.
    async fn readable(&self, who: &Principal, new: &NewExport) -> Result<(ContentId, Option<Format>)> {
        let mut tx = self.0.parts.catalog.read().await?;
        match &new.of {
            Exported::Image(id) => {
                let image = policy::read_image(who, *id, images::get(&mut tx, *id).await?)?;
                let content = image.content.ok_or_else(|| {
                    Error::conflict(format!("image {id} has no bytes yet")).with_hint("wait until its state is active")
                })?;
                if new.format.is_some() {
                    return Err(Error::invalid("the format of an image is known and cannot be chosen"));
                }
                Ok((content, Some(formats::openable(image.disk_format.unwrap_or(DiskFormat::Raw))?)))
            }
            Exported::Object { bucket, key } => {
                let found = buckets::find(&mut tx, who, bucket).await?;
                let object = objects::get(&mut tx, found.id, key).await?;
                let object = object.ok_or_else(|| crate::objects::no_object(bucket, key))?;
                let format = new.format.as_deref().map(str::parse).transpose();
                Ok((object.content, format.map_err(|error: disk::Error| Error::invalid(error.to_string()))?))
            }
        }
    }

    async fn probe(&self, content: ContentId) -> Result<Format> {
        let file: Arc<dyn Source> = Arc::new(ContentSource::new(content::open(self.0, content).await?));
        Ok(self.0.permits.run(move || disk::probe(&file)).await??)
    }

    async fn live(&self, name_hash: &[u8; 32]) -> Result<Export> {
        let now = self.0.now();
        let mut tx = self.0.parts.catalog.read().await?;
        let export = exports::by_name(&mut tx, name_hash).await?.filter(|export| export.expires_at > now);
        let export = export.ok_or_else(|| Error::not_found("export", "has this name"))?;
        if let Exported::Image(id) = export.of {
            let image = images::get(&mut tx, id).await?;
            if image.is_some_and(|image| image.state == ImageState::Deactivated) {
                return Err(Error::new(
                    ErrorKind::Forbidden,
                    format!("image {id} is deactivated: its bytes are closed"),
                ));
            }
        }
        Ok(export)
    }
}

/// Removes the exports that have expired, and what they alone held.
pub(crate) async fn sweep(service: &Service) -> Result<()> {
    loop {
        let mut tx = service.parts.catalog.read().await?;
        let expired = exports::list_expired(&mut tx, service.now(), SWEEP).await?;
        drop(tx);
        if expired.is_empty() {
            return Ok(());
        }
        end(service, &expired).await?;
    }
}

async fn end(service: &Service, ended: &[Export]) -> Result<()> {
    let mut released = Vec::new();
    let mut tx = service.parts.catalog.write().await?;
    for export in ended {
        exports::delete(&mut tx, export.id).await?;
        released.extend(content::release(&mut tx, export.content).await?);
    }
    tx.commit().await?;
    content::forget(service, released).await;
    Ok(())
}

/// Returns a name that nobody can guess: 128 random bits.
fn new_name() -> Result<String> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|failed| Error::internal("the system gives no random bytes", failed))?;
    Ok(hex::encode(bytes))
}

fn hash(name: &str) -> [u8; 32] {
    Sha256::digest(name.as_bytes()).into()
}

/// The disk of an export as long as that lives; for blocking threads only.
struct Living {
    disk: Arc<dyn Source>,
    service: Service,
    runtime: Handle,
    name_hash: [u8; 32],
    /// When the export was seen to live the last time; `None` once it has ended.
    seen_at: Mutex<Option<Timestamp>>,
}

impl Living {
    /// Fails once the export has ended; looks for that now and then.
    fn check(&self) -> disk::Result<()> {
        let mut seen_at = self.seen_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.service.now();
        let Some(seen) = *seen_at else { return Err(gone("it has ended")) };
        if now < seen + RECHECK {
            return Ok(());
        }
        match self.runtime.block_on(self.service.exports().live(&self.name_hash)) {
            Ok(_) => {
                *seen_at = Some(now);
                Ok(())
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Forbidden) => {
                *seen_at = None;
                Err(gone("it has ended"))
            }
            // It may still live; the next read looks again.
            Err(error) => Err(gone(error)),
        }
    }
}

fn gone(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> disk::Error {
    disk::Error::io("read the export", std::io::Error::other(why))
}

impl Source for Living {
    fn len(&self) -> u64 {
        self.disk.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        self.check()?;
        self.disk.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> disk::Result<Extent> {
        self.check()?;
        self.disk.extent_at(offset)
    }
}
