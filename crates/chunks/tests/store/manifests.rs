//! Contents made of contents: copy, slice, splice, concat and diff at their limits. Beside a model: `reference_model.rs`.

use std::sync::Arc;

use bytes::Bytes;
use chunks::{Difference, ErrorKind, Head, MemoryBackend, MemoryIndex, Result, Side, Store};
use futures::TryStreamExt;
use uuid::Uuid;

use crate::support::{CHUNK, DOMAIN, SEGMENT, kms, noise, small, write};

async fn small_store() -> Store {
    Store::open(Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms(), small()).await.unwrap()
}

async fn diff(store: &Store, old: &Head, new: &Head) -> Result<Vec<Difference>> {
    store.diff(&old.bytes, &new.bytes).await?.try_collect().await
}

#[tokio::test]
async fn differences_are_told_by_kind() {
    let store = small_store().await;
    let old = [noise(1, 2 * SEGMENT), vec![0; SEGMENT], noise(2, SEGMENT)].concat();
    let mut new = old.clone();
    new[CHUNK + 7] ^= 1;
    new[2 * SEGMENT + CHUNK..2 * SEGMENT + 3 * CHUNK].copy_from_slice(&noise(3, 2 * CHUNK));
    new[3 * SEGMENT..3 * SEGMENT + CHUNK].fill(0);
    new.truncate(3 * SEGMENT + 2 * CHUNK);
    let (old, new) = (write(&store, DOMAIN, &old).await, write(&store, DOMAIN, &new).await);
    let told = |start: usize, end: usize, old, new| Difference { range: start as u64..end as u64, old, new };
    let expected = [
        told(CHUNK, 2 * CHUNK, Side::Data, Side::Data),
        told(2 * SEGMENT + CHUNK, 2 * SEGMENT + 3 * CHUNK, Side::Zero, Side::Data),
        told(3 * SEGMENT, 3 * SEGMENT + CHUNK, Side::Data, Side::Zero),
        told(3 * SEGMENT + 2 * CHUNK, 4 * SEGMENT, Side::Data, Side::Nothing),
    ];
    assert_eq!(diff(&store, &old, &new).await.unwrap(), expected);
    assert_eq!(diff(&store, &old, &old).await.unwrap(), []);
    let other = write(&store, Uuid::from_u128(9), b"theirs").await;
    let error = diff(&store, &old, &other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("different dedup domains"), "{error}");
}

#[tokio::test]
async fn a_terabyte_of_zeros_is_compared_by_segments() {
    let store = small_store().await;
    let zeros = async |length: u64, end: &'static [u8]| {
        let mut writer = store.writer(DOMAIN, Uuid::now_v7()).await.unwrap();
        writer.write_zeros(length).await.unwrap();
        writer.write(Bytes::from_static(end)).await.unwrap();
        writer.finish().await.unwrap()
    };
    let length = 1 << 29;
    let (empty, long) = (zeros(0, b"").await, zeros(length, b"end").await);
    let told = |range, new| Difference { range, old: Side::Nothing, new };
    let expected = [told(0..length, Side::Zero), told(length..length + 3, Side::Data)];
    assert_eq!(diff(&store, &empty, &long).await.unwrap(), expected);
}

#[tokio::test]
async fn ranges_that_cannot_be_sliced_are_refused() {
    let store = small_store().await;
    let head = write(&store, DOMAIN, &noise(1, 100)).await;
    for (start, end) in [(0, 101), (101, 101), (60, 50), (0, u64::MAX), (u64::MAX, u64::MAX)] {
        let error = store.slice(&head.bytes, start..end, Uuid::now_v7()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{start}..{end}");
    }
}

#[tokio::test]
async fn a_splice_goes_forward_only_and_stays_failed() {
    let store = small_store().await;
    let head = write(&store, DOMAIN, &noise(1, SEGMENT)).await;
    let content = Uuid::now_v7();
    let mut splice = store.splice(&head.bytes, content).await.unwrap();
    splice.write(10, Bytes::from_static(b"four")).await.unwrap();
    splice.write_zeros(14, 0).await.unwrap();
    let error = splice.write(13, Bytes::from_static(b"x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("offset 13 comes after byte 14"), "{error}");
    assert_eq!(splice.write_zeros(20, 1).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(splice.finish().await.unwrap_err().kind(), ErrorKind::Invalid);

    let mut splice = store.splice(&head.bytes, content).await.unwrap();
    splice.write_zeros(100, 100).await.unwrap();
    assert_eq!(splice.finish_at(199).await.unwrap_err().kind(), ErrorKind::Invalid);
    let mut splice = store.splice(&head.bytes, content).await.unwrap();
    assert_eq!(splice.write(u64::MAX, Bytes::from_static(b"x")).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(store.head(content).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_splice_given_up_half_way_makes_no_content() {
    let store = small_store().await;
    let head = write(&store, DOMAIN, &noise(1, SEGMENT)).await;
    let mut splice = store.splice(&head.bytes, Uuid::now_v7()).await.unwrap();
    let given_up = {
        let write = std::pin::pin!(splice.write(CHUNK as u64 + 5, Bytes::from_static(b"lost")));
        // Polled once: it waits for the chunk that the write begins in.
        futures::poll!(write).is_pending()
    };
    assert!(given_up);
    assert_eq!(splice.finish().await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn made_again_it_is_the_first_head_and_never_other_bytes() {
    let store = small_store().await;
    let head = write(&store, DOMAIN, &noise(1, 2 * SEGMENT)).await;
    let half = SEGMENT as u64;
    let spliced = async |content, at| {
        let mut splice = store.splice(&head.bytes, content).await?;
        splice.write_zeros(at, 100).await?;
        splice.finish().await
    };
    let (copy, slice, splice) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    for _ in 0..2 {
        let made = [
            store.copy(&head.bytes, copy).await.unwrap(),
            store.slice(&head.bytes, 0..half, slice).await.unwrap(),
            spliced(splice, 5).await.unwrap(),
        ];
        for made in made {
            assert_eq!(store.head(made.content).await.unwrap(), made);
        }
    }
    let refused = [
        store.copy(&head.bytes, slice).await,
        store.slice(&head.bytes, 0..half, splice).await,
        spliced(splice, 6).await,
    ];
    for refused in refused {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Exists);
    }
}
