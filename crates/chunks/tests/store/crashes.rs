//! Crashes: the machine dies at each call in turn. What was acknowledged is whole, what was not has no head.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use chunks::{Backend, ErrorKind, Head, Index, MemoryBackend, MemoryIndex, Result, Store};
use uuid::Uuid;

use crate::support::{
    CHUNK, CountingBackend, DOMAIN, Mortal, MortalBackend, SEGMENT, kms, noise, read_all, small, write,
};
use crate::watched_index::WatchedIndex;

/// Writes a content over several packs, one that shares chunks with it, and then some that are made of the two;
/// pushes each as soon as it is acknowledged.
async fn live(store: Store, contents: &[Uuid; 6], acknowledged: &mut Vec<(Head, Vec<u8>)>) -> Result<()> {
    let one = noise(1, 10 * SEGMENT);
    let two = [&one[..5 * SEGMENT], &noise(2, 2 * SEGMENT + 9)].concat();
    for (content, bytes) in contents.iter().zip([&one, &two]) {
        let mut writer = store.writer(DOMAIN, *content).await?;
        for piece in bytes.chunks(3 * CHUNK / 2) {
            writer.write(Bytes::copy_from_slice(piece)).await?;
        }
        acknowledged.push((writer.finish().await?, bytes.clone()));
    }
    let heads = [acknowledged[0].0.bytes.clone(), acknowledged[1].0.bytes.clone()];
    acknowledged.push((store.concat(DOMAIN, contents[2], &heads).await?, [&one[..], &two].concat()));
    acknowledged.push((store.copy(&heads[0], contents[3]).await?, one.clone()));
    let (start, end) = (3 * CHUNK, 8 * SEGMENT + 5);
    let sliced = store.slice(&heads[0], start as u64..end as u64, contents[4]).await?;
    acknowledged.push((sliced, one[start..end].to_vec()));
    let mut spliced = two;
    spliced[2 * SEGMENT..2 * SEGMENT + CHUNK].copy_from_slice(&noise(3, CHUNK));
    spliced[6 * SEGMENT + 1..6 * SEGMENT + 3 * CHUNK].fill(0);
    let mut splice = store.splice(&heads[1], contents[5]).await?;
    splice.write(2 * SEGMENT as u64, Bytes::from(noise(3, CHUNK))).await?;
    splice.write_zeros(6 * SEGMENT as u64 + 1, 3 * CHUNK as u64 - 1).await?;
    acknowledged.push((splice.finish().await?, spliced));
    Ok(())
}

/// Returns whether the machine lived to the end.
async fn die_after(calls: u64, late: bool) -> bool {
    let (backend, index, keys) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms());
    let contents = [(); 6].map(|()| Uuid::now_v7());
    let (life, mut acknowledged) = (Mortal::new(calls, late), Vec::new());
    let mortal = Arc::new(MortalBackend { inner: backend.clone(), life: life.clone() });
    let mortal_index = Arc::new(WatchedIndex { inner: index.clone(), watch: life.clone() });
    let lived = match Store::open(mortal, mortal_index, keys.clone(), small()).await {
        Ok(store) => Box::pin(live(store, &contents, &mut acknowledged)).await.is_ok(),
        Err(_) => false,
    };
    assert!(lived || life.is_dead());

    // The index as the crash left it, and one that is rebuilt from the packs.
    let rebuilt = Arc::new(MemoryIndex::new());
    let store = Store::open(backend.clone(), rebuilt.clone(), keys.clone(), small()).await.unwrap();
    store.reindex().await.unwrap();
    for index in [index, rebuilt] {
        let store = Store::open(backend.clone(), index, keys.clone(), small()).await.unwrap();
        for (head, bytes) in &acknowledged {
            assert_eq!(store.head(head.content).await.unwrap(), *head);
            assert!(read_all(&store, &head.bytes).await.unwrap() == *bytes, "{calls}");
            store.verify(&head.bytes).await.unwrap();
        }
        for content in &contents[acknowledged.len()..] {
            // The death came after the head was durable and before it could be told.
            match store.head(*content).await {
                Ok(head) => assert!(store.verify(&head.bytes).await.is_ok(), "{calls}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound),
            }
        }
        // The store goes on.
        let head = write(&store, DOMAIN, &noise(1, 4 * SEGMENT)).await;
        store.verify(&head.bytes).await.unwrap();
    }
    lived
}

#[tokio::test]
async fn what_was_acknowledged_survives_death_at_any_call() {
    for late in [false, true] {
        let mut calls = 0;
        while !die_after(calls, late).await {
            calls += 1;
        }
        assert!(calls > 60, "only {calls} calls were cut");
    }
}

#[tokio::test]
async fn a_full_store_says_so_and_goes_on_when_there_is_room() {
    let backend = CountingBackend::new(Arc::new(MemoryBackend::new()));
    let store = Store::open(backend.clone(), Arc::new(MemoryIndex::new()), kms(), small()).await.unwrap();
    let (kept, large) = (noise(1, SEGMENT), noise(2, 40 * SEGMENT));
    let head = write(&store, DOMAIN, &kept).await;

    backend.room.store(200_000, Ordering::SeqCst);
    let content = Uuid::now_v7();
    let fill = async || {
        let mut writer = store.writer(DOMAIN, content).await?;
        for piece in large.chunks(CHUNK) {
            writer.write(Bytes::copy_from_slice(piece)).await?;
        }
        writer.finish().await
    };
    let error = fill().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(error.to_string().contains("/the/folder"), "{error}");
    assert_eq!(store.head(content).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(read_all(&store, &head.bytes).await.unwrap() == kept);

    backend.room.store(u64::MAX, Ordering::SeqCst);
    assert!(read_all(&store, &fill().await.unwrap().bytes).await.unwrap() == large);
}

#[tokio::test]
async fn a_quota_stops_a_writer_at_a_pack_and_leaves_no_other() {
    let (backend, index) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()));
    let store = Store::open(backend.clone(), index.clone(), kms(), small()).await.unwrap();
    let kept = noise(1, SEGMENT);
    let head = write(&store, DOMAIN, &kept).await;
    let before = index.stored(DOMAIN);
    index.set_quota(DOMAIN, before + 300_000);

    let large = noise(2, 40 * SEGMENT);
    let content = Uuid::now_v7();
    let fill = async || {
        let mut writer = store.writer(DOMAIN, content).await?;
        for piece in large.chunks(CHUNK) {
            writer.write(Bytes::copy_from_slice(piece)).await?;
        }
        writer.finish().await
    };
    for _ in 0..3 {
        let error = fill().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Quota);
        assert!(error.to_string().contains("bytes are left"), "{error}");
    }
    assert_eq!(store.head(content).await.unwrap_err().kind(), ErrorKind::NotFound);
    let stored = index.stored(DOMAIN);
    assert!(stored > before && stored <= before + 300_000, "{stored}: packs that fit are there, no other");
    let recorded = index.snapshot().await.unwrap().packs.len();
    assert_eq!(backend.list("packs/").await.unwrap().len(), recorded, "a refused pack is taken back");

    // Other domains, what is known already, and reading go on.
    write(&store, Uuid::new_v4(), &large[..SEGMENT]).await;
    assert!(read_all(&store, &head.bytes).await.unwrap() == kept);
    index.set_quota(DOMAIN, 0);
    let again = write(&store, DOMAIN, &kept).await;
    assert!(read_all(&store, &again.bytes).await.unwrap() == kept);
    index.set_quota(DOMAIN, u64::MAX);
    assert!(read_all(&store, &fill().await.unwrap().bytes).await.unwrap() == large);
    // A rebuilt index counts the same, and no quota refuses what is there.
    let rebuilt = Arc::new(MemoryIndex::new());
    rebuilt.set_quota(DOMAIN, 0);
    Store::open(backend, rebuilt.clone(), kms(), small()).await.unwrap().reindex().await.unwrap();
    assert_eq!(rebuilt.stored(DOMAIN), index.stored(DOMAIN));
}

#[tokio::test]
async fn a_failed_writer_stays_failed() {
    let backend = CountingBackend::new(Arc::new(MemoryBackend::new()));
    let store = Store::open(backend.clone(), Arc::new(MemoryIndex::new()), kms(), small()).await.unwrap();
    let mut writer = store.writer(DOMAIN, Uuid::now_v7()).await.unwrap();
    backend.room.store(0, Ordering::SeqCst);
    let bytes = Bytes::from(noise(1, CHUNK));
    let mut number = 0_u64;
    let error = loop {
        number += 1;
        if let Err(error) = writer.write(Bytes::from(noise(number, CHUNK))).await {
            break error;
        }
        assert!(number < 1000, "writing into a full store goes on for ever");
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    backend.room.store(u64::MAX, Ordering::SeqCst);
    assert_eq!(writer.write(bytes).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(writer.write_zeros(1).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(writer.finish().await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn a_write_given_up_half_way_leaves_no_content_with_holes() {
    let store =
        Store::open(Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms(), small()).await.unwrap();
    let mut writer = store.writer(DOMAIN, Uuid::now_v7()).await.unwrap();
    let given_up = {
        let write = std::pin::pin!(writer.write(Bytes::from(noise(1, 100 * CHUNK))));
        // Polled once: it waits for the first batch.
        futures::poll!(write).is_pending()
    };
    assert!(given_up);
    assert_eq!(writer.finish().await.unwrap_err().kind(), ErrorKind::Invalid);
}
