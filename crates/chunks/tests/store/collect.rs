//! Collection: garbage goes, and nothing else, beside writers, readers, crashes, damage and loss.

use std::sync::Arc;

use bytes::Bytes;
use chunks::{
    Backend, CollectOptions, Collected, ErrorKind, Fate, Index, Judgement, MemoryBackend, MemoryIndex, Pace, PackRow,
    Store, Verdict,
};
use keys::Kms;
use model::packs::PackState;
use uuid::Uuid;

use crate::support::{CHUNK, DOMAIN, Mortal, MortalBackend, SEGMENT, kms, noise, read_all, small, write};
use crate::watched::WatchedBackend;
use crate::watched_index::WatchedIndex;

struct Place {
    backend: Arc<MemoryBackend>,
    index: Arc<MemoryIndex>,
    keys: Arc<dyn Kms>,
    store: Store,
}

impl Place {
    async fn new() -> Self {
        let (backend, index, keys) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms());
        let store = Store::open(backend.clone(), index.clone(), keys.clone(), small()).await.unwrap();
        Self { backend, index, keys, store }
    }

    async fn packs(&self) -> Vec<Uuid> {
        let names = self.backend.list("packs/").await.unwrap();
        names.iter().map(|name| name["packs/".len()..].parse().unwrap()).collect()
    }
}

fn plain() -> CollectOptions {
    CollectOptions { compact_below: 0, ..CollectOptions::default() }
}

async fn collect(store: &Store) -> Collected {
    store.collect(&plain()).await.unwrap()
}

#[tokio::test]
async fn what_only_a_stray_head_leads_to_is_gone_after_two_runs() {
    let place = Place::new().await;
    let head = write(&place.store, DOMAIN, &noise(1, 3 * SEGMENT)).await;
    // A process that died before it removed the head, or before it recorded the content.
    place.index.forget(head.content).await.unwrap();
    let first = collect(&place.store).await;
    assert_eq!((first.heads_removed, first.removed.count), (1, 0));
    assert!(collect(&place.store).await.removed.count > 0);
    assert!(place.packs().await.is_empty() && place.index.is_empty());
    assert!(place.backend.list("heads/").await.unwrap().is_empty());
}

#[tokio::test]
async fn garbage_is_gone_after_two_runs_and_nothing_else() {
    let place = Place::new().await;
    let shared = noise(1, 8 * SEGMENT);
    let kept = write(&place.store, DOMAIN, &shared).await;
    let in_use = place.packs().await;
    let gone = write(&place.store, DOMAIN, &[shared.clone(), noise(2, 8 * SEGMENT)].concat()).await;
    let all = place.packs().await.len();
    assert!(all > in_use.len() + 1);
    place.store.forget(gone.content).await.unwrap();

    let dry = place.store.collect(&CollectOptions { dry_run: true, ..plain() }).await.unwrap();
    assert_eq!(dry.sum(Fate::InUse).count, in_use.len() as u64);
    assert_eq!(dry.sum(Fate::Condemned).count, (all - in_use.len()) as u64);
    assert_eq!((place.packs().await.len(), dry.listed.len()), (all, all - in_use.len()));

    let first = collect(&place.store).await;
    assert_eq!((first.sum(Fate::WaitsForMarks).count, first.removed.count), ((all - in_use.len()) as u64, 0));
    let second = collect(&place.store).await;
    assert_eq!(second.removed.count, (all - in_use.len()) as u64);
    assert_eq!(place.packs().await, in_use);
    assert!(read_all(&place.store, &kept.bytes).await.unwrap() == shared);
    assert_eq!(collect(&place.store).await.removed.count, 0);

    // The last content goes as well, and with it everything.
    place.store.forget(kept.content).await.unwrap();
    collect(&place.store).await;
    collect(&place.store).await;
    assert!(place.packs().await.is_empty() && place.index.is_empty());
    // What was collected is written anew.
    let again = write(&place.store, DOMAIN, &shared).await;
    assert!(read_all(&place.store, &again.bytes).await.unwrap() == shared);
}

#[tokio::test]
async fn what_an_open_writer_found_and_wrote_stays() {
    let place = Place::new().await;
    let old = noise(1, 12 * SEGMENT);
    let gone = write(&place.store, DOMAIN, &old).await;
    let mut writer = place.store.writer(DOMAIN, Uuid::now_v7()).await.unwrap();
    writer.write(Bytes::from(old[..8 * SEGMENT].to_vec())).await.unwrap();
    writer.write(Bytes::from(noise(2, 12 * SEGMENT))).await.unwrap();
    place.store.forget(gone.content).await.unwrap();
    for _ in 0..5 {
        assert_eq!(collect(&place.store).await.removed.count, 0);
    }
    writer.write(Bytes::from(old[8 * SEGMENT..].to_vec())).await.unwrap();
    let head = writer.finish().await.unwrap();
    for _ in 0..5 {
        collect(&place.store).await;
        place.store.verify(&head.bytes).await.unwrap();
    }
    assert_eq!(place.index.alarm().await.unwrap(), None);
}

#[tokio::test]
async fn a_later_writer_revives_what_is_condemned_and_writes_anew_what_is_gone() {
    let place = Place::new().await;
    let bytes = noise(1, 8 * SEGMENT);
    for runs in 0..3 {
        let gone = write(&place.store, DOMAIN, &bytes).await;
        place.store.forget(gone.content).await.unwrap();
        for _ in 0..runs {
            collect(&place.store).await;
        }
        let known = runs < 2;
        assert_eq!(place.index.is_empty(), !known);
        let mut writer = place.store.writer(DOMAIN, Uuid::now_v7()).await.unwrap();
        writer.write(Bytes::from(bytes.clone())).await.unwrap();
        assert_eq!(writer.stats().stored_bytes == 0, known, "{runs}");
        let head = writer.finish().await.unwrap();
        for _ in 0..3 {
            collect(&place.store).await;
        }
        place.store.verify(&head.bytes).await.unwrap();
        place.store.forget(head.content).await.unwrap();
    }
}

#[tokio::test]
async fn a_writer_that_was_given_up_keeps_nothing() {
    let place = Place::new().await;
    for early in [true, false] {
        let content = Uuid::now_v7();
        let mut writer = place.store.writer(DOMAIN, content).await.unwrap();
        let silence = async || {
            place.index.silence();
            for _ in 0..3 {
                collect(&place.store).await;
            }
        };
        if early {
            silence().await;
        }
        let written = writer.write(Bytes::from(noise(early.into(), 40 * SEGMENT))).await;
        if !early {
            written.unwrap();
            silence().await;
        }
        assert_eq!(
            writer.finish().await.unwrap_err().kind(),
            if early { ErrorKind::Invalid } else { ErrorKind::Conflict }
        );
        assert_eq!(place.store.head(content).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    for _ in 0..3 {
        collect(&place.store).await;
    }
    assert!(place.packs().await.is_empty() && place.index.is_empty());
}

#[tokio::test]
async fn joining_what_was_removed_meanwhile_is_refused() {
    let place = Place::new().await;
    let (one, two) =
        (write(&place.store, DOMAIN, &noise(1, SEGMENT)).await, write(&place.store, DOMAIN, &noise(2, 9)).await);
    place.store.forget(two.content).await.unwrap();
    let content = Uuid::now_v7();
    let error = place.store.concat(DOMAIN, content, &[one.bytes.clone(), two.bytes]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert_eq!(place.store.head(content).await.unwrap_err().kind(), ErrorKind::NotFound);
    place.store.verify(&one.bytes).await.unwrap();
}

#[tokio::test]
async fn a_reader_of_what_is_kept_revives_and_raises_an_alarm_when_it_had_to() {
    let place = Place::new().await;
    let head = write(&place.store, DOMAIN, &noise(1, 4 * SEGMENT)).await;
    let row = async |pack: Uuid| -> PackRow {
        place.index.snapshot().await.unwrap().packs.into_iter().find(|row| row.id == pack).unwrap()
    };
    let condemn = async |times: usize| {
        for pack in place.packs().await {
            for _ in 0..times {
                let oldest_session = place.index.snapshot().await.unwrap().oldest_session;
                let verdict = Verdict::Unreferenced { oldest_session };
                let judgement = Judgement { row: row(pack).await, verdict, blobs: Vec::new() };
                place.index.judge(&[judgement]).await.unwrap();
            }
        }
    };
    // Condemned by a mark that began before the content was kept: nothing is wrong.
    condemn(1).await;
    read_all(&place.store, &head.bytes).await.unwrap();
    let sealed =
        async || place.index.snapshot().await.unwrap().packs.iter().all(|row| row.standing.state == PackState::Sealed);
    assert!(sealed().await);
    assert_eq!(place.index.alarm().await.unwrap(), None);
    // A mark that counted has missed it: that must never be.
    condemn(2).await;
    read_all(&place.store, &head.bytes).await.unwrap();
    assert!(sealed().await);
    let error = place.store.collect(&plain()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&head.content.to_string()), "{error}");
}

#[tokio::test]
async fn what_cannot_be_followed_stops_the_run_before_anything_is_removed() {
    let place = Place::new().await;
    let (kept, gone) = (
        write(&place.store, DOMAIN, &noise(1, 9 * SEGMENT)).await,
        write(&place.store, DOMAIN, &noise(2, 9 * SEGMENT)).await,
    );
    place.store.forget(gone.content).await.unwrap();
    collect(&place.store).await;
    let packs = place.packs().await;
    for pack in &packs {
        let name = format!("packs/{pack}");
        let bytes = place.backend.get(&name).await.unwrap();
        // Everything of it is changed, so a manifest in it is as well.
        place.backend.overwrite(&name, bytes.iter().map(|byte| !byte).collect());
        // A run that is possible would change what the next round finds.
        if place.store.collect(&CollectOptions { dry_run: true, ..plain() }).await.is_err() {
            let error = place.store.collect(&plain()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(error.hint().is_some());
            assert_eq!(place.packs().await, packs, "something was removed");
            return;
        }
        place.backend.overwrite(&name, bytes);
    }
    panic!("no pack held a manifest of {}", kept.content);
}

#[tokio::test]
async fn a_lost_index_removes_nothing() {
    let place = Place::new().await;
    let bytes = noise(1, 9 * SEGMENT);
    let head = write(&place.store, DOMAIN, &bytes).await;
    let before = place.packs().await;
    let lost =
        Store::open(place.backend.clone(), Arc::new(MemoryIndex::new()), place.keys.clone(), small()).await.unwrap();
    let error = lost.collect(&plain()).await.unwrap_err();
    assert!(error.hint().unwrap().contains("rebuild"), "{error}");
    assert_eq!(place.packs().await, before);
    assert!(read_all(&place.store, &head.bytes).await.unwrap() == bytes);
}

#[tokio::test]
async fn mostly_dead_packs_are_compacted_under_open_readers() {
    let place = Place::new().await;
    // Every fourth chunk of the first is all that the second keeps of its packs.
    let first = noise(1, 40 * SEGMENT);
    let second: Vec<u8> = first.chunks(4 * CHUNK).flat_map(|four| &four[..CHUNK]).copied().collect();
    let gone = write(&place.store, DOMAIN, &first).await;
    let kept = write(&place.store, DOMAIN, &second).await;
    place.store.forget(gone.content).await.unwrap();
    let reader = place.store.reader(&kept.bytes).await.unwrap();
    assert!(reader.read(0, second.len()).await.unwrap() == second);
    let size = async || {
        let mut size = 0;
        for pack in place.packs().await {
            size += place.backend.size(&format!("packs/{pack}")).await.unwrap();
        }
        size
    };
    let before = size().await;
    let first = place.store.collect(&CollectOptions::default()).await.unwrap();
    assert!(first.compacted.count > 5, "{first:?}");
    for _ in 0..3 {
        place.store.collect(&CollectOptions::default()).await.unwrap();
    }
    let after = size().await;
    assert!(after < before / 2 && after < 2 * second.len() as u64, "{before} {after}");
    // Its places are out of date by now.
    assert!(reader.read(0, second.len()).await.unwrap() == second);
    place.store.verify(&kept.bytes).await.unwrap();
    assert_eq!(place.store.collect(&CollectOptions::default()).await.unwrap().compacted.count, 0);
}

/// Returns whether the collector lived to the end of its runs.
async fn die_after(calls: u64, late: bool) -> bool {
    let place = Place::new().await;
    let first = noise(1, 10 * SEGMENT);
    let second: Vec<u8> = first.chunks(4 * CHUNK).flat_map(|four| &four[..CHUNK]).copied().collect();
    let gone = write(&place.store, DOMAIN, &first).await;
    let kept = write(&place.store, DOMAIN, &second).await;
    place.store.forget(gone.content).await.unwrap();
    // Leftovers of a writer that died: a pack that is recorded and one that is not.
    let mut writer = place.store.writer(DOMAIN, Uuid::now_v7()).await.unwrap();
    writer.write(Bytes::from(noise(3, 20 * SEGMENT))).await.unwrap();
    drop(writer);
    let stray = format!("packs/{}", Uuid::new_v4());
    place.backend.put(&stray, vec![Bytes::from_static(b"half")]).await.unwrap();

    let life = Mortal::new(calls, late);
    let backend = Arc::new(MortalBackend { inner: place.backend.clone(), life: life.clone() });
    let index = Arc::new(WatchedIndex { inner: place.index.clone(), watch: life.clone() });
    let mut lived = false;
    if let Ok(store) = Store::open(backend, index, place.keys.clone(), small()).await {
        let options = CollectOptions::default();
        lived = store.collect(&options).await.is_ok() && store.collect(&options).await.is_ok();
    }
    assert!(lived || life.is_dead());
    place.index.silence();
    for _ in 0..4 {
        place.store.verify(&kept.bytes).await.unwrap();
        place.store.collect(&CollectOptions::default()).await.unwrap();
    }
    assert!(read_all(&place.store, &kept.bytes).await.unwrap() == second, "{calls}");
    let last = place.store.collect(&CollectOptions::default()).await.unwrap();
    assert_eq!((last.packs.len(), last.stray_packs, last.stray_heads), (1, 0, 0), "{calls}: {last:?}");
    assert_eq!(last.sum(Fate::InUse).count, place.packs().await.len() as u64);
    assert_eq!(place.index.alarm().await.unwrap(), None);
    lived
}

#[tokio::test]
async fn a_collector_may_die_at_any_call() {
    for late in [false, true] {
        let mut calls = 0;
        while !die_after(calls, late).await {
            calls += 1;
        }
        assert!(calls > 60, "only {calls} calls were cut");
    }
}

#[tokio::test(start_paused = true)]
async fn it_asks_the_backend_for_no_more_than_it_may() {
    let (backend, index) = (WatchedBackend::new(), Arc::new(MemoryIndex::new()));
    let store = Store::open(backend.clone(), index, kms(), small()).await.unwrap();
    let gone = write(&store, DOMAIN, &noise(1, 16 * SEGMENT)).await;
    let part = store.slice(&gone.bytes, 0..5 * SEGMENT as u64, Uuid::now_v7()).await.unwrap();
    store.forget(gone.content).await.unwrap();
    backend.take();
    // Manifests are followed, packs copied and removed.
    let mut did = Collected::default();
    for (pace, by) in [(Pace { requests: 1, bytes: 0 }, 1), (Pace { requests: 0, bytes: 1024 }, 1024)] {
        for _ in 0..2 {
            let begun = tokio::time::Instant::now();
            did = store.collect(&CollectOptions { compact_below: 100, pace, ..plain() }).await.unwrap();
            let seconds = begun.elapsed().as_secs_f64();
            let calls = backend.take();
            let calls: Vec<_> = calls.iter().filter(|(verb, ..)| *verb != "list").collect();
            let used = if by == 1 { calls.len() as u64 } else { calls.iter().map(|(.., bytes)| bytes).sum() };
            // The last one is not waited for, and a footer may be shorter than it is taken for.
            let last = 70_000.0 / by as f64;
            assert!(used as f64 / by as f64 <= seconds + last.max(2.0), "{used} by {by} in {seconds} s: {did:?}");
            assert!(seconds > 1.0, "{used} by {by} in {seconds} s: {did:?}");
        }
    }
    assert!(did.removed.count > 0, "{did:?}");
    assert!(read_all(&store, &part.bytes).await.unwrap() == noise(1, 5 * SEGMENT));
}
