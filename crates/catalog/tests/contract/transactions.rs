//! Promises of transactions.

use catalog::{Catalog, ErrorKind, domains, projects};
use model::DomainId;
use model::identity::Domain;

use crate::fixture::{domain, project};

pub(crate) async fn a_dropped_transaction_leaves_nothing(catalog: Catalog) {
    let mut tx = catalog.write().await.unwrap();
    let lost = domain(&mut tx, "lost").await;
    drop(tx);
    let mut tx = catalog.write().await.unwrap();
    assert_eq!(domains::get(&mut tx, lost.id).await.unwrap(), None);
    let kept = domain(&mut tx, "kept").await;
    tx.commit().await.unwrap();
    let mut tx = catalog.read().await.unwrap();
    assert_eq!(domains::get(&mut tx, kept.id).await.unwrap(), Some(kept));
}

pub(crate) async fn a_read_sees_one_moment_and_cannot_write(catalog: Catalog) {
    let mut tx = catalog.write().await.unwrap();
    let first = domain(&mut tx, "first").await;
    tx.commit().await.unwrap();

    let mut reader = catalog.read().await.unwrap();
    assert!(domains::get(&mut reader, first.id).await.unwrap().is_some());
    let mut writer = catalog.write().await.unwrap();
    domain(&mut writer, "second").await;
    writer.commit().await.unwrap();
    assert_eq!(domains::by_name(&mut reader, "second").await.unwrap(), None, "committed after the reader's moment");
    drop(reader);

    let mut reader = catalog.read().await.unwrap();
    assert!(domains::by_name(&mut reader, "second").await.unwrap().is_some());
    let third = Domain { id: DomainId::new(), name: "third".into() };
    assert!(domains::insert(&mut reader, &third).await.is_err(), "a reader wrote");
}

pub(crate) async fn a_failed_transaction_cannot_be_committed(catalog: Catalog) {
    let mut tx = catalog.write().await.unwrap();
    let owner = domain(&mut tx, "default").await;
    let twice = Domain { id: DomainId::new(), name: "default".into() };
    let error = domains::insert(&mut tx, &twice).await.unwrap_err();
    assert_eq!((error.kind(), error.table()), (ErrorKind::Conflict, Some("domains")));
    assert_eq!(error.to_string(), "a row of domains with this name or id exists already");
    assert!(std::error::Error::source(&error).is_some());
    assert!(tx.commit().await.is_err());
    let mut tx = catalog.read().await.unwrap();
    assert_eq!(domains::get(&mut tx, owner.id).await.unwrap(), None);
}

/// Each of many tasks reads a count and writes one more; none may fail, and none may be lost.
pub(crate) async fn writers_wait_for_their_turn(catalog: Catalog) {
    let mut tx = catalog.write().await.unwrap();
    let owner = domain(&mut tx, "default").await.id;
    tx.commit().await.unwrap();
    let tasks = (0..40).map(|number| {
        let catalog = catalog.clone();
        tokio::spawn(async move {
            let mut tx = catalog.write().await.unwrap();
            projects::list(&mut tx).await.unwrap();
            project(&mut tx, owner, &format!("project {number}")).await;
            tx.commit().await.unwrap();
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let mut tx = catalog.read().await.unwrap();
    assert_eq!(projects::list(&mut tx).await.unwrap().len(), 40);
}
