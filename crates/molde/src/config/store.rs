//! The section `[store]`: where chunks are kept, and the cache before a place that is far away.
//!
//! ```toml
//! [store]
//! url = "s3://bucket/folder"                  # s3://, gs:// or az://; default: the data directory
//! endpoint = "https://s3.example"             # default: that of the public cloud
//! region = "eu-west-1"                        # S3 only
//! access_key = "..."                          # S3: the access key; Azure: the account
//! secret_key_file = "/etc/molde/store.key"    # S3: the secret key; Azure: the account's key; GCS: the service account
//! allow_http = false                          # plain HTTP to an endpoint that is not on this host
//! cache_size = "10 GiB"                       # "0" for none
//! cache_path = "/var/cache/molde"             # default: `cache` in the data directory
//! opened_size = "1 GiB"                       # opened chunks at hand for small reads, wherever chunks are kept; "0" for none
//! ```

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use chunks::{Protocol, RemoteConfig, RemoteLimits};
use keys::Secret;
use model::sizes::Size;
use serde::{Deserialize, Deserializer, de};

/// Longest file that can be a key.
const SECRET_LENGTH_MAX: u64 = 64 * 1024;

/// Where chunks are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Store {
    url: Option<String>,
    endpoint: Option<String>,
    region: Option<String>,
    access_key: Option<String>,
    secret_key_file: Option<PathBuf>,
    allow_http: bool,
    /// Most bytes of the cache.
    #[serde(deserialize_with = "bytes")]
    pub(crate) cache_size: u64,
    /// Where the cache lies; in the data directory where it is not told.
    pub(crate) cache_path: Option<PathBuf>,
    /// Most bytes of opened chunks at hand for small reads.
    #[serde(deserialize_with = "bytes")]
    pub(crate) opened_size: u64,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: None,
            endpoint: None,
            region: None,
            access_key: None,
            secret_key_file: None,
            allow_http: false,
            cache_size: 10 << 30,
            cache_path: None,
            opened_size: 1 << 30,
        }
    }
}

impl Store {
    /// Returns where the bucket is, reading the key from its file; nothing where chunks stay in the data directory.
    pub(crate) fn remote(&self) -> Result<Option<RemoteConfig>> {
        let Some(url) = &self.url else {
            let set = self.endpoint.is_some() || self.access_key.is_some() || self.secret_key_file.is_some();
            ensure!(!set, "the section [store] has keys of a bucket and no `url`, which says which bucket");
            return Ok(None);
        };
        let (protocol, bucket, prefix) = parse(url)?;
        if let Some(endpoint) = &self.endpoint {
            self.check_endpoint(endpoint)?;
        }
        let secret = self.secret_key_file.as_deref().map(read_secret).transpose()?;
        Ok(Some(RemoteConfig {
            protocol,
            bucket,
            prefix,
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            access_key: self.access_key.clone(),
            secret,
            allow_http: self.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://")),
            limits: RemoteLimits::default(),
        }))
    }

    fn check_endpoint(&self, endpoint: &str) -> Result<()> {
        let Some(address) = endpoint.strip_prefix("http://") else {
            ensure!(endpoint.starts_with("https://"), "`endpoint` in [store] is `{endpoint}`, not https://...");
            return Ok(());
        };
        let host = address.split('/').next().unwrap_or_default();
        ensure!(!host.contains('@'), "`endpoint` in [store] has a user in it: use `access_key`");
        let name = match host.strip_prefix('[') {
            Some(literal) => literal.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        let is_here = name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        ensure!(
            is_here || self.allow_http,
            "`endpoint` in [store] is `{endpoint}`: over plain HTTP everybody on the way can change what is stored; \
             use https://, or set `allow_http = true`"
        );
        Ok(())
    }
}

/// Takes `s3://bucket/folder` apart.
fn parse(url: &str) -> Result<(Protocol, String, String)> {
    let (scheme, place) = url.split_once("://").unwrap_or_default();
    let protocol = match scheme {
        "s3" => Protocol::S3,
        "gs" => Protocol::Gcs,
        "az" => Protocol::Azure,
        _ => bail!("`url` in [store] is `{url}`, not s3://BUCKET/FOLDER, gs://BUCKET/FOLDER or az://CONTAINER/FOLDER"),
    };
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    let good = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_');
    ensure!(!bucket.is_empty() && bucket.bytes().all(good), "`url` in [store] is `{url}`, which names no bucket");
    Ok((protocol, bucket.to_owned(), prefix.trim_matches('/').to_owned()))
}

fn read_secret(path: &Path) -> Result<Secret> {
    let read = || -> std::io::Result<Vec<u8>> {
        let length = std::fs::metadata(path)?.len();
        if length > SECRET_LENGTH_MAX {
            return Err(std::io::Error::other(format!("it has {length} bytes, which is no key")));
        }
        std::fs::read(path)
    };
    let bytes = read().with_context(|| format!("cannot read `secret_key_file` of [store], `{}`", path.display()))?;
    Ok(Secret::new(bytes))
}

/// Reads a number of bytes: `1048576`, `"512 MiB"`, `"20 GiB"`.
pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(u64),
        Text(String),
    }
    match Written::deserialize(deserializer)? {
        Written::Number(number) => Ok(number),
        Written::Text(text) => text.parse::<Size>().map(|size| size.0).map_err(de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Store {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_bucket_is_read_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "verysecret\n").unwrap();
        let text =
            format!("url = \"s3://images/a/b/\"\nregion = \"x\"\naccess_key = \"AK\"\nsecret_key_file = {path:?}\n");
        let store = read(&text);
        let remote = store.remote().unwrap().unwrap();
        assert_eq!((remote.protocol, &*remote.bucket, &*remote.prefix), (Protocol::S3, "images", "a/b"));
        assert_eq!((remote.region.as_deref(), remote.access_key.as_deref()), (Some("x"), Some("AK")));
        assert!(!remote.allow_http);
        assert!(!format!("{store:?}{remote:?}").contains("verysecret"));
        for (url, protocol) in [("gs://b", Protocol::Gcs), ("az://b/x", Protocol::Azure)] {
            assert_eq!(read(&format!("url = \"{url}\"")).remote().unwrap().unwrap().protocol, protocol);
        }
        assert!(read("").remote().unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_a_sentence() {
        for (text, says) in [
            ("url = \"http://bucket\"", "not s3://"),
            ("url = \"bucket\"", "not s3://"),
            ("url = \"s3:///folder\"", "names no bucket"),
            ("url = \"s3://Bad Bucket\"", "names no bucket"),
            ("access_key = \"x\"", "no `url`"),
            ("url = \"s3://b\"\nendpoint = \"ftp://x\"", "not https://"),
            ("url = \"s3://b\"\nendpoint = \"http://s3.example:80\"", "`allow_http = true`"),
            ("url = \"s3://b\"\nendpoint = \"http://localhost.example\"", "`allow_http = true`"),
            ("url = \"s3://b\"\nendpoint = \"http://127.0.0.1@evil\"", "has a user"),
            ("url = \"s3://b\"\nsecret_key_file = \"/no/such/file\"", "/no/such/file"),
            ("url = \"s3://b\"\nsecret_key_file = \"/\"", "`secret_key_file`"),
        ] {
            let error = format!("{:#}", read(text).remote().unwrap_err());
            assert!(error.contains(says), "{text}: {error}");
        }
        for here in ["http://127.0.0.1:9000", "http://localhost:1/x", "http://[::1]:1", "http://127.9.9.9", "https://x"]
        {
            assert!(read(&format!("url = \"s3://b\"\nendpoint = \"{here}\"")).remote().is_ok(), "{here}");
        }
        let allowed = read("url = \"s3://b\"\nendpoint = \"http://s3.example\"\nallow_http = true");
        assert!(allowed.remote().unwrap().unwrap().allow_http);
    }

    #[test]
    fn a_size_has_a_unit_or_is_a_number_of_bytes() {
        let size = |text: &str| toml::from_str::<Store>(&format!("cache_size = {text}")).map(|store| store.cache_size);
        for (text, bytes) in [("0", 0), ("\"0\"", 0), ("4096", 4096), ("\"20 GiB\"", 20 << 30), ("\"3MiB\"", 3 << 20)] {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for bad in ["-1", "\"\"", "\"GiB\"", "\"1 GB\"", "\"99999999999 TiB\"", "true", "\"1.5 GiB\""] {
            assert!(size(bad).is_err(), "{bad}");
        }
        assert_eq!((read("").cache_size, read("").opened_size), (10 << 30, 1 << 30));
        assert_eq!(read("opened_size = \"0\"").opened_size, 0);
    }
}
