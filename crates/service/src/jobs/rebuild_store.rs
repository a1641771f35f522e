//! Rebuilding the catalog from the store: packs, then contents, that have no record.
//!
//! A content is all that the store knows of an image or object: its bytes and whose domain they are in. So what is found
//! gets a project of that id, where it has none, and there becomes an image if it is a disk and an object of the bucket
//! `recovered` if it is anything else; its name and properties come from what is inside. Running it again finds nothing new.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use catalog::{Tx, buckets, contents, images, objects, packs, projects, roles, sessions, strays};
use chunks::{ErrorKind as StoreErrorKind, PackList};
use model::buckets::{Bucket, Object};
use model::contents::Content;
use model::identity::{Project, Role};
use model::images::{Image, ImageState, Visibility};
use model::{BucketId, ContainerFormat, ContentId, ImageId, ProjectId};
use uuid::Uuid;

use crate::content::ContentSource;
use crate::error::Error;
use crate::formats::{self, Recognized};
use crate::jobs::run::{Run, Step, Work, output};
use crate::jobs::stop::Stop;
use crate::{inspection, quotas};

/// The bucket for what is no disk.
const BUCKET: &str = "recovered";
/// The job's percent when the packs are recorded.
const PACKS_RECORDED: u8 = 70;

/// The work of [`model::jobs::JobKind::RebuildStore`].
pub(crate) struct RebuildStoreWork;

#[async_trait]
impl Work for RebuildStoreWork {
    fn steps(&self) -> &'static [Step] {
        &[Step { name: "packs", from: 0 }, Step { name: "contents", from: PACKS_RECORDED }]
    }

    async fn run(&self, step: &str, run: &Run<'_>) -> Result<serde_json::Value, Stop> {
        match step {
            "packs" => output(&record_packs(run).await?),
            _ => output(&recover_contents(run).await?),
        }
    }

    async fn finish(&self, _tx: &mut Tx, _run: &Run<'_>) -> Result<Vec<ContentId>, Stop> {
        Ok(Vec::new())
    }
}

/// Records every pack that has no record. One whose footer is damaged is named in the log and left.
async fn record_packs(run: &Run<'_>) -> Result<u64, Stop> {
    let service = run.service;
    let there = service.parts.store.packs_there().await.map_err(Error::from)?;
    let mut tx = service.parts.catalog.read().await?;
    let known: HashSet<Uuid> = packs::list(&mut tx).await?.into_iter().map(|pack| pack.id).collect();
    // Seen by collection as what a crash left, so that they may be removed at any moment.
    let doomed: HashSet<Uuid> = strays::noted_packs(&mut tx).await?.into_iter().collect();
    drop(tx);
    let new: Vec<Uuid> = there.iter().copied().filter(|id| !known.contains(id) && !doomed.contains(id)).collect();
    let mut recorded = 0;
    for (number, pack) in new.iter().enumerate() {
        run.held.check()?;
        match service.parts.store.record_pack(*pack).await {
            Ok(()) => recorded += 1,
            Err(error) if is_damage(error.kind()) => {
                run.log("packs", &format!("pack {pack} cannot be recorded: {}", Error::from(error).chain())).await?;
            }
            Err(error) => return Err(Error::from(error).into()),
        }
        run.held.tell("packs", percent(number, new.len(), 0, PACKS_RECORDED));
    }
    let text = format!("{} packs are there, {recorded} of them were recorded now", there.len());
    run.log("packs", &text).await?;
    Ok(recorded)
}

/// Makes a record for every content that has a head and no record.
async fn recover_contents(run: &Run<'_>) -> Result<u64, Stop> {
    let store = &run.service.parts.store;
    let heads = store.heads_there().await.map_err(Error::from)?;
    let packs = store.pack_list().await.map_err(Error::from)?;
    let mut recovered = 0;
    for (number, content) in heads.iter().enumerate() {
        run.held.check()?;
        if is_unknown(run, *content).await? {
            recovered += u64::from(recover(run, *content, &packs).await?);
            run.point("contents/middle");
        }
        run.held.tell("contents", percent(number, heads.len(), PACKS_RECORDED, 99));
    }
    run.log("contents", &format!("{} contents are there, {recovered} of them were recovered now", heads.len())).await?;
    Ok(recovered)
}

fn percent(done: usize, total: usize, from: u8, to: u8) -> u8 {
    from + u8::try_from(done as u128 * u128::from(to - from) / (total.max(1) as u128)).unwrap_or(to - from)
}

fn is_damage(kind: StoreErrorKind) -> bool {
    matches!(
        kind,
        StoreErrorKind::Corrupt | StoreErrorKind::NotFound | StoreErrorKind::KeyRefused | StoreErrorKind::Version
    )
}

/// Returns whether a content has no record, is not being written, and is not about to be removed.
async fn is_unknown(run: &Run<'_>, content: Uuid) -> Result<bool, Stop> {
    let mut tx = run.service.parts.catalog.read().await?;
    Ok(!sessions::is_named(&mut tx, &content.to_string()).await?
        && !strays::is_doomed(&mut tx, &content.to_string()).await?)
}

/// Makes a record for one content; returns whether it could be.
async fn recover(run: &Run<'_>, id: Uuid, packs: &PackList) -> Result<bool, Stop> {
    let store = &run.service.parts.store;
    let opened = async {
        let head = store.head(id).await?;
        store.trace(&head.bytes, packs).await?;
        let reader = store.reader(&head.bytes).await?;
        Ok::<_, chunks::Error>((head, reader))
    };
    let (head, reader) = match opened.await {
        Ok(opened) => opened,
        Err(error) if is_damage(error.kind()) => {
            run.log("contents", &format!("content {id} cannot be recovered: {}", Error::from(error).chain())).await?;
            return Ok(false);
        }
        Err(error) => return Err(Error::from(error).into()),
    };
    let file = Arc::new(ContentSource::new(reader));
    let sandbox = run.service.parts.sandbox.clone();
    let recognized = match run.service.permits.run(move || formats::recognize(&sandbox, file)).await? {
        Ok(recognized) => recognized,
        Err(error) => {
            // Kept all the same: part of it may be readable, and an image can be made from the object later.
            run.log("contents", &format!("content {id} cannot be looked into: {}", error.chain())).await?;
            None
        }
    };
    let content = Content {
        id: id.into(),
        project: head.domain.into(),
        length: head.length,
        head: head.bytes.clone(),
        created_at: run.service.now(),
    };
    let mut tx = run.service.parts.catalog.write().await?;
    tx.lift_limits();
    let project = own_project(run, &mut tx, content.project).await?;
    contents::insert(&mut tx, &content).await?;
    let text = match recognized {
        Some(recognized) => insert_image(run, &mut tx, &content, recognized).await?,
        None => insert_object(run, &mut tx, &content).await?,
    };
    tx.commit().await?;
    run.log("contents", &format!("{text} in project `{project}`")).await?;
    Ok(true)
}

/// Returns the name of the project, which is made where there is none; who asked for the job administers that.
async fn own_project(run: &Run<'_>, tx: &mut Tx, id: ProjectId) -> Result<String, Stop> {
    if let Some(project) = projects::get(tx, id).await? {
        return Ok(project.name);
    }
    let asker = projects::get(tx, run.job.project).await?.ok_or(Stop::Cancelled)?;
    let name = format!("recovered-{id}");
    let created_at = run.service.now();
    let project = Project { id, domain: asker.domain, name: name.clone(), enabled: true, created_at };
    projects::insert(tx, &project).await?;
    quotas::limit_new(run.service, tx, id).await?;
    roles::grant(tx, run.job.user, id, Role::Admin).await?;
    Ok(name)
}

async fn insert_image(run: &Run<'_>, tx: &mut Tx, content: &Content, found: Recognized) -> Result<String, Stop> {
    let Recognized { format, size, report } = found;
    let properties = report.as_ref().map(inspection::properties).unwrap_or_default();
    let system = properties.get("__os_version").map_or("disk", String::as_str);
    let name = format!("recovered {system} {}", content.id);
    let now = run.service.now();
    let image = Image {
        id: ImageId::new(),
        project: content.project,
        name: Some(name.clone()),
        state: ImageState::Active,
        reason: None,
        visibility: Visibility::Private,
        protected: false,
        hidden: false,
        disk_format: Some(format),
        container_format: Some(ContainerFormat::Bare),
        content: Some(content.id),
        size: Some(content.length),
        size_virtual: size,
        checksums: None,
        min_disk_gib: 0,
        min_ram_mib: 0,
        properties,
        tags: BTreeSet::new(),
        job: None,
        created_at: now,
        updated_at: now,
    };
    images::insert(tx, &image).await?;
    Ok(format!("image `{name}` ({}), {} bytes of {format}", image.id, content.length))
}

async fn insert_object(run: &Run<'_>, tx: &mut Tx, content: &Content) -> Result<String, Stop> {
    let created_at = run.service.now();
    let bucket = match buckets::get(tx, content.project, BUCKET).await? {
        Some(bucket) => bucket,
        None => {
            let bucket = Bucket { id: BucketId::new(), project: content.project, name: BUCKET.into(), created_at };
            buckets::insert(tx, &bucket).await?;
            bucket
        }
    };
    let object = Object {
        bucket: bucket.id,
        key: content.id.to_string(),
        content: content.id,
        size: content.length,
        etag: format!("{}-1", content.id.uuid().simple()),
        content_type: Some("application/octet-stream".into()),
        metadata: BTreeMap::new(),
        created_at,
    };
    objects::put(tx, &object).await?;
    Ok(format!("object `{}` in bucket `{BUCKET}`, {} bytes", object.key, content.length))
}
