//! An index behind a watch, which may let it die, or lie.

use std::sync::Arc;

use async_trait::async_trait;
use chunks::{
    BlobId, Found, Index, IndexError, Judgement, Keeping, Location, Moved, Recording, Session, Snapshot, Strays,
};
use model::packs::Standing;
use uuid::Uuid;

type Answer<T> = Result<T, IndexError>;

/// What stands between a store and its index.
pub(crate) trait Watch: Send + Sync {
    /// Returns whether the next call takes effect, and whether it is reported as done.
    fn call(&self) -> (bool, bool) {
        (true, true)
    }

    /// Changes what the index answers.
    fn found(&self, _found: &mut [Option<Found>]) {}

    /// Changes what a mark believes.
    fn read(&self, _snapshot: &mut Snapshot) {}
}

/// A watched index.
pub(crate) struct WatchedIndex<W: ?Sized> {
    pub(crate) inner: Arc<dyn Index>,
    pub(crate) watch: Arc<W>,
}

impl<W: Watch + ?Sized> WatchedIndex<W> {
    async fn pass<T>(&self, call: impl Future<Output = Answer<T>>) -> Answer<T> {
        let (happens, told) = self.watch.call();
        if !happens {
            return Err("dead".into());
        }
        let answer = call.await?;
        if told { Ok(answer) } else { Err("dead".into()) }
    }
}

#[async_trait]
impl<W: Watch + ?Sized> Index for WatchedIndex<W> {
    async fn find(&self, domain: Uuid, ids: &[BlobId]) -> Answer<Vec<Option<Found>>> {
        let mut found = self.pass(self.inner.find(domain, ids)).await?;
        self.watch.found(&mut found);
        Ok(found)
    }

    async fn begin(&self, content: Uuid) -> Answer<Option<Session>> {
        self.pass(self.inner.begin(content)).await
    }

    fn abandon(&self, session: Session) {
        // Who died cannot tell.
        if self.watch.call().1 {
            self.inner.abandon(session);
        }
    }

    async fn add_pack(
        &self,
        session: Option<Session>,
        pack: Uuid,
        size: u64,
        blobs: &[(Uuid, BlobId, Location)],
    ) -> Answer<Recording> {
        self.pass(self.inner.add_pack(session, pack, size, blobs)).await
    }

    async fn revive(&self, pack: Uuid) -> Answer<bool> {
        self.pass(self.inner.revive(pack)).await
    }

    async fn tripped(&self, pack: Uuid, content: Uuid) -> Answer<()> {
        self.pass(self.inner.tripped(pack, content)).await
    }

    async fn keep(&self, session: Session, head: &[u8], sources: &[Uuid]) -> Answer<Keeping> {
        self.pass(self.inner.keep(session, head, sources)).await
    }

    async fn forget(&self, content: Uuid) -> Answer<()> {
        self.pass(self.inner.forget(content)).await
    }

    async fn end_silent(&self) -> Answer<u64> {
        self.pass(self.inner.end_silent()).await
    }

    async fn snapshot(&self) -> Answer<Snapshot> {
        let mut snapshot = self.pass(self.inner.snapshot()).await?;
        self.watch.read(&mut snapshot);
        Ok(snapshot)
    }

    async fn judge(&self, packs: &[Judgement]) -> Answer<Vec<Option<Standing>>> {
        self.pass(self.inner.judge(packs)).await
    }

    async fn remove_packs(&self, packs: &[Uuid]) -> Answer<()> {
        self.pass(self.inner.remove_packs(packs)).await
    }

    async fn relocate(&self, session: Session, pack: Uuid, size: u64, moved: &[Moved]) -> Answer<bool> {
        self.pass(self.inner.relocate(session, pack, size, moved)).await
    }

    async fn strays(&self, packs: &[Uuid], heads: &[Uuid]) -> Answer<Strays> {
        self.pass(self.inner.strays(packs, heads)).await
    }

    async fn remove_strays(&self, strays: &Strays) -> Answer<()> {
        self.pass(self.inner.remove_strays(strays)).await
    }

    async fn next_to_scrub(&self, seconds: u64) -> Answer<Option<(Uuid, u64)>> {
        self.pass(self.inner.next_to_scrub(seconds)).await
    }

    async fn scrubbed(&self, pack: Uuid, damage: Option<&str>) -> Answer<()> {
        self.pass(self.inner.scrubbed(pack, damage)).await
    }

    async fn alarm(&self) -> Answer<Option<String>> {
        self.pass(self.inner.alarm()).await
    }
}
