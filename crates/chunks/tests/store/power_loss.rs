//! Power loss: what was acknowledged survives it, at whatever call, whatever of the rest survives.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use chunks::{Backend, DirBackend, Result};
use futures::{FutureExt, StreamExt, stream};
use proptest::prelude::*;
use tokio::runtime::Builder;

use crate::power::{Disk, Ignores};
use crate::reference::{Act, Death, Ground, Make, Model, Place, Run, cases, steps};
use crate::support::CHUNK;
use crate::watched_index::Watch;

/// Where the store lies on the disk; nothing of it is there at first.
const ROOT: &str = "srv/data/store";

struct Power(Mutex<Arc<Disk>>);

impl Power {
    fn new(ignores_folders: Ignores, ignores_files: bool) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Disk::new(ignores_folders, ignores_files))))
    }
}

#[async_trait]
impl Ground for Power {
    async fn open(&self, death: Option<Death>) -> Result<(Arc<dyn Backend>, Arc<dyn Watch>)> {
        let disk = {
            let mut disk = self.0.lock().unwrap();
            *disk = disk.next_process(death.map_or(u64::MAX, |death| death.calls));
            Arc::clone(&disk)
        };
        let backend = DirBackend::open_with(disk.top().join(ROOT), Arc::clone(&disk) as _).await?;
        Ok((Arc::new(backend), disk))
    }

    fn died(&self, death: Death) {
        if let Some(seed) = death.cut {
            let mut disk = self.0.lock().unwrap();
            *disk = disk.cut(seed);
        }
    }
}

fn honest() -> Arc<Power> {
    Power::new(|_| false, false)
}

/// A short life with everything in it: contents that share chunks, contents made of contents, and garbage.
fn life() -> Vec<Act> {
    let noise = |seed, chunks: usize, more| Run::Noise(seed, chunks * CHUNK + more);
    let at = |at: usize| Place { at: at as u32, aligned: false };
    [
        Act::Make(Make::Write(vec![noise(1, 6, 0)])),
        Act::Make(Make::Write(vec![noise(1, 3, 0), noise(2, 1, 9)])),
        Act::Make(Make::Copy(0)),
        Act::Make(Make::Slice(0, at(CHUNK), at(4 * CHUNK + 5))),
        Act::Make(Make::Splice(1, vec![(CHUNK, noise(3, 1, 0)), (1, Run::Zeros(CHUNK))], None)),
        Act::Make(Make::Concat(vec![0, 1])),
        Act::Forget(0),
        Act::Forget(0),
        Act::Forget(0),
        Act::Forget(2),
        Act::Collect { compact: true },
        Act::Collect { compact: true },
        Act::Make(Make::Write(vec![noise(1, 6, 0)])),
        Act::Collect { compact: false },
    ]
    .into()
}

/// Lives until the power is cut after so many calls, and goes on, with the index and with one that is rebuilt. Returns
/// whether it lived to the end.
async fn cut_after(calls: u64) -> bool {
    let mut model = Model::new(honest());
    let lived = model.die(&life(), Death { calls, late: false, cut: Some(calls) }, calls % 8 < 4).await;
    model.restart(true).await;
    model.check_all().await;
    if calls.is_multiple_of(8) {
        model.end().await;
    }
    lived
}

/// A process dies and the power stays; the next one builds on what it finds, some with an index that is rebuilt, and then
/// the power is cut. Returns whether the first one lived to the end.
async fn die_after(calls: u64) -> bool {
    let (mut model, life) = (Model::new(honest()), life());
    let lived = model.die(&life, Death { calls, late: false, cut: None }, true).await;
    model.restart(calls % 2 == 1).await;
    // A collection lists, and what is listed is made durable by that; so some are cut before.
    let more = if calls % 4 < 2 { &life[..] } else { &[] };
    model.die(more, Death { calls: u64::MAX, late: false, cut: Some(0) }, true).await;
    lived
}

/// Runs lives that end after 0, 1, 2, ... calls until one lives to its end; several at once, for each waits for threads.
async fn at_every_call<L: Future<Output = bool> + Send + 'static>(live: fn(u64) -> L) {
    let lives = stream::iter(0..).map(|calls| tokio::spawn(live(calls)).map(move |lived| (calls, lived)));
    let mut lives = std::pin::pin!(lives.buffered(4));
    while let Some((calls, lived)) = lives.next().await {
        if lived.unwrap_or_else(|_| panic!("with the end after {calls} calls")) {
            assert!(calls > 200, "only {calls} calls were cut");
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_cut_at_any_call() {
    at_every_call(cut_after).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_built_on_the_work_of_a_dead_process_survives_a_cut() {
    at_every_call(die_after).await;
}

/// Returns whether everything is there after a whole life and a cut that nothing unsynced survives.
async fn survives(ground: Arc<Power>) -> bool {
    let checked = async move {
        let mut model = Model::new(ground);
        assert!(model.die(&life(), Death { calls: u64::MAX, late: false, cut: Some(0) }, true).await);
        model.restart(true).await;
        model.check_all().await;
    };
    tokio::spawn(checked).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_ignores_any_sync_is_found_out() {
    assert!(survives(honest()).await);
    assert!(!survives(Power::new(|_| false, true)).await, "that files are not synced goes unseen");
    let ignored: [(&str, Ignores); 11] = [
        ("what the root lies in", |path| path == Path::new("")),
        ("what the root lies in", |path| path == Path::new("srv")),
        ("what the root lies in", |path| path == Path::new("srv/data")),
        ("the root", |path| path == Path::new(ROOT)),
        ("packs", |path| path.ends_with("packs")),
        ("a folder of packs", |path| path.parent().is_some_and(|parent| parent.ends_with("packs"))),
        ("heads", |path| path.ends_with("heads")),
        ("a folder of heads", |path| path.parent().is_some_and(|parent| parent.ends_with("heads"))),
        ("domains", |path| path.ends_with("domains")),
        ("a domain", |path| path.parent().is_some_and(|parent| parent.ends_with("domains"))),
        ("a folder of secrets", |path| path.components().count() == 6),
    ];
    for (number, (what, ignores)) in ignored.into_iter().enumerate() {
        assert!(!survives(Power::new(ignores, false)).await, "{number}: that {what} is not synced goes unseen");
    }
}

proptest! {
    #![proptest_config(cases(32))]
    #[test]
    fn any_life_with_cuts_matches_the_model(steps in steps(20)) {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(Model::run(honest(), &steps));
    }
}
