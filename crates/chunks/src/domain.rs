//! Dedup domains: their secrets, and the ids and keys that are derived from them.
//!
//! A domain (a project) has one random secret per generation, wrapped by the key service in the write-once
//! object `domains/<domain>/<generation>`. Ids come from generation 1 for ever, so that a rotation loses no
//! dedup; keys come from the generation in which a blob was sealed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use keys::{Kms, Secret, cipher};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::backend::Backend;
use crate::blob::{BlobId, BlobKey, Kind};
use crate::record::{RecordWriter, open_record};
use crate::{Error, ErrorKind, Result};

const MAGIC: [u8; 8] = *b"MOLDE-DS";
const SECRET_LENGTH: usize = 32;
const FIRST_GENERATION: u32 = 1;

/// A domain whose secrets are open.
pub(crate) struct Domain {
    pub(crate) id: Uuid,
    /// The generation under which new blobs are sealed.
    pub(crate) generation: u32,
    /// One key per kind of blob, in the order of [`Kind::ALL`].
    id_keys: [BlobKey; 3],
    /// The seal key of the current generation.
    current: BlobKey,
    /// Those of older ones, as far as they were asked for.
    seal_keys: Mutex<BTreeMap<u32, BlobKey>>,
    backend: Arc<dyn Backend>,
    kms: Arc<dyn Kms>,
}

impl Domain {
    /// Opens the domain `id`, making its first secret when it has none.
    pub(crate) async fn open(backend: &Arc<dyn Backend>, kms: &Arc<dyn Kms>, id: Uuid) -> Result<Self> {
        let names = backend.list(&format!("domains/{id}/")).await?;
        let generation = names.iter().filter_map(|name| parse_generation(id, name)).max().unwrap_or(FIRST_GENERATION);
        if names.is_empty() {
            create(backend, kms, id, FIRST_GENERATION).await?;
        }
        let first = load(backend, kms, id, FIRST_GENERATION).await?;
        let id_keys = Kind::ALL.map(|kind| {
            Zeroizing::new(blake3::derive_key(&format!("molde store 2026 v1 id of a {kind}"), first.expose()))
        });
        let current = match generation {
            FIRST_GENERATION => seal_key(&first, generation),
            _ => seal_key(&load(backend, kms, id, generation).await?, generation),
        };
        let (backend, kms) = (Arc::clone(backend), Arc::clone(kms));
        Ok(Self { id, generation, id_keys, current, seal_keys: Mutex::default(), backend, kms })
    }

    /// Returns the id of a blob with these plain bytes.
    pub(crate) fn blob_id(&self, kind: Kind, plain: &[u8]) -> BlobId {
        *blake3::keyed_hash(&self.id_keys[kind as usize - 1], plain).as_bytes()
    }

    /// Returns the key of which the ids of chunks are made.
    pub(crate) fn chunk_id_key(&self) -> &BlobKey {
        &self.id_keys[Kind::Chunk as usize - 1]
    }

    /// Returns the key of a blob that is sealed now, under the current generation.
    pub(crate) fn new_key(&self, id: &BlobId) -> BlobKey {
        blob_key(&self.current, id)
    }

    /// Returns the key of a blob that was sealed under `generation`.
    pub(crate) async fn stored_key(&self, generation: u32, id: &BlobId) -> Result<BlobKey> {
        if generation == self.generation {
            return Ok(self.new_key(id));
        }
        let known = self.seal_keys().get(&generation).cloned();
        if let Some(key) = known {
            return Ok(blob_key(&key, id));
        }
        let secret = load(&self.backend, &self.kms, self.id, generation).await?;
        let key = seal_key(&secret, generation);
        let stored = blob_key(&key, id);
        self.seal_keys().insert(generation, key);
        Ok(stored)
    }

    fn seal_keys(&self) -> MutexGuard<'_, BTreeMap<u32, BlobKey>> {
        self.seal_keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seal_key(secret: &Secret, generation: u32) -> BlobKey {
    let mut hasher = blake3::Hasher::new_derive_key("molde store 2026 v1 seal of blobs");
    hasher.update(secret.expose()).update(&generation.to_le_bytes());
    Zeroizing::new(*hasher.finalize().as_bytes())
}

fn blob_key(seal_key: &BlobKey, id: &BlobId) -> BlobKey {
    Zeroizing::new(*blake3::keyed_hash(seal_key, id).as_bytes())
}

fn name(id: Uuid, generation: u32) -> String {
    format!("domains/{id}/{generation:08x}")
}

fn parse_generation(id: Uuid, name: &str) -> Option<u32> {
    let generation = u32::from_str_radix(name.rsplit('/').next()?, 16).ok()?;
    (name == self::name(id, generation)).then_some(generation)
}

fn context(id: Uuid, generation: u32) -> Vec<u8> {
    format!("domain:{id}:{generation}").into_bytes()
}

/// Writes the secret of a generation, unless another process is faster.
async fn create(backend: &Arc<dyn Backend>, kms: &Arc<dyn Kms>, id: Uuid, generation: u32) -> Result<()> {
    let doing = "make the secret of a dedup domain";
    let secret = Secret::random(SECRET_LENGTH).map_err(|e| Error::keys(doing, e))?;
    let wrapped = kms.wrap(&context(id, generation), secret.expose()).await.map_err(|e| Error::keys(doing, e))?;
    let record = RecordWriter::new(MAGIC).bytes(id.as_bytes()).u32(generation).bytes(&wrapped).finish();
    match backend.put(&name(id, generation), vec![Bytes::from(record)]).await {
        Err(error) if error.kind() != ErrorKind::Exists => Err(error),
        _ => Ok(()),
    }
}

async fn load(backend: &Arc<dyn Backend>, kms: &Arc<dyn Kms>, id: Uuid, generation: u32) -> Result<Secret> {
    let what = format!("the secret of domain {id}, generation {generation},");
    let record = backend.get(&name(id, generation)).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::corrupt(format!("{what} is missing")).with_source(error),
        _ => error,
    })?;
    let mut fields = open_record(&what, MAGIC, &record)?;
    if (fields.uuid()?, fields.u32()?) != (id, generation) {
        return Err(Error::corrupt(format!("{what} is that of another domain or generation")));
    }
    let secret = kms
        .unwrap(&context(id, generation), fields.rest())
        .await
        .map_err(|e| Error::keys("unwrap the secret of a dedup domain", e))?;
    if secret.expose().len() == cipher::KEY_LENGTH {
        return Ok(secret);
    }
    Err(Error::corrupt(format!("{what} has the wrong length")))
}

#[cfg(test)]
mod tests {
    use keys::LocalKms;

    use super::*;
    use crate::backend::MemoryBackend;
    use crate::index::MemoryIndex;
    use crate::store::{Options, Store};

    struct Rotated {
        index: Arc<MemoryIndex>,
        /// A store that opened the domain before the rotation.
        before: Store,
        /// One that opens it after.
        after: Store,
    }

    const DOMAIN: Uuid = Uuid::from_u128(5);

    async fn rotated() -> Rotated {
        let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        let folder = tempfile::tempdir().unwrap();
        let kms: Arc<dyn Kms> = Arc::new(LocalKms::open_or_create(&folder.path().join("k")).unwrap());
        let index = Arc::new(MemoryIndex::new());
        let open = async || {
            let options = Options { chunk_size: 4096, segment_chunks: 4, ..Options::default() };
            Store::open(Arc::clone(&backend), index.clone(), Arc::clone(&kms), options).await.unwrap()
        };
        let before = open().await;
        before.domain(DOMAIN).await.unwrap();
        create(&backend, &kms, DOMAIN, 2).await.unwrap();
        let after = open().await;
        assert_eq!(after.domain(DOMAIN).await.unwrap().generation, 2);
        Rotated { index, before, after }
    }

    async fn write(store: &Store, parts: &[u8]) -> Result<crate::Head> {
        let mut writer = store.writer(DOMAIN, Uuid::now_v7()).await?;
        for part in parts {
            writer.write(Bytes::from(vec![*part; 4096])).await?;
        }
        writer.finish().await
    }

    async fn check(store: &Store, head: &crate::Head, parts: &[u8]) {
        let bytes = store.reader(&head.bytes).await.unwrap().read(0, parts.len() * 4096).await.unwrap();
        assert!(bytes.chunks(4096).zip(parts).all(|(chunk, part)| chunk.iter().all(|byte| byte == part)));
        store.verify(&head.bytes).await.unwrap();
    }

    #[tokio::test]
    async fn chunks_of_an_older_generation_are_still_known_and_opened() {
        let Rotated { before, after, .. } = rotated().await;
        let old = write(&before, &[1, 2, 3]).await.unwrap();
        let blobs = before.scrub().await.unwrap().blobs;
        let mixed = write(&after, &[3, 4, 1]).await.unwrap();
        // One new chunk, one segment and one root.
        assert_eq!(after.scrub().await.unwrap().blobs, blobs + 3);
        // A writer that does not know of the rotation finds what was stored after it.
        let late = write(&before, &[4, 4, 2]).await.unwrap();
        for store in [&before, &after] {
            check(store, &old, &[1, 2, 3]).await;
            check(store, &mixed, &[3, 4, 1]).await;
            check(store, &late, &[4, 4, 2]).await;
        }
    }

    #[tokio::test]
    async fn a_race_across_a_rotation_is_refused_and_leaves_no_head() {
        let Rotated { index, before, after } = rotated().await;
        let kept = write(&after, &[1, 2]).await.unwrap();
        index.blind();
        assert_eq!(write(&before, &[2, 1]).await.unwrap_err().kind(), ErrorKind::Conflict);
        let again = write(&before, &[2, 1]).await.unwrap();
        check(&before, &again, &[2, 1]).await;
        check(&after, &kept, &[1, 2]).await;
    }
}
