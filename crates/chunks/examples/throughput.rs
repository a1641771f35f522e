//! Measures a store on a local directory with a real file: ingest, ingest again, sequential and random reads.
//!
//! `cargo run --release -p molde-chunks --example throughput -- FILE [FOLDER]`; the folder (default: beside
//! the file) gets a new store that is removed at the end.
#![expect(clippy::print_stdout, reason = "an example prints what it measured")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use chunks::{DirBackend, Head, MemoryIndex, Options, Reader, Store};
use futures::TryStreamExt;
use keys::LocalKms;
use tokio::io::AsyncReadExt;
use uuid::Uuid;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let file = arguments.next().ok_or("usage: throughput FILE [FOLDER]")?;
    let parent = arguments.next().or_else(|| file.parent().map(PathBuf::from)).unwrap_or_default();
    let folder = parent.join(format!("throughput-{}", Uuid::new_v4()));
    let outcome = measure(&file, &folder).await;
    std::fs::remove_dir_all(&folder)?;
    outcome
}

async fn measure(file: &PathBuf, folder: &PathBuf) -> Outcome<()> {
    let backend = Arc::new(DirBackend::open(folder).await?);
    let kms = Arc::new(LocalKms::open_or_create(&folder.join("master.key"))?);
    let store = Store::open(backend, Arc::new(MemoryIndex::new()), kms, Options::default()).await?;

    // Once through, so that the file is in the page cache and its reading is not what is measured.
    std::io::copy(&mut std::fs::File::open(file)?, &mut std::io::sink())?;
    let head = ingest("ingest", &store, file).await?;
    ingest("ingest again", &store, file).await?;

    let reader = store.reader(&head.bytes).await?;
    let start = Instant::now();
    let read = reader.stream(0..reader.len()).try_fold(0, async |sum, piece| Ok(sum + piece.len() as u64)).await?;
    report("read in order", read, start);
    random(&reader).await?;
    let start = Instant::now();
    let verified = store.verify(&head.bytes).await?;
    report("verify", verified.length, start);
    println!("stored       {:8} MB in {} chunks", verified.stored_bytes / 1_000_000, verified.chunks);
    println!("peak memory  {}", peak_memory()?);
    Ok(())
}

async fn ingest(what: &str, store: &Store, file: &PathBuf) -> Outcome<Head> {
    let start = Instant::now();
    let mut source = tokio::fs::File::open(file).await?;
    source.set_max_buf_size(1 << 20);
    let mut writer = store.writer(Uuid::nil(), Uuid::now_v7()).await?;
    loop {
        let mut buf = Vec::with_capacity(1 << 20);
        if source.read_buf(&mut buf).await? == 0 {
            break;
        }
        writer.write(Bytes::from(buf)).await?;
    }
    let head = writer.finish().await?;
    report(what, head.length, start);
    Ok(head)
}

/// Reads 4 KiB at places that jump over the whole content, one after the other.
async fn random(reader: &Reader) -> Outcome<()> {
    let (start, count, pages) = (Instant::now(), 2000, reader.len() / 4096);
    let mut place = 1_u64;
    for _ in 0..count {
        place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        reader.read((place >> 16) % pages.max(1) * 4096, reader.len().min(4096) as usize).await?;
    }
    println!("random 4 KiB {:8.0} reads/s, one at a time", f64::from(count) / start.elapsed().as_secs_f64());
    Ok(())
}

fn report(what: &str, bytes: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!("{what:12} {:8.0} MB/s ({} MB in {seconds:.2} s)", bytes as f64 / 1e6 / seconds, bytes / 1_000_000);
}

fn peak_memory() -> Outcome<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    Ok(status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("unknown").trim().to_owned())
}
