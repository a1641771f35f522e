//! Configuration: `DIR/molde.toml`, one section a struct; what is not written there has a default that works.
//!
//! ```toml
//! [catalog]
//! url = "postgres://molde@db.example/molde"   # default: SQLite in the data directory
//!
//! [compute]
//! acceleration = "auto"                       # auto, kvm or tcg
//! network = "restricted"                      # restricted, or open: guests reach what this host reaches
//!
//! [guest]
//! run_programs = false                        # true: prepare may run a guest's own programs, in a micro-VM without a network
//! packages = "/srv/molde/packages"            # default: none; what they may install, such as cloud-init
//!
//! [collection]
//! every_hours = 6                             # 0: garbage is only collected when `molde store gc` asks for it
//! stray_days = 7                              # how long an object that no record names is kept
//! bytes_per_second = "64 MiB"                 # the most that a collection reads and writes; "0": no limit
//! requests_per_second = 300                   # the most that it reads, writes and removes; 0: no limit
//!
//! [scrub]
//! days = 30                                   # in so many days every byte of the store is read back once; 0: never
//!
//! [quota]                                     # limits of new projects; without one there is none
//! stored = "100 GiB"                          # bytes in the store, each counted once, compressed
//! objects = 10000
//! images = 100
//!
//! [api]
//! public_url = "https://images.example"       # what clients are told; default: the listening address
//!
//! [nbd]
//! listen = "192.0.2.1:10809"                  # default: the socket in the data directory alone
//! tls_cert = "/etc/molde/server-cert.pem"     # TLS only; needed where other hosts reach the address
//! tls_key = "/etc/molde/server-key.pem"
//! tls_client_ca = "/etc/molde/ca-cert.pem"    # only clients with a certificate of it; default: all
//! public_url = "nbds://images.example"        # what clients are told; default: the listening address
//! ```
//!
//! The section `[store]` is described in `store.rs`.

mod store;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use chunks::Pace;
use guest::Programs;
use model::quotas::Resource;
use serde::{Deserialize, Deserializer};

pub(crate) use store::Store;

/// Everything that can be configured.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) api: Api,
    pub(crate) s3: S3,
    pub(crate) identity: Identity,
    pub(crate) catalog: Catalog,
    pub(crate) store: Store,
    pub(crate) compute: Compute,
    pub(crate) guest: Guest,
    pub(crate) jobs: Jobs,
    pub(crate) collection: Collection,
    pub(crate) scrub: Scrub,
    pub(crate) quota: Quota,
    pub(crate) nbd: Nbd,
}

/// Collection of garbage in the chunk store.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Collection {
    /// Hours between two collections; 0 for none but those that are asked for.
    pub(crate) every_hours: u32,
    /// Days after which a head that no record names is removed.
    pub(crate) stray_days: u32,
    /// Bytes that a collection reads and writes in a second at most; 0 for no limit.
    #[serde(deserialize_with = "store::bytes")]
    bytes_per_second: u64,
    /// Calls to the store in a second at most; 0 for no limit.
    requests_per_second: u32,
}

impl Collection {
    /// Returns the limits of one collection.
    pub(crate) fn pace(self) -> Pace {
        Pace { bytes: self.bytes_per_second, requests: self.requests_per_second }
    }
}

impl Default for Collection {
    fn default() -> Self {
        // Half of a slow disk, and a tenth of what object stores grant for one prefix.
        Self { every_hours: 6, stray_days: 7, bytes_per_second: 64 << 20, requests_per_second: 300 }
    }
}

/// Reading back of what is kept.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Scrub {
    /// Days in which every pack of the store is read back once; 0 for never.
    pub(crate) days: u32,
}

impl Default for Scrub {
    fn default() -> Self {
        Self { days: 30 }
    }
}

/// What a project may have that is made from now on; 0 is nothing at all.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Quota {
    #[serde(deserialize_with = "some_bytes")]
    stored: Option<u64>,
    objects: Option<u64>,
    images: Option<u64>,
}

impl Quota {
    /// Returns the limits that there are.
    pub(crate) fn limits(&self) -> BTreeMap<Resource, u64> {
        let all =
            [(Resource::StoredBytes, self.stored), (Resource::Objects, self.objects), (Resource::Images, self.images)];
        all.into_iter().filter_map(|(resource, limit)| Some((resource, limit?))).collect()
    }
}

fn some_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    store::bytes(deserializer).map(Some)
}

/// The REST listener.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Api {
    /// Address that clients are told, without a slash at the end.
    pub(crate) public_url: Option<String>,
}

/// The S3 listener.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct S3 {
    /// Address that clients are told, without a slash at the end.
    pub(crate) public_url: Option<String>,
}

/// The NBD listener for exports, beside the socket in the data directory.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Nbd {
    /// Where it listens; nowhere unless told.
    pub(crate) listen: Option<SocketAddr>,
    /// The certificate in PEM form, with those between it and its root.
    pub(crate) tls_cert: Option<PathBuf>,
    /// Its private key in PEM form.
    pub(crate) tls_key: Option<PathBuf>,
    /// Authorities in PEM form of whose clients each must have a certificate.
    pub(crate) tls_client_ca: Option<PathBuf>,
    /// URI that clients are told, without a slash at the end.
    pub(crate) public_url: Option<String>,
}

/// Names and lives.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Identity {
    /// Region name told to clients; S3 signatures must name it.
    pub(crate) region: String,
    /// How long a token lives, in seconds.
    pub(crate) token_seconds: u32,
}

impl Default for Identity {
    fn default() -> Self {
        Self { region: "local-1".into(), token_seconds: 12 * 3600 }
    }
}

/// Where records are kept.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Catalog {
    /// `postgres://...`; SQLite in the data directory otherwise.
    pub(crate) url: Option<String>,
}

impl std::fmt::Debug for Catalog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Catalog").field("url", &self.url.as_ref().map(|_| "...")).finish()
    }
}

/// Where servers run.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Compute {
    pub(crate) acceleration: Acceleration,
    pub(crate) network: Network,
}

/// What guests reach. Forwarded ports reach the guest in both cases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Network {
    /// Nothing: they get an address by DHCP and answer on their forwarded ports.
    #[default]
    Restricted,
    /// All that this host reaches, services on its loopback address included.
    Open,
}

/// What executes a guest's instructions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Acceleration {
    /// KVM where a probe guest really runs, else TCG.
    #[default]
    Auto,
    /// KVM.
    Kvm,
    /// QEMU's translator.
    Tcg,
}

/// Preparing guests.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Guest {
    /// Whether prepare may run a guest's own programs.
    run_programs: bool,
    /// Folder of the packages that these may install.
    packages: Option<PathBuf>,
}

impl Guest {
    /// Returns what prepare may run.
    pub(crate) fn programs(&self) -> Result<Option<Programs>> {
        match (&self.packages, self.run_programs) {
            (None, false) => Ok(None),
            (None, true) => Ok(Some(Programs::default())),
            (Some(folder), true) => {
                Ok(Some(Programs::with_packages(folder).context("`packages` in `[guest]` cannot be used")?))
            }
            (Some(_), false) => anyhow::bail!(
                "`packages` in `[guest]` are installed by the guest's own programs, which may not run: set `run_programs = true`"
            ),
        }
    }
}

/// Long work.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Jobs {
    /// Jobs that run at once on this node.
    pub(crate) workers: usize,
}

impl Default for Jobs {
    fn default() -> Self {
        Self { workers: 4 }
    }
}

impl Config {
    /// Reads a configuration file; an absent one is all defaults.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            text => text.with_context(|| format!("cannot read the configuration `{}`", path.display()))?,
        };
        toml::from_str(&text).with_context(|| format!("the configuration `{}` cannot be used", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_and_the_known_ones_named() {
        let error = toml::from_str::<Config>("[jobs]\nworker = 3\n").unwrap_err().to_string();
        assert!(error.contains("worker") && error.contains("workers"), "{error}");
    }

    #[test]
    fn new_projects_have_the_limits_that_are_written() {
        let limits = |text: &str| toml::from_str::<Config>(text).map(|config| config.quota.limits());
        assert!(limits("").unwrap().is_empty());
        let all = limits("[quota]\nstored = \"2 GiB\"\nobjects = 7\nimages = 0\n").unwrap();
        assert_eq!(all, [(Resource::StoredBytes, 2 << 30), (Resource::Objects, 7), (Resource::Images, 0)].into());
        assert_eq!(limits("[quota]\nimages = 3\n").unwrap(), [(Resource::Images, 3)].into());
        for (bad, says) in [("stored = \"2 GB\"", "20 GiB"), ("objects = -1", "-1"), ("image = 3", "images")] {
            let error = limits(&format!("[quota]\n{bad}\n")).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn collection_is_limited_unless_told_otherwise() {
        let pace = |text: &str| toml::from_str::<Config>(text).map(|config| config.collection.pace());
        assert_eq!(pace("").unwrap(), Pace { bytes: 64 << 20, requests: 300 });
        let written = "[collection]\nbytes_per_second = \"1 GiB\"\nrequests_per_second = 0\n";
        assert_eq!(pace(written).unwrap(), Pace { bytes: 1 << 30, requests: 0 });
        assert!(pace("[collection]\nbytes_per_second = \"fast\"\n").is_err());
    }

    #[test]
    fn what_is_written_counts() {
        let config: Config = toml::from_str("[jobs]\nworkers = 9\n[compute]\nacceleration = \"tcg\"\n").unwrap();
        assert_eq!((config.jobs.workers, config.compute.acceleration), (9, Acceleration::Tcg));
        assert_eq!(config.identity.region, "local-1");
    }

    #[test]
    fn packages_are_for_programs_that_may_run() {
        let programs = |text: &str| toml::from_str::<Config>(text).unwrap().guest.programs();
        assert!(programs("").unwrap().is_none());
        assert!(programs("[guest]\nrun_programs = true\n").unwrap().is_some());
        let error = programs("[guest]\npackages = \"/srv\"\n").unwrap_err().to_string();
        assert!(error.contains("run_programs = true"), "{error}");
        let text = "[guest]\nrun_programs = true\npackages = \"/nonexistent/packages\"\n";
        let error = format!("{:#}", programs(text).unwrap_err());
        assert!(error.contains("[guest]") && error.contains("/nonexistent/packages"), "{error}");
    }
}
