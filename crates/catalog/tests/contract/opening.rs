//! Promises of opening a catalog; each database has its own.

use std::os::unix::fs::PermissionsExt as _;

use catalog::{Catalog, ErrorKind, domains};
use sqlx::Connection as _;
use tests::peers::Postgres;

use crate::fixture::{domain, sqlite, wait};
use crate::quotas::{all_is_counted, something_of_everything};

const NEWER: &str = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
    VALUES (7000, 'from the future', TRUE, ''";

#[tokio::test]
async fn a_file_is_private_and_keeps_what_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odd name?mode=ro#%20 João.db");
    let url = format!("sqlite://{}", path.display());
    let catalog = Catalog::connect(&url).await.unwrap();
    let mut tx = catalog.write().await.unwrap();
    let kept = domain(&mut tx, "kept").await;
    tx.commit().await.unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
    }
    catalog.close().await;
    assert!(path.exists());
    let catalog = Catalog::connect(&url).await.unwrap();
    let mut tx = catalog.read().await.unwrap();
    assert_eq!(domains::by_name(&mut tx, "kept").await.unwrap(), Some(kept));
}

#[tokio::test]
async fn bad_addresses_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let text_file = folder.path().join("text");
    std::fs::write(&text_file, "this is no database, but long enough to have a header\n".repeat(100)).unwrap();
    for (url, kind, says) in [
        ("mysql://x".to_owned(), ErrorKind::Invalid, "neither"),
        (format!("sqlite://{}/none/catalog.db", folder.path().display()), ErrorKind::Unavailable, "cannot be opened"),
        (format!("sqlite://{}", text_file.display()), ErrorKind::Other, "no SQLite database"),
        ("postgres://x@127.0.0.1:1/x".to_owned(), ErrorKind::Unavailable, "cannot be reached"),
    ] {
        let error = Catalog::connect(&url).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{url}: {error}");
        assert!(error.to_string().contains(says), "{url}: {error}");
    }
}

#[tokio::test]
async fn a_newer_file_is_refused() {
    let (folder, catalog) = sqlite().await;
    catalog.close().await;
    let path = folder.path().join("catalog.db");
    let mut raw = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("{NEWER}, 0)"))).execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    let error = Catalog::connect(&format!("sqlite://{}", path.display())).await.unwrap_err();
    assert!(error.to_string().contains("newer Molde: it has schema version 7000"), "{error}");
}

/// Takes back the migration that began to count what projects have.
const UNCOUNTED: &str =
    "DROP TABLE quotas; DROP TABLE usage; DELETE FROM _sqlx_migrations WHERE version = 4 AND description = 'quotas'";

#[tokio::test]
async fn what_an_older_release_left_is_counted() {
    let (folder, catalog) = sqlite().await;
    let projects = something_of_everything(&catalog).await;
    catalog.close().await;
    let url = format!("sqlite://{}", folder.path().join("catalog.db").display());
    let mut raw = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(UNCOUNTED).execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    all_is_counted(&Catalog::connect(&url).await.unwrap(), projects).await;
}

/// A backup tool, or `sqlite3` in somebody's hands, may hold the lock for a moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_only_delays_a_writer() {
    let (folder, catalog) = sqlite().await;
    let path = folder.path().join("catalog.db");
    let mut raw = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut raw).await.unwrap();
    let waiting = catalog.clone();
    let writer = tokio::spawn(async move {
        let mut tx = waiting.write().await.unwrap();
        domain(&mut tx, "late").await;
        tx.commit().await.unwrap();
    });
    wait(300).await;
    assert!(!writer.is_finished());
    assert!(domains::by_name(&mut catalog.read().await.unwrap(), "late").await.unwrap().is_none(), "readers go on");
    sqlx::raw_sql("COMMIT").execute(&mut raw).await.unwrap();
    writer.await.unwrap();
    assert!(domains::by_name(&mut catalog.read().await.unwrap(), "late").await.unwrap().is_some());
}

/// What PostgreSQL promises when it is opened: called with the cluster that all its promises share.
pub(crate) async fn on_postgres(cluster: &Postgres) {
    // Several nodes that start at once bring the schema up to date once.
    let url = cluster.database("opening");
    let nodes: Vec<_> = (0..6).map(|_| Catalog::connect(&url)).collect();
    let mut opened = Vec::new();
    for node in nodes {
        opened.push(node.await.unwrap());
    }
    for catalog in opened {
        catalog.ping().await.unwrap();
        catalog.close().await;
    }
    // Every text column sorts bytewise, as another client sees it.
    let odd = "SELECT count(*) FROM information_schema.columns WHERE table_schema = 'public' AND data_type = 'text' \
               AND table_name <> '_sqlx_migrations' AND collation_name IS DISTINCT FROM 'C'";
    assert_eq!(cluster.psql("opening", odd).trim(), "0");
    assert_eq!(
        cluster.psql("opening", "SELECT 'a' < 'B'").trim(),
        "t",
        "the cluster itself sorts as a dictionary does"
    );

    let catalog = Catalog::connect(&url).await.unwrap();
    let projects = something_of_everything(&catalog).await;
    catalog.close().await;
    cluster.psql("opening", UNCOUNTED);
    let catalog = Catalog::connect(&url).await.unwrap();
    all_is_counted(&catalog, projects).await;
    catalog.close().await;

    cluster.psql("opening", &format!("{NEWER}, 0)"));
    for _ in 0..2 {
        let error = Catalog::connect(&url).await.unwrap_err();
        assert!(error.to_string().contains("newer Molde: it has schema version 7000"), "{error}");
    }
    let error = Catalog::connect(&cluster.url("no_such_database")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other, "{error}");
    cluster.psql(
        "postgres",
        "CREATE DATABASE latin ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0",
    );
    let error = Catalog::connect(&cluster.url("latin")).await.unwrap_err();
    assert!(error.to_string().contains("ENCODING 'UTF8'"), "{error}");
}
