//! The service as one value that is passed down: its parts and its settings.
//!
//! Each noun adds the door to its verbs in its own file, so this one knows none of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use chunks::Pace;
use model::quotas::Resource;
use model::{Clock, Timestamp};
use tokio::sync::Notify;

use crate::blocking::Permits;
use crate::index::CatalogIndex;
use crate::open_disks::OpenDisks;

/// Numbers and places that configuration may change.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Region name told to clients.
    pub region: String,
    /// How long a token lives, in seconds.
    pub token_seconds: u32,
    /// This node's own name, the same after a restart: it takes back the jobs that it held.
    pub node: String,
    /// Jobs that run at once on this node.
    pub job_workers: usize,
    /// Seconds between two collections of garbage; 0 for none by itself.
    pub collect_seconds: u32,
    /// How much of the store's backend a collection takes at most.
    pub collect_pace: Pace,
    /// Days in which every pack of the store is read back once; 0 for never.
    pub scrub_days: u32,
    /// Limits of new projects; what is not named here has none.
    pub quotas: BTreeMap<Resource, u64>,
    /// Socket at which the disks of servers are served over NBD to this host, as `server/<id>`.
    pub nbd_socket: PathBuf,
    /// Pieces of blocking work (reading disks, hashing passwords) that run at once.
    pub blocking_permits: usize,
    /// That prepare may run programs of guests, and the packages that it may give them.
    pub programs: Option<guest::Programs>,
    /// For tests: the place (`KIND/STEP/before|middle|after`) at which the process ends itself.
    pub abort_at: Option<String>,
}

/// What a service is assembled from.
pub struct Parts {
    /// What is remembered.
    pub catalog: catalog::Catalog,
    /// What is kept.
    pub store: chunks::Store,
    /// The store's index over the catalog.
    pub index: Arc<CatalogIndex>,
    /// Who may read bytes.
    pub kms: Arc<dyn keys::Kms>,
    /// Where servers run.
    pub driver: Arc<dyn compute::Driver>,
    /// Where disks are looked into.
    pub sandbox: guest::Sandbox,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Numbers and places.
    pub settings: Settings,
}

/// Every verb of Molde. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    pub(crate) parts: Arc<Parts>,
    pub(crate) permits: Permits,
    /// Disks that are open for NBD clients.
    pub(crate) disks: Arc<OpenDisks>,
    /// Wakes an idle worker when a job was added on this node.
    pub(crate) wake: Arc<Notify>,
}

impl Service {
    /// Assembles a service. Nothing runs yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let permits = Permits::new(parts.settings.blocking_permits);
        Self { parts: Arc::new(parts), permits, disks: Arc::default(), wake: Arc::new(Notify::new()) }
    }

    /// Returns the settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.parts.settings
    }

    /// Returns what `choice` has repaired by this service, which may run programs of guests or not.
    pub(crate) fn choice(&self, choice: guest::Choice) -> guest::Choice {
        guest::Choice { programs: self.parts.settings.programs.clone(), ..choice }
    }

    /// Returns the present moment.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        // To the microsecond, as records keep it: what a verb returns is what will be read back.
        let now = self.parts.clock.now();
        Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
    }

    /// Returns whether the catalog answers.
    pub async fn healthy(&self) -> bool {
        self.parts.catalog.ping().await.is_ok()
    }
}
