//! What a collection found and did, for people and programs.

use std::collections::BTreeMap;
use std::fmt;

use model::packs::{MARKS_NEEDED, PackState, Standing};
use uuid::Uuid;

use crate::index::PackRow;

/// Packs that a report lists one by one, of those that are not simply in use.
const LISTED_MAX: usize = 1000;

/// A number of things and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub count: u64,
    /// How many bytes they have.
    pub bytes: u64,
}

impl Sum {
    /// Adds one of `bytes`.
    pub fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.bytes += bytes;
    }
}

/// Why a pack stays or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// Something that is kept refers to it.
    InUse,
    /// Nothing refers to it, but the session that wrote it may still be open.
    BeingWritten,
    /// Nothing refers to it; it is condemned from now on.
    Condemned,
    /// It is condemned, and a session that had begun by then may still be open.
    WaitsForSessions,
    /// It is condemned, and needs more marks that find nothing.
    WaitsForMarks,
    /// It was condemned and is referred to again.
    Revived,
    /// It goes now.
    Removed,
}

impl Fate {
    /// Returns the name used in records and APIs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InUse => "in_use",
            Self::BeingWritten => "being_written",
            Self::Condemned => "condemned",
            Self::WaitsForSessions => "waits_for_sessions",
            Self::WaitsForMarks => "waits_for_marks",
            Self::Revived => "revived",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("in use"),
            Self::BeingWritten => f.write_str("being written"),
            Self::Condemned => f.write_str("nothing refers to it: condemned"),
            Self::WaitsForSessions => f.write_str("condemned, waits for a write that had begun before"),
            Self::WaitsForMarks => write!(f, "condemned, waits for {MARKS_NEEDED} marks that find nothing"),
            Self::Revived => f.write_str("referred to again: revived"),
            Self::Removed => f.write_str("goes now"),
        }
    }
}

/// One pack and why it stays or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackFate {
    /// The pack.
    pub pack: Uuid,
    /// Its length in bytes.
    pub size: u64,
    /// Bytes of it that are referred to.
    pub live: u64,
    /// Why it stays or goes.
    pub fate: Fate,
}

/// What a collection found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Contents that were followed.
    pub contents: u64,
    /// Blobs that they lead to, each counted once.
    pub live: Sum,
    /// Packs by their fate.
    pub packs: BTreeMap<Fate, Sum>,
    /// Packs that are not simply in use, one by one, up to a thousand.
    pub listed: Vec<PackFate>,
    /// Sessions of silent processes that were ended.
    pub sessions_ended: u64,
    /// Packs that no record names.
    pub stray_packs: u64,
    /// Heads that no record names.
    pub stray_heads: u64,
    /// Heads that were removed.
    pub heads_removed: u64,
    /// Packs that were removed.
    pub removed: Sum,
    /// Packs whose live blobs were copied, and the bytes that were copied.
    pub compacted: Sum,
}

impl Collected {
    /// Notes how a pack was judged.
    pub(super) fn add(&mut self, row: &PackRow, after: Standing, live: u64, oldest_session: u64) {
        let fate = match (row.standing.state, after.state) {
            (_, PackState::Deleting) => Fate::Removed,
            (PackState::Sealed, PackState::Condemned) => Fate::Condemned,
            (_, PackState::Condemned) if row.standing.watermark >= oldest_session => Fate::WaitsForSessions,
            (_, PackState::Condemned) => Fate::WaitsForMarks,
            (PackState::Sealed, PackState::Sealed) if live == 0 => Fate::BeingWritten,
            (PackState::Sealed, PackState::Sealed) => Fate::InUse,
            (_, PackState::Sealed) => Fate::Revived,
        };
        self.packs.entry(fate).or_default().add(row.size);
        if fate != Fate::InUse && self.listed.len() < LISTED_MAX {
            self.listed.push(PackFate { pack: row.id, size: row.size, live, fate });
        }
    }

    /// Takes over what the next pass of the same run found, and adds up what both did.
    pub(super) fn follow(&mut self, next: Self) {
        let before = std::mem::replace(self, next);
        self.sessions_ended += before.sessions_ended;
        self.heads_removed += before.heads_removed;
        for (sum, before) in [(&mut self.removed, before.removed), (&mut self.compacted, before.compacted)] {
            sum.count += before.count;
            sum.bytes += before.bytes;
        }
    }

    /// Returns whether a mark that follows at once comes nearer to the end: packs wait for one, or may be garbage since
    /// heads were removed.
    pub(super) fn is_unfinished(&self) -> bool {
        self.heads_removed > 0 || [Fate::Condemned, Fate::WaitsForMarks].iter().any(|fate| self.sum(*fate).count > 0)
    }

    /// Returns how many packs had a fate, and their bytes.
    #[must_use]
    pub fn sum(&self, fate: Fate) -> Sum {
        self.packs.get(&fate).copied().unwrap_or_default()
    }
}
