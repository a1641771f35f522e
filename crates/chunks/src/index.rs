//! What the catalog remembers for the store: where blobs lie, who is writing, which contents are kept, and how packs stand.
//!
//! Where blobs lie is a cache of what the pack footers say: `Store::reindex` fills an empty index from them. The rest is
//! what collection needs; `model::packs` has the rules.

mod memory;

use async_trait::async_trait;
use model::packs::{PackEvent, PackState, Standing};
use uuid::Uuid;

use crate::blob::BlobId;

pub use memory::MemoryIndex;

/// Where a blob lies and how it was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The pack that holds it.
    pub pack: Uuid,
    /// First byte inside the pack.
    pub offset: u32,
    /// Stored length in bytes, sealed.
    pub stored: u32,
    /// Plain length in bytes.
    pub plain: u32,
    /// Generation of the domain's secret under which it was sealed.
    pub generation: u32,
}

/// A blob that the index knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Where it lies.
    pub location: Location,
    /// How its pack stands.
    pub state: PackState,
    /// Its pack was found to be damaged, this blob or another one of it.
    pub damaged: bool,
}

/// The number of a session, the writing of one content; later ones have higher numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Session(pub u64);

/// What came of keeping a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// It is kept, and every mark from now on sees it.
    Kept,
    /// The session was given up meanwhile, because its process was silent for too long.
    GivenUp,
    /// The content of this id, of which it reuses blobs, is no longer kept.
    SourceGone(Uuid),
}

/// What came of recording a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recording {
    /// It is recorded.
    Recorded,
    /// Nothing is recorded: the session was given up.
    GivenUp,
    /// Nothing is recorded: a domain would take more room than its quota allows. The sentence says how much is left.
    OverQuota(String),
}

/// A pack as it stands at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackRow {
    /// Its id.
    pub id: Uuid,
    /// Length of its object in bytes.
    pub size: u64,
    /// The session that wrote it; 0 for one that was found in the store.
    pub writer: u64,
    /// How it stands.
    pub standing: Standing,
    /// It was found to be damaged.
    pub damaged: bool,
}

/// Everything that decides what is garbage, as it was at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The oldest open session, or the next one to be: those before it had ended.
    pub oldest_session: u64,
    /// The heads of all contents that are kept.
    pub heads: Vec<Vec<u8>>,
    /// All packs that are recorded.
    pub packs: Vec<PackRow>,
}

/// What a mark found of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Something that is kept refers to it.
    Referenced,
    /// Nothing does; `oldest_session` is that of the mark's snapshot.
    Unreferenced {
        /// The oldest session that was open when the mark began.
        oldest_session: u64,
    },
}

impl PackRow {
    /// Returns how the pack stands after `verdict`, while `last_session` is the last that was given out.
    #[must_use]
    pub fn judged(&self, verdict: Verdict, last_session: u64) -> Option<Standing> {
        self.standing.after(self.event(verdict, last_session))
    }

    /// Returns what `verdict` is for the pack, while `last_session` is the last that was given out.
    #[must_use]
    pub fn event(&self, verdict: Verdict, last_session: u64) -> PackEvent {
        match verdict {
            Verdict::Referenced => PackEvent::Referenced,
            Verdict::Unreferenced { oldest_session } => {
                PackEvent::Unreferenced { oldest_session, writer: self.writer, last_session }
            }
        }
    }
}

/// How a pack is to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The pack, as it stood when the mark began.
    pub row: PackRow,
    /// What the mark found.
    pub verdict: Verdict,
    /// What it holds, where it goes to deleting; nothing where the pack cannot tell.
    pub blobs: Vec<(Uuid, BlobId)>,
}

/// A blob that was copied to another pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Its dedup domain.
    pub domain: Uuid,
    /// Its id.
    pub id: BlobId,
    /// The pack where it was.
    pub from: Uuid,
    /// Where it is now.
    pub to: Location,
}

/// Why an index failed: whatever error its database has.
pub type IndexError = Box<dyn std::error::Error + Send + Sync>;

/// The index. What a call changed is durable when it returns, and each call takes effect at one moment or not at all.
#[async_trait]
pub trait Index: Send + Sync {
    /// Returns where the blobs `ids` of `domain` lie, in the same order.
    async fn find(&self, domain: Uuid, ids: &[BlobId]) -> Result<Vec<Option<Found>>, IndexError>;

    /// Begins a session that writes `content`; nothing when that id belongs to a content that is being removed.
    ///
    /// No pack is condemned while the number is given out. The session lasts until it is kept, or is abandoned, or its
    /// process is silent for too long.
    async fn begin(&self, content: Uuid) -> Result<Option<Session>, IndexError>;

    /// Ends a session that keeps nothing, at the latest after a while: called from where nobody can wait.
    fn abandon(&self, session: Session);

    /// Records a durable pack of `size` bytes and its blobs, each as domain, id, location, if the session is still open and
    /// the quotas allow it. Without a session, for packs that are found in the store: those are recorded whatever they take.
    ///
    /// Recording the same pack again changes nothing. When a blob is known already, its first location stays, unless
    /// that is in a pack that was found to be damaged: so what is written again is whole again, for all that refer to it.
    async fn add_pack(
        &self,
        session: Option<Session>,
        pack: Uuid,
        size: u64,
        blobs: &[(Uuid, BlobId, Location)],
    ) -> Result<Recording, IndexError>;

    /// Revives a pack because one of its blobs is needed by a writer. Returns whether it is there and sealed now.
    async fn revive(&self, pack: Uuid) -> Result<bool, IndexError>;

    /// Tells that `content` is being read and leads to a condemned pack. If the content is kept, the pack is revived; if
    /// marks had counted already, which must never be, that is remembered as an alarm and stops collection.
    async fn tripped(&self, pack: Uuid, content: Uuid) -> Result<(), IndexError>;

    /// Ends a session, whose head is durable, by keeping the content. All of `sources`, of which it reuses blobs without
    /// having looked them up, must be kept at that moment.
    async fn keep(&self, session: Session, head: &[u8], sources: &[Uuid]) -> Result<Keeping, IndexError>;

    /// Tells that a content's head is about to be removed: it is not kept any more.
    async fn forget(&self, content: Uuid) -> Result<(), IndexError>;

    /// Ends the sessions of silent processes and gives up what they kept for a record that never came; returns how many.
    async fn end_silent(&self) -> Result<u64, IndexError>;

    /// Returns everything that decides what is garbage, read at one moment.
    async fn snapshot(&self) -> Result<Snapshot, IndexError>;

    /// Moves packs by what a mark found, each if it stands as in its row, and returns how each stands then; nothing where
    /// that has changed. No session begins meanwhile. When one goes to deleting, those of its blobs that lie there are
    /// forgotten; all that do where none is given.
    async fn judge(&self, packs: &[Judgement]) -> Result<Vec<Option<Standing>>, IndexError>;

    /// Forgets packs whose objects are gone.
    async fn remove_packs(&self, packs: &[Uuid]) -> Result<(), IndexError>;

    /// Records a pack to which blobs were copied, and that they lie there now; those that have moved since stay where they
    /// are. Returns whether the session was still open; if not, nothing changes.
    async fn relocate(&self, session: Session, pack: Uuid, size: u64, moved: &[Moved]) -> Result<bool, IndexError>;

    /// Notes objects that no record names, as they were listed: packs and heads. Returns those that can be removed: nobody
    /// can come to name them any more, and heads were noted for as long as the setting says.
    async fn strays(&self, packs: &[Uuid], heads: &[Uuid]) -> Result<Strays, IndexError>;

    /// Forgets strays whose objects are gone.
    async fn remove_strays(&self, strays: &Strays) -> Result<(), IndexError>;

    /// Returns the pack that was written or scrubbed longest ago, if that was at least `seconds` ago, and its size in bytes.
    /// For a while nobody else is given it.
    async fn next_to_scrub(&self, seconds: u64) -> Result<Option<(Uuid, u64)>, IndexError>;

    /// Records that a pack was scrubbed, and the damage that was found, if any. A pack that is unknown by now is no error.
    async fn scrubbed(&self, pack: Uuid, damage: Option<&str>) -> Result<(), IndexError>;

    /// Returns why collection was stopped, if it was.
    async fn alarm(&self) -> Result<Option<String>, IndexError>;
}

/// Objects that no record names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Strays {
    /// Packs.
    pub packs: Vec<Uuid>,
    /// Heads, by their content.
    pub heads: Vec<Uuid>,
}
