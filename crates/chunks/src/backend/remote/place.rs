//! Where a remote store lies: its configuration, and the client that is made of it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use keys::Secret;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::client::HttpConnector;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use crate::{Error, Result};

/// Which protocol a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Amazon S3, and what is like it: Ceph, MinIO, Garage, Huawei OBS.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage; its buckets are containers.
    Azure,
}

/// Where a remote store lies and how it is reached.
#[derive(Debug, Clone)]
pub struct RemoteConfig {
    /// Which protocol is spoken.
    pub protocol: Protocol,
    /// The bucket; the container of Azure.
    pub bucket: String,
    /// The folder in the bucket under which all objects lie; empty for the bucket itself.
    pub prefix: String,
    /// Address of the service, `https://...`; that of the public cloud where it is not told.
    pub endpoint: Option<String>,
    /// Region of an S3 bucket.
    pub region: Option<String>,
    /// The access key of S3, the account of Azure.
    pub access_key: Option<String>,
    /// The secret key of S3, the key of an Azure account, the service account of GCS in JSON. Without one the
    /// role of the machine counts.
    pub secret: Option<Secret>,
    /// Whether `http://` is allowed, where everybody on the way can read keys of objects and change bytes.
    pub allow_http: bool,
    /// Bounds.
    pub limits: RemoteLimits,
}

/// Bounds of time and parallelism.
#[derive(Debug, Clone, Copy)]
pub struct RemoteLimits {
    /// Calls at once; each holds at most one object in memory, and a slow read at most two. More wait.
    pub parallel: usize,
    /// Longest time of one request, from its start to the last byte of its answer.
    pub request: Duration,
    /// Longest time between two pieces of an answer.
    pub silence: Duration,
    /// No request is repeated after so much time of a call.
    pub retry: Duration,
    /// Most requests that repeat one.
    pub retries: usize,
    /// A read that is slower than nearly all before it is asked for again, but never before this time.
    pub hedge: Duration,
}

impl Default for RemoteLimits {
    fn default() -> Self {
        Self {
            parallel: 32,
            request: Duration::from_secs(60),
            silence: Duration::from_secs(20),
            retry: Duration::from_secs(90),
            retries: 100,
            hedge: Duration::from_millis(50),
        }
    }
}

impl RemoteLimits {
    /// Returns how long a call lasts at most: the last request may begin when the time to repeat is over.
    pub(super) fn call(&self) -> Duration {
        self.retry + self.request
    }

    fn retry_config(&self) -> RetryConfig {
        // A pause is drawn from the shortest up to `base` times the last one: with 2, pauses would hardly grow, and all
        // repetitions be over in seconds.
        let (init_backoff, max_backoff) = (Duration::from_millis(100), Duration::from_secs(5));
        let backoff = BackoffConfig { init_backoff, max_backoff, base: 4.0 };
        RetryConfig { backoff, max_retries: self.retries, retry_timeout: self.retry }
    }
}

impl RemoteConfig {
    /// Returns the path under which all objects lie.
    pub(super) fn root(&self) -> Result<Path> {
        Path::parse(&self.prefix)
            .map_err(|e| Error::invalid(format!("`{}` is no folder in a bucket", self.prefix)).with_source(e))
    }

    /// Makes a client; no request is sent yet.
    pub(super) fn client(&self, connector: impl HttpConnector) -> Result<Arc<dyn ObjectStore>> {
        let built = match self.protocol {
            Protocol::S3 => self.s3(connector),
            Protocol::Gcs => self.gcs(connector),
            Protocol::Azure => self.azure(connector),
        };
        built.map_err(|e| {
            Error::invalid(format!("{self} cannot be used as it is configured"))
                .with_hint("see the keys of the section [store] in docs/store.md")
                .with_source(e)
        })
    }

    fn s3(&self, connector: impl HttpConnector) -> object_store::Result<Arc<dyn ObjectStore>> {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(self.region.as_deref().unwrap_or("us-east-1"))
            // Not every S3 has the call that deletes many objects, and only one is ever deleted at once.
            .with_disable_bulk_delete(true)
            .with_client_options(self.options())
            .with_retry(self.limits.retry_config())
            .with_http_connector(connector);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(key) = &self.access_key {
            builder = builder.with_access_key_id(key);
        }
        if let Some(secret) = self.secret_text() {
            builder = builder.with_secret_access_key(secret);
        }
        Ok(Arc::new(builder.build()?))
    }

    fn gcs(&self, connector: impl HttpConnector) -> object_store::Result<Arc<dyn ObjectStore>> {
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(&self.bucket)
            .with_client_options(self.options())
            .with_retry(self.limits.retry_config())
            .with_http_connector(connector);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_base_url(endpoint);
        }
        if let Some(secret) = self.secret_text() {
            builder = builder.with_service_account_key(secret);
        }
        Ok(Arc::new(builder.build()?))
    }

    fn azure(&self, connector: impl HttpConnector) -> object_store::Result<Arc<dyn ObjectStore>> {
        let mut builder = MicrosoftAzureBuilder::new()
            .with_container_name(&self.bucket)
            .with_client_options(self.options())
            .with_retry(self.limits.retry_config())
            .with_http_connector(connector);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        if let Some(account) = &self.access_key {
            builder = builder.with_account(account);
        }
        if let Some(secret) = self.secret_text() {
            builder = builder.with_access_key(secret);
        }
        Ok(Arc::new(builder.build()?))
    }

    fn options(&self) -> ClientOptions {
        ClientOptions::new()
            .with_allow_http(self.allow_http)
            .with_timeout(self.limits.request)
            .with_read_timeout(self.limits.silence)
            .with_pool_max_idle_per_host(self.limits.parallel)
    }

    fn secret_text(&self) -> Option<String> {
        self.secret.as_ref().map(|secret| String::from_utf8_lossy(secret.expose()).trim().to_owned())
    }
}

impl fmt::Display for RemoteConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.protocol {
            Protocol::S3 => "s3 bucket",
            Protocol::Gcs => "gs bucket",
            Protocol::Azure => "az container",
        };
        write!(f, "{what} `{}`", self.bucket)?;
        match &self.endpoint {
            Some(endpoint) => write!(f, " at {endpoint}"),
            None => Ok(()),
        }
    }
}
