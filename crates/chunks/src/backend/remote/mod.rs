//! Objects in a bucket of S3, Google Cloud Storage or Azure, through the crate `object_store`.
//!
//! ```text
//! call -> permit -> [slow read? a second one] -> object_store: sign, send, repeat -> wire: count, bound -> HTTP
//! ```
//! Invariants: only names that are not there are written, by exclusive create; a call ends within
//! [`RemoteLimits`]; what the other side announces takes no memory before it is checked. Not here: whether a
//! bucket keeps what this needs of it, which `probe.rs` finds out.

mod fault;
mod hedge;
mod place;
mod probe;
mod stats;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::client::{HttpConnector, ReqwestConnector};
use object_store::path::Path;
use object_store::{
    Error as Cause, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, PutResult,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

pub use place::{Protocol, RemoteConfig, RemoteLimits};
pub use stats::RemoteStats;

use super::{Backend, BackendStats, OBJECT_LENGTH_MAX, check_name, check_prefix, past_the_end, too_large};
use crate::{Error, ErrorKind, Result};
use hedge::Latency;
use stats::Counters;
use wire::{Trail, Wire};

/// How often a read is begun whose answer was no error and not what was asked for.
const READS_MAX: usize = 3;
/// Reads up to so many bytes are compared with their like when one is called slow, and so are longer ones.
const SHORT_READ: u64 = 1024 * 1024;

/// A backend in a bucket of an object store.
pub struct RemoteBackend {
    store: Arc<dyn ObjectStore>,
    root: Path,
    /// How errors name the bucket.
    place: String,
    limits: RemoteLimits,
    permits: Semaphore,
    counters: Arc<Counters>,
    short: Latency,
    long: Latency,
}

/// What a read found: the bytes, and how long the whole object is.
struct Found {
    bytes: Bytes,
    size: u64,
}

impl RemoteBackend {
    /// Makes a backend and sends nothing yet: [`RemoteBackend::probe`] tells whether it can be used.
    ///
    /// # Errors
    /// `Invalid` when the configuration contradicts itself.
    pub fn new(config: &RemoteConfig) -> Result<Self> {
        Self::with_connector(config, ReqwestConnector::default())
    }

    /// Makes a backend that sends its requests through clients of `connector`: tests put faults there.
    pub fn with_connector(config: &RemoteConfig, connector: impl HttpConnector) -> Result<Self> {
        let counters = Arc::<Counters>::default();
        let wire = Wire { connector: Box::new(connector), counters: Arc::clone(&counters), place: config.to_string() };
        Ok(Self {
            store: config.client(wire)?,
            root: config.root()?,
            place: config.to_string(),
            limits: config.limits,
            permits: Semaphore::new(config.limits.parallel.max(1)),
            counters,
            short: Latency::default(),
            long: Latency::default(),
        })
    }

    /// Returns what the backend did since it was opened.
    #[must_use]
    pub fn stats(&self) -> RemoteStats {
        self.counters.now()
    }

    fn path(&self, name: &str) -> Result<Path> {
        check_name(name)?;
        Ok(name.split('/').fold(self.root.clone(), Path::join))
    }

    async fn permit(&self) -> SemaphorePermit<'_> {
        self.permits.acquire().await.expect("the semaphore is never closed")
    }

    /// Awaits a call for as long as a call may last; `doing` completes "cannot ...".
    async fn within<T>(&self, doing: &str, call: impl Future<Output = object_store::Result<T>>) -> Result<T> {
        match timeout(self.limits.call(), call).await {
            Ok(done) => done.map_err(|cause| self.failed(doing, cause)),
            Err(_) => {
                self.counters.failures.add(1);
                let (place, seconds) = (&self.place, self.limits.call().as_secs());
                Err(Error::new(ErrorKind::Io, format!("cannot {doing} {place}: no answer within {seconds} s"))
                    .with_hint("is the service overloaded, or the way to it broken?"))
            }
        }
    }

    fn failed(&self, doing: &str, cause: Cause) -> Error {
        let error = fault::error(doing, &self.place, cause);
        if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Exists) {
            self.counters.failures.add(1);
        }
        error
    }

    /// Creates the object, and returns what the service says about it.
    async fn create(&self, name: &str, parts: &[Bytes]) -> Result<Option<PutResult>> {
        let (path, doing) = (self.path(name)?, format!("write `{name}` to"));
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if length > OBJECT_LENGTH_MAX {
            return Err(Error::invalid(format!("`{name}` would have {length} bytes; no object may be that large")));
        }
        let permit = self.permit().await;
        let (trail, payload) = (Trail::default(), PutPayload::from_iter(parts.iter().cloned()));
        let options = PutOptions { mode: PutMode::Create, extensions: trail.extensions(), ..PutOptions::default() };
        let put = self.within(&doing, self.store.put_opts(&path, payload, options)).await;
        drop(permit);
        match put {
            Ok(put) => {
                self.counters.bytes_written.add(length);
                Ok(Some(put))
            }
            // Nothing can be missing where something new is written, except for the bucket.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::new(ErrorKind::Io, format!("cannot {doing} {}: it does not exist", self.place))
                    .with_hint("make the bucket, or correct `url` or `endpoint` in the section [store]")
                    .with_source(error))
            }
            // The answer to an earlier request may have been lost: what lies there may be ours.
            Err(error) if error.kind() == ErrorKind::Exists && trail.sent() > 1 => {
                let found = self.read(name, None).await?.bytes;
                if is_made_of(&found, parts) { Ok(None) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// Reads the whole object, or `length` bytes of it and fewer where it ends before.
    async fn read(&self, name: &str, range: Option<(u64, usize)>) -> Result<Found> {
        let path = self.path(name)?;
        // A place or a length that no object has is not even asked for.
        let end = range.and_then(|(offset, length)| offset.checked_add(length as u64));
        if range.is_some() && end.is_none_or(|end| end > OBJECT_LENGTH_MAX) {
            let size = self.size(name).await?;
            let (offset, length) = range.unwrap_or_default();
            return match size > OBJECT_LENGTH_MAX {
                true => Err(too_large(name, size)),
                false => Err(past_the_end(name, offset, length, size)),
            };
        }
        let latency = match range {
            Some((_, length)) if length as u64 <= SHORT_READ => &self.short,
            _ => &self.long,
        };
        let _permit = self.permit().await;
        let mut reads = 0;
        loop {
            reads += 1;
            let second = || {
                let permit = self.permits.try_acquire().ok()?;
                self.counters.hedges.add(1);
                Some(self.read_once(name, &path, range, Some(permit)))
            };
            let read = self.read_once(name, &path, range, None);
            match latency.race(self.limits.hedge, read, second).await {
                (Ok(Some(found)), is_second) => {
                    self.counters.hedges_won.add(u64::from(is_second));
                    self.counters.bytes_read.add(found.bytes.len() as u64);
                    return Ok(found);
                }
                (Ok(None), _) if reads < READS_MAX => {}
                (Ok(None), _) => {
                    self.counters.failures.add(1);
                    let message = format!("cannot read `{name}` of {}: the answers are cut short", self.place);
                    return Err(Error::new(ErrorKind::Io, message));
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// Returns nothing when the answer has another length than it announced.
    async fn read_once(
        &self,
        name: &str,
        path: &Path,
        range: Option<(u64, usize)>,
        _permit: Option<SemaphorePermit<'_>>,
    ) -> Result<Option<Found>> {
        let (trail, doing) = (Trail::default(), format!("read `{name}` of"));
        let bounds = range.map(|(offset, length)| GetRange::Bounded(offset..offset + length as u64));
        let options = GetOptions { range: bounds, extensions: trail.extensions(), ..GetOptions::default() };
        let reading = async {
            let answer = match self.store.get_opts(path, options).await {
                Ok(answer) => answer,
                // Where a range begins at the end of the object or behind it, services differ in what they say.
                Err(cause) if range.is_some() && matches!(trail.status(), 200..300 | 416) => {
                    let size = self.store.head(path).await?.size;
                    let behind = range.is_some_and(|(offset, _)| offset >= size);
                    let nothing = Found { bytes: Bytes::new(), size };
                    return if behind { Ok(Ok(Some(nothing))) } else { Err(cause) };
                }
                Err(cause) => return Err(cause),
            };
            let (size, length) = (answer.meta.size, answer.range.end - answer.range.start);
            if length > OBJECT_LENGTH_MAX {
                return Ok(Err(too_large(name, size)));
            }
            let (mut bytes, mut pieces) = (Vec::with_capacity(length as usize), answer.into_stream());
            while let Some(piece) = pieces.try_next().await? {
                if bytes.len() + piece.len() > length as usize {
                    return Ok(Ok(None));
                }
                bytes.extend_from_slice(&piece);
            }
            let whole = bytes.len() as u64 == length;
            Ok(Ok(whole.then(|| Found { bytes: bytes.into(), size })))
        };
        self.within(&doing, reading).await?
    }
}

#[async_trait]
impl Backend for RemoteBackend {
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        self.create(name, &parts).await.map(drop)
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        Ok(self.read(name, None).await?.bytes)
    }

    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Bytes> {
        if length == 0 {
            let size = self.size(name).await?;
            return if offset <= size { Ok(Bytes::new()) } else { Err(past_the_end(name, offset, 0, size)) };
        }
        let Found { bytes, size } = self.read(name, Some((offset, length))).await?;
        if bytes.len() == length { Ok(bytes) } else { Err(past_the_end(name, offset, length, size)) }
    }

    async fn get_up_to(&self, name: &str, offset: u64, length: usize) -> Result<Bytes> {
        match length {
            0 => Ok(Bytes::new()),
            _ => Ok(self.read(name, Some((offset, length))).await?.bytes),
        }
    }

    async fn size(&self, name: &str) -> Result<u64> {
        let path = self.path(name)?;
        let _permit = self.permit().await;
        Ok(self.within(&format!("look at `{name}` of"), self.store.head(&path)).await?.size)
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        check_prefix(prefix)?;
        let folder = prefix.split('/').filter(|part| !part.is_empty());
        let folder = folder.fold(self.root.clone(), Path::join);
        let doing = format!("list `{prefix}` in");
        let _permit = self.permit().await;
        let (mut names, mut found) = (Vec::new(), self.store.list(Some(&folder)));
        // Each page has the time of a call.
        while let Some(object) = self.within(&doing, found.try_next()).await.map_err(no_bucket)? {
            let name = object.location.as_ref().strip_prefix(self.root.as_ref()).unwrap_or_default();
            let name = name.trim_start_matches('/');
            if check_name(name).is_ok() {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name)?;
        let _permit = self.permit().await;
        match self.within(&format!("remove `{name}` from"), self.store.delete(&path)).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    fn counted(&self) -> BackendStats {
        BackendStats { remote: Some(self.stats()), cache: None }
    }
}

/// What is not found when names are listed is the bucket.
fn no_bucket(error: Error) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::new(ErrorKind::Io, error.to_string())
            .with_hint("make the bucket, or correct `url` or `endpoint` in the section [store]")
            .with_source(error),
        _ => error,
    }
}

/// Returns whether `bytes` are those of `parts` in order.
fn is_made_of(bytes: &[u8], parts: &[Bytes]) -> bool {
    let mut rest = Some(bytes);
    for part in parts {
        rest = rest.and_then(|rest| rest.strip_prefix(part.as_ref()));
    }
    rest.is_some_and(<[u8]>::is_empty)
}
