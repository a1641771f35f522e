//! The data directory: what lies in it, who holds it, and the files that the first start writes for people.
//!
//! ```text
//!   molde.toml        configuration, optional           lock          held while a server runs
//!   credentials.json  the administrator's keys, 0600    node          this node's name
//!   clouds.yaml       the same for OpenStack clients    master.key    the embedded key service
//!   catalog.db        SQLite                            store/        chunks
//!   servers/          disks of servers                  nbd.sock      images' disks, for servers and other NBD clients
//!   cache/            blocks of packs, where chunks are kept in a bucket
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cli::credentials::Credentials;
use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

/// An opened data directory; nobody else can open it while this value lives.
pub(crate) struct Data {
    root: PathBuf,
    _lock: File,
}

impl Data {
    /// Opens a data directory, made if it is absent.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
        made.with_context(|| format!("cannot make the data directory `{}`", root.display()))?;
        let root =
            root.canonicalize().with_context(|| format!("cannot use the data directory `{}`", root.display()))?;
        let lock = OpenOptions::new().create(true).append(true).mode(0o600).open(root.join("lock"));
        let lock = lock.with_context(|| format!("cannot write into the data directory `{}`", root.display()))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!("another server uses the data directory `{}`", root.display());
        }
        Ok(Self { root, _lock: lock })
    }

    /// Returns the path of something in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Returns this node's name, the same at every start.
    pub(crate) fn node(&self) -> Result<String> {
        let path = self.path("node");
        if let Ok(name) = fs::read_to_string(&path) {
            let name = name.trim().to_owned();
            if !name.is_empty() {
                return Ok(name);
            }
        }
        let name = Uuid::new_v4().to_string();
        self.write("node", format!("{name}\n").as_bytes())?;
        Ok(name)
    }

    /// Reads the credentials of an earlier start.
    pub(crate) fn credentials(&self) -> Result<Option<Credentials>> {
        let path = self.path("credentials.json");
        if !path.exists() {
            return Ok(None);
        }
        Credentials::read(&path).map(Some).map_err(|failure| anyhow::anyhow!("{failure}"))
    }

    /// Writes the credentials for Molde's and OpenStack's clients, readable by the owner only.
    pub(crate) fn write_credentials(&self, credentials: &Credentials) -> Result<()> {
        let mut json = serde_json::to_vec_pretty(credentials)?;
        json.push(b'\n');
        self.write("credentials.json", &json)?;
        self.write("clouds.yaml", clouds_yaml(credentials)?.as_bytes())
    }

    /// Replaces a file in one step that survives a crash.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let (path, part) = (self.path(name), self.path(&format!(".{name}.part")));
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&part)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            File::open(&self.root)?.sync_all()
        };
        write().with_context(|| format!("cannot write `{}`", path.display()))
    }
}

/// A cloud named `molde` for OpenStack clients. JSON strings are YAML strings.
fn clouds_yaml(credentials: &Credentials) -> Result<String> {
    let quote = |text: &str| serde_json::to_string(text);
    Ok(format!(
        "clouds:\n  molde:\n    auth:\n      auth_url: {}\n      username: {}\n      password: {}\n      project_name: {}\n      \
         user_domain_name: {domain}\n      project_domain_name: {domain}\n    region_name: {}\n    identity_api_version: 3\n",
        quote(&format!("{}/v3", credentials.endpoint))?,
        quote(&credentials.username)?,
        quote(&credentials.password)?,
        quote(&credentials.project_name)?,
        quote(&credentials.region)?,
        domain = quote(&credentials.domain)?,
    ))
}
