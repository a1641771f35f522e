//! The contract of `Backend`, run on each.

use std::sync::Arc;

use bytes::Bytes;
use chunks::{Backend, DirBackend, ErrorKind, MemoryBackend};

use crate::contract::contract;

#[tokio::test]
async fn memory_keeps_the_contract() {
    contract(Arc::new(MemoryBackend::new())).await;
}

#[tokio::test]
async fn a_directory_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    contract(Arc::new(DirBackend::open(folder.path().join("store")).await.unwrap())).await;
    assert_eq!(std::fs::read_dir(folder.path().join("store/tmp")).unwrap().count(), 0, "temporary files stayed");
}

#[tokio::test]
async fn a_directory_survives_reopening_and_drops_what_a_crash_left() {
    let folder = tempfile::tempdir().unwrap();
    let first = DirBackend::open(folder.path()).await.unwrap();
    first.put("packs/0123", vec![Bytes::from_static(b"kept")]).await.unwrap();
    let (left, held) = (folder.path().join("tmp/left"), folder.path().join("tmp/held"));
    std::fs::write(&left, b"half a pa").unwrap();
    let writer = std::fs::File::create(&held).unwrap();
    writer.lock().unwrap();

    let again = DirBackend::open(folder.path()).await.unwrap();
    assert_eq!(again.get("packs/0123").await.unwrap(), "kept");
    assert!(!left.exists(), "a dead writer's file stays");
    assert!(held.exists(), "a living writer's file was taken away");
    assert_eq!(again.list("").await.unwrap(), ["packs/0123"]);
}

#[tokio::test]
async fn packs_spread_over_folders_by_the_end_of_their_id() {
    let folder = tempfile::tempdir().unwrap();
    let backend = DirBackend::open(folder.path()).await.unwrap();
    backend.put("packs/0123-ab", vec![]).await.unwrap();
    assert!(folder.path().join("packs/ab/0123-ab").is_file());
}

/// A file system of 1 MiB, where the test may make one.
#[tokio::test]
async fn a_full_file_system_is_told_apart_and_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let mount = |verb: &str, arguments: &[&str]| {
        let status = std::process::Command::new(verb)
            .args(arguments)
            .arg(folder.path())
            .stderr(std::process::Stdio::null())
            .status();
        status.is_ok_and(|status| status.success())
    };
    if !mount("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]) {
        return; // Only root may mount; the error mapping is tested without it.
    }
    let outcome = tokio::spawn(fill(folder.path().to_owned())).await;
    assert!(mount("umount", &[]));
    outcome.unwrap();
}

async fn fill(folder: std::path::PathBuf) {
    let backend = DirBackend::open(&folder).await.unwrap();
    backend.put("packs/small", vec![Bytes::from(vec![1; 100_000])]).await.unwrap();
    let error = backend.put("packs/large", vec![Bytes::from(vec![1; 2_000_000])]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(error.to_string().contains(folder.to_str().unwrap()), "{error}");
    assert!(error.hint().is_some());
    assert_eq!(std::fs::read_dir(folder.join("tmp")).unwrap().count(), 0, "the temporary file stayed");
    assert_eq!(backend.list("").await.unwrap(), ["packs/small"]);
    backend.put("packs/other", vec![Bytes::from(vec![1; 500_000])]).await.unwrap();
}
