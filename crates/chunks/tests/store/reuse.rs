//! What it costs to make contents of contents, and that sources which go away meanwhile are noticed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use chunks::{ErrorKind, Head, MemoryIndex, Options, Result, Side, Store};
use futures::TryStreamExt;
use keys::LocalKms;
use uuid::Uuid;

use crate::support::{CHUNK, DOMAIN, SEGMENT, kms, noise, read_all, small, write};
use crate::watched::{Call, WatchedBackend};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const TIB: u64 = MIB * MIB;

async fn open(backend: Arc<WatchedBackend>, options: Options) -> Store {
    Store::open(backend, Arc::new(MemoryIndex::new()), kms(), options).await.unwrap()
}

/// 1 TiB of data in 2048 full segments, all of one chunk.
async fn terabyte(store: &Store) -> Head {
    let mut head = write(store, DOMAIN, &noise(1, 512 * KIB as usize)).await;
    while head.length < TIB {
        let twice = [head.bytes.clone(), head.bytes];
        head = store.concat(DOMAIN, Uuid::now_v7(), &twice).await.unwrap();
    }
    assert_eq!(head.length, TIB);
    head
}

/// Stored bytes of a segment or root over `entries` that are not zero.
fn node(entries: u64) -> u64 {
    24 + 64 * entries + 28
}

/// Bytes of a pack that holds `blobs` blobs of `stored` bytes together.
fn pack(blobs: u64, stored: u64) -> u64 {
    stored + 100 * blobs + 84
}

/// What was written, and how many calls there were.
fn summary(calls: &[Call]) -> (Vec<u64>, usize) {
    (calls.iter().filter(|(verb, ..)| *verb == "put").map(|(.., length)| *length).collect(), calls.len())
}

#[tokio::test]
async fn a_terabyte_is_copied_by_one_head() {
    let backend = WatchedBackend::new();
    let store = open(backend.clone(), Options::default()).await;
    let head = terabyte(&store).await;
    backend.take();
    let copy = store.copy(&head.bytes, Uuid::now_v7()).await.unwrap();
    let (written, calls) = summary(&backend.take());
    assert_eq!((written, calls), (vec![249], 1));
    let reader = store.reader(&copy.bytes).await.unwrap();
    assert_eq!(reader.read(TIB - 8, 8).await.unwrap(), noise(1, 512 * KIB as usize)[512 * KIB as usize - 8..]);
}

#[tokio::test]
async fn a_chunk_in_a_terabyte_is_replaced_by_its_segment_and_the_root() {
    let backend = WatchedBackend::new();
    let store = open(backend.clone(), Options::default()).await;
    let head = terabyte(&store).await;
    let (place, chunk) = (700 * 1024 * MIB + 512 * KIB, Bytes::from(noise(2, 512 * KIB as usize)));
    backend.take();
    let mut splice = store.splice(&head.bytes, Uuid::now_v7()).await.unwrap();
    splice.write(place, chunk.clone()).await.unwrap();
    let new = splice.finish().await.unwrap();
    let (written, calls) = summary(&backend.take());
    let blobs = 512 * KIB + 29 + node(1024) + node(2048);
    // Beside the two writes: the old root and the touched segment.
    assert_eq!((written, calls), (vec![pack(3, blobs), 249], 4));

    let differences: Vec<_> = store.diff(&head.bytes, &new.bytes).await.unwrap().try_collect().await.unwrap();
    // Two roots and two segments.
    assert_eq!(summary(&backend.take()), (vec![], 4));
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].range, place..place + 512 * KIB);
    assert_eq!((differences[0].old, differences[0].new), (Side::Data, Side::Data));
    let reader = store.reader(&new.bytes).await.unwrap();
    assert_eq!(reader.read(place, chunk.len()).await.unwrap(), chunk);
    assert_eq!(reader.read(place + 512 * KIB, 8).await.unwrap(), noise(1, 8));
}

#[tokio::test]
async fn a_slice_of_a_terabyte_writes_its_manifest_only() {
    let backend = WatchedBackend::new();
    let store = open(backend.clone(), Options::default()).await;
    let head = terabyte(&store).await;
    backend.take();
    let half = store.slice(&head.bytes, TIB / 2..TIB, Uuid::now_v7()).await.unwrap();
    assert_eq!(half.length, TIB / 2);
    // The half is known: it was made on the way to the whole.
    assert_eq!(summary(&backend.take()), (vec![249], 2));
    // At the border of a chunk but of no segment, each segment is opened once and no data is read.
    let (from, segments) = (512 * KIB, 8);
    store.slice(&head.bytes, from..segments * 512 * MIB + from, Uuid::now_v7()).await.unwrap();
    let calls = backend.take();
    assert!(calls.iter().all(|(_, _, length)| *length <= node(2048)), "{calls:?}");
    assert_eq!(calls.iter().filter(|(_, name, _)| name.starts_with("packs/")).count(), 1 + 1 + segments as usize);
}

#[tokio::test]
async fn many_small_changes_read_each_chunk_and_segment_once() {
    let backend = WatchedBackend::new();
    let store = open(backend.clone(), small()).await;
    let bytes = noise(1, 3 * SEGMENT);
    let head = write(&store, DOMAIN, &bytes).await;
    backend.take();
    let mut splice = store.splice(&head.bytes, Uuid::now_v7()).await.unwrap();
    let mut model = bytes.clone();
    for at in (SEGMENT + 100..SEGMENT + 2 * CHUNK).step_by(400) {
        splice.write(at as u64, Bytes::from_static(b"changed")).await.unwrap();
        model[at..at + 7].copy_from_slice(b"changed");
    }
    let new = splice.finish().await.unwrap();
    let reads = backend.take().into_iter().filter(|(verb, name, _)| *verb == "get" && name.starts_with("packs/"));
    // The root, the segment, two chunks.
    assert_eq!(reads.count(), 4);
    assert!(read_all(&store, &new.bytes).await.unwrap() == model);
}

const OPERATIONS: [&str; 4] = ["copy", "slice", "splice", "concat"];

async fn make(operation: &str, store: &Store, head: &Head, content: Uuid) -> Result<Head> {
    match operation {
        "copy" => store.copy(&head.bytes, content).await,
        "slice" => store.slice(&head.bytes, 0..SEGMENT as u64, content).await,
        "concat" => store.concat(DOMAIN, content, &[head.bytes.clone(), head.bytes.clone()]).await,
        _ => {
            let mut splice = store.splice(&head.bytes, content).await?;
            splice.write_zeros(5, 5).await?;
            splice.finish().await
        }
    }
}

#[tokio::test]
async fn a_source_that_goes_meanwhile_is_a_conflict_and_leaves_no_head() {
    for operation in OPERATIONS {
        let (backend, index) = (WatchedBackend::new(), Arc::new(MemoryIndex::new()));
        let store = Store::open(backend.clone(), index.clone(), kms(), small()).await.unwrap();
        let source = write(&store, DOMAIN, &noise(1, 3 * SEGMENT)).await;
        let content = Uuid::now_v7();
        backend.doom(&index, source.content);
        let error = make(operation, &store, &source, content).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{operation}: {error}");
        assert!(error.to_string().contains(&source.content.to_string()), "{operation}: {error}");
        assert_eq!(store.head(content).await.unwrap_err().kind(), ErrorKind::NotFound, "{operation}");
        // From one that stays, the same id can be made.
        let source = write(&store, DOMAIN, &noise(1, 3 * SEGMENT)).await;
        store.verify(&make(operation, &store, &source, content).await.unwrap().bytes).await.unwrap();
    }
}

#[tokio::test]
async fn a_head_that_was_there_before_stays_when_a_source_is_gone() {
    for operation in OPERATIONS {
        let store = open(WatchedBackend::new(), small()).await;
        let source = write(&store, DOMAIN, &noise(1, 3 * SEGMENT)).await;
        let content = Uuid::now_v7();
        let made = make(operation, &store, &source, content).await.unwrap();
        store.forget(source.content).await.unwrap();
        let error = make(operation, &store, &source, content).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{operation}");
        assert_eq!(store.head(content).await.unwrap(), made, "{operation}");
    }
}

#[tokio::test]
async fn what_cannot_be_taken_back_is_told() {
    let (backend, index) = (WatchedBackend::new(), Arc::new(MemoryIndex::new()));
    let store = Store::open(backend.clone(), index.clone(), kms(), small()).await.unwrap();
    let source = write(&store, DOMAIN, &noise(1, SEGMENT)).await;
    let content = Uuid::now_v7();
    backend.refuses_deletes.store(true, Ordering::SeqCst);
    backend.doom(&index, source.content);
    let error = store.copy(&source.bytes, content).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    let text = error.to_string();
    assert!(text.contains(&format!("cannot take back the head of {content}")), "{text}");
    assert!(text.contains(&source.content.to_string()), "{text}");
}

#[tokio::test]
async fn a_copy_is_keyed_by_the_master_key_of_now() {
    let folder = tempfile::tempdir().unwrap();
    let keys = |name: &str| folder.path().join(name);
    let local = |name: &str| Arc::new(LocalKms::open_or_create(&keys(name)).unwrap());
    let (backend, index) = (WatchedBackend::new(), Arc::new(MemoryIndex::new()));
    let open = async |kms| Store::open(backend.clone(), index.clone(), kms, small()).await.unwrap();

    let before = open(local("old")).await;
    let head = write(&before, DOMAIN, &noise(1, SEGMENT)).await;
    local("new");
    // The last key wraps, all unwrap.
    let text = |name: &str| std::fs::read_to_string(keys(name)).unwrap();
    let both = text("old") + text("new").lines().last().unwrap() + "\n";
    std::fs::copy(keys("old"), keys("both")).unwrap();
    std::fs::write(keys("both"), both).unwrap();
    let copy = open(local("both")).await.copy(&head.bytes, Uuid::now_v7()).await.unwrap();

    let after = open(local("new")).await;
    assert!(read_all(&after, &copy.bytes).await.unwrap() == noise(1, SEGMENT));
    assert_eq!(after.reader(&head.bytes).await.err().unwrap().kind(), ErrorKind::KeyRefused);
    assert_eq!(before.reader(&copy.bytes).await.err().unwrap().kind(), ErrorKind::KeyRefused);
}
