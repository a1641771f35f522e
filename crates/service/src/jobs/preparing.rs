//! The step that prepares the disk a job made: what changed becomes a content of its own, and all else is shared.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use disk::source::Source;
use guest::{Choice, Overlay};
use model::ContentId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::content::ContentSource;
use crate::error::Error;
use crate::jobs::made::{Made, forget};
use crate::jobs::run::Run;
use crate::jobs::stop::Stop;
use crate::preparation;

/// Most lines about changes that go into a job's log; the report has all.
const LINES_MAX: usize = 100;
/// Bytes of changes that are handed to the store at once.
const PIECE: u64 = 1 << 20;

/// What the caller wants repaired.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Wanted {
    only: Vec<String>,
    skip: Vec<String>,
    with: Vec<String>,
}

/// What the step did.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Prepared {
    /// The changed disk, where anything was changed.
    pub(crate) made: Option<Made>,
    pub(crate) state: String,
    pub(crate) blocking: usize,
    pub(crate) report: Value,
}

impl From<Choice> for Wanted {
    fn from(Choice { only, skip, with }: Choice) -> Self {
        Self { only, skip, with }
    }
}

impl From<Wanted> for Choice {
    fn from(Wanted { only, skip, with }: Wanted) -> Self {
        Self { only, skip, with }
    }
}

/// Prepares the disk that is the whole of content `from`, into the new content `to`. What the image's properties declare is
/// compared with what is found.
pub(crate) async fn prepare(
    run: &Run<'_>,
    from: &[u8],
    to: ContentId,
    wanted: Option<Wanted>,
    declared: BTreeMap<String, String>,
) -> Result<Prepared, Stop> {
    let service = run.service;
    let disk: Arc<dyn Source> =
        Arc::new(ContentSource::new(service.parts.store.reader(from).await.map_err(Error::from)?));
    let (choice, now) = (wanted.map(Choice::from), service.now());
    let done = service.permits.run(move || preparation::prepare(disk, choice, &declared, now)).await??;
    for line in done.lines.iter().take(LINES_MAX) {
        run.log("prepare", line).await?;
    }
    if let Some(more) = done.lines.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
        run.log("prepare", &format!("and {more} more, which the report names")).await?;
    }
    let made = match done.overlay {
        Some(overlay) => Some(splice(run, from, to, overlay).await?),
        None => None,
    };
    Ok(Prepared { made, state: done.state.to_owned(), blocking: done.blocking, report: done.report })
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
    let stats = splice.stats();
    let head = splice.finish().await.map_err(Error::from)?;
    let text = format!("{} bytes were changed, {} bytes stored", overlay.changed_bytes(), stats.stored_bytes);
    run.log("prepare", &text).await?;
    Ok(Made::new(to, &head))
}
