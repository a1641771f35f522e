//! A wire that fails: what was acknowledged is right, what was not is an error that names the bucket.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chunks::{Backend, Error, ErrorKind, MemoryIndex, RemoteLimits, Store};
use futures::future::join_all;
use uuid::Uuid;

use crate::support::{CHUNK, DOMAIN, SEGMENT, kms, noise, read_all, small};
use crate::wire::{Bucket, Fault};

/// Faults that a client can make good by itself.
pub(crate) const MILD: &[Fault] = &[
    Fault::Refused(500),
    Fault::Refused(503),
    Fault::Refused(429),
    Fault::Connect,
    Fault::AnswerLost,
    Fault::DoneAndRefused,
    Fault::Slow(7),
    Fault::BrokenBody,
    Fault::ShortBody,
    Fault::Twice,
];
/// Faults that may end in an error.
pub(crate) const WILD: &[Fault] = &[
    Fault::TwiceLate,
    Fault::LongBody,
    Fault::Announces(0),
    Fault::Announces(5),
    Fault::Announces(1 << 40),
    Fault::Announces(u64::MAX),
    Fault::WrongBit,
    Fault::Nonsense(200),
    Fault::Nonsense(204),
    Fault::Nonsense(206),
    Fault::Nonsense(301),
    Fault::Nonsense(304),
    Fault::Nonsense(404),
    Fault::Nonsense(409),
    Fault::Nonsense(412),
    Fault::Nonsense(416),
    Fault::Nonsense(599),
];

/// Writes two contents that share chunks and reads them back; what succeeds must be right, then and later.
async fn live(bucket: &Bucket, kinds: &'static [Fault], seed: u64) -> Result<(), Error> {
    let kms = kms();
    let index = Arc::new(MemoryIndex::new());
    let open = async || {
        let backend = bucket.backend(RemoteLimits::default());
        Store::open(backend, index.clone(), kms.clone(), small()).await
    };
    open().await?;
    bucket.fail(kinds, seed << 32);
    let (mut acknowledged, one) = (Vec::new(), noise(seed, 6 * SEGMENT));
    let two = [&one[..2 * SEGMENT], &noise(seed + 1, SEGMENT + 9)].concat();
    let lived = async {
        for bytes in [&one, &two] {
            let store = open().await?;
            let mut writer = store.writer(DOMAIN, Uuid::now_v7()).await?;
            for piece in bytes.chunks(3 * CHUNK) {
                writer.write(Bytes::copy_from_slice(piece)).await?;
            }
            acknowledged.push((writer.finish().await?, bytes));
        }
        for (head, bytes) in &acknowledged {
            let store = open().await?;
            assert_eq!(store.head(head.content).await?.bytes, head.bytes);
            assert!(read_all(&store, &head.bytes).await? == **bytes, "wrong bytes with seed {seed}");
        }
        Ok(())
    };
    let lived = lived.await;
    bucket.fail(&[], 0);
    for (head, bytes) in &acknowledged {
        let store = open().await?;
        assert!(read_all(&store, &head.bytes).await? == **bytes, "wrong bytes with seed {seed}");
        store.verify(&head.bytes).await?;
    }
    lived
}

#[tokio::test(start_paused = true)]
async fn what_a_client_can_make_good_is_not_seen() {
    for seed in 0..40 {
        if let Err(error) = live(&Bucket::default(), MILD, seed).await {
            panic!("seed {seed}: {error}: {:?}", std::error::Error::source(&error));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_client_can_make_good_is_an_error_and_never_other_bytes() {
    let (mut failed, mut lived) = (0, 0);
    for seed in 1000..1080 {
        match live(&Bucket::default(), WILD, seed).await {
            Ok(()) => lived += 1,
            Err(error) => {
                let chain = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
                let told = chain.map(ToString::to_string).collect::<Vec<_>>().join(": ");
                // Bytes that lie are told by what they should be, all else by the bucket.
                assert!(error.kind() == ErrorKind::Corrupt || told.contains("s3 bucket `bucket`"), "{told}");
                failed += 1;
            }
        }
    }
    assert!(failed > 5, "{failed} failed and {lived} lived: the wire is too good");
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_every_call_ends_in_what_was_asked_or_an_error() {
    for fault in MILD.iter().chain(WILD) {
        let bucket = Bucket::default();
        let backend = bucket.backend(RemoteLimits::default());
        let bytes = Bytes::from(noise(1, 5000));
        backend.put("packs/aa", vec![bytes.clone()]).await.unwrap();
        // A service that lies and says that all is well is what the seals are for.
        let lies = matches!(fault, Fault::WrongBit | Fault::Nonsense(200..300 | 404));
        let is_right = |read: Result<Bytes, Error>, right: &[u8]| read.map_or(true, |read| lies || read == right);
        let strike = || bucket.script(&[*fault]);
        strike();
        assert!(is_right(backend.get("packs/aa").await, &bytes), "{fault:?}");
        strike();
        assert!(is_right(backend.get_range("packs/aa", 100, 900).await, &bytes[100..1000]), "{fault:?}");
        strike();
        assert!(is_right(backend.get_up_to("packs/aa", 4000, 9000).await, &bytes[4000..]), "{fault:?}");
        strike();
        drop(backend.list("packs/").await);
        strike();
        drop(backend.size("packs/aa").await);
        strike();
        let put = backend.put("packs/bb", vec![bytes.clone()]).await;
        bucket.script(&[]);
        assert!(put.is_err() || backend.get("packs/bb").await.unwrap() == bytes, "{fault:?}");
        strike();
        let gone = backend.delete("packs/aa").await;
        bucket.script(&[]);
        assert!(
            gone.is_err() || lies || backend.get("packs/aa").await.unwrap_err().kind() == ErrorKind::NotFound,
            "{fault:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_ours_only_when_the_bytes_are() {
    for lost in [Fault::AnswerLost, Fault::DoneAndRefused] {
        let bucket = Bucket::default();
        let backend = bucket.backend(RemoteLimits::default());
        let parts = || vec![Bytes::from_static(b"our "), Bytes::from_static(b"bytes")];
        bucket.script(&[lost]);
        backend.put("packs/ours", parts()).await.unwrap();
        assert_eq!(backend.get("packs/ours").await.unwrap(), "our bytes");
        // Without a doubt there is no looking: the name was there before.
        assert_eq!(backend.put("packs/ours", parts()).await.unwrap_err().kind(), ErrorKind::Exists);

        for theirs in [b"their bytes".as_slice(), b"our byteS", b"our bytes and more", b"our", b""] {
            bucket.insert("packs/theirs", theirs);
            bucket.script(&[Fault::Refused(500)]);
            let error = backend.put("packs/theirs", parts()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Exists);
            assert_eq!(backend.get("packs/theirs").await.unwrap(), theirs);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_stays_broken_is_given_up_in_time() {
    let bucket = Bucket::default();
    let backend = bucket.backend(RemoteLimits { retries: 6, ..RemoteLimits::default() });
    bucket.script(&[Fault::Refused(503); 100]);
    let error = backend.get("packs/aa").await.unwrap_err();
    assert!(error.to_string().ends_with("the service is too busy"), "{error}");
    assert_eq!((error.kind(), backend.stats().requests, backend.stats().retries), (ErrorKind::Io, 7, 6));
    // One that never ends a call is cut off by the clock.
    bucket.script(&[Fault::Slow(100_000)]);
    let start = tokio::time::Instant::now();
    let error = backend.get("packs/aa").await.unwrap_err();
    assert!(error.to_string().contains("no answer within 150 s"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(160));
}

#[tokio::test(start_paused = true)]
async fn no_more_calls_than_allowed_are_under_way() {
    let bucket = Bucket::default();
    let backend = bucket.backend(RemoteLimits { parallel: 4, ..RemoteLimits::default() });
    backend.put("packs/aa", vec![Bytes::from_static(b"bytes")]).await.unwrap();
    bucket.script(&[Fault::Slow(3); 64]);
    let reads = join_all((0..64).map(|_| backend.get("packs/aa"))).await;
    assert!(reads.into_iter().all(|read| read.unwrap() == "bytes"));
    assert_eq!(bucket.most_at_once(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_hangs_is_overtaken_by_a_second_one() {
    let bucket = Bucket::default();
    let backend = bucket.backend(RemoteLimits::default());
    backend.put("packs/aa", vec![Bytes::from_static(b"bytes")]).await.unwrap();
    for _ in 0..100 {
        backend.get_range("packs/aa", 1, 3).await.unwrap();
    }
    bucket.script(&[Fault::Slow(50)]);
    let start = tokio::time::Instant::now();
    assert_eq!(backend.get_range("packs/aa", 1, 3).await.unwrap(), "yte");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!((backend.stats().hedges, backend.stats().hedges_won), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_probe_finds_a_service_that_ignores_conditions_or_ranges() {
    for (fault, says) in [(Fault::WrongBit, "returns other bytes"), (Fault::ShortBody, "cut short")] {
        let bucket = Bucket::default();
        // The list and the write are good, and every read after them is not.
        bucket.script(&[&[Fault::None; 2][..], &[fault; 50]].concat());
        let error = bucket.backend(RemoteLimits::default()).probe().await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let bucket = Bucket::default();
    bucket.script(&[Fault::None, Fault::None, Fault::None, Fault::Nonsense(200)]);
    let error = bucket.backend(RemoteLimits::default()).probe().await.unwrap_err();
    assert!(error.to_string().ends_with("it cannot read a part of an object"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("Range")));
}
