//! A run of promises on a throw-away PostgreSQL cluster.

use std::sync::Arc;

use catalog::Catalog;
use tests::peers::Postgres;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Promises that run at once.
const WIDTH: usize = 4;

/// Promises on their way, each in a database of its own.
pub(crate) struct Run<'a> {
    cluster: &'a Postgres,
    turns: Arc<Semaphore>,
    promises: Vec<(&'static str, JoinHandle<()>)>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(cluster: &'a Postgres) -> Self {
        Self { cluster, turns: Arc::new(Semaphore::new(WIDTH)), promises: Vec::new() }
    }

    pub(crate) fn add<F>(&mut self, name: &'static str, promise: fn(Catalog) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let url = self.cluster.database(&name.replace("::", "_"));
        let turns = self.turns.clone();
        let task = tokio::spawn(async move {
            let _turn = turns.acquire_owned().await.unwrap();
            let catalog = Catalog::connect(&url).await.unwrap();
            promise(catalog.clone()).await;
            catalog.close().await;
        });
        self.promises.push((name, task));
    }

    /// Waits for all and fails with the names of those that were not kept.
    pub(crate) async fn finish(self) {
        let mut broken = Vec::new();
        for (name, task) in self.promises {
            if let Err(error) = task.await {
                eprintln!("PostgreSQL: {name}: {error}");
                broken.push(name);
            }
        }
        assert!(broken.is_empty(), "PostgreSQL breaks: {}", broken.join(", "));
    }
}
