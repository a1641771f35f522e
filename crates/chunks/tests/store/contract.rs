//! The contract of `Backend`: every promise, once.

use std::sync::Arc;

use bytes::Bytes;
use chunks::{Backend, ErrorKind};
use futures::future::join_all;

pub(crate) async fn contract(backend: Arc<dyn Backend>) {
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
    for (offset, length, found) in [(6, 5, "world"), (6, 500, "world"), (0, 3, "hel"), (11, 5, ""), (12, 5, "")] {
        assert_eq!(backend.get_up_to("packs/aa11", offset, length).await.unwrap(), found, "{offset} {length}");
    }
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
        assert_eq!(backend.get_up_to(missing, 0, 1).await.unwrap_err().kind(), ErrorKind::NotFound);
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
