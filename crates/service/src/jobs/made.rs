//! What steps leave of the contents that they make, and how far they are while they make them.

use std::sync::Arc;

use disk::source::Source;
use model::ContentId;
use model::contents::Content;
use serde::{Deserialize, Serialize};

use crate::content::{self, ContentSource};
use crate::error::{Error, Result};
use crate::jobs::run::Run;
use crate::jobs::stop::Stop;
use crate::service::Service;

/// A content that a step made: durable, and in no record until the job ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) content: String,
    pub(crate) length: u64,
    /// Its head, in hexadecimal.
    head: String,
}

impl Made {
    /// Takes note of a content whose head is durable.
    pub(crate) fn new(id: ContentId, head: &chunks::Head) -> Self {
        Self { content: id.to_string(), length: head.length, head: hex::encode(&head.bytes) }
    }

    /// Returns the record of the content.
    pub(crate) fn record(&self, run: &Run<'_>) -> Result<Content> {
        Ok(Content {
            id: parse(&self.content)?,
            project: run.job.project,
            length: self.length,
            head: self.head()?,
            created_at: run.service.now(),
        })
    }

    /// Opens the content for reading.
    pub(crate) async fn open(&self, service: &Service) -> Result<ContentSource> {
        Ok(ContentSource::new(service.parts.store.reader(&self.head()?).await?))
    }

    /// Returns the head of the content.
    pub(crate) fn head(&self) -> Result<Vec<u8>> {
        hex::decode(&self.head).map_err(|bad| Error::internal("a job's record is damaged", bad))
    }
}

/// Reads back what an earlier step of this program wrote.
pub(crate) fn parse<T: std::str::FromStr>(text: &str) -> Result<T>
where
    T::Err: std::error::Error + Send + Sync + 'static,
{
    text.parse().map_err(|bad: T::Err| Error::internal("a job's record is damaged", bad))
}

/// Begins the content `id`, which is a new one: what a run that died here left under its name is forgotten first.
pub(crate) async fn begin(run: &Run<'_>, id: ContentId) -> Result<chunks::Writer, Stop> {
    forget(run, id).await?;
    Ok(run.service.parts.store.writer(run.job.project.uuid(), id.uuid()).await.map_err(Error::from)?)
}

/// Forgets a content that this job made and that is in no record.
pub(crate) async fn forget(run: &Run<'_>, id: ContentId) -> Result<(), Stop> {
    run.fence().await?;
    Ok(run.service.parts.store.forget(id.uuid()).await.map_err(Error::from)?)
}

/// How far a step is that makes a content: the job's percent between two, the place in its middle, and whether to stop.
pub(crate) struct Telling<'r> {
    run: &'r Run<'r>,
    step: &'static str,
    percent: (u8, u8),
    middle: bool,
    stop: Result<(), Stop>,
}

impl<'r> Telling<'r> {
    /// Begins to tell of `step`, which takes the job from one percent to another.
    pub(crate) fn new(run: &'r Run<'r>, step: &'static str, percent: (u8, u8)) -> Self {
        Self { run, step, percent, middle: false, stop: Ok(()) }
    }

    /// Tells that so many of all bytes are done; returns whether to go on.
    pub(crate) fn tell(&mut self, done: u64, total: u64) -> bool {
        let (from, to) = self.percent;
        // Exact enough in 128 bits, and at most 100.
        let percent = u128::from(from) + u128::from(done) * u128::from(to - from) / u128::from(total.max(1));
        self.run.held.tell(self.step, u8::try_from(percent).unwrap_or(to));
        // A stream that has told nothing yet has no total.
        if !self.middle && total > 0 && done >= total.div_ceil(2) {
            self.middle = true;
            self.run.point(&format!("{}/middle", self.step));
        }
        self.stop = self.run.held.check();
        self.stop.is_ok()
    }

    /// Returns why the step was told to stop, if it was.
    pub(crate) fn end(self) -> Result<(), Stop> {
        self.stop
    }
}

/// Copies a disk or a file's layout while telling the job's percent between the two given.
pub(crate) async fn copy_into(
    run: &Run<'_>,
    step: &'static str,
    source: Arc<dyn Source>,
    writer: &mut chunks::Writer,
    percent: (u8, u8),
) -> Result<(), Stop> {
    let total = source.len();
    let mut telling = Telling::new(run, step, percent);
    content::copy_source(run.service, source, writer, |done| telling.tell(done, total)).await?;
    telling.end()
}
