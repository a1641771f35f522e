//! Contents made of contents: copy, slice, splice, concat and diff against a model of plain bytes.

use std::sync::Arc;

use bytes::Bytes;
use chunks::{Difference, ErrorKind, Head, MemoryBackend, MemoryIndex, Result, Side, Store};
use futures::TryStreamExt;
use proptest::prelude::*;
use proptest::sample::Index;
use uuid::Uuid;

use crate::support::{CHUNK, DOMAIN, SEGMENT, kms, noise, read_all, small, write};

/// Contents in the model are not joined beyond this.
const MODEL_MAX: usize = 16 * SEGMENT;

async fn small_store() -> Store {
    Store::open(Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms(), small()).await.unwrap()
}

#[derive(Debug, Clone)]
enum Run {
    Noise(u64, usize),
    Zeros(usize),
}

impl Run {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Noise(seed, length) => noise(*seed, *length),
            Self::Zeros(length) => vec![0; *length],
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Write(Vec<Run>),
    Copy(Index),
    Slice(Index, Place, Place),
    /// Each edit comes after a gap; the content ends where it ended, or somewhere else.
    Splice(Index, Vec<(usize, Run)>, Option<Place>),
    Concat(Vec<Index>),
    Diff(Index, Index),
}

/// A place in a content, on the border of a chunk or not.
#[derive(Debug, Clone)]
struct Place {
    at: Index,
    aligned: bool,
}

impl Place {
    /// Returns the place in a content of `length` bytes.
    fn within(&self, length: usize) -> usize {
        let at = self.at.index(length + 1);
        if self.aligned { at / CHUNK * CHUNK } else { at }
    }
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![1..100_usize, (1..9_usize).prop_map(|n| n * CHUNK), Just(SEGMENT), 1..3 * SEGMENT]
}

fn runs() -> impl Strategy<Value = Run> {
    let noise = (0..5_u64, lengths()).prop_map(|(seed, length)| Run::Noise(seed, length));
    prop_oneof![3 => noise, 1 => lengths().prop_map(Run::Zeros)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || (any::<Index>(), any::<bool>()).prop_map(|(at, aligned)| Place { at, aligned });
    let write = || proptest::collection::vec(runs(), 0..4).prop_map(Step::Write);
    let edits = proptest::collection::vec((prop_oneof![Just(0), lengths()], runs()), 0..4);
    let step = prop_oneof![
        2 => write(),
        1 => any::<Index>().prop_map(Step::Copy),
        2 => (any::<Index>(), place(), place()).prop_map(|(of, a, b)| Step::Slice(of, a, b)),
        4 => (any::<Index>(), edits, proptest::option::of(place())).prop_map(|(of, edits, end)| Step::Splice(of, edits, end)),
        1 => proptest::collection::vec(any::<Index>(), 0..4).prop_map(Step::Concat),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Step::Diff(a, b)),
    ];
    (write(), proptest::collection::vec(step, 1..10)).prop_map(|(first, mut steps)| {
        steps.insert(0, first);
        steps
    })
}

struct Model {
    store: Store,
    contents: Vec<(Head, Vec<u8>)>,
}

impl Model {
    fn pick(&self, index: &Index) -> &(Head, Vec<u8>) {
        &self.contents[index.index(self.contents.len())]
    }

    async fn step(&mut self, step: &Step) {
        let id = Uuid::now_v7();
        let (head, bytes) = match step {
            Step::Write(runs) => self.write(runs).await,
            Step::Copy(of) => {
                let (head, bytes) = self.pick(of);
                (self.store.copy(&head.bytes, id).await.unwrap(), bytes.clone())
            }
            Step::Slice(of, a, b) => {
                let (head, bytes) = self.pick(of);
                let (a, b) = (a.within(bytes.len()), b.within(bytes.len()));
                let range = a.min(b)..a.max(b);
                let sliced = self.store.slice(&head.bytes, range.start as u64..range.end as u64, id).await;
                (sliced.unwrap(), bytes[range].to_vec())
            }
            Step::Splice(of, edits, end) => {
                let (head, bytes) = self.pick(of);
                splice(&self.store, head, bytes.clone(), edits, end.as_ref()).await
            }
            Step::Concat(of) => {
                let parts: Vec<_> = of.iter().map(|of| self.pick(of)).collect();
                if parts.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > MODEL_MAX {
                    return;
                }
                let heads: Vec<_> = parts.iter().map(|(head, _)| head.bytes.clone()).collect();
                let bytes = parts.iter().flat_map(|(_, bytes)| bytes).copied().collect();
                (self.store.concat(DOMAIN, id, &heads).await.unwrap(), bytes)
            }
            Step::Diff(a, b) => {
                let (old, new) = (self.pick(a), self.pick(b));
                let differences = diff(&self.store, &old.0, &new.0).await.unwrap();
                check_differences(&differences, &old.1, &new.1);
                rebuild(&self.store, &old.0, new, &differences).await
            }
        };
        self.check(&head, &bytes).await;
        self.contents.push((head, bytes));
    }

    async fn write(&self, runs: &[Run]) -> (Head, Vec<u8>) {
        let bytes: Vec<u8> = runs.iter().flat_map(Run::bytes).collect();
        (write(&self.store, DOMAIN, &bytes).await, bytes)
    }

    async fn check(&self, head: &Head, bytes: &[u8]) {
        assert_eq!(head.length, bytes.len() as u64);
        assert!(read_all(&self.store, &head.bytes).await.unwrap() == bytes);
        self.store.verify(&head.bytes).await.unwrap();
        // The manifest is the one that writing the same bytes makes: nothing new is stored.
        let scrubbed = self.store.scrub().await.unwrap();
        write(&self.store, DOMAIN, bytes).await;
        assert_eq!(self.store.scrub().await.unwrap(), scrubbed);
    }
}

/// Splices the content and its model in the same way.
async fn splice(
    store: &Store,
    head: &Head,
    mut model: Vec<u8>,
    edits: &[(usize, Run)],
    end: Option<&Place>,
) -> (Head, Vec<u8>) {
    let mut splice = store.splice(&head.bytes, Uuid::now_v7()).await.unwrap();
    let mut at = 0;
    for (gap, run) in edits {
        let (offset, bytes) = (at + gap, run.bytes());
        match run {
            Run::Zeros(length) => splice.write_zeros(offset as u64, *length as u64).await.unwrap(),
            // In pieces, as a stream would bring it.
            Run::Noise(..) => {
                for (number, piece) in bytes.chunks(5000).enumerate() {
                    let piece_at = (offset + number * 5000) as u64;
                    splice.write(piece_at, Bytes::copy_from_slice(piece)).await.unwrap();
                }
            }
        }
        at = offset + bytes.len();
        model.resize(model.len().max(at), 0);
        model[offset..at].copy_from_slice(&bytes);
    }
    match end {
        None => (splice.finish().await.unwrap(), model),
        Some(end) => {
            let length = end.within(model.len() + SEGMENT).max(at);
            model.resize(length, 0);
            (splice.finish_at(length as u64).await.unwrap(), model)
        }
    }
}

async fn diff(store: &Store, old: &Head, new: &Head) -> Result<Vec<Difference>> {
    store.diff(&old.bytes, &new.bytes).await?.try_collect().await
}

/// What is told is in order and true, and what is not told is equal.
fn check_differences(differences: &[Difference], old: &[u8], new: &[u8]) {
    let part = |model: &'_ [u8], from: usize, to: usize| model[from.min(model.len())..to.min(model.len())].to_vec();
    let shorter = old.len().min(new.len());
    let mut at = 0;
    for difference in differences {
        let (start, end) = (difference.range.start as usize, difference.range.end as usize);
        assert!(at <= start && start < end && end <= old.len().max(new.len()), "{differences:?}");
        assert!(part(old, at, start) == part(new, at, start), "a difference before {start} was not told");
        for (side, model) in [(difference.old, old), (difference.new, new)] {
            let bytes = part(model, start, end);
            match side {
                Side::Nothing => assert!(bytes.is_empty() && start >= model.len()),
                Side::Zero => assert!(bytes.len() == end - start && bytes.iter().all(|byte| *byte == 0)),
                Side::Data => assert_eq!(bytes.len(), end - start),
            }
        }
        assert_ne!((difference.old, difference.new), (Side::Zero, Side::Zero));
        for chunk in (start..end.min(shorter / CHUNK * CHUNK)).step_by(CHUNK) {
            assert!(part(old, chunk, chunk + CHUNK) != part(new, chunk, chunk + CHUNK), "chunk at {chunk} is equal");
        }
        at = end;
    }
    assert!(part(old, at, usize::MAX) == part(new, at, usize::MAX), "a difference after {at} was not told");
}

/// Makes the new content of the old one and what differs.
async fn rebuild(store: &Store, old: &Head, new: &(Head, Vec<u8>), differences: &[Difference]) -> (Head, Vec<u8>) {
    let reader = store.reader(&new.0.bytes).await.unwrap();
    let mut splice = store.splice(&old.bytes, Uuid::now_v7()).await.unwrap();
    for Difference { range, new, .. } in differences {
        let length = range.end - range.start;
        match new {
            Side::Nothing => {}
            Side::Zero => splice.write_zeros(range.start, length).await.unwrap(),
            Side::Data => {
                let bytes = reader.read(range.start, length as usize).await.unwrap();
                splice.write(range.start, bytes).await.unwrap();
            }
        }
    }
    (splice.finish_at(reader.len()).await.unwrap(), new.1.clone())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sequence_of_operations_matches_the_model(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let mut model = Model { store: small_store().await, contents: Vec::new() };
            for step in &steps {
                model.step(step).await;
            }
            // Nothing of it changed what was there before.
            for (head, bytes) in &model.contents {
                assert!(read_all(&model.store, &head.bytes).await.unwrap() == *bytes);
                assert_eq!(model.store.head(head.content).await.unwrap(), *head);
            }
        });
    }
}

#[tokio::test]
async fn differences_are_told_by_kind() {
    let store = small_store().await;
    let old = [noise(1, 2 * SEGMENT), vec![0; SEGMENT], noise(2, SEGMENT)].concat();
    let mut new = old.clone();
    new[CHUNK + 7] ^= 1;
    new[2 * SEGMENT + CHUNK..2 * SEGMENT + 3 * CHUNK].copy_from_slice(&noise(3, 2 * CHUNK));
    new[3 * SEGMENT..3 * SEGMENT + CHUNK].fill(0);
    new.truncate(3 * SEGMENT + 2 * CHUNK);
    let (old, new) = (write(&store, DOMAIN, &old).await, write(&store, DOMAIN, &new).await);
    let told = |start: usize, end: usize, old, new| Difference { range: start as u64..end as u64, old, new };
    let expected = [
        told(CHUNK, 2 * CHUNK, Side::Data, Side::Data),
        told(2 * SEGMENT + CHUNK, 2 * SEGMENT + 3 * CHUNK, Side::Zero, Side::Data),
        told(3 * SEGMENT, 3 * SEGMENT + CHUNK, Side::Data, Side::Zero),
        told(3 * SEGMENT + 2 * CHUNK, 4 * SEGMENT, Side::Data, Side::Nothing),
    ];
    assert_eq!(diff(&store, &old, &new).await.unwrap(), expected);
    assert_eq!(diff(&store, &old, &old).await.unwrap(), []);
    let other = write(&store, Uuid::from_u128(9), b"theirs").await;
    let error = diff(&store, &old, &other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("different dedup domains"), "{error}");
}

#[tokio::test]
async fn a_terabyte_of_zeros_is_compared_by_segments() {
    let store = small_store().await;
    let zeros = async |length: u64, end: &'static [u8]| {
        let mut writer = store.writer(DOMAIN, Uuid::now_v7()).await.unwrap();
        writer.write_zeros(length).await.unwrap();
        writer.write(Bytes::from_static(end)).await.unwrap();
        writer.finish().await.unwrap()
    };
    let length = 1 << 29;
    let (empty, long) = (zeros(0, b"").await, zeros(length, b"end").await);
    let told = |range, new| Difference { range, old: Side::Nothing, new };
    let expected = [told(0..length, Side::Zero), told(length..length + 3, Side::Data)];
    assert_eq!(diff(&store, &empty, &long).await.unwrap(), expected);
}

#[tokio::test]
async fn ranges_that_cannot_be_sliced_are_refused() {
    let store = small_store().await;
    let head = write(&store, DOMAIN, &noise(1, 100)).await;
    for (start, end) in [(0, 101), (101, 101), (60, 50), (0, u64::MAX), (u64::MAX, u64::MAX)] {
        let error = store.slice(&head.bytes, start..end, Uuid::now_v7()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{start}..{end}");
    }
}

#[tokio::test]
async fn a_splice_goes_forward_only_and_stays_failed() {
    let store = small_store().await;
    let head = write(&store, DOMAIN, &noise(1, SEGMENT)).await;
    let content = Uuid::now_v7();
    let mut splice = store.splice(&head.bytes, content).await.unwrap();
    splice.write(10, Bytes::from_static(b"four")).await.unwrap();
    splice.write_zeros(14, 0).await.unwrap();
    let error = splice.write(13, Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("offset 13 comes after byte 14"), "{error}");
    assert_eq!(splice.write_zeros(20, 1).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(splice.finish().await.unwrap_err().kind(), ErrorKind::Invalid);

    let mut splice = store.splice(&head.bytes, content).await.unwrap();
    splice.write_zeros(100, 100).await.unwrap();
    assert_eq!(splice.finish_at(199).await.unwrap_err().kind(), ErrorKind::Invalid);
    let mut splice = store.splice(&head.bytes, content).await.unwrap();
    assert_eq!(splice.write(u64::MAX, Bytes::from_static(b"x")).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(store.head(content).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_splice_given_up_half_way_makes_no_content() {
    let store = small_store().await;
    let head = write(&store, DOMAIN, &noise(1, SEGMENT)).await;
    let mut splice = store.splice(&head.bytes, Uuid::now_v7()).await.unwrap();
    let given_up = {
        let write = std::pin::pin!(splice.write(CHUNK as u64 + 5, Bytes::from_static(b"lost")));
        // Polled once: it waits for the chunk that the write begins in.
        futures::poll!(write).is_pending()
    };
    assert!(given_up);
    assert_eq!(splice.finish().await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn made_again_it_is_the_first_head_and_never_other_bytes() {
    let store = small_store().await;
    let head = write(&store, DOMAIN, &noise(1, 2 * SEGMENT)).await;
    let half = SEGMENT as u64;
    let spliced = async |content, at| {
        let mut splice = store.splice(&head.bytes, content).await?;
        splice.write_zeros(at, 100).await?;
        splice.finish().await
    };
    let (copy, slice, splice) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    for _ in 0..2 {
        let made = [
            store.copy(&head.bytes, copy).await.unwrap(),
            store.slice(&head.bytes, 0..half, slice).await.unwrap(),
            spliced(splice, 5).await.unwrap(),
        ];
        for made in made {
            assert_eq!(store.head(made.content).await.unwrap(), made);
        }
    }
    let refused = [
        store.copy(&head.bytes, slice).await,
        store.slice(&head.bytes, 0..half, splice).await,
        spliced(splice, 6).await,
    ];
    for refused in refused {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Exists);
    }
}
