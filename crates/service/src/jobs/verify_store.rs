//! Verifying the store: every content that has a record is followed down to its chunks.
//!
//! Without `deep` only manifests are read, and the data of contents that lie in packs which a scrub found damaged; with it
//! every byte of every content is read, opened and hashed. What is damaged is named in the job's log by who holds it.

use async_trait::async_trait;
use catalog::{Tx, contents};
use chunks::{ErrorKind as StoreErrorKind, PackList};
use model::ContentId;
use model::contents::Content;
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};
use crate::jobs::run::{Run, Step, Work, output};
use crate::jobs::stop::Stop;

/// Contents that are read from the catalog at once.
const PAGE: u32 = 200;
/// Damaged contents that the log names; others are counted.
const NAMED_MAX: u64 = 500;

/// What the job was asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct VerifyStore {
    pub(crate) deep: bool,
}

/// The work of [`model::jobs::JobKind::VerifyStore`].
pub(crate) struct VerifyStoreWork;

#[async_trait]
impl Work for VerifyStoreWork {
    fn steps(&self) -> &'static [Step] {
        &[Step { name: "verify", from: 0 }]
    }

    async fn run(&self, _step: &str, run: &Run<'_>) -> Result<serde_json::Value, Stop> {
        output(&verify(run).await?)
    }

    async fn finish(&self, _tx: &mut Tx, _run: &Run<'_>) -> Result<Vec<ContentId>, Stop> {
        Ok(Vec::new())
    }
}

/// What is being verified, and what was found so far.
struct Verifying<'r> {
    run: &'r Run<'r>,
    deep: bool,
    packs: PackList,
    contents: u64,
    damaged: u64,
}

async fn verify(run: &Run<'_>) -> Result<u64, Stop> {
    let VerifyStore { deep } = run.params()?;
    let service = run.service;
    let packs = service.parts.store.pack_list().await.map_err(Error::from)?;
    let (count, length) = contents::sum(&mut service.parts.catalog.read().await?).await?;
    let text = format!("{count} contents of {length} bytes in {} packs", packs.len());
    run.log("verify", &text).await?;
    let mut verifying = Verifying { run, deep, packs, contents: 0, damaged: 0 };
    // What counts is bytes where they are read, else contents.
    let total = if deep { length } else { count };
    let (mut after, mut done) = (None, 0_u64);
    loop {
        let mut tx = service.parts.catalog.read().await?;
        let page = contents::page(&mut tx, None, after, PAGE).await?;
        drop(tx);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        for content in &page {
            run.held.check()?;
            verifying.content(content).await?;
            done += if deep { content.length } else { 1 };
            run.held.tell("verify", percent(done, total));
        }
    }
    verifying.end().await
}

fn percent(done: u64, total: u64) -> u8 {
    u8::try_from(u128::from(done) * 99 / u128::from(total.max(1))).unwrap_or(99).min(99)
}

impl Verifying<'_> {
    async fn content(&mut self, content: &Content) -> Result<(), Stop> {
        self.contents += 1;
        let store = &self.run.service.parts.store;
        let checked = async {
            if !store.trace(&content.head, &self.packs).await? || self.deep {
                store.verify(&content.head).await?;
            }
            Ok::<(), chunks::Error>(())
        };
        match checked.await {
            Ok(()) => Ok(()),
            Err(error) if is_damage(error.kind()) => self.damage(content, error).await,
            Err(error) => Err(Error::from(error).into()),
        }
    }

    /// Notes that a content is damaged, unless it was deleted meanwhile.
    async fn damage(&mut self, content: &Content, error: chunks::Error) -> Result<(), Stop> {
        let mut tx = self.run.service.parts.catalog.read().await?;
        if contents::get(&mut tx, content.id).await?.is_none() {
            return Ok(());
        }
        let holders = contents::holders(&mut tx, content.id).await?;
        drop(tx);
        // So that what is written again replaces what is damaged.
        self.run.service.parts.store.scrub_content(&content.head, &self.packs).await.map_err(Error::from)?;
        self.damaged += 1;
        if self.damaged > NAMED_MAX {
            return Ok(());
        }
        let names: Vec<String> = holders
            .iter()
            .map(|holder| match &holder.name {
                Some(name) => format!("{} `{name}` ({})", holder.kind, holder.id),
                None => format!("{} `{}`", holder.kind, holder.id),
            })
            .collect();
        let who = if names.is_empty() { format!("content {}", content.id) } else { names.join(", ") };
        let error = Error::from(error).with_causes();
        Ok(self.run.log("verify", &format!("damaged: {who}: {}", error.sentence())).await?)
    }

    /// Fails if anything was damaged; returns how many contents were followed.
    async fn end(self) -> Result<u64, Stop> {
        let Self { run, deep, contents, damaged, .. } = self;
        if damaged > 0 {
            let message = format!("{damaged} of {contents} contents are damaged; the job's log names them");
            return Err(Error::new(ErrorKind::Corrupt, message)
                .with_hint("upload the same bytes again, which makes them whole wherever they are used, or delete them")
                .into());
        }
        let how =
            if deep { "every byte was read, and is what was written" } else { "every chunk is where it should be" };
        run.log("verify", &format!("{contents} contents are whole: {how}")).await?;
        Ok(contents)
    }
}

/// Returns whether a failure tells of the bytes, and not of the way to them.
fn is_damage(kind: StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::Corrupt | StoreErrorKind::NotFound | StoreErrorKind::KeyRefused)
}
