//! Puts a service together from configuration: the one place that knows every part.

use std::sync::Arc;

use anyhow::{Context, Result};
use catalog::Catalog;
use chunks::{Backend, CacheOptions, CachedBackend, DirBackend, OpenedOptions, Options, RemoteBackend, Store};
use compute::{QemuDriver, QemuOptions};
use guest::Sandbox;
use keys::LocalKms;
use service::{CatalogIndex, Parts, Service, Settings};

use crate::clock::SystemClock;
use crate::config::{self, Acceleration, Config, Network};
use crate::data::Data;
use crate::disks;

const HOUR: u32 = 3600;
const DAY: u32 = 24 * HOUR;
/// Pieces of blocking work at once, for each processor: they also wait for the store.
const PERMITS_A_CPU: usize = 4;

/// Opens every part and returns the service over them. Nothing runs yet.
pub(crate) async fn service(data: &Data, config: &Config, abort_at: Option<String>) -> Result<Service> {
    let kms = Arc::new(LocalKms::open_or_create(&data.path("master.key")).context("cannot open the master key")?);
    let url = config.catalog.url.clone().unwrap_or_else(|| format!("sqlite://{}", data.path("catalog.db").display()));
    let catalog = Catalog::connect(&url).await.context("cannot open the catalog")?;
    let backend = backend(data, &config.store).await.context("cannot open the store")?;
    let index = Arc::new(CatalogIndex::new(catalog.clone(), config.collection.stray_days.saturating_mul(DAY)));
    let options = Options { opened: opened(data, &config.store), ..Options::default() };
    let store = Store::open(backend, Arc::clone(&index) as _, Arc::clone(&kms) as _, options)
        .await
        .context("cannot open the store")?;
    let acceleration = match config.compute.acceleration {
        Acceleration::Auto => compute::Acceleration::Auto,
        Acceleration::Kvm => compute::Acceleration::Kvm,
        Acceleration::Tcg => compute::Acceleration::Tcg,
    };
    let network = match config.compute.network {
        Network::Restricted => compute::Network::Restricted,
        Network::Open => compute::Network::Open,
    };
    let options = QemuOptions { acceleration, network, ..QemuOptions::new(data.path("servers")) };
    let driver = Arc::new(QemuDriver::new(options).await.context("cannot prepare the folder of servers")?);
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let settings = Settings {
        region: config.identity.region.clone(),
        token_seconds: config.identity.token_seconds,
        node: data.node()?,
        job_workers: config.jobs.workers,
        collect_seconds: config.collection.every_hours.saturating_mul(HOUR),
        collect_pace: config.collection.pace(),
        scrub_days: config.scrub.days,
        quotas: config.quota.limits(),
        nbd_socket: data.path(disks::SOCKET),
        blocking_permits: cpus * PERMITS_A_CPU,
        programs: config.guest.programs()?,
        abort_at,
    };
    let sandbox = Sandbox::of_this_program();
    // Images are kept and served all the same, and whoever wants to know what is in one is told this.
    let blank: Vec<u8> = vec![0; 512];
    if let Err(error) = sandbox.inspect(Arc::new(blank)) {
        tracing::error!(%error, "disks will not be looked into");
    }
    Ok(Service::new(Parts { catalog, store, index, kms, driver, sandbox, clock: Arc::new(SystemClock), settings }))
}

/// Returns where opened chunks are kept for small reads, if they are.
fn opened(data: &Data, config: &config::Store) -> Option<OpenedOptions> {
    (config.opened_size > 0).then(|| OpenedOptions { folder: data.path(""), size: config.opened_size })
}

/// Opens where chunks are kept: the data directory, or a bucket that was tried out, with a cache before it.
async fn backend(data: &Data, config: &config::Store) -> Result<Arc<dyn Backend>> {
    let Some(remote) = config.remote()? else {
        return Ok(Arc::new(DirBackend::open(data.path("store")).await?));
    };
    // A server that went on with an empty bucket would look as if all images were lost.
    anyhow::ensure!(
        !data.path("store").exists(),
        "the data directory has a store of its own, `{}`, and the section [store] names a bucket: \
         copy its objects into the bucket and rename the folder, or remove `url`",
        data.path("store").display()
    );
    let bucket = RemoteBackend::new(&remote)?;
    bucket.probe().await?;
    tracing::info!("chunks are kept in the {remote}");
    if config.cache_size == 0 {
        return Ok(Arc::new(bucket));
    }
    let folder = config.cache_path.clone().unwrap_or_else(|| data.path("cache"));
    let options = CacheOptions { folder, size: config.cache_size, block: CacheOptions::BLOCK };
    Ok(Arc::new(CachedBackend::open(Arc::new(bucket), options).await?))
}
