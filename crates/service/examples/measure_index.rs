//! Measures the index of a large store: `cargo xtask bench index`, which runs this with a folder, a database and sizes.
//!
//! The catalog, the store and the collector are the real ones. Chunks are of 4 KiB and compress to little, and packs lie in
//! memory, so that the rows and manifests of 1 TiB in chunks of 512 KiB fit; the work of the catalog is the same.
#![expect(clippy::print_stdout, reason = "printing what was measured is what this program is for")]

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use catalog::chunks::Location;
use catalog::{Catalog, contents};
use chunks::{CollectOptions, DirBackend, Head, MemoryBackend, Options, Store};
use keys::LocalKms;
use model::contents::Content;
use model::identity::{Domain, Project};
use model::{ContentId, DomainId, ProjectId, Timestamp};
use service::CatalogIndex;
use tests::peers::Postgres;
use uuid::Uuid;

/// Chunks of one pack: 16 MiB of 512 KiB.
const PER_PACK: u64 = 32;
/// Ids of one lookup.
const IDS: u64 = 1024;
const LOOKUPS: u64 = 200;
/// Contents that the collected index has; every twentieth is deleted.
const CONTENTS: u64 = 40;
const CHUNK: u32 = 4096;
/// Bytes of a chunk that do not compress.
const NOISE: usize = 256;
/// How long those beside a collection are watched without one.
const ALONE: Duration = Duration::from_secs(20);
const DOMAIN: Uuid = Uuid::from_u128(0xd0);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, database, lookup, collect] = arguments.as_slice() else {
        anyhow::bail!("arguments: FOLDER sqlite|postgres CHUNKS-TO-LOOK-UP CHUNKS-TO-COLLECT");
    };
    let (lookup, collect): (u64, u64) = (lookup.parse()?, collect.parse()?);
    if lookup > 0 {
        lookups(&mut Database::make(Path::new(folder), database, "lookup")?, lookup).await?;
    }
    if collect > 0 {
        collection(&Database::make(Path::new(folder), database, "collect")?, collect).await?;
    }
    copies(&Database::make(Path::new(folder), database, "copy")?, Path::new(folder)).await
}

/// A database of one measurement.
enum Database {
    Sqlite(PathBuf),
    Postgres(Box<Postgres>),
}

impl Database {
    fn make(folder: &Path, kind: &str, name: &str) -> Result<Self> {
        match kind {
            "sqlite" => Ok(Self::Sqlite(folder.join(format!("{name}.db")))),
            "postgres" => {
                let cluster = Postgres::start_with(&["shared_buffers=1GB", "max_wal_size=4GB"]);
                let _ = cluster.database("bench");
                Ok(Self::Postgres(Box::new(cluster)))
            }
            _ => anyhow::bail!("`{kind}` is neither sqlite nor postgres"),
        }
    }

    async fn connect(&self) -> Result<Catalog> {
        let url = match self {
            Self::Sqlite(path) => format!("sqlite://{}", path.display()),
            Self::Postgres(cluster) => cluster.url("bench"),
        };
        Ok(Catalog::connect(&url).await?)
    }

    /// Bytes of the table of chunks, or of all there is where it is nearly all.
    fn chunk_bytes(&self) -> Result<u64> {
        match self {
            Self::Sqlite(path) => Ok(fs::metadata(path)?.len()),
            Self::Postgres(cluster) => {
                Ok(cluster.psql("bench", "SELECT pg_total_relation_size('chunks')").trim().parse()?)
            }
        }
    }

    /// Forgets what the machine holds of it in memory.
    fn chill(&mut self) -> Result<()> {
        let folder = match self {
            Self::Sqlite(path) => path.parent().context("a file has a folder")?.to_owned(),
            Self::Postgres(cluster) => {
                cluster.restart();
                cluster.data()
            }
        };
        // Of these files only: others on this machine keep theirs.
        let forget = "sync; find \"$0\" -type f -exec dd if={} iflag=nocache count=0 status=none \\;";
        tests::run(tests::command("sh", ["-c", forget]).arg(folder)).ok();
        Ok(())
    }

    /// Lets writes wait for the disk or not: while it is filled nobody measures.
    fn set_sync(&self, on: bool) {
        if let Self::Postgres(cluster) = self {
            for statement in [&*format!("ALTER SYSTEM SET fsync = {}", if on { "on" } else { "off" }), "CHECKPOINT"] {
                cluster.psql("bench", statement);
            }
            cluster.psql("bench", "SELECT pg_reload_conf()");
        }
    }
}

/// Fills the table of chunks with rows at random places, and looks up ids of which half are known.
async fn lookups(database: &mut Database, count: u64) -> Result<()> {
    database.set_sync(false);
    let (catalog, begun) = (database.connect().await?, Instant::now());
    let before = database.chunk_bytes()?;
    fill(&catalog, count).await?;
    println!("fill     {count} chunks in {:.0?}", begun.elapsed());
    catalog.close().await;
    database.set_sync(true);
    let bytes = database.chunk_bytes()?.saturating_sub(before);
    println!("size     {:.0} bytes for each chunk, {:.2} GB", bytes as f64 / count as f64, bytes as f64 / 1e9);
    for name in ["cold", "warm"] {
        if name == "cold" {
            database.chill()?;
        }
        let catalog = database.connect().await?;
        let mut times = Times::default();
        for round in 0..LOOKUPS {
            // Warm: the same again, so that all that it needs is in memory, as it is where the machine has room for it.
            let ids: Vec<_> = (0..IDS).map(|n| id(scatter(round << 32 | n) % (2 * count))).collect();
            let begun = Instant::now();
            let mut tx = catalog.read().await?;
            let found = catalog::chunks::find(&mut tx, DOMAIN, &ids).await?;
            times.add(begun.elapsed());
            let known = found.iter().flatten().count();
            ensure!((400..624).contains(&known), "found {known} of {IDS}, expected about half");
        }
        println!("find     {IDS} ids, {name}: {times}");
        catalog.close().await;
    }
    Ok(())
}

/// Adds `count` chunks in packs of 32, a thousand packs at a time.
async fn fill(catalog: &Catalog, count: u64) -> Result<()> {
    let mut n = 0;
    while n < count {
        let mut tx = catalog.write().await?;
        for _ in 0..1024 {
            let pack = Uuid::new_v4();
            let blob = |n: u64| {
                let offset = (n % PER_PACK) as u32 * 400_000;
                (DOMAIN, id(n), Location { pack, offset, stored: 400_000, plain: 512 << 10, generation: 1 })
            };
            let blobs: Vec<_> = (n..count.min(n + PER_PACK)).map(blob).collect();
            catalog::chunks::add_pack(&mut tx, 1, pack, 13 << 20, &blobs).await?;
            n += PER_PACK;
            if n >= count {
                break;
            }
        }
        tx.commit().await?;
    }
    Ok(())
}

fn scatter(number: u64) -> u64 {
    let number = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    number ^ (number >> 29)
}

/// Returns an id that looks as random as a hash does.
fn id(number: u64) -> [u8; 32] {
    let mut id = [0; 32];
    for (word, seed) in id.chunks_mut(8).zip(1_u64..) {
        word.copy_from_slice(&scatter(scatter(number + 1).wrapping_mul(seed)).to_be_bytes());
    }
    id
}

/// A store whose packs lie in memory, over a catalog.
struct Place {
    catalog: Catalog,
    store: Store,
    project: ProjectId,
}

impl Place {
    async fn open(
        catalog: Catalog,
        backend: Arc<dyn chunks::Backend>,
        kms: Arc<LocalKms>,
        options: Options,
    ) -> Result<Self> {
        let index = Arc::new(CatalogIndex::new(catalog.clone(), 0));
        let store = Store::open(backend, index, kms, options).await?;
        Ok(Self { catalog, store, project: ProjectId::from(DOMAIN) })
    }

    async fn add_project(&self) -> Result<()> {
        let domain = Domain { id: DomainId::new(), name: "bench".into() };
        let (name, created_at) = ("bench".into(), Timestamp::from_second(1)?);
        let project = Project { id: self.project, domain: domain.id, name, enabled: true, created_at };
        let mut tx = self.catalog.write().await?;
        catalog::domains::insert(&mut tx, &domain).await?;
        catalog::projects::insert(&mut tx, &project).await?;
        Ok(tx.commit().await?)
    }

    /// Writes a content of chunks `first..first + count` and records it.
    async fn put(&self, first: u64, count: u64) -> Result<ContentId> {
        let content = ContentId::new();
        let mut writer = self.store.writer(DOMAIN, content.uuid()).await?;
        for n in first..first + count {
            let mut chunk = vec![0; CHUNK as usize];
            // As much noise that a pack is more than its footer.
            for (at, words) in chunk[..NOISE].chunks_mut(32).enumerate() {
                words.copy_from_slice(&id(n << 8 | at as u64));
            }
            writer.write(chunk.into()).await?;
        }
        let head = writer.finish().await?;
        self.commit(content, head).await
    }

    async fn commit(&self, id: ContentId, head: Head) -> Result<ContentId> {
        let (project, created_at) = (self.project, Timestamp::from_second(1)?);
        let content = Content { id, project, length: head.length, head: head.bytes, created_at };
        let mut tx = self.catalog.write().await?;
        ensure!(contents::commit(&mut tx, &content).await?, "a content was given up");
        tx.commit().await?;
        Ok(id)
    }

    async fn delete(&self, id: ContentId) -> Result<()> {
        let mut tx = self.catalog.write().await?;
        contents::delete(&mut tx, id).await?;
        tx.commit().await?;
        Ok(self.store.forget(id.uuid()).await?)
    }
}

/// Collects an index of which a twentieth is garbage, beside somebody who looks up and writes.
async fn collection(database: &Database, count: u64) -> Result<()> {
    database.set_sync(false);
    let folder = tempfile::tempdir()?;
    let kms = Arc::new(LocalKms::open_or_create(&folder.path().join("master.key"))?);
    let backend = Arc::new(MemoryBackend::new());
    // So that a pack has about as many chunks as one of 16 MiB has: each is sealed in some 310 bytes here.
    let options = Options { chunk_size: CHUNK, segment_chunks: 1024, pack_length: 32 * 310, opened: None };
    // SQLite is filled in memory, where a commit waits for nothing, and then copied to where it belongs.
    let memory = Database::Sqlite(PathBuf::from(format!("/dev/shm/molde-bench-{}.db", std::process::id())));
    let filling = if matches!(database, Database::Sqlite(_)) { &memory } else { database };
    let place = Place::open(filling.connect().await?, backend.clone(), Arc::clone(&kms), options.clone()).await?;
    place.add_project().await?;
    let begun = Instant::now();
    let mut all = Vec::new();
    for content in 0..CONTENTS {
        all.push(place.put(content * (count / CONTENTS), count / CONTENTS).await?);
    }
    let packs = place.store.packs_there().await?.len();
    println!("\nfill     {count} chunks in {packs} packs and {CONTENTS} contents in {:.0?}", begun.elapsed());
    place.catalog.close().await;
    if let (Database::Sqlite(from), Database::Sqlite(to)) = (&memory, database) {
        fs::copy(from, to)?;
        fs::remove_file(from)?;
    }
    database.set_sync(true);
    let place = Arc::new(Place::open(database.connect().await?, backend, kms, options).await?);

    let alone = Beside::start(&place, count);
    tokio::time::sleep(ALONE).await;
    let alone = alone.stop().await?;
    println!("alone    look up {IDS}: {}\n         write {PER_PACK}:   {}", alone.0, alone.1);
    for id in all.iter().step_by(20) {
        place.delete(*id).await?;
    }
    for run in ["first", "second", "third"] {
        let beside = Beside::start(&place, count);
        let begun = Instant::now();
        let done = place.store.collect(&CollectOptions::default()).await?;
        let took = begun.elapsed();
        let beside = beside.stop().await?;
        println!(
            "{run:<8} collection: {took:.1?}, {} live, {} packs removed, {} compacted, peak memory {} MiB",
            done.live.count,
            done.removed.count,
            done.compacted.count,
            memory_peak()?
        );
        println!("         look up {IDS}: {}\n         write {PER_PACK}:   {}", beside.0, beside.1);
    }
    let begun = Instant::now();
    place.store.collect(&CollectOptions::default()).await?;
    println!("with nobody beside it: {:.1?}", begun.elapsed());
    Ok(())
}

fn memory_peak() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("the kernel tells no peak")?;
    Ok(line.split_whitespace().nth(1).context("VmHWM has no number")?.parse::<u64>()? / 1024)
}

/// Somebody who looks up chunks and writes contents, one after the other with a pause between.
struct Beside {
    stop: Arc<AtomicBool>,
    lookups: tokio::task::JoinHandle<Result<Times>>,
    writes: tokio::task::JoinHandle<Result<Times>>,
}

impl Beside {
    fn start(place: &Arc<Place>, count: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, looker) = (Arc::clone(&stop), Arc::clone(place));
        let lookups = tokio::spawn(async move {
            let mut times = Times::default();
            while !stopped.load(Ordering::Relaxed) {
                // As a client asks that writes what is known: a thousand of a content, in order.
                let begun = Instant::now();
                let mut tx = looker.catalog.read().await?;
                let round = times.0.len() as u64;
                let ids: Vec<_> = (0..IDS).map(|n| id(scatter(round) % count + n)).collect();
                catalog::chunks::find(&mut tx, DOMAIN, &ids).await?;
                drop(tx);
                times.add(begun.elapsed());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(times)
        });
        let (stopped, writer) = (Arc::clone(&stop), Arc::clone(place));
        let writes = tokio::spawn(async move {
            let mut times = Times::default();
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let first = u64::from_le_bytes(*Uuid::new_v4().as_bytes().first_chunk().context("16 bytes")?) >> 1;
                writer.put(first, PER_PACK).await?;
                times.add(begun.elapsed());
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(times)
        });
        Self { stop, lookups, writes }
    }

    async fn stop(self) -> Result<(Times, Times)> {
        self.stop.store(true, Ordering::Relaxed);
        Ok((self.lookups.await??, self.writes.await??))
    }
}

/// Copies a content of 1 TiB, which is what cloning, sharing with another project and re-keying do.
async fn copies(database: &Database, folder: &Path) -> Result<()> {
    let kms = Arc::new(LocalKms::open_or_create(&folder.join("master.key"))?);
    let backend = Arc::new(DirBackend::open(folder.join("store")).await?);
    let place = Place::open(database.connect().await?, backend, kms, Options::default()).await?;
    place.add_project().await?;
    let id = ContentId::new();
    let mut writer = place.store.writer(DOMAIN, id.uuid()).await?;
    // A chunk of data in each of the 2048 segments: the manifest of a full disk, and little to write.
    for n in 0..2048_u64 {
        let mut chunk = vec![0; 512 << 10];
        chunk[..8].copy_from_slice(&(n + 1).to_le_bytes());
        writer.write(Bytes::from(chunk)).await?;
        writer.write_zeros((512 << 20) - (512 << 10)).await?;
    }
    let head = writer.finish().await?;
    let (length, bytes) = (head.length, head.bytes.clone());
    place.commit(id, head).await?;
    let (mut times, before) = (Times::default(), bytes_written()?);
    for _ in 0..100 {
        let (id, begun) = (ContentId::new(), Instant::now());
        let head = place.store.copy(&bytes, id.uuid()).await?;
        place.commit(id, head).await?;
        times.add(begun.elapsed());
    }
    let written = (bytes_written()? - before) / 100;
    println!(
        "\ncopy     {length} bytes: {times}; {written} bytes written by this process for each, the catalog's among them if it is SQLite"
    );
    Ok(())
}

fn bytes_written() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: ")).context("the kernel counts no writes")?;
    Ok(line.parse()?)
}

/// How long something took, again and again.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn add(&mut self, time: Duration) {
        self.0.push(time);
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut times = self.0.clone();
        times.sort_unstable();
        let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().saturating_sub(1))).copied();
        let [middle, late, worst] = [50, 99, 100].map(|percent| at(percent).unwrap_or_default());
        write!(f, "middle {middle:.1?}, p99 {late:.1?}, worst {worst:.1?}, of {}", times.len())
    }
}
