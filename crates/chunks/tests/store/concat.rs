//! Joining contents: the right bytes always, and no data moved where chunks line up.

use std::sync::Arc;

use chunks::{ErrorKind, MemoryBackend, MemoryIndex, Options, Store};
use proptest::prelude::*;
use uuid::Uuid;

use crate::support::{CHUNK, CountingBackend, DOMAIN, SEGMENT, kms, noise, read_all, small, write};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_contents_are_joined(lengths in proptest::collection::vec(
        prop_oneof![Just(0), Just(CHUNK), Just(SEGMENT), 1..3 * SEGMENT, (0..6_usize).prop_map(|n| n * CHUNK)], 0..5)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = Store::open(Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms(), small());
            let store = store.await.unwrap();
            let (mut heads, mut model) = (Vec::new(), Vec::new());
            for (seed, length) in lengths.iter().enumerate() {
                let bytes = if seed % 3 == 2 { vec![0; *length] } else { noise(seed as u64, *length) };
                heads.push(write(&store, DOMAIN, &bytes).await.bytes);
                model.extend_from_slice(&bytes);
            }
            let joined = store.concat(DOMAIN, Uuid::now_v7(), &heads).await.unwrap();
            assert_eq!(joined.length, model.len() as u64);
            assert!(read_all(&store, &joined.bytes).await.unwrap() == model, "{lengths:?}");
            store.verify(&joined.bytes).await.unwrap();
            // The manifest is the one that writing the same bytes makes: nothing new is stored.
            let scrubbed = store.scrub().await.unwrap();
            write(&store, DOMAIN, &model).await;
            assert_eq!(store.scrub().await.unwrap(), scrubbed);
        });
    }
}

#[tokio::test]
async fn aligned_contents_are_joined_without_data() {
    let backend = CountingBackend::new(Arc::new(MemoryBackend::new()));
    let options = Options { segment_chunks: 64, ..small() };
    let store = Store::open(backend.clone(), Arc::new(MemoryIndex::new()), kms(), options).await.unwrap();
    let (one, two) = (noise(1, 300 * CHUNK), noise(2, 100 * CHUNK + 9));
    let heads = [write(&store, DOMAIN, &one).await.bytes, write(&store, DOMAIN, &two).await.bytes];
    backend.take();
    let joined = store.concat(DOMAIN, Uuid::now_v7(), &heads).await.unwrap();
    let (written, read) = backend.take();
    // 401 chunks of 4 KiB are 1.6 MB; ids and keys of the segments that shift are some ten KB.
    assert!(written < 20_000 && read < 60_000, "wrote {written}, read {read}");
    assert!(read_all(&store, &joined.bytes).await.unwrap() == [one, two].concat());
}

#[tokio::test]
async fn a_copy_writes_a_head_only() {
    let backend = CountingBackend::new(Arc::new(MemoryBackend::new()));
    let store = Store::open(backend.clone(), Arc::new(MemoryIndex::new()), kms(), small()).await.unwrap();
    let bytes = noise(1, 50 * SEGMENT);
    let head = write(&store, DOMAIN, &bytes).await;
    backend.take();
    let copy = store.concat(DOMAIN, Uuid::now_v7(), &[head.bytes]).await.unwrap();
    assert_eq!(backend.take().0, copy.bytes.len() as u64);
    store.forget(head.content).await.unwrap();
    assert!(read_all(&store, &copy.bytes).await.unwrap() == bytes);
}

#[tokio::test]
async fn contents_of_another_domain_are_refused() {
    let store = Store::open(Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms(), small());
    let store = store.await.unwrap();
    let head = write(&store, Uuid::from_u128(5), b"theirs").await;
    let error = store.concat(DOMAIN, Uuid::now_v7(), &[head.bytes]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}
