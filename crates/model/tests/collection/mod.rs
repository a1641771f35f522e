//! Collection as a model: every interleaving of writers, a cloner, two collectors and crashes, one transaction at a time.
//!
//! How: a state holds what the catalog and the backend hold, and where each actor is; a breadth-first search visits every
//! state that can be reached. The moves of packs are `model::packs` itself, as in the catalog. What must hold in every
//! state: a content that is kept leads to chunks whose pack exists. To show that the search can fail, it is run again
//! with one rule taken away at a time, and must find a hole each time.
//!
//! A replicator, or a client that negotiates, is a writer here: where the bytes of its chunks come from makes no difference
//! to what it promises and records, and both go through the same writer and session.

use std::collections::{HashSet, VecDeque};

use model::packs::{PackEvent, PackState, Standing};

/// The bytes of all contents are one chunk, so every writer meets every other.
type Pack = u8;
type Content = u8;
type Session = u64;
/// Packs 0 to 2: the first one, and one of each writer.
type Packs = [Option<(Session, Standing)>; 3];
/// A set of small numbers.
type Set = u16;

fn has(set: Set, number: u64) -> bool {
    set >> number & 1 == 1
}

fn members(set: Set) -> impl Iterator<Item = u8> {
    (0..16).filter(move |number| has(set, u64::from(*number)))
}

/// What one transaction changes.
type Change<'c> = dyn Fn(&mut State) + 'c;

/// Rules that can be taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// A writer uses a condemned pack without reviving it.
    Revival,
    /// A mark counts while sessions from before are open.
    Watermark,
    /// A session that was given up may still record its pack and keep its content.
    Fence,
    /// A clone does not ask whether its source is still kept.
    Source,
    /// A judgement is recorded even if the pack stands otherwise by now.
    CompareAndSet,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// Where the index says that the chunk lies.
    index: Option<Pack>,
    /// Records of packs: who wrote it, how it stands.
    packs: Packs,
    /// Objects of packs.
    objects: Set,
    last_session: Session,
    open: Set,
    /// Contents that are kept; all of them are the chunk.
    kept: Set,
    writers: [Writer; 2],
    cloner: Cloner,
    collectors: [Collector; 2],
    deletions_left: u8,
}

/// Writes a content of the one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Writer {
    Idle,
    Begun(Session),
    /// Found the chunk there, in a pack that was sealed or condemned when it looked.
    Found(Session, Pack, PackState),
    /// Did not find it, so it has put a pack of its own.
    Put(Session, Pack),
    /// All it needs is recorded.
    Ready(Session),
    Over,
}

/// Makes a content of another's manifest, without looking up chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Cloner {
    Idle,
    Begun(Session, Content),
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Collector {
    Idle,
    /// Has read everything at one moment: the oldest session, whether the chunk is referred to, the packs.
    Marked {
        oldest: Session,
        kept: bool,
        packs: Packs,
    },
    /// Has judged; these go.
    Judged(Set),
}

impl State {
    fn first() -> Self {
        // Content 0 is kept in pack 0, which an ended session wrote.
        Self {
            index: Some(0),
            packs: [Some((1, Standing::SEALED)), None, None],
            objects: 1,
            last_session: 1,
            open: 0,
            kept: 1,
            writers: [Writer::Idle, Writer::Idle],
            cloner: Cloner::Idle,
            collectors: [Collector::Idle, Collector::Idle],
            deletions_left: 2,
        }
    }

    /// What must never be broken.
    fn holds(&self) -> bool {
        let whole =
            self.index.is_some_and(|pack| has(self.objects, pack.into()) && self.packs[usize::from(pack)].is_some());
        self.kept == 0 || whole
    }

    fn oldest(&self) -> Session {
        members(self.open).next().map_or(self.last_session + 1, Session::from)
    }

    fn begin(&mut self) -> Session {
        self.last_session += 1;
        self.open |= 1 << self.last_session;
        self.last_session
    }

    fn use_pack(&mut self, pack: Pack) -> bool {
        let Some((_, standing)) = &mut self.packs[usize::from(pack)] else { return false };
        standing.after(PackEvent::Used).is_some_and(|after| {
            *standing = after;
            true
        })
    }

    fn may_record(&self, session: Session, broken: Broken) -> bool {
        has(self.open, session) || broken == Broken::Fence
    }

    /// Returns every state that one more transaction of anybody leads to.
    fn next(&self, broken: Broken, collectors: usize) -> Vec<Self> {
        let mut states = Vec::new();
        let mut then = |change: &Change<'_>| {
            let mut state = *self;
            change(&mut state);
            states.push(state);
        };
        for number in 0..self.writers.len() {
            self.write(number, broken, &mut then);
        }
        self.clone_content(broken, &mut then);
        for number in 0..collectors {
            self.collect(number, broken, &mut then);
        }
        if self.deletions_left > 0 {
            for content in members(self.kept) {
                then(&|state| {
                    state.kept &= !(1 << content);
                    state.deletions_left -= 1;
                });
            }
        }
        // Any process is silent for too long; it may go on later and does not know.
        for session in members(self.open) {
            then(&|state| state.open &= !(1 << session));
        }
        states
    }

    fn write(&self, number: usize, broken: Broken, then: &mut dyn FnMut(&Change<'_>)) {
        let content = number as Content + 1;
        match self.writers[number] {
            Writer::Idle => then(&|state| state.writers[number] = Writer::Begun(state.begin())),
            Writer::Begun(session) => match self.index {
                Some(pack) => then(&|state| {
                    let seen =
                        state.packs[usize::from(pack)].map_or(PackState::Deleting, |(_, standing)| standing.state);
                    state.writers[number] = Writer::Found(session, pack, seen);
                }),
                None => then(&|state| {
                    state.objects |= 1 << content;
                    state.writers[number] = Writer::Put(session, content);
                }),
            },
            // What it saw may be otherwise by now; it revives only what it saw condemned.
            Writer::Found(session, pack, seen) => then(&|state| {
                let usable = seen == PackState::Sealed || broken == Broken::Revival || state.use_pack(pack);
                state.writers[number] = if usable { Writer::Ready(session) } else { Writer::Begun(session) };
            }),
            Writer::Put(session, pack) => then(&|state| {
                if !state.may_record(session, broken) {
                    state.writers[number] = Writer::Over;
                    return;
                }
                state.packs[usize::from(pack)] = Some((session, Standing::SEALED));
                // The first location stays.
                state.index = state.index.or(Some(pack));
                state.writers[number] = Writer::Ready(session);
            }),
            Writer::Ready(session) => then(&|state| {
                if state.may_record(session, broken) {
                    state.kept |= 1 << content;
                }
                state.open &= !(1 << session);
                state.writers[number] = Writer::Over;
            }),
            Writer::Over => {}
        }
    }

    fn clone_content(&self, broken: Broken, then: &mut dyn FnMut(&Change<'_>)) {
        match self.cloner {
            Cloner::Idle => {
                for source in members(self.kept) {
                    then(&|state| state.cloner = Cloner::Begun(state.begin(), source));
                }
            }
            Cloner::Begun(session, source) => then(&|state| {
                let source_kept = has(state.kept, source.into()) || broken == Broken::Source;
                if state.may_record(session, broken) && source_kept {
                    state.kept |= 1 << 3;
                }
                state.open &= !(1 << session);
                state.cloner = Cloner::Over;
            }),
            Cloner::Over => {}
        }
    }

    fn collect(&self, number: usize, broken: Broken, then: &mut dyn FnMut(&Change<'_>)) {
        match self.collectors[number] {
            Collector::Idle => then(&|state| {
                let marked = Collector::Marked { oldest: state.oldest(), kept: state.kept != 0, packs: state.packs };
                state.collectors[number] = marked;
            }),
            Collector::Marked { oldest, kept, packs } => {
                // The walk looks the chunk up later than the moment at which it read what is kept.
                then(&|state| {
                    if kept && state.index.is_none() {
                        // It cannot be followed, so nothing is judged.
                        state.collectors[number] = Collector::Idle;
                        return;
                    }
                    let mut doomed = 0;
                    for (pack, row) in (0..).zip(packs) {
                        let Some((writer, standing)) = row else { continue };
                        let referenced = kept && state.index == Some(pack);
                        if state.judge(pack, (writer, standing), referenced, oldest, broken) {
                            doomed |= 1 << pack;
                        }
                    }
                    state.collectors[number] = Collector::Judged(doomed);
                });
                then(&|state| state.collectors[number] = Collector::Idle);
            }
            Collector::Judged(doomed) => {
                then(&|state| {
                    for pack in members(doomed) {
                        state.objects &= !(1 << pack);
                        state.packs[usize::from(pack)] = None;
                    }
                    state.collectors[number] = Collector::Idle;
                });
                // It dies half way; the next one finds them in their last state.
                then(&|state| state.collectors[number] = Collector::Idle);
            }
        }
    }

    /// Judges one pack from the row that the mark had read; returns whether it goes.
    fn judge(
        &mut self,
        pack: Pack,
        (writer, expected): (Session, Standing),
        referenced: bool,
        oldest: Session,
        broken: Broken,
    ) -> bool {
        let last_session = self.last_session;
        let Some((_, standing)) = &mut self.packs[usize::from(pack)] else { return false };
        if *standing != expected && broken != Broken::CompareAndSet {
            return false;
        }
        let oldest_session = if broken == Broken::Watermark { Session::MAX } else { oldest };
        let event = match referenced {
            true => PackEvent::Referenced,
            false => PackEvent::Unreferenced { oldest_session, writer, last_session },
        };
        let Some(after) = expected.after(event) else { return false };
        *standing = after;
        if after.state == PackState::Deleting && self.index == Some(pack) {
            self.index = None;
        }
        after.state == PackState::Deleting
    }
}

/// Visits every state that can be reached with so many collectors; returns how many there are, and the first that is broken.
pub(crate) fn search(broken: Broken, collectors: usize) -> (usize, Option<State>) {
    let first = State::first();
    let mut seen = HashSet::from([first]);
    let mut queue = VecDeque::from([first]);
    while let Some(state) = queue.pop_front() {
        for next in state.next(broken, collectors) {
            if !next.holds() {
                return (seen.len(), Some(next));
            }
            if seen.insert(next) {
                queue.push_back(next);
            }
        }
    }
    (seen.len(), None)
}
