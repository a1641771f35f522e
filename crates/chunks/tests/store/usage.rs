//! What contents cost, counted over sets whose overlaps are known.

use std::sync::Arc;

use chunks::{ContentUsage, ErrorKind, Head, MemoryBackend, MemoryIndex, Share, Store, Usage};
use uuid::Uuid;

use crate::support::{CHUNK, DOMAIN, SEGMENT, kms, noise, small, write};

const OTHER: Uuid = Uuid::from_u128(0xee);

/// Stored bytes of a segment or root over `entries`, of which `zero` have no key.
fn node(entries: usize, zero: usize) -> u64 {
    (24 + 64 * entries - 32 * zero + 28) as u64
}

/// Stored bytes of chunks of noise.
fn noisy(chunks: usize) -> u64 {
    (chunks * (CHUNK + 29)) as u64
}

/// `chunks` whole chunks of noise and what else is stored with them.
fn share(chunks: usize, nodes: u64) -> Share {
    Share { chunks: chunks as u64, plain: (chunks * CHUNK) as u64, stored: noisy(chunks) + nodes }
}

async fn count(store: &Store, heads: &[&Head]) -> Usage {
    let mut tally = store.tally();
    for head in heads {
        tally.add(&head.bytes).unwrap();
    }
    tally.count().await.unwrap()
}

async fn small_store() -> Store {
    Store::open(Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms(), small()).await.unwrap()
}

#[tokio::test]
async fn overlaps_are_counted_once_and_freed_by_the_last() {
    let store = small_store().await;
    let bytes = noise(1, 3 * SEGMENT);
    // Segments A B C; A B; A B' with one chunk of its own.
    let long = write(&store, DOMAIN, &bytes).await;
    let short = write(&store, DOMAIN, &bytes[..2 * SEGMENT]).await;
    let mut changed = bytes[..2 * SEGMENT].to_vec();
    changed[SEGMENT..SEGMENT + CHUNK].copy_from_slice(&noise(2, CHUNK));
    let changed = write(&store, DOMAIN, &changed).await;
    let (segment, root) = (node(4, 0), |segments| node(segments, 0));

    let usage = count(&store, &[&long, &short, &changed]).await;
    let expected = [
        (share(12, 3 * segment + root(3)), share(4, segment + root(3))),
        (share(8, 2 * segment + root(2)), share(0, root(2))),
        (share(8, 2 * segment + root(2)), share(1, segment + root(2))),
    ];
    for (content, (held, freed)) in usage.contents.iter().zip(expected) {
        assert_eq!((content.held, content.freed), (held, freed));
    }
    assert_eq!(usage.length, 7 * SEGMENT as u64);
    assert_eq!(usage.held, share(13, 4 * segment + root(3) + 2 * root(2)));
    // All that was stored is counted: the packs hold it and their footers.
    let scrubbed = store.scrub().await.unwrap();
    assert_eq!(scrubbed.bytes, usage.held.stored + 100 * scrubbed.blobs + 84 * scrubbed.packs);

    // Alone, each frees all that it holds; with a copy beside it, nothing.
    for head in [&long, &short, &changed] {
        let alone = count(&store, &[head]).await;
        assert_eq!((alone.contents[0].held, alone.contents[0].freed), (alone.held, alone.held));
        let copy = store.copy(&head.bytes, Uuid::now_v7()).await.unwrap();
        let both = count(&store, &[head, &copy]).await;
        assert_eq!(both.held, alone.held);
        assert!(both.contents.iter().all(|content| content.held == alone.held && content.freed == Share::default()));
    }
}

#[tokio::test]
async fn domains_share_nothing() {
    let store = small_store().await;
    let bytes = noise(1, SEGMENT);
    let (ours, theirs) = (write(&store, DOMAIN, &bytes).await, write(&store, OTHER, &bytes).await);
    let usage = count(&store, &[&ours, &theirs]).await;
    let each = share(4, node(4, 0) + node(1, 0));
    assert_eq!(usage.held, share(8, 2 * (node(4, 0) + node(1, 0))));
    for (content, head) in usage.contents.iter().zip([&ours, &theirs]) {
        assert_eq!((content.content, content.domain), (head.content, head.domain));
        assert_eq!((content.held, content.freed), (each, each));
    }
}

#[tokio::test]
async fn zeros_repeats_and_short_ends_are_told_apart() {
    let store = small_store().await;
    let mut bytes = noise(1, CHUNK).repeat(4);
    bytes.resize(2 * SEGMENT + CHUNK, 0);
    bytes.extend_from_slice(&noise(1, CHUNK));
    bytes.extend_from_slice(&noise(3, 100));
    let mixed = write(&store, DOMAIN, &bytes).await;
    let (empty, zeros) = (write(&store, DOMAIN, b"").await, write(&store, DOMAIN, &vec![0; SEGMENT + 1]).await);
    let usage = count(&store, &[&mixed, &empty, &zeros]).await;
    // One chunk five times, one of 100 bytes; the first segment, none, and the last with a zero chunk.
    let held =
        Share { chunks: 2, plain: (CHUNK + 100) as u64, stored: noisy(1) + 129 + node(4, 0) + node(3, 1) + node(3, 1) };
    let expected = |head: &Head, chunks, zero, held: Share| ContentUsage {
        content: head.content,
        domain: DOMAIN,
        length: head.length,
        chunks,
        zero,
        held,
        freed: held,
    };
    assert_eq!(usage.contents[0], expected(&mixed, 11, 5, held));
    assert_eq!(usage.contents[1], expected(&empty, 0, 0, Share::default()));
    assert_eq!(usage.contents[2], expected(&zeros, 5, 5, Share::default()));
    assert_eq!((usage.held, usage.length), (held, mixed.length + zeros.length));
    assert_eq!(count(&store, &[]).await, Usage::default());
    // What another content holds too is counted once here as well, however often it occurs.
    let other = write(&store, DOMAIN, &noise(1, CHUNK)).await;
    let mixed = count(&store, &[&other, &mixed]).await.contents[1];
    let freed = Share { chunks: 1, plain: 100, stored: held.stored - noisy(1) };
    assert_eq!((mixed.held, mixed.freed), (held, freed));
}

#[tokio::test]
async fn counting_needs_no_key_and_names_what_is_missing() {
    let (backend, index) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()));
    let store = Store::open(backend.clone(), index.clone(), kms(), small()).await.unwrap();
    let head = write(&store, DOMAIN, &noise(1, SEGMENT)).await;
    let usage = count(&store, &[&head]).await;
    let stranger = Store::open(backend.clone(), index, kms(), small()).await.unwrap();
    assert_eq!(stranger.reader(&head.bytes).await.err().unwrap().kind(), ErrorKind::KeyRefused);
    assert_eq!(count(&stranger, &[&head]).await, usage);

    let forgetful = Store::open(backend, Arc::new(MemoryIndex::new()), kms(), small()).await.unwrap();
    let mut tally = forgetful.tally();
    tally.add(&head.bytes).unwrap();
    let error = tally.count().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("root"), "{error}");
    assert_eq!(forgetful.tally().add(&head.bytes[1..]).unwrap_err().kind(), ErrorKind::Corrupt);
}
