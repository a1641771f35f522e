//! What the store holds and what it costs: in all, for each project, and for the contents whose deletion frees most.

use catalog::contents::{self, Holder};
use catalog::{projects, scrubs};
use chunks::Share;
use model::ContentId;
use model::contents::Content;
use model::identity::{Principal, Project, Role};

use crate::error::Result;
use crate::policy;
use crate::store::Store;

/// Contents that are read from the catalog at once.
const PAGE: u32 = 1000;
/// Most contents that are listed.
const LISTED_MAX: usize = 1000;

/// What the store holds.
#[derive(Debug, Clone, Default)]
pub struct StoreStats {
    /// All projects together; a chunk is never shared between two.
    pub sum: Sizes,
    /// Packs that are recorded.
    pub packs: u64,
    /// Their bytes: what is held, and what collection has not removed yet.
    pub pack_bytes: u64,
    /// Each project that holds anything, by its name.
    pub projects: Vec<ProjectStats>,
    /// The contents whose deletion frees most.
    pub contents: Vec<ContentStats>,
}

/// What contents say and what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Contents.
    pub contents: u64,
    /// Their bytes, zeros included.
    pub length: u64,
    /// Their bytes without chunks that are zero.
    pub data: u64,
    /// The different chunks of them, and what these take in the packs.
    pub held: Share,
}

/// What a project holds.
#[derive(Debug, Clone)]
pub struct ProjectStats {
    /// The project in which the chunks were written.
    pub project: Project,
    /// What it holds.
    pub sizes: Sizes,
}

/// What a content holds.
#[derive(Debug, Clone)]
pub struct ContentStats {
    /// Its id.
    pub content: ContentId,
    /// The project in which its chunks were written.
    pub project: Project,
    /// The records that hold it.
    pub holders: Vec<Holder>,
    /// Its sizes.
    pub sizes: Sizes,
    /// What collection frees once all of its holders are deleted.
    pub freed: Share,
}

impl Sizes {
    /// Returns how often a byte of data occurs on average.
    #[must_use]
    pub fn dedup_ratio(&self) -> f64 {
        ratio(self.data, self.held.plain)
    }

    /// Returns how many bytes of data one stored byte holds.
    #[must_use]
    pub fn compression_ratio(&self) -> f64 {
        ratio(self.held.plain, self.held.stored)
    }

    fn add(&mut self, other: &Self) {
        self.contents += other.contents;
        self.length += other.length;
        self.data += other.data;
        self.held.chunks += other.held.chunks;
        self.held.plain += other.held.plain;
        self.held.stored += other.held.stored;
    }
}

fn ratio(of: u64, to: u64) -> f64 {
    // For people, so the rounding of large numbers does not matter.
    if to == 0 { 1.0 } else { of as f64 / to as f64 }
}

impl Store<'_> {
    /// Counts what the store holds, by the manifests of all contents; lists the `listed` contents whose deletion frees
    /// most. Reads 66 KiB for each 512 MiB of content.
    pub async fn stats(&self, who: &Principal, listed: usize) -> Result<StoreStats> {
        policy::require(who, Role::Admin, "look at the store")?;
        let listed = listed.min(LISTED_MAX);
        let mut tx = self.0.parts.catalog.read().await?;
        let checked = scrubs::checked(&mut tx).await?;
        let mut all = projects::list(&mut tx).await?;
        drop(tx);
        all.sort_by(|a, b| a.name.cmp(&b.name));
        let mut stats = StoreStats { packs: checked.packs, pack_bytes: checked.bytes, ..StoreStats::default() };
        for project in all {
            let (sizes, contents) = self.count(&project, listed).await?;
            if sizes.contents > 0 {
                stats.sum.add(&sizes);
                stats.contents.extend(contents);
                stats.projects.push(ProjectStats { project, sizes });
            }
        }
        stats.contents.sort_by_key(|content| std::cmp::Reverse(content.freed.stored));
        stats.contents.truncate(listed);
        let mut tx = self.0.parts.catalog.read().await?;
        for content in &mut stats.contents {
            content.holders = contents::holders(&mut tx, content.content).await?;
        }
        Ok(stats)
    }

    /// Counts one project; returns its sizes and the contents whose deletion frees most.
    async fn count(&self, project: &Project, listed: usize) -> Result<(Sizes, Vec<ContentStats>)> {
        let mut tally = self.0.parts.store.tally();
        let mut after = None;
        loop {
            let mut tx = self.0.parts.catalog.read().await?;
            let page: Vec<Content> = contents::page(&mut tx, Some(project.id), after, PAGE).await?;
            for content in &page {
                tally.add(&content.head)?;
            }
            match page.last() {
                Some(last) => after = Some(last.id),
                None => break,
            }
        }
        let chunk = u64::from(self.0.parts.store.chunk_size());
        let usage = tally.count().await?;
        let mut sizes = Sizes { held: usage.held, ..Sizes::default() };
        let mut found = Vec::with_capacity(usage.contents.len());
        for content in usage.contents {
            let data = content.length.saturating_sub(content.zero.saturating_mul(chunk));
            sizes.contents += 1;
            sizes.length += content.length;
            sizes.data += data;
            found.push(ContentStats {
                content: content.content.into(),
                project: project.clone(),
                holders: Vec::new(),
                sizes: Sizes { contents: 1, length: content.length, data, held: content.held },
                freed: content.freed,
            });
        }
        found.sort_by_key(|content| std::cmp::Reverse(content.freed.stored));
        found.truncate(listed);
        Ok((sizes, found))
    }
}
