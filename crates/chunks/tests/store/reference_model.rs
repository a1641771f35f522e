//! The store and the model agree, whatever is done: in memory, in a directory, and over a wire that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use chunks::{Backend, DirBackend, MemoryBackend, RemoteLimits, Result};
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::runtime::Builder;

use crate::faults::{MILD, WILD};
use crate::reference::{Death, Ground, Model, Step, cases, mortal, steps};
use crate::watched_index::Watch;
use crate::wire::{Bucket, Fault};

struct Memory(Arc<MemoryBackend>);

#[async_trait]
impl Ground for Memory {
    async fn open(&self, death: Option<Death>) -> Result<(Arc<dyn Backend>, Arc<dyn Watch>)> {
        Ok(mortal(self.0.clone(), death))
    }
}

struct Folder(TempDir);

#[async_trait]
impl Ground for Folder {
    async fn open(&self, death: Option<Death>) -> Result<(Arc<dyn Backend>, Arc<dyn Watch>)> {
        Ok(mortal(Arc::new(DirBackend::open(self.0.path().join("store")).await?), death))
    }
}

struct Wire {
    bucket: Bucket,
    faults: &'static [Fault],
    seed: AtomicU64,
}

#[async_trait]
impl Ground for Wire {
    async fn open(&self, death: Option<Death>) -> Result<(Arc<dyn Backend>, Arc<dyn Watch>)> {
        Ok(mortal(self.bucket.backend(RemoteLimits::default()), death))
    }

    fn be_bad(&self, bad: bool) {
        let faults = if bad { self.faults } else { &[] };
        self.bucket.fail(faults, self.seed.fetch_add(1 << 20, Ordering::SeqCst));
    }

    fn may_fail(&self) -> bool {
        self.faults == WILD
    }
}

fn run(ground: impl Ground + 'static, steps: &[Step]) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(Model::run(Arc::new(ground), steps));
}

/// The clock stands still while somebody works and jumps when all wait, so that no retry takes time.
fn run_over_a_wire(faults: &'static [Fault], seed: u64, steps: &[Step]) {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let ground = Wire { bucket: Bucket::default(), faults, seed: seed.into() };
    runtime.block_on(Model::run(Arc::new(ground), steps));
}

proptest! {
    #![proptest_config(cases(64))]
    #[test]
    fn in_memory(steps in steps(20)) {
        run(Memory(Arc::default()), &steps);
    }
}

proptest! {
    #![proptest_config(cases(8))]
    #[test]
    fn in_a_directory(steps in steps(20)) {
        run(Folder(tempfile::tempdir().unwrap()), &steps);
    }
}

proptest! {
    #![proptest_config(cases(24))]
    #[test]
    fn over_a_wire_whose_faults_can_be_made_good(steps in steps(16), seed: u64) {
        run_over_a_wire(MILD, seed, &steps);
    }

    #[test]
    fn over_a_wire_whose_faults_can_not(steps in steps(16), seed: u64) {
        run_over_a_wire(WILD, seed, &steps);
    }
}
