//! Measures what works on manifests with a content of 1 TiB on a local directory: copy, slice, splice, diff, usage.
//!
//! `cargo run --release -p molde-chunks --example manifests -- FOLDER`; the folder gets a new store that is removed
//! at the end. The content has 2048 full segments that all differ, of one chunk of data each and one in common.
#![expect(clippy::print_stdout, reason = "an example prints what it measured")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use chunks::{DirBackend, Head, MemoryIndex, Options, Store};
use futures::TryStreamExt;
use keys::LocalKms;
use uuid::Uuid;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

const CHUNK: usize = 512 * 1024;
const SEGMENT: u64 = 512 * 1024 * 1024;
const TIB: u64 = 2048 * SEGMENT;
const DOMAIN: Uuid = Uuid::nil();

#[tokio::main]
async fn main() -> Outcome<()> {
    let parent = std::env::args_os().nth(1).map(PathBuf::from).ok_or("usage: manifests FOLDER")?;
    let folder = parent.join(format!("manifests-{}", Uuid::new_v4()));
    let outcome = measure(&folder).await;
    std::fs::remove_dir_all(&folder)?;
    outcome
}

async fn measure(folder: &Path) -> Outcome<()> {
    let backend = Arc::new(DirBackend::open(folder).await?);
    let kms = Arc::new(LocalKms::open_or_create(&folder.join("master.key"))?);
    let store = Store::open(backend, Arc::new(MemoryIndex::new()), kms, Options::default()).await?;
    let head = terabyte(&store).await?;
    println!("a content of {} GiB in a store of {} KiB", head.length >> 30, size(folder)? >> 10);

    let run = Run { store, folder };
    let copy = run.timed("copy", async |store| Ok(store.copy(&head.bytes, Uuid::now_v7()).await?)).await?;
    run.timed("slice, aligned", async |store| Ok(store.slice(&head.bytes, SEGMENT..TIB / 2, Uuid::now_v7()).await?))
        .await?;
    run.timed("slice, shifted", async |store| {
        Ok(store.slice(&head.bytes, CHUNK as u64..TIB / 2, Uuid::now_v7()).await?)
    })
    .await?;
    let one = run.timed("splice 1 chunk", async |store| splice(store, &head, 1).await).await?;
    let many = run.timed("splice 1000", async |store| splice(store, &head, 1000).await).await?;
    for (what, other) in [("diff of 1", &one), ("diff of 1000", &many)] {
        let found = run
            .timed(what, async |store| Ok(store.diff(&head.bytes, &other.bytes).await?.try_collect::<Vec<_>>().await?))
            .await?;
        println!("{:15} {} ranges", "", found.len());
    }
    let usage = run
        .timed("usage of 4", async |store| {
            let mut tally = store.tally();
            for head in [&head, &copy, &one, &many] {
                tally.add(&head.bytes)?;
            }
            Ok(tally.count().await?)
        })
        .await?;
    println!("{:15} {} chunks, {} KiB stored", "", usage.held.chunks, usage.held.stored >> 10);
    Ok(())
}

struct Run<'a> {
    store: Store,
    folder: &'a Path,
}

impl Run<'_> {
    /// Prints how long an operation takes and how many bytes it leaves.
    async fn timed<T>(&self, what: &str, work: impl AsyncFnOnce(&Store) -> Outcome<T>) -> Outcome<T> {
        let (before, start) = (size(self.folder)?, Instant::now());
        let result = work(&self.store).await?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        println!("{what:15} {milliseconds:9.2} ms, {} bytes written", size(self.folder)? - before);
        Ok(result)
    }
}

/// Joins segments of one chunk of their own and 1023 times the same, two by two.
async fn terabyte(store: &Store) -> Outcome<Head> {
    let mut common = write(store, u64::MAX).await?;
    for _ in 0..10 {
        common = store.concat(DOMAIN, Uuid::now_v7(), &[common.bytes.clone(), common.bytes]).await?;
    }
    let mut heads = Vec::new();
    for number in 0..TIB / SEGMENT {
        let mut segment = store.splice(&common.bytes, Uuid::now_v7()).await?;
        segment.write(0, chunk(number)).await?;
        heads.push(segment.finish().await?.bytes);
    }
    Ok(store.concat(DOMAIN, Uuid::now_v7(), &heads).await?)
}

async fn write(store: &Store, number: u64) -> Outcome<Head> {
    let mut writer = store.writer(DOMAIN, Uuid::now_v7()).await?;
    writer.write(chunk(number)).await?;
    Ok(writer.finish().await?)
}

/// A chunk of its own that takes little room.
fn chunk(number: u64) -> Bytes {
    let mut bytes = vec![7; CHUNK];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes.into()
}

/// Replaces `count` chunks, all over the content.
async fn splice(store: &Store, head: &Head, count: u64) -> Outcome<Head> {
    let mut splice = store.splice(&head.bytes, Uuid::now_v7()).await?;
    for number in 0..count {
        let place = (TIB / count * number + SEGMENT / 2) / CHUNK as u64 * CHUNK as u64;
        splice.write(place, chunk(1 << 40 | number)).await?;
    }
    Ok(splice.finish().await?)
}

/// Returns the bytes of all files below a folder.
fn size(folder: &Path) -> Outcome<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { size(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}
