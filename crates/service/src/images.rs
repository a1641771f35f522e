//! Images: create, upload, show, list, change, download, delete, and the jobs that make and export them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use catalog::images::ImageFilter;
use catalog::{Tx, images, jobs, reports};
use disk::source::Source;
use keys::Secret;
use model::identity::{Principal, Role};
use model::images::{Image, ImageState, Visibility};
use model::jobs::{Job, JobKind};
use model::names::{NAME_MAX, PROPERTIES_MAX, TAGS_MAX, VALUE_MAX, check_name, check_object_key};
use model::{ContainerFormat, DiskFormat, ImageId};

use crate::content::{self, ContentSource};
use crate::error::{Error, ErrorKind, Result};
use crate::formats::{self, Target};
use crate::image_state::{active, at_rest, move_to, save};
use crate::jobs::create_image::CreateImage;
use crate::jobs::export_image::ExportImage;
use crate::jobs::lease::Lease;
use crate::jobs::preparing::Wanted;
use crate::jobs::uploading::{self, Sent};
use crate::jobs::{record::new_job, run, sealed};
use crate::preparation::RESERVED;
use crate::service::Service;
use crate::streams::{Download, Incoming};
use crate::transfer::Pieces;
use crate::{policy, quotas};

/// Most GiB that `min_disk` may ask for, and MiB that `min_ram` may (2^31 - 1, Glance's own bound).
const MINIMUM_MAX: u32 = i32::MAX as u32;

/// What a client says about a new image.
#[derive(Debug, Clone)]
pub struct NewImage {
    /// The id it wants; a new one otherwise.
    pub id: Option<ImageId>,
    /// What people call it.
    pub name: Option<String>,
    /// Who sees it.
    pub visibility: Visibility,
    /// Refuses deletion while set.
    pub protected: bool,
    /// Left out of default lists.
    pub hidden: bool,
    /// How the bytes hold the disk.
    pub disk_format: Option<DiskFormat>,
    /// What is wrapped around the disk file.
    pub container_format: Option<ContainerFormat>,
    /// Smallest root disk of a server, in GiB.
    pub min_disk_gib: u32,
    /// Smallest memory of a server, in MiB.
    pub min_ram_mib: u32,
    /// Free properties.
    pub properties: BTreeMap<String, String>,
    /// Tags.
    pub tags: BTreeSet<String>,
}

/// What a client wants changed; `None` leaves a field as it is.
#[derive(Debug, Clone, Default)]
pub struct ImageChange {
    /// What people call it.
    pub name: Option<Option<String>>,
    /// Who sees it.
    pub visibility: Option<Visibility>,
    /// Refuses deletion while set.
    pub protected: Option<bool>,
    /// Left out of default lists.
    pub hidden: Option<bool>,
    /// How the bytes hold the disk; only while there are none.
    pub disk_format: Option<Option<DiskFormat>>,
    /// What is wrapped around the disk file; only while there are no bytes.
    pub container_format: Option<Option<ContainerFormat>>,
    /// Smallest root disk of a server, in GiB.
    pub min_disk_gib: Option<u32>,
    /// Smallest memory of a server, in MiB.
    pub min_ram_mib: Option<u32>,
    /// Properties to set; others stay.
    pub set_properties: BTreeMap<String, String>,
    /// Properties to remove; absent ones are ignored.
    pub remove_properties: BTreeSet<String>,
    /// The whole new set of tags.
    pub tags: Option<BTreeSet<String>>,
}

/// An image to be made from a bucket object.
#[derive(Debug, Clone)]
pub struct FromObject {
    /// The record; its formats are ignored, the result is the bare disk (raw).
    pub image: NewImage,
    /// The bucket the file is in.
    pub bucket: String,
    /// The file.
    pub key: String,
    /// The format of the file, or of the one in it where it is compressed; probed once where it is not told.
    pub format: Option<DiskFormat>,
    /// Which disk of an appliance is meant: the name of its file; needed where there are several.
    pub member: Option<String>,
    /// What opens an encrypted disk; sealed while the job runs and then gone.
    pub passphrase: Option<Secret>,
    /// What is repaired in the guest so that it starts and is fit for a cloud; none leaves it as it is.
    pub prepare: Option<guest::Choice>,
}

/// A file to be made from an image.
#[derive(Debug, Clone, Default)]
pub struct Export {
    /// The bucket it goes to.
    pub bucket: String,
    /// Its key there.
    pub key: String,
    /// Its format, by the name that `molde disk convert -O` has for it.
    pub format: String,
    /// What is chosen about it, as by `molde disk convert -o`.
    pub options: BTreeMap<String, String>,
    /// The passphrase of the new file where that is encrypted; sealed while the job runs and then gone.
    pub passphrase: Option<Secret>,
    /// Replaces an object of that key; refused otherwise.
    pub overwrite: bool,
}

/// Verbs of images.
pub struct Images<'s>(pub(crate) &'s Service);

impl Service {
    /// Returns the verbs of images.
    #[must_use]
    pub fn images(&self) -> Images<'_> {
        Images(self)
    }
}

impl Images<'_> {
    /// Makes the record of an image that has no bytes yet (`Queued`).
    pub async fn create(&self, who: &Principal, new: NewImage) -> Result<Image> {
        let image = self.record(who, new)?;
        let mut tx = self.0.parts.catalog.write().await?;
        insert(&mut tx, &image).await?;
        tx.commit().await?;
        Ok(image)
    }

    /// Returns an image that the principal may see.
    pub async fn get(&self, who: &Principal, id: ImageId) -> Result<Image> {
        let mut tx = self.0.parts.catalog.read().await?;
        policy::see_image(who, id, images::get(&mut tx, id).await?)
    }

    /// Lists what the principal may see; `filter.viewer` is set here.
    pub async fn list(&self, who: &Principal, mut filter: ImageFilter) -> Result<Vec<Image>> {
        filter.viewer = (!who.has(Role::Admin)).then_some(who.project.id);
        let mut tx = self.0.parts.catalog.read().await?;
        if let Some(marker) = filter.marker {
            // A hidden image must not show by its place in the order that it exists.
            let seen = policy::see_image(who, marker, images::get(&mut tx, marker).await?);
            seen.map_err(|_| Error::invalid("the marker is no image of this list"))?;
        }
        Ok(images::list(&mut tx, &filter).await?)
    }

    /// Changes an image's record.
    pub async fn update(&self, who: &Principal, id: ImageId, change: ImageChange) -> Result<Image> {
        let mut tx = self.0.parts.catalog.write().await?;
        let mut image = policy::change_image(who, id, images::get(&mut tx, id).await?)?;
        check_reserved(change.set_properties.keys().chain(&change.remove_properties))?;
        if let Some(visibility) = change.visibility.filter(|visibility| *visibility != image.visibility) {
            policy::set_visibility(who, visibility)?;
        }
        apply(&mut image, change)?;
        check(&image)?;
        image.updated_at = self.0.now();
        save(&mut tx, &image, image.state).await?;
        tx.commit().await?;
        Ok(image)
    }

    /// Keeps the bytes of a queued image as they come and makes it Active; back to Queued if they fail.
    pub async fn upload(&self, who: &Principal, id: ImageId, body: Incoming) -> Result<Image> {
        self.receive(who, id, Sent::Bytes(body)).await
    }

    /// Like [`Images::upload`] for bytes that come as pieces.
    pub(crate) async fn upload_pieces(&self, who: &Principal, id: ImageId, pieces: Pieces) -> Result<Image> {
        self.receive(who, id, Sent::Pieces(who.clone(), pieces)).await
    }

    async fn receive(&self, who: &Principal, id: ImageId, sent: Sent) -> Result<Image> {
        let mut tx = self.0.parts.catalog.write().await?;
        let mut image = policy::change_image(who, id, images::get(&mut tx, id).await?)?;
        if image.disk_format.is_none() || image.container_format.is_none() {
            return Err(Error::conflict(format!("image {id} has no disk_format or no container_format"))
                .with_hint("set both before the bytes are sent"));
        }
        move_to(&mut image, ImageState::Saving)?;
        let job = new_job(self.0, who, JobKind::UploadImage, Some(id), None, &())?;
        image.job = Some(job.id);
        jobs::insert(&mut tx, &job).await?;
        let lease = Lease::take(self.0, &mut tx, job.id).await?;
        save(&mut tx, &image, ImageState::Queued).await?;
        tx.commit().await?;
        let held = lease.keep(self.0.clone());
        // On a task of its own: a client that hangs up must not stop the work half way through its end.
        let service = self.0.clone();
        let received = tokio::spawn(async move { uploading::receive(&service, image, held, sent).await });
        received.await.map_err(|failed| Error::internal("the upload ended unexpectedly", failed))?
    }

    /// Opens the bytes of an image; `None` where it has none yet.
    pub async fn download(&self, who: &Principal, id: ImageId) -> Result<Option<(Image, Download)>> {
        let mut tx = self.0.parts.catalog.read().await?;
        let image = policy::read_image(who, id, images::get(&mut tx, id).await?)?;
        drop(tx);
        let Some(content) = image.content else {
            return Ok(None);
        };
        let reader = content::open(self.0, content).await?;
        Ok(Some((image, Download { reader })))
    }

    /// Removes an image: its job is cancelled, its record and, where nothing else holds them, its bytes go.
    pub async fn delete(&self, who: &Principal, id: ImageId) -> Result<()> {
        let mut tx = self.0.parts.catalog.write().await?;
        let image = policy::change_image(who, id, images::get(&mut tx, id).await?)?;
        if image.protected {
            return Err(Error::new(ErrorKind::Forbidden, format!("image {id} is protected"))
                .with_hint("clear its protection first"));
        }
        if !image.state.may_become(ImageState::Deleted) {
            return Err(Error::conflict(format!("image {id} is {} and cannot be deleted", image.state)));
        }
        let original = reports::get(&mut tx, id).await?.and_then(|kept| kept.original);
        images::delete(&mut tx, id, image.state).await?;
        let unseen = match image.job {
            Some(job) => run::cancel(self.0, &mut tx, job).await?,
            None => Vec::new(),
        };
        let mut released = unseen;
        for content in image.content.into_iter().chain(original) {
            released.extend(content::release(&mut tx, content).await?);
        }
        tx.commit().await?;
        content::forget(self.0, released).await;
        Ok(())
    }

    /// Begins the job that makes an image from a bucket object.
    pub async fn create_from_object(&self, who: &Principal, from: FromObject) -> Result<(Image, Job)> {
        let FromObject { image: new, bucket, key, format, member, passphrase, prepare } = from;
        let new = NewImage { disk_format: Some(DiskFormat::Raw), container_format: Some(ContainerFormat::Bare), ..new };
        let mut image = self.record(who, new)?;
        if let Some(format) = format {
            formats::openable(format)?;
        }
        sealed::check(passphrase.as_ref())?;
        if let Some(choice) = &prepare {
            self.0.choice(choice.clone()).check().map_err(Error::invalid)?;
        }
        if member.as_ref().is_some_and(|member| member.chars().count() > NAME_MAX) {
            return Err(Error::invalid(format!(
                "the name of a disk in an appliance has at most {NAME_MAX} characters"
            )));
        }
        let mut tx = self.0.parts.catalog.write().await?;
        let found = crate::buckets::find(&mut tx, who, &bucket).await?;
        let object = catalog::objects::get(&mut tx, found.id, &key).await?;
        let object = object.ok_or_else(|| crate::objects::no_object(&bucket, &key))?;
        if object.size == 0 {
            return Err(Error::new(ErrorKind::BadContent, format!("object `{key}` in bucket `{bucket}` is empty")));
        }
        let params = CreateImage {
            bucket: found.id.to_string(),
            bucket_name: bucket,
            key,
            format: format.map(|format| format.to_string()),
            member,
            prepare: prepare.map(Wanted::from),
        };
        let mut job = new_job(self.0, who, JobKind::CreateImage, Some(image.id), None, &params)?;
        sealed::put(self.0, &mut job, passphrase.as_ref()).await?;
        image.job = Some(job.id);
        move_to(&mut image, ImageState::Saving)?;
        insert(&mut tx, &image).await?;
        jobs::insert(&mut tx, &job).await?;
        tx.commit().await?;
        self.0.wake.notify_one();
        Ok((image, job))
    }

    /// Begins the job that writes an image into a bucket.
    pub async fn export(&self, who: &Principal, id: ImageId, export: Export) -> Result<Job> {
        policy::require(who, Role::Member, "export images")?;
        check_object_key(&export.key)?;
        let Export { bucket: name, key, format, options, passphrase, overwrite } = export;
        sealed::check(passphrase.as_ref())?;
        let target = Target::new(&format, &options, passphrase.as_ref())?;
        let mut tx = self.0.parts.catalog.read().await?;
        let image = policy::read_image(who, id, images::get(&mut tx, id).await?)?;
        drop(tx);
        active(&image)?;
        let size = image.size_virtual.or(image.size).unwrap_or_default();
        // On a thread that may block: the key of an encrypted file takes its time on purpose.
        self.0.permits.run(move || target.check(size)).await??;
        let mut tx = self.0.parts.catalog.write().await?;
        let image = policy::read_image(who, id, images::get(&mut tx, id).await?)?;
        at_rest(&mut tx, &image, &[JobKind::PrepareImage]).await?;
        let bucket = crate::buckets::find(&mut tx, who, &name).await?;
        if !overwrite && catalog::objects::get(&mut tx, bucket.id, &key).await?.is_some() {
            let message = format!("there is an object `{key}` in bucket `{name}` already");
            return Err(Error::conflict(message).with_hint("choose another key, or ask to overwrite it"));
        }
        quotas::room_for_object(&mut tx, &bucket, &key).await?;
        let params = ExportImage { bucket: bucket.id.to_string(), key, format, options, overwrite };
        let mut job = new_job(self.0, who, JobKind::ExportImage, Some(id), None, &params)?;
        sealed::put(self.0, &mut job, passphrase.as_ref()).await?;
        jobs::insert(&mut tx, &job).await?;
        tx.commit().await?;
        self.0.wake.notify_one();
        Ok(job)
    }

    /// Looks inside the image's disk.
    pub async fn inspect(&self, who: &Principal, id: ImageId) -> Result<guest::Report> {
        self.look(who, id, guest::Sandbox::inspect).await
    }

    /// Tells what keeps the image's disk from starting elsewhere or from being a cloud's server, and what prepare would
    /// change as `choice` says. Changes nothing.
    pub async fn check(&self, who: &Principal, id: ImageId, choice: guest::Choice) -> Result<guest::Plan> {
        let choice = self.0.choice(choice);
        choice.check().map_err(Error::invalid)?;
        self.look(who, id, move |sandbox, disk| sandbox.plan(disk, &choice)).await
    }

    /// Opens the image's disk and gives it to `look`.
    async fn look<T: Send + 'static>(
        &self,
        who: &Principal,
        id: ImageId,
        look: impl FnOnce(&guest::Sandbox, Arc<dyn Source>) -> disk::Result<T> + Send + 'static,
    ) -> Result<T> {
        let (image, download) = self.download(who, id).await?.ok_or_else(|| {
            Error::conflict(format!("image {id} has no bytes yet")).with_hint("wait until its state is active")
        })?;
        let file: Arc<dyn Source> = Arc::new(ContentSource::new(download.reader));
        let format = image.disk_format.unwrap_or(DiskFormat::Raw);
        let sandbox = self.0.parts.sandbox.clone();
        self.0.permits.run(move || Ok(look(&sandbox, formats::open(file, format)?)?)).await?
    }

    fn record(&self, who: &Principal, new: NewImage) -> Result<Image> {
        policy::require(who, Role::Member, "create images")?;
        policy::set_visibility(who, new.visibility)?;
        check_reserved(new.properties.keys())?;
        let now = self.0.now();
        let image = Image {
            id: new.id.unwrap_or_else(ImageId::new),
            project: who.project.id,
            name: new.name,
            state: ImageState::Queued,
            reason: None,
            visibility: new.visibility,
            protected: new.protected,
            hidden: new.hidden,
            disk_format: new.disk_format,
            container_format: new.container_format,
            content: None,
            size: None,
            size_virtual: None,
            checksums: None,
            min_disk_gib: new.min_disk_gib,
            min_ram_mib: new.min_ram_mib,
            properties: new.properties,
            tags: new.tags,
            job: None,
            created_at: now,
            updated_at: now,
        };
        check(&image)?;
        Ok(image)
    }
}

async fn insert(tx: &mut Tx, image: &Image) -> Result<()> {
    images::insert(tx, image).await.map_err(|error| match error.kind() {
        catalog::ErrorKind::Conflict => Error::conflict(format!("there is an image {} already", image.id)),
        _ => error.into(),
    })
}

fn apply(image: &mut Image, change: ImageChange) -> Result<()> {
    let formats = change.disk_format.is_some() || change.container_format.is_some();
    if formats && image.state != ImageState::Queued {
        let message = "disk_format and container_format can only change while the image has no bytes";
        return Err(Error::new(ErrorKind::Forbidden, message));
    }
    let ImageChange { set_properties, remove_properties, .. } = change;
    image.properties.retain(|name, _| !remove_properties.contains(name));
    image.properties.extend(set_properties);
    image.name = change.name.unwrap_or_else(|| image.name.take());
    image.visibility = change.visibility.unwrap_or(image.visibility);
    image.protected = change.protected.unwrap_or(image.protected);
    image.hidden = change.hidden.unwrap_or(image.hidden);
    image.disk_format = change.disk_format.unwrap_or(image.disk_format);
    image.container_format = change.container_format.unwrap_or(image.container_format);
    image.min_disk_gib = change.min_disk_gib.unwrap_or(image.min_disk_gib);
    image.min_ram_mib = change.min_ram_mib.unwrap_or(image.min_ram_mib);
    if let Some(tags) = change.tags {
        image.tags = tags;
    }
    Ok(())
}

/// Refuses properties that only Molde sets.
fn check_reserved<'n>(names: impl IntoIterator<Item = &'n String>) -> Result<()> {
    match names.into_iter().find(|name| name.starts_with(RESERVED)) {
        None => Ok(()),
        Some(name) => {
            let short: String = name.chars().take(64).collect();
            let message = format!("the property `{short}` is set by Molde alone, as all that begin with `{RESERVED}`");
            Err(Error::new(ErrorKind::Forbidden, message))
        }
    }
}

/// Checks what people wrote into a record.
fn check(image: &Image) -> Result<()> {
    if let Some(name) = image.name.as_deref().filter(|name| !name.is_empty()) {
        check_name(name)?;
    }
    if image.properties.len() > PROPERTIES_MAX {
        return Err(Error::new(ErrorKind::TooLarge, format!("an image has at most {PROPERTIES_MAX} properties")));
    }
    if image.tags.len() > TAGS_MAX {
        return Err(Error::new(ErrorKind::TooLarge, format!("an image has at most {TAGS_MAX} tags")));
    }
    for (name, value) in &image.properties {
        let short: String = name.chars().take(64).collect();
        if name.is_empty() || name.chars().count() > NAME_MAX || name.contains('\0') {
            return Err(Error::invalid(format!(
                "the property name `{short}` does not have 1 to {NAME_MAX} characters"
            )));
        }
        if value.chars().count() > VALUE_MAX || value.contains('\0') {
            return Err(Error::invalid(format!(
                "the value of property `{short}` has more than {VALUE_MAX} characters, or a NUL"
            )));
        }
    }
    if let Some(tag) =
        image.tags.iter().find(|tag| tag.is_empty() || tag.chars().count() > NAME_MAX || tag.contains('\0'))
    {
        return Err(Error::invalid(format!(
            "the tag `{}` does not have 1 to {NAME_MAX} characters",
            tag.chars().take(64).collect::<String>()
        )));
    }
    if image.min_disk_gib > MINIMUM_MAX || image.min_ram_mib > MINIMUM_MAX {
        return Err(Error::invalid(format!("min_disk and min_ram are at most {MINIMUM_MAX}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> Image {
        Image {
            id: ImageId::new(),
            project: model::ProjectId::new(),
            name: Some("web".into()),
            state: ImageState::Active,
            reason: None,
            visibility: Visibility::Private,
            protected: false,
            hidden: false,
            disk_format: Some(DiskFormat::Raw),
            container_format: Some(ContainerFormat::Bare),
            content: None,
            size: None,
            size_virtual: None,
            checksums: None,
            min_disk_gib: 0,
            min_ram_mib: 0,
            properties: BTreeMap::from([("a".into(), "1".into()), ("b".into(), "2".into())]),
            tags: BTreeSet::new(),
            job: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
            updated_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn a_change_touches_only_what_it_names() {
        let (before, mut after) = (image(), image());
        let set_properties = BTreeMap::from([("c".into(), "3".into())]);
        let remove_properties = BTreeSet::from(["a".into(), "absent".into()]);
        apply(
            &mut after,
            ImageChange { set_properties, remove_properties, name: Some(None), ..ImageChange::default() },
        )
        .unwrap();
        assert_eq!(after.properties.keys().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(after.name, None);
        assert_eq!((after.visibility, after.tags), (before.visibility, before.tags));
    }

    #[test]
    fn formats_are_fixed_once_there_are_bytes() {
        let change = ImageChange { disk_format: Some(Some(DiskFormat::Vmdk)), ..ImageChange::default() };
        assert_eq!(apply(&mut image(), change).unwrap_err().kind(), ErrorKind::Forbidden);
    }

    #[test]
    fn limits_are_named() {
        let mut wrong = image();
        wrong.name = Some("x".repeat(256));
        assert!(check(&wrong).unwrap_err().to_string().contains("255"));
        let mut wrong = image();
        wrong.tags = (0..=TAGS_MAX).map(|tag| tag.to_string()).collect();
        assert_eq!(check(&wrong).unwrap_err().kind(), ErrorKind::TooLarge);
        let mut wrong = image();
        wrong.properties.insert("p".into(), "v".repeat(VALUE_MAX + 1));
        assert!(check(&wrong).unwrap_err().to_string().contains("`p`"));
    }

    #[test]
    fn moves_follow_the_table() {
        let mut wrong = image();
        assert_eq!(move_to(&mut wrong, ImageState::Saving).unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(wrong.state, ImageState::Active);
        move_to(&mut wrong, ImageState::Deactivated).unwrap();
        assert_eq!(wrong.state, ImageState::Deactivated);
    }
}
