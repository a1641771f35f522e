//! The memory bounds of writer and stream, measured by an allocator that counts.
//!
//! A slow disk and a slow consumer let every queue fill up. What zstd allocates by itself is not counted:
//! about 1 MB per blocking thread, whatever is written.
#![expect(unsafe_code, reason = "an allocator that counts can only be written with unsafe code")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chunks::{Backend, DirBackend, Head, MemoryIndex, Options, Result, Store};
use futures::StreamExt;
use keys::LocalKms;
use uuid::Uuid;

const MIB: usize = 1024 * 1024;
/// What `writer/mod.rs` promises.
const WRITER_MAX: usize = 48 * MIB;
/// What `reader/mod.rs` and `reader/stream.rs` promise: 16 MiB of read-ahead, and less than 1 MiB of segments
/// for this content; a piece that the consumer holds is one more chunk.
const STREAM_MAX: usize = 18 * MIB;
/// What `splice.rs` promises: a writer and a reader, which holds 8 chunks and what it is just opening.
const SPLICE_MAX: usize = WRITER_MAX + 6 * MIB;

/// What all writers share, and what each of ten adds, as `writer/mod.rs` promises.
const TEN_WRITERS_MAX: usize = (96 + 32 + 10 * 4) * MIB;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory that it returns.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), SeqCst) + layout.size(), SeqCst);
        // SAFETY: the caller keeps the contract of `alloc`, which is that of the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), SeqCst) + layout.size(), SeqCst);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), SeqCst);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A disk that takes its time for each pack: more than writers take to fill one, on a machine that does other things too.
struct SlowBackend(DirBackend);

#[async_trait]
impl Backend for SlowBackend {
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(500)).await;
        self.0.put(name, parts).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.0.get(name).await
    }

    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Bytes> {
        self.0.get_range(name, offset, length).await
    }

    async fn size(&self, name: &str) -> Result<u64> {
        self.0.size(name).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.0.list(prefix).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.0.delete(name).await
    }
}

/// Runs `work` and returns how far the live bytes rose above where they began.
async fn peak_of<T>(work: impl Future<Output = T>) -> (usize, T) {
    let before = LIVE.load(SeqCst);
    PEAK.store(before, SeqCst);
    let result = work.await;
    (PEAK.load(SeqCst) - before, result)
}

async fn write(store: &Store, blocks: usize) -> Head {
    write_noise(store, blocks, blake3::Hasher::new()).await
}

/// Writes what nobody has written.
async fn write_other(store: &Store, blocks: usize) -> Head {
    let content = Uuid::new_v4();
    write_noise(store, blocks, blake3::Hasher::new_keyed(&[content.into_bytes(), [0; 16]].concat().try_into().unwrap()))
        .await
}

async fn write_noise(store: &Store, blocks: usize, seed: blake3::Hasher) -> Head {
    let mut writer = store.writer(Uuid::nil(), Uuid::now_v7()).await.unwrap();
    let mut noise = seed.finalize_xof();
    for _ in 0..blocks {
        // Small pieces, so that what the caller holds is not what is measured.
        let mut block = vec![0; 16 * 1024];
        noise.fill(&mut block);
        writer.write(block.into()).await.unwrap();
    }
    writer.finish().await.unwrap()
}

/// Replaces most of every second chunk, so that its ends are read from the old content.
async fn splice(store: &Store, head: &[u8], chunks: u64) -> Head {
    let mut splice = store.splice(head, Uuid::now_v7()).await.unwrap();
    let mut noise = blake3::Hasher::new_derive_key("other").finalize_xof();
    for chunk in (0..chunks).step_by(2) {
        for block in 0..30 {
            let mut bytes = vec![0; 16 * 1024];
            noise.fill(&mut bytes);
            splice.write(chunk * 512 * 1024 + 100 + block * 16 * 1024, bytes.into()).await.unwrap();
        }
    }
    splice.finish().await.unwrap()
}

async fn read_slowly(store: &Store, head: &[u8]) -> u64 {
    let reader = store.reader(head).await.unwrap();
    let (mut pieces, mut length) = (std::pin::pin!(reader.stream(0..reader.len())), 0);
    while let Some(piece) = pieces.next().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
        length += piece.unwrap().len() as u64;
    }
    length
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_stream_and_splice_stay_within_their_bounds() {
    let folder = tempfile::tempdir().unwrap();
    let backend = Arc::new(SlowBackend(DirBackend::open(folder.path()).await.unwrap()));
    let kms = Arc::new(LocalKms::open_or_create(&folder.path().join("master.key")).unwrap());
    let store = Store::open(backend, Arc::new(MemoryIndex::new()), kms, Options::default()).await.unwrap();

    let (peak, head) = Box::pin(peak_of(write(&store, 128 * 64))).await;
    println_peak("writer", peak);
    assert!(peak > 32 * MIB, "the queues never filled, so {peak} proves nothing");
    assert!(peak <= WRITER_MAX, "the writer held {} KiB", peak / 1024);

    let writers = || futures::future::join_all((0..10).map(|_| write_other(&store, 64 * 64)));
    let (peak, heads) = peak_of(writers()).await;
    println_peak("ten writers", peak);
    assert!(peak > 128 * MIB, "the rooms were never full, so {peak} proves nothing");
    assert!(peak <= TEN_WRITERS_MAX, "ten writers held {} KiB", peak / 1024);
    for head in heads {
        assert_eq!(store.verify(&head.bytes).await.unwrap().chunks, 128);
    }

    let (peak, length) = peak_of(read_slowly(&store, &head.bytes)).await;
    println_peak("stream", peak);
    assert_eq!(length, 128 * MIB as u64);
    assert!(peak > 6 * MIB, "the read-ahead never filled, so {peak} proves nothing");
    assert!(peak <= STREAM_MAX, "the stream held {} KiB", peak / 1024);

    let (peak, spliced) = peak_of(splice(&store, &head.bytes, 256)).await;
    println_peak("splice", peak);
    assert_eq!(spliced.length, head.length);
    assert!(peak > 32 * MIB, "the queues never filled, so {peak} proves nothing");
    assert!(peak <= SPLICE_MAX, "the splice held {} KiB", peak / 1024);
}

#[expect(clippy::print_stdout, reason = "the measured figure is worth reading in the log of a test")]
fn println_peak(what: &str, peak: usize) {
    println!("{what}: at most {} KiB live", peak / 1024);
}
