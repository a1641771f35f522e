//! The catalog, the directory and the ledger that all processes of a soak share.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use catalog::{Catalog, contents, sessions};
use chunks::{DirBackend, Found, Index, Options, Snapshot, Store};
use futures::TryStreamExt as _;
use keys::LocalKms;
use model::contents::Content;
use model::identity::{Domain, Project};
use model::packs::PackState;
use model::{ContentId, DomainId, ProjectId, Timestamp};
use service::CatalogIndex;
use uuid::Uuid;

use crate::recipe::Recipe;
use crate::watched_index::{Watch, WatchedIndex};

/// Chunks of 4 KiB, segments of 8, packs of 64 KiB: every border is near, and a content is in several packs.
pub(crate) const CHUNK: u64 = 4096;
const OPTIONS: Options = Options { chunk_size: CHUNK as u32, segment_chunks: 8, pack_length: 64 << 10, opened: None };
/// A process that was killed is missed after these seconds, so that collection goes on; one that is held up is as well.
pub(crate) const LEASE_SECONDS: u32 = 4;
const KEPT_SECONDS: u32 = 6;
/// More contents than there can be.
const ALL: u32 = 100_000;

/// A rule of collection that is taken away, to see that this is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// A mark counts while sessions from before are open.
    Watermark,
    /// A writer uses a condemned pack without reviving it.
    Revival,
}

impl Broken {
    pub(crate) const ALL: [Self; 3] = [Self::Nothing, Self::Watermark, Self::Revival];
}

impl Watch for Broken {
    fn found(&self, found: &mut [Option<Found>]) {
        if *self == Self::Revival {
            let condemned = found.iter_mut().flatten().filter(|found| found.state == PackState::Condemned);
            condemned.for_each(|found| found.state = PackState::Sealed);
        }
    }

    fn read(&self, snapshot: &mut Snapshot) {
        if *self == Self::Watermark {
            snapshot.oldest_session = u64::MAX;
        }
    }
}

/// Everything that is shared, as one process sees it.
pub(crate) struct Place {
    pub(crate) catalog: Catalog,
    pub(crate) index: Arc<CatalogIndex>,
    pub(crate) store: Store,
    pub(crate) backend: Arc<DirBackend>,
    pub(crate) project: ProjectId,
    ledger: PathBuf,
    /// A file that grows by a byte with each collection that ended.
    collections: PathBuf,
}

impl Place {
    /// Makes what is shared.
    pub(crate) async fn make(folder: &Path, url: &str) {
        fs::create_dir(folder.join("ledger")).unwrap();
        LocalKms::open_or_create(&folder.join("master.key")).unwrap();
        let place = Self::open(folder, url, Broken::Nothing).await;
        let domain = Domain { id: DomainId::new(), name: "soak".into() };
        let created_at = Timestamp::from_second(1).unwrap();
        let project = Project { id: place.project, domain: domain.id, name: "soak".into(), enabled: true, created_at };
        let mut tx = place.catalog.write().await.unwrap();
        catalog::domains::insert(&mut tx, &domain).await.unwrap();
        catalog::projects::insert(&mut tx, &project).await.unwrap();
        tx.commit().await.unwrap();
        place.catalog.close().await;
    }

    pub(crate) async fn open(folder: &Path, url: &str, broken: Broken) -> Self {
        let catalog = Catalog::connect(url).await.unwrap();
        let kms = Arc::new(LocalKms::open_or_create(&folder.join("master.key")).unwrap());
        let backend = Arc::new(DirBackend::open(folder.join("store")).await.unwrap());
        let index = Arc::new(CatalogIndex::new(catalog.clone(), 0).with_leases(LEASE_SECONDS, KEPT_SECONDS));
        let watched: Arc<dyn Index> = Arc::new(WatchedIndex { inner: index.clone(), watch: Arc::new(broken) });
        let store = Store::open(backend.clone(), watched, kms, OPTIONS).await.unwrap();
        let project = ProjectId::from(Uuid::from_u128(0xd0));
        let (ledger, collections) = (folder.join("ledger"), folder.join("collections"));
        Self { catalog, index, store, backend, project, ledger, collections }
    }

    /// Counts a collection that ended.
    pub(crate) fn count_collection(&self) {
        File::options().create(true).append(true).open(&self.collections).unwrap().write_all(b"x").unwrap();
    }

    /// Returns how many collections of all processes have ended.
    pub(crate) fn collections(&self) -> u64 {
        fs::metadata(&self.collections).map_or(0, |data| data.len())
    }

    /// Writes down what a content is going to be; before it is made, so that whoever sees it knows.
    pub(crate) fn write_down(&self, id: ContentId, recipe: &Recipe) {
        let (part, name) = (self.ledger.join(format!("{id}.part")), self.ledger.join(id.to_string()));
        fs::write(&part, recipe.to_text()).unwrap();
        fs::rename(&part, name).unwrap();
    }

    /// Returns what a content was to be.
    pub(crate) fn recipe(&self, id: ContentId) -> Recipe {
        Recipe::from_text(&fs::read_to_string(self.ledger.join(id.to_string())).unwrap())
    }

    /// Returns the contents that are recorded.
    pub(crate) async fn contents(&self) -> Vec<Content> {
        let mut tx = self.catalog.read().await.unwrap();
        contents::page(&mut tx, Some(self.project), None, ALL).await.unwrap()
    }

    pub(crate) async fn is_kept(&self, id: ContentId) -> bool {
        let mut tx = self.catalog.read().await.unwrap();
        sessions::is_kept(&mut tx, &id.to_string()).await.unwrap()
    }

    /// Reads a content; an error is what the store said, or that its bytes are others.
    pub(crate) async fn read(&self, content: &Content) -> Result<(), ReadError> {
        let bytes: chunks::Result<Vec<bytes::Bytes>> = async {
            let reader = self.store.reader(&content.head).await?;
            reader.stream(0..reader.len()).try_collect().await
        }
        .await;
        let bytes = bytes.map_err(ReadError::Failed)?.concat();
        if bytes == self.recipe(content.id).bytes() { Ok(()) } else { Err(ReadError::Wrong) }
    }

    /// Removes a content as the verbs do: the record first. Returns whether it was there.
    pub(crate) async fn delete(&self, id: ContentId) -> bool {
        let mut tx = self.catalog.write().await.unwrap();
        let existed = contents::delete(&mut tx, id).await.unwrap();
        tx.commit().await.unwrap();
        self.store.forget(id.uuid()).await.unwrap();
        existed
    }
}

/// Why a content was not read.
#[derive(Debug)]
pub(crate) enum ReadError {
    Failed(chunks::Error),
    /// It has other bytes than it was given.
    Wrong,
}

/// Returns an error and its causes as one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ").replace('\n', " ")
}
