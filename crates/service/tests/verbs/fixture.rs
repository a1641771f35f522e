//! A whole service in a folder of its own: real catalog, store and keys, a fake driver, and a clock that tests move.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use catalog::Catalog;
use chunks::{Options, Pace, Store};
use jiff::{SignedDuration, Timestamp};
use keys::LocalKms;
use model::identity::{Principal, Project, Role, User};
use model::images::{Image, Visibility};
use model::jobs::Job;
use model::quotas::Resource;
use model::{Clock, ContainerFormat, ContentId, DiskFormat, ImageId, JobId, ProjectId, UserId};
use service::{BootstrapSecrets, CatalogIndex, FromObject, NewImage, Parts, PutObject, Runner, Service, Settings};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::backend::WatchedBackend;
use crate::driver::FakeDriver;
use crate::gate::DEADLINE;
use crate::payload::{CHUNK, body, read};

/// The node's own name.
pub(crate) const NODE: &str = "node-1";
/// How long a token lives.
pub(crate) const TOKEN_SECONDS: u32 = 3600;

/// A clock that stands still until a test moves it.
pub(crate) struct MovedClock(Mutex<Timestamp>);

impl MovedClock {
    /// Lets time pass.
    pub(crate) fn pass(&self, seconds: u32) {
        *self.0.lock().unwrap() += SignedDuration::from_secs(i64::from(seconds));
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// The service and everything that it was assembled from.
pub(crate) struct Fixture {
    pub(crate) service: Service,
    pub(crate) catalog: Catalog,
    pub(crate) backend: Arc<WatchedBackend>,
    pub(crate) driver: Arc<FakeDriver>,
    pub(crate) clock: Arc<MovedClock>,
    pub(crate) secrets: BootstrapSecrets,
    folder: TempDir,
}

impl Fixture {
    /// Assembles a service with its first administrator.
    pub(crate) async fn new() -> Self {
        Self::with_quotas(BTreeMap::new()).await
    }

    /// Assembles a service whose new projects have these limits.
    pub(crate) async fn with_quotas(quotas: BTreeMap<Resource, u64>) -> Self {
        Self::assemble(tempfile::tempdir().unwrap(), "catalog", Arc::default(), quotas).await
    }

    /// Goes on with the store and its keys alone, as after the loss of the catalog; new projects may keep and make nothing.
    pub(crate) async fn lose_catalog(self) -> Self {
        let nothing = [(Resource::StoredBytes, 0), (Resource::Images, 0)].into();
        Self::assemble(self.folder, "another", self.backend, nothing).await
    }

    async fn assemble(
        folder: TempDir,
        name: &str,
        backend: Arc<WatchedBackend>,
        quotas: BTreeMap<Resource, u64>,
    ) -> Self {
        let catalog = Catalog::connect(&format!("sqlite://{}/{name}.db", folder.path().display())).await.unwrap();
        let kms = Arc::new(LocalKms::open_or_create(&folder.path().join("master.key")).unwrap());
        let index = Arc::new(CatalogIndex::new(catalog.clone(), 0));
        let options = Options { chunk_size: CHUNK as u32, ..Options::default() };
        let store = Store::open(backend.clone(), index.clone(), kms.clone(), options).await.unwrap();
        let driver = Arc::new(FakeDriver::default());
        let clock = Arc::new(MovedClock(Mutex::new(Timestamp::from_second(1_800_000_000).unwrap())));
        let settings = Settings {
            region: "test".into(),
            token_seconds: TOKEN_SECONDS,
            node: NODE.into(),
            job_workers: 1,
            collect_seconds: 0,
            collect_pace: Pace::default(),
            scrub_days: 0,
            quotas,
            nbd_socket: folder.path().join("nbd.sock"),
            blocking_permits: 8,
            programs: None,
            abort_at: None,
        };
        let (driver_part, clock_part) = (driver.clone(), clock.clone());
        let parts = Parts {
            catalog: catalog.clone(),
            store,
            index,
            kms,
            driver: driver_part,
            sandbox: guest::Sandbox::none(),
            clock: clock_part,
            settings,
        };
        let service = Service::new(parts);
        service.recover().await.unwrap();
        let secrets = BootstrapSecrets::generate().unwrap();
        assert!(service.identity().bootstrap(&secrets).await.unwrap());
        Self { service, catalog, backend, driver, clock, secrets, folder }
    }

    /// Returns the first administrator.
    pub(crate) async fn root(&self) -> Principal {
        self.service.identity().signer(&self.secrets.access_key).await.unwrap().1
    }

    /// Returns a member of the first project, who is no administrator.
    pub(crate) async fn member(&self) -> Principal {
        let project = self.root().await.project;
        self.principal(&project, Role::Member).await
    }

    /// Makes a project.
    pub(crate) async fn project(&self, name: &str) -> Project {
        self.service.identity().create_project(&self.root().await, name).await.unwrap()
    }

    /// Makes a user with one role in a project; nobody can sign in as it, but a key of it would sign.
    pub(crate) async fn principal(&self, project: &Project, role: Role) -> Principal {
        let user = User {
            id: UserId::new(),
            domain: project.domain,
            name: format!("{role}-{}", UserId::new()),
            enabled: true,
            created_at: self.service.now(),
        };
        let mut tx = self.catalog.write().await.unwrap();
        catalog::users::insert(&mut tx, &user, "no password").await.unwrap();
        catalog::roles::grant(&mut tx, user.id, project.id, role).await.unwrap();
        tx.commit().await.unwrap();
        let roles = Role::ALL.iter().copied().filter(|implied| *implied >= role).collect();
        Principal { user, project: project.clone(), roles }
    }

    /// Starts the runner.
    pub(crate) async fn run(&self) -> Runner {
        Runner::start(self.service.clone()).await.unwrap()
    }

    /// Waits until a job has ended, and returns it. A runner must be there.
    pub(crate) async fn ended(&self, who: &Principal, id: JobId) -> Job {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let job = self.service.jobs().get(who, id).await.unwrap();
            if job.state.is_ended() {
                return job;
            }
            let lines = self.service.jobs().lines(who, id, 0).await.unwrap();
            assert!(Instant::now() < deadline, "not in time: {job:?}, {lines:#?}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asks again and again until there is an answer.
    pub(crate) async fn until<T>(&self, what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(Instant::now() < deadline, "{what}: not in time");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Puts an object.
    pub(crate) async fn put(&self, who: &Principal, bucket: &str, key: &str, bytes: &[u8]) -> ContentId {
        let put = self.service.objects().put(who, bucket, key, PutObject::default(), body(bytes)).await;
        put.unwrap().content
    }

    /// Returns the bytes of an object.
    pub(crate) async fn object(&self, who: &Principal, bucket: &str, key: &str) -> Vec<u8> {
        read(self.service.objects().get(who, bucket, key).await.unwrap().1.stream_all()).await
    }

    /// Returns the bytes of an image.
    pub(crate) async fn image_bytes(&self, who: &Principal, id: ImageId) -> Vec<u8> {
        let (_, download) = self.service.images().download(who, id).await.unwrap().unwrap();
        read(download.stream_all()).await
    }

    /// Makes an image that has bytes.
    pub(crate) async fn image(&self, who: &Principal, new: NewImage, bytes: &[u8]) -> Image {
        let image = self.service.images().create(who, new).await.unwrap();
        self.service.images().upload(who, image.id, body(bytes)).await.unwrap()
    }

    /// Returns whether a content has a record and a head; fails if it has one of them.
    pub(crate) async fn is_kept(&self, content: ContentId) -> bool {
        let mut tx = self.catalog.read().await.unwrap();
        let row = catalog::contents::get(&mut tx, content).await.unwrap().is_some();
        let head = self.backend.heads().await.contains(&format!("heads/{content}"));
        assert_eq!(row, head, "content {content}: record and head");
        row
    }

    /// Returns what a project has of a resource, which must be what its rows say.
    pub(crate) async fn used(&self, project: ProjectId, resource: Resource) -> u64 {
        let mut tx = self.catalog.read().await.unwrap();
        let all = catalog::quotas::list(&mut tx, project).await.unwrap();
        let used = all.iter().find(|quota| quota.resource == resource).unwrap().used;
        let there = catalog::quotas::recount(&mut tx, project, resource).await.unwrap();
        assert_eq!(used, there, "{resource}: counted and there");
        used
    }

    /// Sets one limit of a project.
    pub(crate) async fn limit(&self, project: ProjectId, resource: Resource, limit: Option<u64>) {
        let limits = [(resource, limit)].into();
        self.service.quotas().set(&self.root().await, project, &limits).await.unwrap();
    }

    /// Returns the number of contents: every head must belong to a record that something holds, and what is counted for
    /// quotas must be there.
    pub(crate) async fn contents(&self) -> usize {
        let mut tx = self.catalog.read().await.unwrap();
        let later = self.service.now() + SignedDuration::from_hours(1);
        let loose = catalog::contents::list_unreferenced(&mut tx, later, 100).await.unwrap();
        assert!(loose.is_empty(), "contents that nothing holds: {loose:?}");
        let projects = catalog::projects::list(&mut tx).await.unwrap();
        drop(tx);
        for (project, resource) in projects.iter().flat_map(|project| Resource::ALL.iter().map(|r| (project.id, *r))) {
            self.used(project, resource).await;
        }
        let mut tx = self.catalog.read().await.unwrap();
        let heads = self.backend.heads().await;
        for head in &heads {
            let id: ContentId = head.trim_start_matches("heads/").parse().unwrap();
            assert!(catalog::contents::get(&mut tx, id).await.unwrap().is_some(), "{head} has no record");
        }
        heads.len()
    }
}

/// Returns an image to be made, of this format.
pub(crate) fn new_image(format: DiskFormat) -> NewImage {
    NewImage {
        id: None,
        name: Some("web".into()),
        visibility: Visibility::Private,
        protected: false,
        hidden: false,
        disk_format: Some(format),
        container_format: Some(ContainerFormat::Bare),
        min_disk_gib: 0,
        min_ram_mib: 0,
        properties: BTreeMap::new(),
        tags: BTreeSet::new(),
    }
}

/// Returns what makes an image from an object, of this format or a probed one.
pub(crate) fn from_object(bucket: &str, key: &str, format: Option<DiskFormat>) -> FromObject {
    let image = new_image(DiskFormat::Raw);
    FromObject { image, bucket: bucket.into(), key: key.into(), format, member: None, passphrase: None, prepare: None }
}
