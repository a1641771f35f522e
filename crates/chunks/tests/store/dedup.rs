//! What is stored once, what is never shared, and what can be seen from outside.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use chunks::{Backend, DirBackend, ErrorKind, MemoryBackend, MemoryIndex, Options, Store};
use futures::future::join_all;
use uuid::Uuid;

use crate::support::{CHUNK, DOMAIN, SEGMENT, kms, noise, read_all, small, write};

const OTHER: Uuid = Uuid::from_u128(0xee);

#[tokio::test]
async fn the_same_bytes_again_store_nothing_but_a_head() {
    let backend = Arc::new(MemoryBackend::new());
    let store = Store::open(backend.clone(), Arc::new(MemoryIndex::new()), kms(), small()).await.unwrap();
    let mut bytes = noise(1, 9 * SEGMENT + 77);
    bytes[SEGMENT..2 * SEGMENT + 10].fill(0);
    write(&store, DOMAIN, &bytes).await;
    let packs = backend.list("packs/").await.unwrap();

    let mut writer = store.writer(DOMAIN, Uuid::now_v7()).await.unwrap();
    for piece in bytes.chunks(1000) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    // The last chunks are in the pipeline; what left it was all known or zero.
    let stats = writer.stats();
    assert_eq!(stats.known + stats.zero, stats.chunks);
    assert!(stats.chunks > 20 && stats.zero >= 4);
    assert_eq!(stats.stored_bytes, 0);
    let head = writer.finish().await.unwrap();
    assert_eq!(backend.list("packs/").await.unwrap(), packs);
    assert!(read_all(&store, &head.bytes).await.unwrap() == bytes);
}

#[tokio::test]
async fn a_chunk_repeated_in_one_content_is_stored_once() {
    let store =
        Store::open(Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms(), small()).await.unwrap();
    let bytes = noise(1, CHUNK).repeat(100);
    let head = write(&store, DOMAIN, &bytes).await;
    assert!(read_all(&store, &head.bytes).await.unwrap() == bytes);
    let scrubbed = store.scrub().await.unwrap();
    // One chunk, one segment (all 25 are equal), one root.
    assert_eq!(scrubbed.blobs, 3);
}

#[tokio::test]
async fn domains_share_no_ids_and_no_answers() {
    let index = Arc::new(MemoryIndex::new());
    let store = Store::open(Arc::new(MemoryBackend::new()), index.clone(), kms(), small()).await.unwrap();
    let bytes = noise(1, 3 * SEGMENT);
    let (ours, theirs) = (write(&store, DOMAIN, &bytes).await, write(&store, OTHER, &bytes).await);
    let of = |domain| index.ids(domain).into_iter().collect::<HashSet<_>>();
    // 12 chunks, 3 segments, 1 root in each.
    assert_eq!((of(DOMAIN).len(), of(OTHER).len()), (16, 16));
    assert!(of(DOMAIN).is_disjoint(&of(OTHER)));
    assert!(read_all(&store, &ours.bytes).await.unwrap() == read_all(&store, &theirs.bytes).await.unwrap());
    // The id is no plain hash that an outsider could compute.
    assert!(!of(DOMAIN).contains(blake3::hash(&bytes[..CHUNK]).as_bytes()));
}

#[tokio::test]
async fn no_plain_bytes_and_no_names_of_them_lie_in_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Arc::new(DirBackend::open(folder.path()).await.unwrap());
    let store = Store::open(backend.clone(), Arc::new(MemoryIndex::new()), kms(), small()).await.unwrap();
    let mut bytes = noise(1, 2 * SEGMENT);
    bytes.extend_from_slice(&b"the secret words that nobody may find; ".repeat(500));
    write(&store, DOMAIN, &bytes).await;

    let windows: HashSet<&[u8]> = bytes.windows(8).collect();
    let mut looked_at = 0;
    for name in backend.list("").await.unwrap() {
        let object = backend.get(&name).await.unwrap();
        looked_at += object.len();
        let found = object.windows(8).position(|window| windows.contains(window));
        assert_eq!(found, None, "plain bytes in {name}");
    }
    assert!(looked_at > 2 * SEGMENT);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_a_new_domain_at_once_all_succeed() {
    let (backend, index, keys) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms());
    let bytes = noise(1, 5 * SEGMENT);
    let writers = (0..8).map(async |_| {
        // A store each, as on several nodes.
        let store = Store::open(backend.clone(), index.clone(), keys.clone(), small()).await.unwrap();
        write(&store, DOMAIN, &bytes).await
    });
    let heads = join_all(writers).await;
    let store = Store::open(backend, index, keys, small()).await.unwrap();
    for head in heads {
        assert!(read_all(&store, &head.bytes).await.unwrap() == bytes);
        store.verify(&head.bytes).await.unwrap();
    }
}

#[tokio::test]
async fn another_master_key_opens_nothing() {
    let (backend, index) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()));
    let store = Store::open(backend.clone(), index.clone(), kms(), small()).await.unwrap();
    let head = write(&store, DOMAIN, b"private").await;
    let thief = Store::open(backend, index, kms(), small()).await.unwrap();
    assert_eq!(thief.reader(&head.bytes).await.err().unwrap().kind(), ErrorKind::KeyRefused);
    assert_eq!(thief.writer(DOMAIN, Uuid::now_v7()).await.err().unwrap().kind(), ErrorKind::KeyRefused);
    // Scrubbing and indexing need no key.
    assert_eq!(thief.scrub().await.unwrap().packs, 1);
    assert_eq!(thief.reindex().await.unwrap(), 1);
}

#[tokio::test]
async fn the_index_is_rebuilt_from_the_packs_alone() {
    let (backend, keys) = (Arc::new(MemoryBackend::new()), kms());
    let store = Store::open(backend.clone(), Arc::new(MemoryIndex::new()), keys.clone(), small()).await.unwrap();
    // 400 entries do not fit into the first read of a footer.
    let bytes = noise(1, 100 * SEGMENT);
    let head = write(&store, DOMAIN, &bytes).await;
    let large = Options { pack_length: 8 << 20, ..small() };
    let other = noise(2, 100 * SEGMENT);
    let large_store = Store::open(backend.clone(), Arc::new(MemoryIndex::new()), keys.clone(), large).await.unwrap();
    let other_head = write(&large_store, DOMAIN, &other).await;

    let index = Arc::new(MemoryIndex::new());
    let rebuilt = Store::open(backend, index.clone(), keys, small()).await.unwrap();
    assert_eq!(rebuilt.reader(&head.bytes).await.err().unwrap().kind(), ErrorKind::Corrupt);
    assert!(rebuilt.reindex().await.unwrap() > 20);
    assert_eq!(index.len(), 2 * 501);
    assert!(read_all(&rebuilt, &head.bytes).await.unwrap() == bytes);
    assert!(read_all(&rebuilt, &other_head.bytes).await.unwrap() == other);
    rebuilt.verify(&other_head.bytes).await.unwrap();
}
