//! Scrubbing: damage is found past the cache and remembered, what is written again is whole again, and what is whole in
//! a damaged pack is saved.

use std::sync::Arc;

use bytes::Bytes;
use chunks::{
    Backend, CacheOptions, CachedBackend, CollectOptions, ErrorKind, MemoryBackend, MemoryIndex, PackScrub, Store,
};
use keys::Kms;

use crate::support::{CHUNK, DOMAIN, Mortal, MortalBackend, SEGMENT, kms, noise, read_all, small, write};

struct Place {
    backend: Arc<MemoryBackend>,
    index: Arc<MemoryIndex>,
    keys: Arc<dyn Kms>,
    store: Store,
}

impl Place {
    async fn new() -> Self {
        let (backend, index, keys) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms());
        let store = Store::open(backend.clone(), index.clone(), keys.clone(), small()).await.unwrap();
        Self { backend, index, keys, store }
    }

    async fn packs(&self) -> Vec<String> {
        self.backend.list("packs/").await.unwrap()
    }

    /// Changes one byte of an object.
    async fn spoil(&self, name: &str, at: usize) {
        let mut bytes = self.backend.get(name).await.unwrap().to_vec();
        bytes[at] ^= 1;
        self.backend.overwrite(name, bytes.into());
    }

    /// Scrubs each pack once; returns those that are damaged.
    async fn scrub(&self) -> Vec<PackScrub> {
        let mut damaged = Vec::new();
        for _ in 0..self.packs().await.len() {
            damaged.extend(self.store.scrub_next(0).await.unwrap().filter(|scrub| scrub.damage.is_some()));
        }
        damaged
    }

    async fn collect(&self) {
        for _ in 0..3 {
            self.store.collect(&CollectOptions { compact_below: 0, ..CollectOptions::default() }).await.unwrap();
        }
    }
}

#[tokio::test]
async fn every_pack_has_its_turn() {
    let place = Place::new().await;
    assert_eq!(place.store.scrub_next(0).await.unwrap(), None);
    write(&place.store, DOMAIN, &noise(1, 40 * CHUNK)).await;
    let packs = place.packs().await;
    assert!(packs.len() > 2);
    for _ in 0..2 {
        let mut seen = Vec::new();
        for _ in 0..packs.len() {
            let scrub = place.store.scrub_next(0).await.unwrap().unwrap();
            assert_eq!((scrub.damage, scrub.blobs > 0), (None, true));
            let name = format!("packs/{}", scrub.pack);
            assert_eq!(place.backend.size(&name).await.unwrap(), scrub.size);
            seen.push(name);
        }
        seen.sort();
        assert_eq!(seen, packs);
    }
}

#[tokio::test]
async fn what_is_written_again_is_whole_again_for_all_who_refer_to_it() {
    let place = Place::new().await;
    let bytes = noise(1, 3 * CHUNK);
    let first = write(&place.store, DOMAIN, &bytes).await;
    let [name] = &place.packs().await[..] else { panic!("one pack was expected") };
    // Inside the second chunk: three of noise, then manifests.
    place.spoil(name, CHUNK + 100).await;

    // Nobody knows of it yet, so writing again finds the chunk and refers to it.
    let blind = write(&place.store, DOMAIN, &bytes).await;
    assert_eq!(read_all(&place.store, &blind.bytes).await.unwrap_err().kind(), ErrorKind::Corrupt);

    let [scrub] = &place.scrub().await[..] else { panic!("one damaged pack was expected") };
    let damage = scrub.damage.as_deref().unwrap();
    assert!(damage.starts_with("1 of its 5 blobs were changed, at offsets "), "{damage}");
    let packs = place.store.pack_list().await.unwrap();
    assert!(!place.store.trace(&first.bytes, &packs).await.unwrap());

    let again = write(&place.store, DOMAIN, &bytes).await;
    for head in [&first, &blind, &again] {
        assert!(read_all(&place.store, &head.bytes).await.unwrap() == bytes);
        place.store.verify(&head.bytes).await.unwrap();
    }
    // Nothing leads to the damaged pack any more, so it goes and is forgotten.
    place.collect().await;
    assert!(!place.packs().await.contains(name));
    let packs = place.store.pack_list().await.unwrap();
    assert!(place.store.trace(&first.bytes, &packs).await.unwrap());
    assert!(place.scrub().await.is_empty());
    assert!(read_all(&place.store, &first.bytes).await.unwrap() == bytes);
}

#[tokio::test]
async fn what_is_whole_in_a_damaged_pack_is_saved() {
    let place = Place::new().await;
    let (good, bad) = (noise(1, 3 * CHUNK), noise(2, CHUNK));
    let mut writer = place.store.writer(DOMAIN, uuid::Uuid::now_v7()).await.unwrap();
    writer.write(Bytes::from([good.clone(), bad].concat())).await.unwrap();
    let head = writer.finish().await.unwrap();
    let [name] = &place.packs().await[..] else { panic!("one pack was expected") };
    place.spoil(name, 3 * CHUNK + 500).await;
    assert_eq!(place.scrub().await.len(), 1);
    place.collect().await;
    // The damaged chunk is still referred to, so its pack stays; the others have moved.
    let packs = place.packs().await;
    assert!(packs.len() == 2 && packs.contains(name), "{packs:?}");
    let bytes = place.backend.get(name).await.unwrap();
    place.backend.overwrite(name, vec![0; bytes.len()].into());
    let reader = place.store.reader(&head.bytes).await.unwrap();
    assert!(reader.read(0, 3 * CHUNK).await.unwrap() == good);
    assert_eq!(reader.read(3 * CHUNK as u64, CHUNK).await.unwrap_err().kind(), ErrorKind::Corrupt);
    // Another run moves nothing twice.
    place.backend.overwrite(name, bytes);
    place.collect().await;
    assert_eq!(place.packs().await, packs);
}

#[tokio::test]
async fn a_lost_pack_and_a_damaged_footer_are_found() {
    let place = Place::new().await;
    let heads =
        [write(&place.store, DOMAIN, &noise(1, SEGMENT)).await, write(&place.store, DOMAIN, &noise(2, 9)).await];
    let packs = place.packs().await;
    let [first, second] = &packs[..] else { panic!("two packs were expected") };
    let size = place.backend.size(first).await.unwrap();
    place.spoil(first, size as usize - 40).await;
    place.backend.delete(second).await.unwrap();
    let mut damage: Vec<String> = Vec::new();
    for _ in 0..2 {
        damage.push(place.store.scrub_next(0).await.unwrap().unwrap().damage.unwrap());
    }
    damage.sort();
    assert!(damage[0].contains("is missing") && damage[1].contains("the footer of pack"), "{damage:?}");
    let list = place.store.pack_list().await.unwrap();
    let mut traces = Vec::new();
    for head in &heads {
        traces.push(place.store.trace(&head.bytes, &list).await.map_err(|error| error.kind()));
    }
    traces.sort_by_key(Result::is_err);
    assert_eq!(traces, [Ok(false), Err(ErrorKind::Corrupt)]);
    // Both contents can be written again.
    for (head, bytes) in heads.iter().zip([noise(1, SEGMENT), noise(2, 9)]) {
        write(&place.store, DOMAIN, &bytes).await;
        assert!(read_all(&place.store, &head.bytes).await.unwrap() == bytes);
    }
}

#[tokio::test]
async fn a_cache_hides_nothing() {
    let place = Place::new().await;
    let folder = tempfile::tempdir().unwrap();
    let options = CacheOptions { folder: folder.path().join("cache"), size: 8 << 20, block: 64 << 10 };
    let cached = Arc::new(CachedBackend::open(place.backend.clone(), options).await.unwrap());
    let store = Store::open(cached, place.index.clone(), place.keys.clone(), small()).await.unwrap();
    let bytes = noise(1, 2 * CHUNK);
    let head = write(&store, DOMAIN, &bytes).await;
    assert!(read_all(&store, &head.bytes).await.unwrap() == bytes);
    let [name] = &place.packs().await[..] else { panic!("one pack was expected") };
    place.spoil(name, 10).await;
    assert!(read_all(&store, &head.bytes).await.unwrap() == bytes, "the cache has it");
    assert!(store.scrub_next(0).await.unwrap().unwrap().damage.is_some());
    assert_eq!(store.scrub().await.unwrap_err().kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_backend_that_fails_says_nothing_of_a_pack() {
    let place = Place::new().await;
    write(&place.store, DOMAIN, &noise(1, CHUNK)).await;
    let mut failed = 0;
    for calls in 0..10 {
        let backend = MortalBackend { inner: place.backend.clone(), life: Mortal::new(calls, false) };
        let opened = Store::open(Arc::new(backend), place.index.clone(), place.keys.clone(), small()).await;
        let Ok(store) = opened else { continue };
        match store.scrub_next(0).await {
            Ok(scrub) => assert_eq!(scrub.unwrap().damage, None),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Io);
                failed += 1;
            }
        }
    }
    assert!(failed > 1, "the backend never failed under a scrub");
    assert!(place.scrub().await.is_empty());
    let packs = place.store.pack_list().await.unwrap();
    assert_eq!(packs.len(), 1);
}

#[tokio::test]
async fn the_packs_of_a_content_are_scrubbed_as_far_as_it_can_be_followed() {
    let place = Place::new().await;
    let bytes = noise(1, 40 * CHUNK);
    let head = write(&place.store, DOMAIN, &bytes).await;
    let names = place.packs().await;
    for name in &names {
        place.spoil(name, 100).await;
    }
    let list = place.store.pack_list().await.unwrap();
    place.store.scrub_content(&head.bytes, &list).await.unwrap();
    let damaged = place.store.pack_list().await.unwrap();
    assert!(!place.store.trace(&head.bytes, &damaged).await.unwrap_or(false));
    write(&place.store, DOMAIN, &bytes).await;
    assert!(read_all(&place.store, &head.bytes).await.unwrap() == bytes);
}

#[tokio::test]
async fn a_pack_of_a_newer_release_is_not_damaged() {
    let place = Place::new().await;
    write(&place.store, DOMAIN, &noise(1, CHUNK)).await;
    let [name] = &place.packs().await[..] else { panic!("one pack was expected") };
    // The trailer: count (4), ..., version (4), checksum (32) over all of the footer before it.
    let (mut pack, trailer, entry) = (place.backend.get(name).await.unwrap().to_vec(), 84, 100);
    let (end, checksum) = (pack.len(), pack.len() - 32);
    let count = u32::from_le_bytes(pack[end - trailer..end - trailer + 4].try_into().unwrap()) as usize;
    let written = pack.clone();
    pack[checksum - 4] += 1;
    let hash = blake3::hash(&pack[end - trailer - count * entry..checksum]);
    pack[checksum..].copy_from_slice(hash.as_bytes());
    place.backend.overwrite(name, pack.into());
    for _ in 0..2 {
        assert_eq!(place.store.scrub_next(0).await.unwrap_err().kind(), ErrorKind::Version);
    }
    place.backend.overwrite(name, written.into());
    assert!(place.scrub().await.is_empty());
    let packs = place.store.pack_list().await.unwrap();
    let again = write(&place.store, DOMAIN, &noise(1, CHUNK)).await;
    assert!(place.store.trace(&again.bytes, &packs).await.unwrap());
}
