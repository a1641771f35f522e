//! The cache before a remote backend: what it fetches once, what it never exceeds, and what it does not believe.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chunks::{
    Backend, CacheOptions, CacheStats, CachedBackend, Error, ErrorKind, MemoryBackend, MemoryIndex, Result, Store,
};
use futures::future::join_all;
use tempfile::TempDir;
use uuid::Uuid;

use crate::contract::contract;
use crate::support::{CountingBackend, DOMAIN, SEGMENT, kms, noise, read_all, small, write};

const BLOCK: usize = 16 * 1024;
/// What a block of the cache takes on the disk: its checksum begins another page.
const FILE: u64 = 20 * 1024;

async fn open(backend: Arc<dyn Backend>, folder: &Path, size: u64) -> CachedBackend {
    CachedBackend::open(backend, CacheOptions { folder: folder.into(), size, block: BLOCK }).await.unwrap()
}

/// A cache, the backend behind it that counts what is read, and the folder.
async fn cache(size: u64) -> (CachedBackend, Arc<CountingBackend>, TempDir) {
    let (folder, backend) = (tempfile::tempdir().unwrap(), CountingBackend::new(Arc::new(MemoryBackend::new())));
    (open(backend.clone(), folder.path(), size).await, backend, folder)
}

/// Puts a pack past the cache, and returns its name and bytes.
async fn pack(backend: &Arc<CountingBackend>, seed: u64, length: usize) -> (String, Vec<u8>) {
    let (name, bytes) =
        (format!("packs/{}", Uuid::from_u128(u128::from(seed) << 64 | u128::from(seed))), noise(seed, length));
    backend.put(&name, vec![Bytes::from(bytes.clone())]).await.unwrap();
    backend.take();
    (name, bytes)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] }).collect()
}

fn block_files(folder: &TempDir) -> Vec<PathBuf> {
    let mut found = files(&folder.path().join("blocks"));
    found.sort();
    found
}

#[tokio::test]
async fn a_cache_keeps_the_contract() {
    let (cache, ..) = cache(1 << 20).await;
    contract(Arc::new(cache)).await;
}

#[tokio::test]
async fn every_range_is_right_at_first_and_again() {
    let (cache, backend, _folder) = cache(1 << 20).await;
    let (name, bytes) = pack(&backend, 1, 5 * BLOCK + 100).await;
    let places =
        [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 5 * BLOCK - 1, 5 * BLOCK, 5 * BLOCK + 99, 5 * BLOCK + 100];
    for _ in 0..2 {
        for (number, start) in places.iter().enumerate() {
            for end in &places[number..] {
                let range = cache.get_range(&name, *start as u64, end - start).await.unwrap();
                assert!(range == bytes[*start..*end], "{start} {end}");
            }
        }
    }
    let (_, read) = backend.take();
    assert_eq!(read, bytes.len() as u64, "every byte was fetched once");
    for (offset, length) in [(5 * BLOCK + 100, 1), (5 * BLOCK, 101), (9 * BLOCK, 1), (0, usize::MAX), (usize::MAX, 2)] {
        let error = cache.get_range(&name, offset as u64, length).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{offset} {length}");
    }
    let missing = format!("packs/{}", Uuid::nil());
    assert_eq!(cache.get_range(&missing, 0, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// Answers late, so that readers meet, and not at all when told so.
struct SlowBackend {
    inner: MemoryBackend,
    fails: AtomicBool,
    reads: AtomicU64,
}

#[async_trait]
impl Backend for SlowBackend {
    async fn put(&self, name: &str, parts: Vec<Bytes>) -> Result<()> {
        self.inner.put(name, parts).await
    }

    async fn get(&self, name: &str) -> Result<Bytes> {
        self.inner.get(name).await
    }

    async fn get_range(&self, name: &str, offset: u64, length: usize) -> Result<Bytes> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Io, "the bucket burns").with_hint("put it out"));
        }
        self.inner.get_range(name, offset, length).await
    }

    async fn size(&self, name: &str) -> Result<u64> {
        self.inner.size(name).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>> {
        self.inner.list(prefix).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.inner.delete(name).await
    }
}

#[tokio::test]
async fn who_reads_the_same_at_once_fetches_it_once_and_shares_a_failure() {
    let slow = SlowBackend { inner: MemoryBackend::new(), fails: true.into(), reads: AtomicU64::new(0) };
    let (backend, folder, name) = (Arc::new(slow), tempfile::tempdir().unwrap(), format!("packs/{}", Uuid::max()));
    let bytes = noise(3, BLOCK);
    backend.put(&name, vec![Bytes::from(bytes.clone())]).await.unwrap();
    let cache = open(backend.clone(), folder.path(), 1 << 20).await;
    let read_by_many = async || join_all((0..50).map(|n| cache.get_range(&name, n, 1000))).await;

    for failed in read_by_many().await {
        let error = failed.unwrap_err();
        assert_eq!((error.kind(), error.hint()), (ErrorKind::Io, Some("put it out")));
        assert_eq!(error.to_string(), "the bucket burns");
    }
    assert_eq!(backend.reads.swap(0, Ordering::SeqCst), 1);

    backend.fails.store(false, Ordering::SeqCst);
    // A reader that gives up takes nothing away from the others.
    let reached = async {
        while backend.reads.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        biased;
        () = reached => {}
        read = cache.get_range(&name, 0, 10) => panic!("the backend was not asked: {read:?}"),
    }
    for (n, read) in read_by_many().await.into_iter().enumerate() {
        assert!(read.unwrap() == bytes[n..n + 1000]);
    }
    assert_eq!(backend.reads.load(Ordering::SeqCst), 2, "the one that was given up, and one for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_never_exceed_the_bound_and_the_bytes_stay_right() {
    const SIZE: u64 = 10 * FILE + 1000;
    let (cache, backend, folder) = cache(SIZE).await;
    let mut packs = Vec::new();
    for seed in 0..8 {
        packs.push(pack(&backend, seed, 4 * BLOCK + 7).await);
    }
    let ended = Arc::new(AtomicBool::new(false));
    let watch = std::thread::spawn({
        let (root, ended) = (folder.path().to_owned(), Arc::clone(&ended));
        move || {
            let (mut most, mut looks) = (0, 0);
            while !ended.load(Ordering::SeqCst) {
                let lengths = files(&root).into_iter().filter_map(|file| Some(file.metadata().ok()?.len()));
                most = lengths.sum::<u64>().max(most);
                looks += 1;
            }
            (most, looks)
        }
    });
    let packs = &packs;
    let readers = (0..6_usize).map(|reader| {
        let cache = cache.clone();
        async move {
            for step in 0..300_usize {
                let (name, bytes) = &packs[(reader * 7 + step * step) % packs.len()];
                let start = (step * 7919 + reader * 104_729) % (bytes.len() - 6000);
                let range = cache.get_range(name, start as u64, 6000).await.unwrap();
                assert!(range == bytes[start..start + 6000]);
            }
        }
    });
    join_all(readers).await;
    let new = format!("packs/{}", Uuid::max());
    cache.put(&new, vec![Bytes::from(noise(9, 30 * BLOCK))]).await.unwrap();
    ended.store(true, Ordering::SeqCst);
    let (most, looks) = watch.join().unwrap();
    assert!(looks > 10 && most <= SIZE, "{most} bytes in {looks} looks");
    let CacheStats { hits, misses, evictions, damaged, bytes, .. } = cache.stats();
    assert!(
        hits > 0 && misses > 0 && evictions > 0 && (SIZE - 2 * FILE..=SIZE).contains(&bytes),
        "{:?}",
        cache.stats()
    );
    assert_eq!(damaged, 0);
}

#[tokio::test]
async fn a_cache_survives_a_restart_and_gives_way_when_it_is_made_smaller() {
    let (first, backend, folder) = cache(1 << 20).await;
    let (name, bytes) = pack(&backend, 1, 6 * BLOCK).await;
    first.get_range(&name, 0, bytes.len()).await.unwrap();
    assert_eq!(block_files(&folder).len(), 6);
    let options = CacheOptions { folder: folder.path().into(), size: 1 << 20, block: BLOCK };
    let Err(error) = CachedBackend::open(backend.clone(), options).await else { panic!("two share a cache") };
    assert!(error.to_string().contains("another process"), "{error}");
    drop(first);

    fs::write(folder.path().join("tmp/left"), b"half a block").unwrap();
    backend.take();
    let second = open(backend.clone(), folder.path(), 1 << 20).await;
    assert!(!folder.path().join("tmp/left").exists());
    assert!(second.get_range(&name, 0, bytes.len()).await.unwrap() == bytes);
    assert_eq!((backend.take().1, second.stats().hits, second.stats().bytes), (0, 6, 6 * FILE));
    drop(second);

    let third = open(backend.clone(), folder.path(), 2 * FILE).await;
    assert_eq!((block_files(&folder).len(), third.stats().blocks, third.stats().evictions), (2, 2, 4));
    assert!(third.get_range(&name, 0, bytes.len()).await.unwrap() == bytes);
}

#[tokio::test]
async fn damage_of_any_kind_is_fetched_again() {
    let (cache, backend, folder) = cache(1 << 20).await;
    let (name, bytes) = pack(&backend, 1, 3 * BLOCK).await;
    let read = async || assert!(cache.get_range(&name, 0, bytes.len()).await.unwrap() == bytes);
    read().await;
    let [first, second, _] = &block_files(&folder)[..] else { panic!("not three blocks") };
    let (whole, other) = (fs::read(first).unwrap(), fs::read(second).unwrap());
    let mut kinds: Vec<Vec<u8>> = [0, 1, BLOCK - 1, BLOCK, BLOCK + 31]
        .map(|at| {
            let mut flipped = whole.clone();
            flipped[at] ^= 1;
            flipped
        })
        .into();
    kinds.extend([vec![], whole[..20].to_vec(), whole[..BLOCK].to_vec(), [&whole[..], b"+"].concat(), other]);
    for (number, damaged) in (1..).zip(&kinds) {
        fs::write(first, damaged).unwrap();
        backend.take();
        read().await;
        assert_eq!((backend.take().1, cache.stats().damaged), (BLOCK as u64, number));
        assert!(fs::read(first).unwrap() == whole, "the block is kept again");
    }
    fs::remove_file(first).unwrap();
    read().await;
    assert_eq!(cache.stats().blocks, 3);
}

#[tokio::test]
async fn every_changed_byte_of_a_block_is_fetched_again() {
    let (folder, backend) = (tempfile::tempdir().unwrap(), CountingBackend::new(Arc::new(MemoryBackend::new())));
    let options = CacheOptions { folder: folder.path().into(), size: 1 << 20, block: 512 };
    let cache = CachedBackend::open(backend.clone(), options).await.unwrap();
    let (name, bytes) = pack(&backend, 1, 700).await;
    let read = async || assert!(cache.get_range(&name, 0, bytes.len()).await.unwrap() == bytes);
    read().await;
    let mut changed_bytes = 0;
    for file in block_files(&folder) {
        let whole = fs::read(&file).unwrap();
        for at in 0..whole.len() {
            for mask in [0x01, 0x80] {
                let mut changed = whole.clone();
                changed[at] ^= mask;
                fs::write(&file, changed).unwrap();
                read().await;
                changed_bytes += 1;
                assert_eq!(cache.stats().damaged, changed_bytes, "byte {at} went unseen");
            }
        }
    }
    assert_eq!(changed_bytes, 2 * (700 + 2 * 32));
}

#[tokio::test]
async fn without_room_on_the_disk_reads_go_on() {
    let (cache, backend, folder) = cache(1 << 20).await;
    let (name, bytes) = pack(&backend, 1, 2 * BLOCK).await;
    fs::remove_dir(folder.path().join("tmp")).unwrap();
    for _ in 0..2 {
        assert!(cache.get_range(&name, 0, bytes.len()).await.unwrap() == bytes);
    }
    assert_eq!((cache.stats().unwritten, cache.stats().bytes, cache.stats().misses), (4, 0, 4));
    fs::create_dir(folder.path().join("tmp")).unwrap();
    for _ in 0..2 {
        assert!(cache.get_range(&name, 0, bytes.len()).await.unwrap() == bytes);
    }
    assert_eq!((cache.stats().unwritten, cache.stats().blocks, cache.stats().hits), (4, 2, 2));
    // A block that is larger than the whole cache is not kept either.
    let (tiny, folder) = (FILE - 1, tempfile::tempdir().unwrap());
    let tiny = open(backend, folder.path(), tiny).await;
    assert!(tiny.get_range(&name, 0, bytes.len()).await.unwrap() == bytes);
    assert_eq!(tiny.stats().bytes, 0);
}

#[tokio::test]
async fn what_is_written_is_here_and_what_is_removed_is_gone() {
    let (cache, backend, folder) = cache(1 << 20).await;
    let (name, bytes) = (format!("packs/{}", Uuid::max()), noise(1, 3 * BLOCK + 5));
    let parts = [7, 0, BLOCK, 2 * BLOCK, 5].iter().scan(0, |start, length| {
        let part = bytes[*start..].get(..*length).unwrap_or(&bytes[*start..]);
        *start += part.len();
        Some(Bytes::copy_from_slice(part))
    });
    cache.put(&name, parts.collect()).await.unwrap();
    assert!(cache.get_range(&name, 0, bytes.len()).await.unwrap() == bytes);
    assert_eq!((backend.take().1, block_files(&folder).len()), (0, 4));
    assert_eq!(cache.put(&name, vec![Bytes::from_static(b"other")]).await.unwrap_err().kind(), ErrorKind::Exists);
    assert!(cache.get_range(&name, 0, bytes.len()).await.unwrap() == bytes);

    cache.delete(&name).await.unwrap();
    assert_eq!((block_files(&folder).len(), cache.stats().bytes), (0, 0));
    assert_eq!(cache.get_range(&name, 0, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
    for other in ["heads/00000000-0000-0000-0000-000000000000", "store"] {
        cache.put(other, vec![Bytes::from_static(b"not kept")]).await.unwrap();
        cache.get_range(other, 0, 3).await.unwrap();
    }
    assert_eq!(block_files(&folder).len(), 0, "only packs are kept");
}

#[tokio::test]
async fn who_reads_in_order_is_read_ahead_of() {
    let (cache, backend, folder) = cache(1 << 20).await;
    let (name, bytes) = pack(&backend, 1, 7 * BLOCK + 10).await;
    let read = async |block: usize| {
        let range = cache.get_range(&name, (block * BLOCK) as u64, 10).await.unwrap();
        assert!(range == bytes[block * BLOCK..][..10]);
    };
    read(0).await;
    read(5).await;
    assert_eq!(cache.stats().ahead, 0, "these two are not in order");
    read(6).await;
    read(1).await;
    while block_files(&folder).len() < 8 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let before = cache.stats();
    for block in 2..8 {
        read(block).await;
    }
    let after = cache.stats();
    assert_eq!((after.hits - before.hits, after.misses, after.ahead), (6, 8, 4));
    assert_eq!(backend.take().1, bytes.len() as u64);
}

#[tokio::test]
async fn a_store_behind_a_cache_keeps_sealed_bytes_only() {
    let (cache, backend, folder) = cache(1 << 20).await;
    let kms = kms();
    let index = Arc::new(MemoryIndex::new());
    let store = Store::open(Arc::new(cache.clone()), index.clone(), kms.clone(), small()).await.unwrap();
    let mut bytes = noise(1, 8 * SEGMENT);
    let secret = b"the plain bytes of a guest, which no disk of the host may see";
    bytes[5000..5000 + secret.len()].copy_from_slice(secret);
    let head = write(&store, DOMAIN, &bytes).await;
    backend.take();
    assert!(read_all(&store, &head.bytes).await.unwrap() == bytes);
    assert_eq!(backend.take().1, 0, "what was just written is here");
    drop((store, cache));

    let again = open(backend.clone(), folder.path(), 1 << 20).await;
    let store = Store::open(Arc::new(again), index, kms, small()).await.unwrap();
    backend.take();
    assert!(read_all(&store, &head.bytes).await.unwrap() == bytes);
    assert_eq!(backend.take().1, 0, "and it is after a restart");
    let kept = block_files(&folder);
    assert!(kept.len() > 4);
    for file in kept {
        assert!(!fs::read(file).unwrap().windows(20).any(|window| window == &secret[..20]));
    }
}
