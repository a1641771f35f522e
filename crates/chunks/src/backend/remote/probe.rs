//! The start-up probe: a bucket that does not keep what the store builds on is refused before anything is written.

use bytes::Bytes;
use futures::future::join_all;
use object_store::GetOptions;
use object_store::ObjectStore;
use uuid::Uuid;

use super::RemoteBackend;
use crate::backend::Backend;
use crate::{Error, ErrorKind, Result};

/// Where the probe writes. What a crash leaves there is a few bytes, and nothing reads it.
const FOLDER: &str = "probe/";
/// How often one fresh name is written by several at once.
const ROUNDS: usize = 4;
/// How many write it.
const WRITERS: u8 = 8;
/// Bytes of a probe's object.
const LENGTH: usize = 1024;

impl RemoteBackend {
    /// Tries everything that the store needs of its bucket, and leaves nothing behind.
    ///
    /// # Errors
    /// Says what is missing and what to do: there is no such bucket, it cannot be written, it keeps old versions,
    /// lets a name be written twice, has no ranges, or does not show what was just written.
    pub async fn probe(&self) -> Result<()> {
        self.list(FOLDER).await?;
        self.probe_one().await?;
        for _ in 0..ROUNDS {
            self.probe_exclusive_create().await?;
        }
        Ok(())
    }

    /// The life of one object.
    async fn probe_one(&self) -> Result<()> {
        let (name, bytes) = (format!("{FOLDER}{}", Uuid::new_v4()), bytes_of(0));
        let created = self.create(&name, std::slice::from_ref(&bytes)).await?;
        let seen = self.probe_reading(&name, &bytes).await;
        self.delete(&name).await?;
        seen?;
        match self.get(&name).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                return Err(self
                    .refused("does not say of a missing object that it is missing", HINT_LIST)
                    .with_source(error));
            }
            Ok(_) => return Err(self.refused("still shows an object that was removed", HINT_CONSISTENT)),
        }
        // What a version leads to after the object is gone was kept, and would be for ever.
        let Some(version) = created.and_then(|put| put.version) else { return Ok(()) };
        let options = GetOptions { version: Some(version), ..GetOptions::default() };
        match self.store.get_opts(&self.path(&name)?, options).await {
            Ok(_) => Err(self.refused("keeps old versions of objects", HINT_VERSIONED)),
            Err(_) => Ok(()),
        }
    }

    async fn probe_reading(&self, name: &str, bytes: &Bytes) -> Result<()> {
        if self.get(name).await? != *bytes {
            return Err(self.refused("returns other bytes than were written", HINT_CONSISTENT));
        }
        let part = self.get_range(name, 100, 300).await;
        if !part.as_ref().is_ok_and(|part| *part == bytes.slice(100..400)) {
            let error = self.refused("cannot read a part of an object", HINT_RANGES);
            return Err(match part {
                Err(cause) => error.with_source(cause),
                Ok(_) => error,
            });
        }
        if !self.list(FOLDER).await?.iter().any(|listed| listed == name) {
            return Err(self.refused("does not list an object that was just written", HINT_CONSISTENT));
        }
        Ok(())
    }

    /// Of several that write one name at once exactly one may be told that it did, and it must be true.
    async fn probe_exclusive_create(&self) -> Result<()> {
        let name = format!("{FOLDER}{}", Uuid::new_v4());
        let race = (0..WRITERS).map(|writer| self.put(&name, vec![bytes_of(writer)]));
        let mut puts = join_all(race).await;
        puts.push(self.put(&name, vec![bytes_of(WRITERS)]).await);
        let found = self.get(&name).await;
        self.delete(&name).await?;
        let (mut winners, mut failure) = (Vec::new(), None);
        for (writer, put) in puts.into_iter().enumerate() {
            match put {
                Ok(()) => winners.push(writer as u8),
                Err(error) if error.kind() == ErrorKind::Exists => {}
                Err(error) => failure = Some(error),
            }
        }
        match (&winners[..], failure) {
            ([], Some(error)) => {
                Err(self.refused("cannot create an object only where there is none", HINT_EXCLUSIVE).with_source(error))
            }
            ([], None) => Err(self.refused("refuses to write a name that is not there", HINT_EXCLUSIVE)),
            ([winner], _) if found? == bytes_of(*winner) => Ok(()),
            ([_], _) => Err(self.refused("keeps the bytes of a write that it refused", HINT_EXCLUSIVE)),
            (_, _) => Err(self.refused("lets one name be written several times", HINT_EXCLUSIVE)),
        }
    }

    fn refused(&self, why: &str, hint: &str) -> Error {
        Error::new(ErrorKind::Io, format!("{} cannot hold a store: it {why}", self.place)).with_hint(hint)
    }
}

const HINT_LIST: &str = "give the keys the right to list the bucket: without it a missing object looks forbidden";
const HINT_CONSISTENT: &str = "use a service that shows at once what was written; no cache may stand before it";
const HINT_RANGES: &str = "use a service that answers requests with a `Range`; no proxy before it may drop that";
const HINT_VERSIONED: &str =
    "use a bucket that was made without versioning: removed objects would keep their space for ever";
const HINT_EXCLUSIVE: &str = "use a service that honours `If-None-Match: *`, and a bucket that was made without \
                              versioning (Ceph ignores it in a versioned one)";

/// Bytes that tell who wrote them.
fn bytes_of(writer: u8) -> Bytes {
    Bytes::from(vec![b'a' + writer; LENGTH])
}
