//! Empty catalogs, and what most promises need in them.

use std::time::Duration;

use catalog::{Catalog, Tx};
use model::contents::Content;
use model::identity::{Domain, Project, User};
use model::{ContentId, DomainId, ProjectId, Timestamp, UserId};

/// Returns a catalog in a folder of its own, which lives as long as the first value.
pub(crate) async fn sqlite() -> (tempfile::TempDir, Catalog) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}/catalog.db", folder.path().display());
    (folder, Catalog::connect(&url).await.unwrap())
}

/// Returns the given number of seconds since the epoch as a moment.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// Waits for the database's clock to pass a lease or a delay, which no test can move.
pub(crate) async fn wait(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

pub(crate) async fn domain(tx: &mut Tx, name: &str) -> Domain {
    let domain = Domain { id: DomainId::new(), name: name.into() };
    catalog::domains::insert(tx, &domain).await.unwrap();
    domain
}

pub(crate) async fn project(tx: &mut Tx, domain: DomainId, name: &str) -> Project {
    let project = Project { id: ProjectId::new(), domain, name: name.into(), enabled: true, created_at: at(1) };
    catalog::projects::insert(tx, &project).await.unwrap();
    project
}

pub(crate) async fn user(tx: &mut Tx, domain: DomainId, name: &str) -> User {
    let user = User { id: UserId::new(), domain, name: name.into(), enabled: true, created_at: at(2) };
    catalog::users::insert(tx, &user, "hash").await.unwrap();
    user
}

pub(crate) async fn content(tx: &mut Tx, project: ProjectId) -> Content {
    let content = Content { id: ContentId::new(), project, length: 5, head: vec![0, 255, 7], created_at: at(3) };
    catalog::contents::insert(tx, &content).await.unwrap();
    content
}

/// Adds a domain and a project, and commits them.
pub(crate) async fn committed_project(catalog: &Catalog) -> Project {
    let mut tx = catalog.write().await.unwrap();
    let domain = domain(&mut tx, "default").await;
    let project = project(&mut tx, domain.id, "demo").await;
    tx.commit().await.unwrap();
    project
}
