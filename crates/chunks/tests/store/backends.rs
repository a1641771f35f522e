//! The contract of `Backend`, run on each.

use std::sync::Arc;

use bytes::Bytes;
use chunks::{Backend, DirBackend, ErrorKind, MemoryBackend};
use futures::future::join_all;

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

async fn contract(backend: Arc<dyn Backend>) {
    let part = Bytes::from_static;
    backend.put("store", vec![part(b"first")]).await.unwrap();
    backend.put("packs/aa11", vec![part(b""), part(b"hello "), part(b""), part(b"world")]).await.unwrap();
    backend.put("packs/bb11", vec![]).await.unwrap();
    backend.put("domains/x/00000001", vec![part(b"s")]).await.unwrap();

    assert_eq!(backend.get("packs/aa11").await.unwrap(), "hello world");
    assert_eq!(backend.get("packs/bb11").await.unwrap(), "");
    assert_eq!(backend.size("packs/aa11").await.unwrap(), 11);
    assert_eq!(backend.get_range("packs/aa11", 6, 5).await.unwrap(), "world");
    assert_eq!(backend.get_range("packs/aa11", 11, 0).await.unwrap(), "");
    for (offset, length) in [(6, 6), (12, 0), (u64::MAX, 1), (0, usize::MAX), (u64::MAX, usize::MAX)] {
        let error = backend.get_range("packs/aa11", offset, length).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{offset} {length}");
    }

    let error = backend.put("packs/aa11", vec![part(b"other")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert_eq!(backend.get("packs/aa11").await.unwrap(), "hello world");

    assert_eq!(backend.list("packs/").await.unwrap(), ["packs/aa11", "packs/bb11"]);
    assert_eq!(backend.list("domains/x/").await.unwrap(), ["domains/x/00000001"]);
    assert_eq!(backend.list("").await.unwrap(), ["domains/x/00000001", "packs/aa11", "packs/bb11", "store"]);
    assert_eq!(backend.list("nothing/").await.unwrap(), [""; 0]);

    for missing in ["packs/cc11", "heads/aa11", "packs"] {
        assert_eq!(backend.get(missing).await.unwrap_err().kind(), ErrorKind::NotFound, "{missing}");
        assert_eq!(backend.size(missing).await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(backend.get_range(missing, 0, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
    }
    for bad in ["", "/", "../x", "a//b", "/etc/passwd", "a/../b", "A", "a b", "a\0", &"a".repeat(300)] {
        assert_eq!(backend.put(bad, vec![]).await.unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        assert_eq!(backend.get(bad).await.unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
        assert_eq!(backend.delete(bad).await.unwrap_err().kind(), ErrorKind::Invalid, "{bad:?}");
    }
    assert_eq!(backend.list("../").await.unwrap_err().kind(), ErrorKind::Invalid);

    backend.delete("packs/aa11").await.unwrap();
    backend.delete("packs/aa11").await.unwrap();
    assert_eq!(backend.get("packs/aa11").await.unwrap_err().kind(), ErrorKind::NotFound);
    backend.put("packs/aa11", vec![part(b"again")]).await.unwrap();

    let race = join_all((0..16_u8).map(|n| backend.put("heads/race", vec![Bytes::from(vec![n; 1000])]))).await;
    let winners: Vec<_> = race.iter().enumerate().filter(|(_, put)| put.is_ok()).collect();
    assert_eq!(winners.len(), 1);
    assert!(race.iter().all(|put| put.as_ref().map_or_else(|e| e.kind() == ErrorKind::Exists, |()| true)));
    assert_eq!(backend.get("heads/race").await.unwrap(), vec![winners[0].0 as u8; 1000]);
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
