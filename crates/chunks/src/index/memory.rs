//! An index that goes away with the process, for tests; also the plainest statement of what every index does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use model::packs::{PackEvent, PackState, Standing};
use uuid::Uuid;

use super::{
    Found, Index, IndexError, Judgement, Keeping, Location, Moved, PackRow, Recording, Session, Snapshot, Strays,
};
use crate::blob::BlobId;

/// An index in memory.
#[derive(Default)]
pub struct MemoryIndex {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    blobs: HashMap<(Uuid, BlobId), Location>,
    /// Most bytes that a domain's blobs may take.
    quotas: HashMap<Uuid, u64>,
    packs: BTreeMap<Uuid, PackRow>,
    last_session: u64,
    /// Open sessions and what they write.
    open: BTreeMap<u64, Uuid>,
    silent: HashSet<u64>,
    blind: bool,
    /// Contents that are kept, with their heads.
    kept: BTreeMap<Uuid, Vec<u8>>,
    /// Packs without a record, with the last session when they were seen first.
    stray_packs: HashMap<Uuid, u64>,
    alarm: Option<String>,
    /// When packs were scrubbed, by a clock that moves with each scrub.
    scrubbed: HashMap<Uuid, u64>,
    scrubs: u64,
}

impl MemoryIndex {
    /// Makes an index that knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns how many blobs are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().blobs.len()
    }

    /// Returns whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the ids that a domain has.
    #[must_use]
    pub fn ids(&self, domain: Uuid) -> Vec<BlobId> {
        self.state().blobs.keys().filter(|(of, _)| *of == domain).map(|(_, id)| *id).collect()
    }

    /// Answers that nothing is known until the next pack is recorded, as a race between two writers looks.
    pub fn blind(&self) {
        self.state().blind = true;
    }

    /// Returns how a pack stands.
    #[must_use]
    pub fn standing(&self, pack: Uuid) -> Option<Standing> {
        self.state().packs.get(&pack).map(|row| row.standing)
    }

    /// Returns how many bytes the blobs of a domain take.
    #[must_use]
    pub fn stored(&self, domain: Uuid) -> u64 {
        self.state().stored(domain)
    }

    /// Sets how many bytes the blobs of a domain may take.
    pub fn set_quota(&self, domain: Uuid, bytes: u64) {
        self.state().quotas.insert(domain, bytes);
    }

    /// Takes all open sessions for those of silent processes, as after a crash.
    pub fn silence(&self) {
        let mut state = self.state();
        let open: Vec<u64> = state.open.keys().copied().collect();
        state.silent.extend(open);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_damaged(&self, pack: Uuid) -> bool {
        self.packs.get(&pack).is_some_and(|row| row.damaged)
    }

    fn stored(&self, domain: Uuid) -> u64 {
        let own = self.blobs.iter().filter(|((of, _), _)| *of == domain);
        own.map(|(_, location)| u64::from(location.stored)).sum()
    }

    /// Returns why a domain may not take these blobs, if it may not.
    fn refusal(&self, blobs: &[(Uuid, BlobId, Location)]) -> Option<String> {
        let new = |domain: Uuid| {
            let own = blobs.iter().filter(move |(of, id, _)| *of == domain && !self.blobs.contains_key(&(domain, *id)));
            own.map(|(.., location)| u64::from(location.stored)).sum::<u64>()
        };
        self.quotas.iter().find_map(|(domain, limit)| {
            let (used, more) = (self.stored(*domain), new(*domain));
            (more > 0 && used + more > *limit)
                .then(|| format!("{} bytes are left, not {more}", limit.saturating_sub(used)))
        })
    }

    fn judge(&mut self, Judgement { row, verdict, blobs }: &Judgement) -> Option<Standing> {
        let last_session = self.last_session;
        let known = self.packs.get_mut(&row.id).filter(|known| known.standing == row.standing)?;
        known.standing = row.judged(*verdict, last_session)?;
        let standing = known.standing;
        if standing.state == PackState::Deleting {
            let listed: HashSet<_> = blobs.iter().collect();
            self.blobs
                .retain(|blob, location| location.pack != row.id || !(listed.is_empty() || listed.contains(blob)));
        }
        Some(standing)
    }

    fn move_pack(&mut self, pack: Uuid, event: PackEvent) -> Option<Standing> {
        let row = self.packs.get_mut(&pack)?;
        row.standing = row.standing.after(event)?;
        Some(row.standing)
    }
}

#[async_trait]
impl Index for MemoryIndex {
    async fn find(&self, domain: Uuid, ids: &[BlobId]) -> Result<Vec<Option<Found>>, IndexError> {
        let state = self.state();
        let found = |id: &BlobId| {
            let location = *state.blobs.get(&(domain, *id)).filter(|_| !state.blind)?;
            let row = state.packs.get(&location.pack)?;
            Some(Found { location, state: row.standing.state, damaged: row.damaged })
        };
        Ok(ids.iter().map(found).collect())
    }

    async fn begin(&self, content: Uuid) -> Result<Option<Session>, IndexError> {
        let mut state = self.state();
        state.last_session += 1;
        let number = state.last_session;
        state.open.insert(number, content);
        Ok(Some(Session(number)))
    }

    fn abandon(&self, session: Session) {
        self.state().open.remove(&session.0);
    }

    async fn add_pack(
        &self,
        session: Option<Session>,
        pack: Uuid,
        size: u64,
        blobs: &[(Uuid, BlobId, Location)],
    ) -> Result<Recording, IndexError> {
        let mut state = self.state();
        state.blind = false;
        if session.is_some_and(|session| !state.open.contains_key(&session.0)) {
            return Ok(Recording::GivenUp);
        }
        if session.is_some()
            && let Some(refusal) = state.refusal(blobs)
        {
            return Ok(Recording::OverQuota(refusal));
        }
        let writer = session.map_or(0, |session| session.0);
        let row = PackRow { id: pack, size, writer, standing: Standing::SEALED, damaged: false };
        if state.packs.entry(pack).or_insert(row).standing.state == PackState::Deleting {
            return Ok(Recording::Recorded);
        }
        for (domain, id, location) in blobs {
            let known = state.blobs.get(&(*domain, *id)).is_some_and(|known| !state.is_damaged(known.pack));
            if !known {
                state.blobs.insert((*domain, *id), *location);
            }
        }
        Ok(Recording::Recorded)
    }

    async fn revive(&self, pack: Uuid) -> Result<bool, IndexError> {
        Ok(self.state().move_pack(pack, PackEvent::Used).is_some())
    }

    async fn tripped(&self, pack: Uuid, content: Uuid) -> Result<(), IndexError> {
        let mut state = self.state();
        if !state.kept.contains_key(&content) {
            return Ok(());
        }
        let marks = state.packs.get(&pack).map_or(0, |row| row.standing.marks);
        if marks > 0 {
            state.alarm = Some(format!("content {content} leads to pack {pack}, which was about to be removed"));
        }
        state.move_pack(pack, PackEvent::Used);
        Ok(())
    }

    async fn keep(&self, session: Session, head: &[u8], sources: &[Uuid]) -> Result<Keeping, IndexError> {
        let mut state = self.state();
        if let Some(gone) = sources.iter().find(|source| !state.kept.contains_key(source)) {
            return Ok(Keeping::SourceGone(*gone));
        }
        let Some(content) = state.open.remove(&session.0) else { return Ok(Keeping::GivenUp) };
        state.kept.insert(content, head.to_vec());
        Ok(Keeping::Kept)
    }

    async fn forget(&self, content: Uuid) -> Result<(), IndexError> {
        self.state().kept.remove(&content);
        Ok(())
    }

    async fn end_silent(&self) -> Result<u64, IndexError> {
        let mut state = self.state();
        let silent = std::mem::take(&mut state.silent);
        Ok(silent.iter().filter(|number| state.open.remove(number).is_some()).count() as u64)
    }

    async fn snapshot(&self) -> Result<Snapshot, IndexError> {
        let state = self.state();
        Ok(Snapshot {
            oldest_session: state.open.keys().next().copied().unwrap_or(state.last_session + 1),
            heads: state.kept.values().cloned().collect(),
            packs: state.packs.values().copied().collect(),
        })
    }

    async fn judge(&self, packs: &[Judgement]) -> Result<Vec<Option<Standing>>, IndexError> {
        let mut state = self.state();
        Ok(packs.iter().map(|pack| state.judge(pack)).collect())
    }

    async fn remove_packs(&self, packs: &[Uuid]) -> Result<(), IndexError> {
        let mut state = self.state();
        for pack in packs {
            state.packs.remove(pack);
        }
        Ok(())
    }

    async fn relocate(&self, session: Session, pack: Uuid, size: u64, moved: &[Moved]) -> Result<bool, IndexError> {
        let mut state = self.state();
        if !state.open.contains_key(&session.0) {
            return Ok(false);
        }
        let row = PackRow { id: pack, size, writer: session.0, standing: Standing::SEALED, damaged: false };
        state.packs.insert(pack, row);
        for moved in moved {
            if let Some(location) = state.blobs.get_mut(&(moved.domain, moved.id))
                && location.pack == moved.from
            {
                *location = moved.to;
            }
        }
        Ok(true)
    }

    async fn strays(&self, packs: &[Uuid], heads: &[Uuid]) -> Result<Strays, IndexError> {
        let mut state = self.state();
        let oldest = state.open.keys().next().copied().unwrap_or(state.last_session + 1);
        let last_session = state.last_session;
        let mut strays = Strays::default();
        for pack in packs.iter().filter(|pack| !state.packs.contains_key(pack)).copied().collect::<Vec<_>>() {
            if *state.stray_packs.entry(pack).or_insert(last_session) < oldest {
                strays.packs.push(pack);
            }
        }
        let written: HashSet<Uuid> = state.open.values().copied().collect();
        let named = |content: &Uuid| state.kept.contains_key(content) || written.contains(content);
        strays.heads = heads.iter().filter(|content| !named(content)).copied().collect();
        Ok(strays)
    }

    async fn remove_strays(&self, strays: &Strays) -> Result<(), IndexError> {
        let mut state = self.state();
        for pack in &strays.packs {
            state.stray_packs.remove(pack);
        }
        Ok(())
    }

    async fn next_to_scrub(&self, _seconds: u64) -> Result<Option<(Uuid, u64)>, IndexError> {
        let state = self.state();
        let rows = state.packs.values().filter(|row| row.standing.state != PackState::Deleting);
        let next = rows.min_by_key(|row| state.scrubbed.get(&row.id));
        Ok(next.map(|row| (row.id, row.size)))
    }

    async fn scrubbed(&self, pack: Uuid, damage: Option<&str>) -> Result<(), IndexError> {
        let mut state = self.state();
        state.scrubs += 1;
        let now = state.scrubs;
        state.scrubbed.insert(pack, now);
        if let Some(row) = state.packs.get_mut(&pack) {
            row.damaged = damage.is_some();
        }
        Ok(())
    }

    async fn alarm(&self) -> Result<Option<String>, IndexError> {
        Ok(self.state().alarm.clone())
    }
}
