//! The supervisor: starts the processes, kills one now and then, and checks what is left when they have stopped.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

use catalog::{quotas, sessions};
use chunks::{Backend as _, CollectOptions, Fate};
use model::ContentId;
use model::quotas::Resource;
use tempfile::TempDir;
use tests::peers::Postgres;
use tests::{Random, command};
use uuid::Uuid;

use crate::place::{Broken, Place};
use crate::worker::{Order, SAID};

const PROCESSES: u64 = 8;

/// What the processes said.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How often each act came to each end, and the sums of what they told.
    pub(crate) counts: BTreeMap<String, u64>,
    pub(crate) kills: u64,
    pub(crate) faults: Vec<String>,
}

impl Tally {
    /// Returns how often acts were done whose name begins so.
    pub(crate) fn count(&self, name: &str) -> u64 {
        self.counts.iter().filter(|(key, _)| key.starts_with(name)).map(|(_, count)| count).sum()
    }

    fn hear(&mut self, said: &str) {
        for line in said.lines().filter_map(|line| line.strip_prefix(SAID)) {
            if let Some(fault) = line.strip_prefix("FAULT ") {
                self.faults.push(fault.into());
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let [act, outcome, told @ ..] = words.as_slice() else { continue };
            *self.counts.entry(format!("{act} {outcome}")).or_default() += 1;
            for (name, number) in told.iter().filter_map(|word| word.split_once('=')) {
                *self.counts.entry(format!("{act}: {name}")).or_default() += number.parse::<u64>().unwrap();
            }
        }
    }
}

/// A soak: what is shared, and the processes that share it.
pub(crate) struct Soak {
    folder: TempDir,
    _cluster: Postgres,
    url: String,
    seed: u64,
    broken: Broken,
    test: &'static str,
}

impl Soak {
    /// Prepares one whose processes run the test called `test` again.
    pub(crate) fn new(test: &'static str, seed: u64, broken: Broken) -> Self {
        // No power is cut here, so nothing is lost in memory, and a disk that takes milliseconds to sync only does less.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        let cluster = Postgres::start();
        let url = cluster.database("soak");
        runtime().block_on(Place::make(folder.path(), &url));
        Self { folder, _cluster: cluster, url, seed, broken, test }
    }

    /// Lets the processes run for so long, or until one of them finds a fault, and returns what they said.
    pub(crate) fn run(&self, time: Duration) -> Tally {
        let (begun, mut dice, mut tally) = (Instant::now(), Random::new(self.seed), Tally::default());
        let mut processes: Vec<Child> = (0..PROCESSES).map(|number| self.start(self.seed ^ number << 32)).collect();
        while begun.elapsed() < time && self.heard().faults.is_empty() {
            std::thread::sleep(Duration::from_millis(500 + dice.below(1000)));
            let number = dice.below(PROCESSES);
            let process = &mut processes[number as usize];
            if let Some(status) = process.try_wait().unwrap() {
                tally.faults.push(format!("a process ended by itself with {status}: {}", self.read("complaints")));
                break;
            }
            process.kill().unwrap();
            process.wait().unwrap();
            tally.kills += 1;
            *process = self.start(self.seed ^ number << 32 ^ tally.kills << 40);
        }
        fs::write(self.folder.path().join("stop"), "").unwrap();
        for mut process in processes {
            let status = process.wait().unwrap();
            if !status.success() {
                tally.faults.push(format!("a process ended with {status}: {}", self.read("complaints")));
            }
        }
        tally.hear(&self.read("said"));
        tally
    }

    fn start(&self, seed: u64) -> Child {
        let order = Order { folder: self.folder.path().into(), url: self.url.clone(), seed, broken: self.broken };
        let mut process = command("setpriv", ["--pdeathsig=KILL", "--"]);
        process.arg(std::env::current_exe().unwrap()).args([self.test, "--exact", "--nocapture"]);
        process.env(crate::ORDER, order.to_text());
        let append = |name| File::options().create(true).append(true).open(self.folder.path().join(name)).unwrap();
        process.stdout(append("said")).stderr(append("complaints")).spawn().unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn heard(&self) -> Tally {
        let mut tally = Tally::default();
        tally.hear(&self.read("said"));
        tally
    }

    /// Checks, with nobody else there, that what is kept reads back, and that what is not is gone after two runs.
    pub(crate) fn check(&self) {
        runtime().block_on(async {
            let place = Place::open(self.folder.path(), &self.url, Broken::Nothing).await;
            wait_until_all_sessions_are_over(&place).await;
            let kept = place.contents().await;
            assert!(!kept.is_empty(), "nothing is left to check");
            for content in &kept {
                place.read(content).await.unwrap_or_else(|error| panic!("content {}: {error:?}", content.id));
            }
            collect_twice(&place).await;
            for content in &kept {
                place.read(content).await.unwrap_or_else(|error| panic!("content {}: {error:?}", content.id));
            }
            check_only_these(&place, kept.iter().map(|content| content.id).collect()).await;
            for content in &kept {
                assert!(place.delete(content.id).await);
            }
            collect_twice(&place).await;
            check_only_these(&place, Vec::new()).await;
            assert!(names(&place, "packs/").await.is_empty(), "packs that nothing refers to are there");
            place.catalog.close().await;
        });
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Those who were killed are missed after their lease, and what they kept for a record that never came after another.
async fn wait_until_all_sessions_are_over(place: &Place) {
    let mut left = 1;
    for _ in 0..600 {
        place.index.tend().await.unwrap();
        chunks::Index::end_silent(&*place.index).await.unwrap();
        let mut tx = place.catalog.read().await.unwrap();
        left = sessions::heads(&mut tx).await.unwrap().len();
        let oldest = sessions::oldest(&mut tx).await.unwrap();
        drop(tx);
        let next = chunks::Index::begin(&*place.index, Uuid::new_v4()).await.unwrap().unwrap();
        chunks::Index::abandon(&*place.index, next);
        if left == 0 && oldest == next.0 {
            return place.index.tend().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("sessions of the dead never end; {left} of them are kept");
}

/// Two runs without compaction, whose sources would be garbage of the third.
async fn collect_twice(place: &Place) {
    let options = CollectOptions { compact_below: 0, ..CollectOptions::default() };
    for _ in 0..2 {
        place.store.collect(&options).await.unwrap();
    }
}

async fn names(place: &Place, prefix: &str) -> Vec<String> {
    let mut names = place.backend.list(prefix).await.unwrap();
    names.sort();
    names
}

/// Fails unless the objects that lie there are those that these contents need, and the quota counts nothing else.
async fn check_only_these(place: &Place, contents: Vec<ContentId>) {
    let mut heads: Vec<String> = contents.iter().map(|id| format!("heads/{}", id.uuid())).collect();
    heads.sort();
    assert_eq!(names(place, "heads/").await, heads, "heads");
    let dry = CollectOptions { dry_run: true, ..CollectOptions::default() };
    let found = place.store.collect(&dry).await.unwrap();
    let packs = names(place, "packs/").await.len() as u64;
    assert_eq!((found.sum(Fate::InUse).count, found.stray_packs, found.stray_heads), (packs, 0, 0), "{found:?}");
    assert!(found.packs.keys().all(|fate| *fate == Fate::InUse), "{found:?}");
    let mut tx = place.catalog.read().await.unwrap();
    let there = quotas::recount(&mut tx, place.project, Resource::StoredBytes).await.unwrap();
    let counted = quotas::list(&mut tx, place.project).await.unwrap();
    let counted = counted.iter().find(|quota| quota.resource == Resource::StoredBytes).unwrap().used;
    assert_eq!((counted, contents.is_empty()), (there, there == 0), "stored bytes that are counted and there");
}
