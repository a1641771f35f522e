//! One of the processes: does what its dice say until it is told to stop, or killed, and says what came of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use catalog::contents;
use chunks::{CollectOptions, ErrorKind, Head};
use model::contents::Content;
use model::{ContentId, Timestamp};
use tests::Random;

use crate::place::{Broken, CHUNK, Place, ReadError, chain};
use crate::recipe::Recipe;
use Outcome::{Done, Fault, Refused};

/// Begins each line that the supervisor reads.
pub(crate) const SAID: &str = "soak ";
/// The noises that all writers choose from, and their chunks: what one writes, others have, or had.
const SHARED: u64 = 24;
const SHARED_CHUNKS: u64 = 24;
/// Longest wait of a writer half way.
const REST_MAX: Duration = Duration::from_secs(8);
/// From so many contents on, more are deleted than made.
const CONTENTS: usize = 48;
/// Contents are not joined beyond this.
const LENGTH_MAX: u64 = 96 * CHUNK;

/// What a process is told by its supervisor.
pub(crate) struct Order {
    pub(crate) folder: PathBuf,
    pub(crate) url: String,
    pub(crate) seed: u64,
    pub(crate) broken: Broken,
}

/// What came of an act.
enum Outcome {
    /// It was done; what else is to be told.
    Done(String),
    /// It was refused for what others did meanwhile, as it must be.
    Refused(&'static str),
    /// A promise was broken.
    Fault(String),
}

impl Order {
    pub(crate) fn to_text(&self) -> String {
        let broken = Broken::ALL.iter().position(|broken| *broken == self.broken).unwrap();
        format!("{}\n{}\n{}\n{broken}", self.folder.display(), self.url, self.seed)
    }

    pub(crate) fn from_text(text: &str) -> Self {
        let lines: Vec<&str> = text.lines().collect();
        let broken = Broken::ALL[lines[3].parse::<usize>().unwrap()];
        Self { folder: lines[0].into(), url: lines[1].into(), seed: lines[2].parse().unwrap(), broken }
    }

    /// Does what is asked until the file `stop` is there.
    pub(crate) fn carry_out(&self) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let place = Arc::new(Place::open(&self.folder, &self.url, self.broken).await);
            tokio::spawn(tend(Arc::clone(&place)));
            let mut worker = Worker { place, dice: Random::new(self.seed) };
            while !self.folder.join("stop").exists() {
                let (act, outcome) = worker.act().await;
                match outcome {
                    Done(told) => println!("{SAID}{act} done {told}"),
                    Refused(why) => println!("{SAID}{act} {why}"),
                    Fault(what) => println!("{SAID}FAULT {act}: {what}"),
                }
            }
        });
    }
}

async fn tend(place: Arc<Place>) {
    loop {
        if let Err(error) = place.index.tend().await {
            println!("{SAID}FAULT tend: {}", chain(&error));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Waits until so many collections of whichever process have ended: on a slow machine as many as on a fast one. Where
/// most wait, nobody collects, so that nobody waits for ever.
async fn let_pass(place: &Place, count: u64) {
    let (begun, end) = (Instant::now(), place.collections() + count);
    while place.collections() < end && begun.elapsed() < REST_MAX {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

struct Worker {
    place: Arc<Place>,
    dice: Random,
}

impl Worker {
    async fn act(&mut self) -> (&'static str, Outcome) {
        let there = self.place.contents().await;
        let roll = self.dice.below(100);
        if there.len() < 4 || (roll < 30 && there.len() < CONTENTS) {
            return ("put", self.put().await);
        }
        let of = &there[self.dice.below(there.len() as u64) as usize];
        match roll {
            0..25 if there.len() >= CONTENTS => ("delete", self.delete(of).await),
            25..30 => ("give-up", self.give_up().await),
            30..36 => ("copy", self.copy(of).await),
            36..43 => ("slice", self.slice(of).await),
            43..50 => ("concat", self.concat(of, &there).await),
            50..60 => ("splice", self.splice(of).await),
            60..72 => ("delete", self.delete(of).await),
            72..95 => ("read", self.read(of).await),
            95..100 => ("collect", self.collect().await),
            _ => ("put", self.put().await),
        }
    }

    /// Returns new content: what others have or had, what nobody has, and zeros.
    fn fresh(&mut self) -> Recipe {
        let mut recipe = Recipe::default();
        for _ in 0..=self.dice.below(3) {
            let length = match self.dice.below(4) {
                0 => 1 + self.dice.below(8 * CHUNK),
                _ => CHUNK * (1 + self.dice.below(16)),
            };
            match self.dice.below(10) {
                0 => recipe.add(0, 0, length),
                1..3 => recipe.add(self.dice.number() | SHARED, 0, length),
                _ => {
                    let from = CHUNK * self.dice.below(SHARED_CHUNKS - 16);
                    recipe.add(1 + self.dice.below(SHARED), from, length.min(16 * CHUNK));
                }
            }
        }
        recipe
    }

    /// Returns how many collections a writer lets pass half way.
    fn rest(&mut self) -> u64 {
        if self.dice.below(4) == 0 { 1 + self.dice.below(4) } else { 0 }
    }

    async fn put(&mut self) -> Outcome {
        let (id, recipe) = (ContentId::new(), self.fresh());
        let (place, domain) = (Arc::clone(&self.place), self.place.project.uuid());
        let (mut bytes, rest) = (Bytes::from(recipe.bytes()), self.rest());
        let first = bytes.split_to(bytes.len() / 2);
        let made = async move {
            let mut writer = place.store.writer(domain, id.uuid()).await?;
            writer.write(first).await?;
            let_pass(&place, rest).await;
            writer.write(bytes).await?;
            writer.finish().await
        };
        self.keep(id, &recipe, &[], made).await
    }

    /// Writes something and forgets to finish it.
    async fn give_up(&mut self) -> Outcome {
        let bytes = Bytes::from(self.fresh().bytes());
        let written = async {
            let mut writer = self.place.store.writer(self.place.project.uuid(), ContentId::new().uuid()).await?;
            writer.write(bytes).await
        };
        match written.await {
            Ok(()) => Done(String::new()),
            Err(error) if error.kind() == ErrorKind::Conflict => Refused("given-up"),
            Err(error) => Fault(chain(&error)),
        }
    }

    async fn copy(&mut self, of: &Content) -> Outcome {
        let (id, recipe) = (ContentId::new(), self.place.recipe(of.id));
        let store = self.place.store.clone();
        self.keep(id, &recipe, &[of], store.copy(&of.head, id.uuid())).await
    }

    /// Returns a place in a content, on the border of a chunk more often than not.
    fn at(&mut self, length: u64) -> u64 {
        let at = self.dice.below(length + 1);
        if self.dice.below(3) > 0 { at / CHUNK * CHUNK } else { at }
    }

    async fn slice(&mut self, of: &Content) -> Outcome {
        let (a, b) = (self.at(of.length), self.at(of.length));
        let range = a.min(b)..a.max(b);
        let (id, recipe) = (ContentId::new(), self.place.recipe(of.id).slice(range.clone()));
        let store = self.place.store.clone();
        self.keep(id, &recipe, &[of], store.slice(&of.head, range, id.uuid())).await
    }

    async fn concat(&mut self, of: &Content, there: &[Content]) -> Outcome {
        let other = &there[self.dice.below(there.len() as u64) as usize];
        if of.length + other.length > LENGTH_MAX {
            return Refused("too-long");
        }
        let recipe = Recipe::concat(&[self.place.recipe(of.id), self.place.recipe(other.id)]);
        let (id, heads) = (ContentId::new(), [of.head.clone(), other.head.clone()]);
        let (store, domain) = (self.place.store.clone(), self.place.project.uuid());
        self.keep(id, &recipe, &[of, other], store.concat(domain, id.uuid(), &heads)).await
    }

    async fn splice(&mut self, of: &Content) -> Outcome {
        let (old, new) = (self.place.recipe(of.id), self.fresh());
        let at = self.at(of.length);
        let end = at + new.length();
        if end > LENGTH_MAX {
            return Refused("too-long");
        }
        let recipe = Recipe::concat(&[old.slice(0..at), new.clone(), old.slice(end..of.length)]);
        let (id, place, bytes) = (ContentId::new(), Arc::clone(&self.place), Bytes::from(new.bytes()));
        let rest = self.rest();
        let made = async {
            let mut splice = place.store.splice(&of.head, id.uuid()).await?;
            splice.write(at, bytes).await?;
            let_pass(&place, rest).await;
            splice.finish().await
        };
        self.keep(id, &recipe, &[of], made).await
    }

    /// Records what is being made, as the verbs do.
    async fn keep(
        &self,
        id: ContentId,
        recipe: &Recipe,
        sources: &[&Content],
        made: impl Future<Output = chunks::Result<Head>>,
    ) -> Outcome {
        self.place.write_down(id, recipe);
        let head = match made.await {
            Ok(head) => head,
            Err(error) if error.kind() == ErrorKind::Conflict => return Refused("conflict"),
            Err(error) => {
                for source in sources {
                    if !self.place.is_kept(source.id).await {
                        return Refused("source-gone");
                    }
                }
                return Fault(chain(&error));
            }
        };
        let (project, created_at) = (self.place.project, Timestamp::from_second(1).unwrap());
        let content = Content { id, project, length: head.length, head: head.bytes, created_at };
        if content.length != recipe.length() {
            return Fault(format!("{id} has {} bytes instead of {}", content.length, recipe.length()));
        }
        let committed: catalog::Result<bool> = async {
            let mut tx = self.place.catalog.write().await?;
            let committed = contents::commit(&mut tx, &content).await?;
            tx.commit().await?;
            Ok(committed)
        }
        .await;
        match committed {
            Ok(true) => Done(String::new()),
            // It waited too long for this moment, and what it made may be gone.
            Ok(false) => {
                self.place.store.forget(id.uuid()).await.unwrap();
                Refused("too-late")
            }
            Err(error) => Fault(chain(&error)),
        }
    }

    async fn delete(&self, of: &Content) -> Outcome {
        if self.place.delete(of.id).await { Done(String::new()) } else { Refused("gone") }
    }

    async fn read(&self, of: &Content) -> Outcome {
        match self.place.read(of).await {
            Ok(()) => Done(String::new()),
            Err(ReadError::Wrong) => Fault(format!("{} has other bytes", of.id)),
            Err(ReadError::Failed(_)) if !self.place.is_kept(of.id).await => Refused("gone"),
            Err(ReadError::Failed(error)) => Fault(format!("{} is kept and cannot be read: {}", of.id, chain(&error))),
        }
    }

    async fn collect(&mut self) -> Outcome {
        let compact_below = [0, 50, 95][self.dice.below(3) as usize];
        let options = CollectOptions { compact_below, ..CollectOptions::default() };
        let error = match self.place.store.collect(&options).await {
            Ok(did) => {
                self.place.count_collection();
                let (removed, compacted) = (did.removed.count, did.compacted.count);
                let (heads, ended) = (did.heads_removed, did.sessions_ended);
                return Done(format!("removed={removed} compacted={compacted} heads={heads} ended={ended}"));
            }
            Err(error) => error,
        };
        let said = chain(&error);
        if error.kind() == ErrorKind::Conflict && said.contains("given up") {
            return Refused("given-up");
        }
        // What it could not follow was kept when it began; it may be no longer.
        let named = said.split("content ").filter_map(|rest| rest.get(..36)?.parse::<ContentId>().ok()).next();
        match named {
            Some(id) if error.kind() != ErrorKind::Conflict && !self.place.is_kept(id).await => Refused("overtaken"),
            _ => Fault(said),
        }
    }
}
