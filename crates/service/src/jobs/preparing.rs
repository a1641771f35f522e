//! The step that prepares a disk: what changed becomes a content of its own, and all else is shared.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use disk::source::Source;
use guest::{Choice, Overlay};
use model::{ContentId, DiskFormat};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::content::ContentSource;
use crate::error::Error;
use crate::formats;
use crate::jobs::made::{Made, begin, copy_into, forget};
use crate::jobs::run::Run;
use crate::jobs::stop::Stop;
use crate::preparation;

/// Most lines about changes that go into a job's log; the report has all.
const LINES_MAX: usize = 100;
/// The job's percent while a disk that is no bare one is written.
const COPYING: (u8, u8) = (10, 99);
/// Bytes of changes that are handed to the store at once.
const PIECE: u64 = 1 << 20;

/// What the caller wants repaired.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Wanted {
    only: Vec<String>,
    skip: Vec<String>,
    with: Vec<String>,
}

/// The disk that is prepared: in a content, in a format.
pub(crate) struct Base {
    pub(crate) head: Vec<u8>,
    pub(crate) format: DiskFormat,
}

/// What the step did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Prepared {
    /// The changed disk, where anything was changed.
    pub(crate) made: Option<Made>,
    pub(crate) state: String,
    pub(crate) blocking: usize,
    pub(crate) report: Value,
    /// What was found, as properties of an image.
    #[serde(default)]
    pub(crate) found: BTreeMap<String, String>,
}

impl From<Choice> for Wanted {
    fn from(Choice { only, skip, with, .. }: Choice) -> Self {
        Self { only, skip, with }
    }
}

impl From<Wanted> for Choice {
    fn from(Wanted { only, skip, with }: Wanted) -> Self {
        Self { only, skip, with, ..Self::default() }
    }
}

/// Prepares the disk `base`, into the new content `to`, a bare disk. What the image's properties declare is
/// compared with what is found.
pub(crate) async fn prepare(
    run: &Run<'_>,
    base: &Base,
    to: ContentId,
    wanted: Option<Wanted>,
    declared: BTreeMap<String, String>,
) -> Result<Prepared, Stop> {
    let service = run.service;
    let file = ContentSource::new(service.parts.store.reader(&base.head).await.map_err(Error::from)?);
    let choice = wanted.map(|wanted| service.choice(wanted.into()));
    let (format, now) = (base.format, service.now());
    let sandbox = service.parts.sandbox.clone();
    let work = move || preparation::prepare(&sandbox, formats::open(Arc::new(file), format)?, choice, &declared, now);
    let done = service.permits.run(work).await??;
    for line in done.lines.iter().take(LINES_MAX) {
        run.log("prepare", line).await?;
    }
    if let Some(more) = done.lines.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
        run.log("prepare", &format!("and {more} more, which the report names")).await?;
    }
    let made = match done.overlay {
        Some(overlay) if formats::is_bare(base.format)? => Some(splice(run, &base.head, to, overlay).await?),
        Some(overlay) => Some(copy(run, to, overlay).await?),
        None => None,
    };
    let (state, blocking) = (done.state.to_owned(), done.blocking);
    Ok(Prepared { made, state, blocking, report: preparation::fit(done.report), found: done.found })
}

/// Makes content `to` of the whole changed disk.
async fn copy(run: &Run<'_>, to: ContentId, overlay: Overlay) -> Result<Made, Stop> {
    let changed = overlay.changed_bytes();
    let mut writer = begin(run, to).await?;
    copy_into(run, "prepare", Arc::new(overlay), &mut writer, COPYING).await?;
    let head = writer.finish().await.map_err(Error::from)?;
    let stats = writer.stats();
    let text = format!(
        "{changed} bytes were changed; the disk is kept as raw from now on: {} bytes, {} bytes stored",
        head.length, stats.stored_bytes
    );
    run.log("prepare", &text).await?;
    Ok(Made::new(to, &head))
}

/// Makes content `to` of content `from` and what was changed on it.
async fn splice(run: &Run<'_>, from: &[u8], to: ContentId, overlay: Overlay) -> Result<Made, Stop> {
    // What a run that died here left under its name.
    forget(run, to).await?;
    let mut splice = run.service.parts.store.splice(from, to.uuid()).await.map_err(Error::from)?;
    for range in overlay.changes() {
        let mut at = range.start;
        while at < range.end {
            let mut piece = vec![0; PIECE.min(range.end - at) as usize];
            // All of it is in memory.
            overlay.read_at(&mut piece, at).map_err(Error::from)?;
            let length = piece.len() as u64;
            splice.write(at, Bytes::from(piece)).await.map_err(Error::from)?;
            at += length;
        }
        run.held.check()?;
    }
    let head = splice.finish().await.map_err(Error::from)?;
    let stats = splice.stats();
    let text = format!("{} bytes were changed, {} bytes stored", overlay.changed_bytes(), stats.stored_bytes);
    run.log("prepare", &text).await?;
    Ok(Made::new(to, &head))
}
