//! The store beside a model that holds plain bytes: whatever is done, in whatever order, both must agree.
//!
//! How: steps name what they work on by numbers that are taken modulo what there is, so any sequence of them can be run and
//! any part of a failing one as well. What a step that fails was about is in doubt until it is settled: it is absent or whole,
//! and then done again or taken back.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use chunks::{Backend, CollectOptions, ErrorKind, Head, Index, Keeping, MemoryIndex, Result, Store};
use futures::TryStreamExt;
use keys::Kms;
use model::packs::PackState;
use proptest::prelude::*;
use uuid::Uuid;

use crate::support::{CHUNK, DOMAIN, Mortal, MortalBackend, SEGMENT, kms, noise, read_all, small, write};
use crate::watched_index::{Watch, WatchedIndex};

/// Contents are not joined beyond this.
pub(crate) const LENGTH_MAX: usize = 16 * SEGMENT;

#[derive(Debug, Clone)]
pub(crate) enum Run {
    Noise(u64, usize),
    Zeros(usize),
}

/// One of the contents.
pub(crate) type Pick = u16;

/// A place in a content, on the border of a chunk or not.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) at: u32,
    pub(crate) aligned: bool,
}

/// How a content is made.
#[derive(Debug, Clone)]
pub(crate) enum Make {
    Write(Vec<Run>),
    Copy(Pick),
    Slice(Pick, Place, Place),
    /// Each edit comes after a gap; the content ends where it ended, or somewhere else.
    Splice(Pick, Vec<(usize, Run)>, Option<Place>),
    Concat(Vec<Pick>),
    /// The second one, made of the first and what differs.
    Rebuild(Pick, Pick),
}

/// What changes the store.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Make(Make),
    Forget(Pick),
    Collect { compact: bool },
}

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Act(Act),
    Read(Pick, Place, Place),
    /// Reads what was forgotten, which may still be there.
    ReadForgotten(Pick),
    Verify(Pick),
    Tally(Vec<Pick>),
    /// The making is given up after it was polled so often.
    Abandon(Make, u8),
    /// The process or the machine dies in the middle; then it is done again, or taken back.
    Crash(Act, Death, bool),
    /// Everything is dropped and opened again, with the index or with one that is rebuilt.
    Restart {
        lost: bool,
    },
}

/// When and how a process ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Death {
    /// After so many calls to backend and index.
    pub(crate) calls: u64,
    /// The last call takes effect and is not reported.
    pub(crate) late: bool,
    /// Where there is power, it is cut as well, and this seed says what survives.
    pub(crate) cut: Option<u64>,
}

fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![1..100_usize, (1..9_usize).prop_map(|n| n * CHUNK), Just(SEGMENT), 1..3 * SEGMENT]
}

fn runs() -> impl Strategy<Value = Run> {
    let noise = (0..5_u64, lengths()).prop_map(|(seed, length)| Run::Noise(seed, length));
    prop_oneof![3 => noise, 1 => lengths().prop_map(Run::Zeros)]
}

fn places() -> impl Strategy<Value = Place> {
    (any::<u32>(), any::<bool>()).prop_map(|(at, aligned)| Place { at, aligned })
}

fn makes() -> impl Strategy<Value = Make> {
    let pick = any::<Pick>;
    let edits = proptest::collection::vec((prop_oneof![Just(0), lengths()], runs()), 0..4);
    prop_oneof![
        4 => proptest::collection::vec(runs(), 0..4).prop_map(Make::Write),
        1 => pick().prop_map(Make::Copy),
        2 => (pick(), places(), places()).prop_map(|(of, a, b)| Make::Slice(of, a, b)),
        4 => (pick(), edits, proptest::option::of(places())).prop_map(|(of, edits, end)| Make::Splice(of, edits, end)),
        2 => proptest::collection::vec(pick(), 0..4).prop_map(Make::Concat),
        2 => (pick(), pick()).prop_map(|(old, new)| Make::Rebuild(old, new)),
    ]
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => makes().prop_map(Act::Make),
        2 => any::<Pick>().prop_map(Act::Forget),
        2 => any::<bool>().prop_map(|compact| Act::Collect { compact }),
    ]
}

fn deaths() -> impl Strategy<Value = Death> {
    let calls = prop_oneof![0..12_u64, 0..80_u64];
    (calls, any::<bool>(), proptest::option::weighted(0.7, any::<u64>())).prop_map(|(calls, late, cut)| Death {
        calls,
        late,
        cut,
    })
}

/// Sequences of up to `most` steps that begin with a content.
pub(crate) fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => acts().prop_map(Step::Act),
        3 => (any::<Pick>(), places(), places()).prop_map(|(of, a, b)| Step::Read(of, a, b)),
        1 => any::<Pick>().prop_map(Step::ReadForgotten),
        1 => any::<Pick>().prop_map(Step::Verify),
        1 => proptest::collection::vec(any::<Pick>(), 0..5).prop_map(Step::Tally),
        2 => (makes(), any::<u8>()).prop_map(|(make, polls)| Step::Abandon(make, polls)),
        5 => (acts(), deaths(), any::<bool>()).prop_map(|(act, death, again)| Step::Crash(act, death, again)),
        1 => any::<bool>().prop_map(|lost| Step::Restart { lost }),
    ];
    let first = proptest::collection::vec(runs(), 0..4).prop_map(|runs| Step::Act(Act::Make(Make::Write(runs))));
    (first, proptest::collection::vec(step, 1..most)).prop_map(|(first, mut steps)| {
        steps.insert(0, first);
        steps
    })
}

/// Cases of a property that costs so much more than most; `PROPTEST_CASES` counts in proportion.
pub(crate) fn cases(of_256: u32) -> ProptestConfig {
    let config = ProptestConfig::default();
    let cases = (u64::from(config.cases) * u64::from(of_256) / 256).max(1);
    ProptestConfig { cases: u32::try_from(cases).unwrap_or(u32::MAX), failure_persistence: None, ..config }
}

impl Run {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Noise(seed, length) => noise(*seed, *length),
            Self::Zeros(length) => vec![0; *length],
        }
    }
}

impl Place {
    /// Returns the place in a content of `length` bytes.
    pub(crate) fn within(&self, length: usize) -> usize {
        let at = self.at as usize % (length + 1);
        if self.aligned { at / CHUNK * CHUNK } else { at }
    }

    pub(crate) fn range(&self, other: &Self, length: usize) -> Range<usize> {
        let (a, b) = (self.within(length), other.within(length));
        a.min(b)..a.max(b)
    }
}

/// Where a store lies, and how it may come to an end there.
#[async_trait]
pub(crate) trait Ground: Send + Sync {
    /// Opens the backend for a process that dies as it is told, or not at all; its index is watched.
    async fn open(&self, death: Option<Death>) -> Result<(Arc<dyn Backend>, Arc<dyn Watch>)>;

    /// The process has died.
    fn died(&self, _death: Death) {}

    /// Lets the way there be bad from now on, or good.
    fn be_bad(&self, _bad: bool) {}

    /// Whether calls may fail where the way is bad.
    fn may_fail(&self) -> bool {
        false
    }
}

/// Returns a backend and a watch of one mortal process.
pub(crate) fn mortal(inner: Arc<dyn Backend>, death: Option<Death>) -> (Arc<dyn Backend>, Arc<dyn Watch>) {
    let life = death.map_or_else(|| Mortal::new(u64::MAX, false), |death| Mortal::new(death.calls, death.late));
    (Arc::new(MortalBackend { inner, life: Arc::clone(&life) }), life)
}

pub(crate) type Content = (Head, Vec<u8>);

pub(crate) struct Model {
    ground: Arc<dyn Ground>,
    keys: Arc<dyn Kms>,
    index: Arc<MemoryIndex>,
    /// None before it is opened for the first time.
    open: Option<(Store, Arc<dyn Backend>)>,
    /// What is kept.
    pub(crate) contents: Vec<Content>,
    forgotten: Vec<Content>,
    given_up: Vec<Uuid>,
}

impl Model {
    pub(crate) fn new(ground: Arc<dyn Ground>) -> Self {
        let (index, keys) = (Arc::new(MemoryIndex::new()), kms());
        Self { ground, keys, index, open: None, contents: Vec::new(), forgotten: Vec::new(), given_up: Vec::new() }
    }

    /// Runs all steps, and then sees that everything is there and that everything goes.
    pub(crate) async fn run(ground: Arc<dyn Ground>, steps: &[Step]) {
        let mut model = Self::new(ground);
        model.reopen().await;
        for step in steps {
            model.ground.be_bad(true);
            Box::pin(model.step(step)).await;
            model.ground.be_bad(false);
        }
        model.check_all().await;
        model.end().await;
    }

    pub(crate) fn store(&self) -> &Store {
        &self.open.as_ref().expect("it was opened").0
    }

    fn backend(&self) -> &dyn Backend {
        &*self.open.as_ref().expect("it was opened").1
    }

    async fn try_open(&mut self, death: Option<Death>) -> Result<()> {
        let (backend, watch) = self.ground.open(death).await?;
        let index = Arc::new(WatchedIndex { inner: self.index.clone(), watch });
        let store = Store::open(Arc::clone(&backend), index, Arc::clone(&self.keys), small()).await?;
        self.open = Some((store, backend));
        Ok(())
    }

    async fn reopen(&mut self) {
        self.try_open(None).await.unwrap();
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Act(act) => {
                let id = Uuid::now_v7();
                let done = self.act(act, id).await;
                if self.allow(done).is_none() {
                    self.ground.be_bad(false);
                    self.settle(act, id, true).await;
                }
            }
            Step::Read(of, a, b) => self.read(*of, a, b).await,
            Step::ReadForgotten(of) => {
                if let Some((head, bytes)) = pick(&self.forgotten, *of) {
                    // Its chunks may be gone, but they are not others.
                    let read = read_all(self.store(), &head.bytes).await;
                    assert!(read.is_err() || read.unwrap() == *bytes, "wrong bytes of what was forgotten");
                }
            }
            Step::Verify(of) => {
                if let Some((head, _)) = pick(&self.contents, *of) {
                    self.allow(self.store().verify(&head.bytes).await);
                }
            }
            Step::Tally(of) => self.tally(of).await,
            Step::Abandon(make, polls) => self.abandon(make, *polls).await,
            Step::Crash(act, death, again) => {
                self.die(std::slice::from_ref(act), *death, *again).await;
            }
            Step::Restart { lost } => self.restart(*lost).await,
        }
    }

    /// Returns what was asked for; nothing where it failed and may.
    fn allow<T>(&self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(_) if self.ground.may_fail() => None,
            Err(error) => panic!("{error}: {:?}", std::error::Error::source(&error)),
        }
    }

    async fn act(&mut self, act: &Act, id: Uuid) -> Result<()> {
        match act {
            Act::Make(make) => {
                let Some(bytes) = self.expected(make) else { return Ok(()) };
                let head = self.make(make, id).await?;
                assert_eq!((head.content, head.length), (id, bytes.len() as u64));
                self.contents.push((head, bytes));
            }
            Act::Forget(of) => {
                let Some((head, _)) = pick(&self.contents, *of) else { return Ok(()) };
                self.store().forget(head.content).await?;
                let at = usize::from(*of) % self.contents.len();
                self.forgotten.push(self.contents.remove(at));
            }
            Act::Collect { compact } => {
                let compact_below = if *compact { 90 } else { 0 };
                self.store().collect(&CollectOptions { compact_below, ..CollectOptions::default() }).await?;
            }
        }
        Ok(())
    }

    /// Finds out what became of an act that failed, and does it again or takes it back.
    async fn settle(&mut self, act: &Act, id: Uuid, again: bool) {
        if let Act::Make(make) = act {
            let Some(bytes) = self.expected(make) else { return };
            self.check_absent_or_whole(id, &bytes).await;
            if !again {
                self.store().forget(id).await.unwrap();
                self.given_up.push(id);
                return;
            }
        }
        let done = self.act(act, id).await;
        done.unwrap_or_else(|error| {
            panic!("it cannot be done again: {error}: {:?}", std::error::Error::source(&error))
        });
    }

    async fn check_absent_or_whole(&self, id: Uuid, bytes: &[u8]) {
        match self.store().head(id).await {
            Ok(head) => self.check(&head, bytes).await,
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{error}"),
        }
    }

    /// Does `acts` in a process that dies, and goes on in another one. Returns whether it lived to the end.
    pub(crate) async fn die(&mut self, acts: &[Act], death: Death, again: bool) -> bool {
        let mut doubt = None;
        match self.try_open(Some(death)).await {
            Ok(()) => {
                for act in acts {
                    let id = Uuid::now_v7();
                    if self.act(act, id).await.is_err() {
                        doubt = Some((act, id));
                        break;
                    }
                }
            }
            Err(_) => doubt = acts.first().map(|act| (act, Uuid::now_v7())),
        }
        self.ground.died(death);
        // Its sessions are open, and nobody ends them but collection.
        self.index.silence();
        self.ground.be_bad(false);
        self.reopen().await;
        // What was about to be forgotten may be gone already.
        if !matches!(doubt, Some((Act::Forget(_), _))) {
            self.check_all().await;
        }
        if let Some((act, id)) = doubt {
            self.settle(act, id, again).await;
            self.check_all().await;
        }
        doubt.is_none()
    }

    /// Opens everything again, with the index or with one that is rebuilt.
    pub(crate) async fn restart(&mut self, lost: bool) {
        self.ground.be_bad(false);
        if lost {
            self.index = Arc::new(MemoryIndex::new());
        }
        self.reopen().await;
        if !lost {
            return;
        }
        self.store().reindex().await.unwrap();
        // The catalog names what is kept; the rest of it is what the store tells.
        for (head, _) in &self.contents {
            let session = self.index.begin(head.content).await.unwrap().unwrap();
            assert_eq!(self.index.keep(session, &head.bytes, &[]).await.unwrap(), Keeping::Kept);
        }
    }

    async fn abandon(&mut self, make: &Make, polls: u8) {
        let (id, Some(bytes)) = (Uuid::now_v7(), self.expected(make)) else { return };
        let made = {
            let mut making = Box::pin(self.make(make, id));
            let mut made = None;
            for _ in 0..polls {
                if let std::task::Poll::Ready(result) = futures::poll!(&mut making) {
                    made = Some(result);
                    break;
                }
                tokio::task::yield_now().await;
            }
            made
        };
        self.ground.be_bad(false);
        match made.and_then(|made| self.allow(made)) {
            Some(head) => self.contents.push((head, bytes)),
            None => {
                self.check_absent_or_whole(id, &bytes).await;
                self.store().forget(id).await.unwrap();
                self.given_up.push(id);
            }
        }
    }

    async fn read(&self, of: Pick, a: &Place, b: &Place) {
        let Some((head, bytes)) = pick(&self.contents, of) else { return };
        let range = a.range(b, bytes.len());
        let Some(reader) = self.allow(self.store().reader(&head.bytes).await) else { return };
        assert_eq!((reader.content(), reader.len()), (head.content, bytes.len() as u64));
        if let Some(read) = self.allow(reader.read(range.start as u64, range.len()).await) {
            assert!(read == bytes[range.clone()], "wrong bytes at {range:?}");
        }
        let stream = reader.stream(range.start as u64..range.end as u64);
        if let Some(pieces) = self.allow(stream.try_collect::<Vec<_>>().await) {
            assert!(pieces.concat() == bytes[range.clone()], "wrong bytes in the stream of {range:?}");
        }
        if !bytes[range.start..].is_empty()
            && let Some((zero, length)) = self.allow(reader.extent(range.start as u64).await)
        {
            let run = &bytes[range.start..][..length as usize];
            assert!(length > 0 && !(zero && run.iter().any(|byte| *byte != 0)), "data was told to be zero");
        }
    }

    /// Counts what contents cost, chunk by chunk of their plain bytes.
    async fn tally(&self, of: &[Pick]) {
        let mut heads: BTreeMap<Uuid, &Content> = BTreeMap::new();
        heads.extend(of.iter().filter_map(|of| pick(&self.contents, *of)).map(|content| (content.0.content, content)));
        let mut tally = self.store().tally();
        heads.values().for_each(|(head, _)| tally.add(&head.bytes).unwrap());
        let Some(usage) = self.allow(tally.count().await) else { return };
        let chunks_of = |bytes: &'_ [u8]| -> BTreeSet<Vec<u8>> {
            bytes.chunks(CHUNK).filter(|chunk| chunk.iter().any(|byte| *byte != 0)).map(<[u8]>::to_vec).collect()
        };
        let sum =
            |chunks: &BTreeSet<Vec<u8>>| (chunks.len() as u64, chunks.iter().map(|c| c.len() as u64).sum::<u64>());
        let all: BTreeSet<_> = heads.values().flat_map(|(_, bytes)| chunks_of(bytes)).collect();
        assert_eq!((usage.held.chunks, usage.held.plain), sum(&all));
        assert_eq!(usage.length, heads.values().map(|(head, _)| head.length).sum::<u64>());
        for counted in &usage.contents {
            let (_, bytes) = heads[&counted.content];
            let others = heads.values().filter(|(head, _)| head.content != counted.content);
            let others: BTreeSet<_> = others.flat_map(|(_, bytes)| chunks_of(bytes)).collect();
            let own = chunks_of(bytes);
            let freed = own.difference(&others).cloned().collect();
            assert_eq!((counted.held.chunks, counted.held.plain), sum(&own));
            assert_eq!((counted.freed.chunks, counted.freed.plain), sum(&freed));
            let zero = bytes.chunks(CHUNK).filter(|chunk| chunk.iter().all(|byte| *byte == 0)).count();
            assert_eq!((counted.chunks, counted.zero), (bytes.len().div_ceil(CHUNK) as u64, zero as u64));
        }
    }

    /// Everything that is kept is whole, and what the records say is there.
    pub(crate) async fn check_all(&self) {
        for (head, bytes) in &self.contents {
            assert_eq!(self.store().head(head.content).await.unwrap(), *head);
            self.check(head, bytes).await;
        }
        // Asked for one by one: what is listed is made durable by that.
        for pack in self.index.snapshot().await.unwrap().packs {
            if pack.standing.state != PackState::Deleting {
                assert_eq!(self.backend().size(&format!("packs/{}", pack.id)).await.unwrap(), pack.size);
            }
        }
        // A service that says that it removed something and did not is believed.
        for (head, _) in self.forgotten.iter().filter(|_| !self.ground.may_fail()) {
            let found = self.store().head(head.content).await.map(|_| "a head");
            assert_eq!(found.unwrap_err().kind(), ErrorKind::NotFound, "what was forgotten is back");
        }
        self.store().scrub().await.unwrap();
        self.tally(&(0..).take(self.contents.len()).collect::<Vec<_>>()).await;
        assert_eq!(self.index.alarm().await.unwrap(), None);
    }

    async fn check(&self, head: &Head, bytes: &[u8]) {
        assert_eq!(head.length, bytes.len() as u64);
        assert!(read_all(self.store(), &head.bytes).await.unwrap() == bytes, "wrong bytes of {}", head.content);
        self.store().verify(&head.bytes).await.unwrap();
    }

    /// The manifest of each content is the one that writing its bytes makes: nothing new is stored.
    pub(crate) async fn check_manifests(&self) {
        for (_, bytes) in &self.contents {
            let scrubbed = self.store().scrub().await.unwrap();
            let again = write(self.store(), DOMAIN, bytes).await;
            assert_eq!(self.store().scrub().await.unwrap(), scrubbed);
            self.store().forget(again.content).await.unwrap();
        }
    }

    /// Forgets everything; then nothing must stay.
    pub(crate) async fn end(&mut self) {
        self.reopen().await;
        self.check_manifests().await;
        let kept = std::mem::take(&mut self.contents).into_iter().map(|(head, _)| head.content);
        let forgotten = self.forgotten.iter().map(|(head, _)| head.content);
        for id in kept.chain(forgotten).chain(self.given_up.iter().copied()) {
            self.store().forget(id).await.unwrap();
        }
        self.index.silence();
        for _ in 0..5 {
            self.store().collect(&CollectOptions::default()).await.unwrap();
        }
        let left: Vec<String> = self.backend().list("").await.unwrap();
        assert!(left.iter().all(|name| name == "store" || name.starts_with("domains/")), "garbage stays: {left:?}");
        assert!(self.index.is_empty(), "{} blobs are still known", self.index.len());
    }
}

pub(crate) fn pick(contents: &[Content], of: Pick) -> Option<&Content> {
    contents.get(usize::from(of).checked_rem(contents.len())?)
}
