//! What is written is what is read: any sizes, any ranges, on memory and on disk.

use std::sync::Arc;

use bytes::Bytes;
use chunks::{Backend, DirBackend, ErrorKind, MemoryBackend, MemoryIndex, Options, Reader, Store};
use futures::TryStreamExt;
use proptest::prelude::*;
use uuid::Uuid;

use crate::support::{CHUNK, DOMAIN, SEGMENT, kms, noise, read_all, small, write};

async fn small_store() -> Store {
    Store::open(Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms(), small()).await.unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    Noise(u64, usize),
    Text(usize),
    Zeros(usize),
    ZeroBytes(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![0..100_usize, Just(CHUNK), Just(SEGMENT), 0..3 * SEGMENT];
    let step = prop_oneof![
        (0..4_u64, length.clone()).prop_map(|(seed, length)| Step::Noise(seed, length)),
        length.clone().prop_map(Step::Text),
        length.clone().prop_map(Step::Zeros),
        length.prop_map(Step::ZeroBytes),
    ];
    proptest::collection::vec(step, 0..8)
}

async fn write_steps(store: &Store, steps: &[Step]) -> (Vec<u8>, Vec<u8>) {
    let mut writer = store.writer(DOMAIN, Uuid::now_v7()).await.unwrap();
    let mut model = Vec::new();
    for step in steps {
        let bytes = match step {
            Step::Noise(seed, length) => noise(*seed, *length),
            Step::Text(length) => b"all work and no play ".iter().copied().cycle().take(*length).collect(),
            Step::Zeros(length) | Step::ZeroBytes(length) => vec![0; *length],
        };
        match step {
            Step::Zeros(length) => writer.write_zeros(*length as u64).await.unwrap(),
            _ => writer.write(Bytes::from(bytes.clone())).await.unwrap(),
        }
        model.extend_from_slice(&bytes);
        assert_eq!(writer.length(), model.len() as u64);
    }
    let head = writer.finish().await.unwrap();
    assert_eq!(head.length, model.len() as u64);
    (head.bytes, model)
}

/// Walks the extents: they cover the content, and what is called zero is zero.
async fn check_extents(reader: &Reader, model: &[u8]) {
    let mut offset = 0;
    while offset < reader.len() {
        let (zero, length) = reader.extent(offset).await.unwrap();
        assert!(length > 0 && offset + length <= reader.len());
        if zero {
            assert!(model[offset as usize..][..length as usize].iter().all(|byte| *byte == 0));
        }
        offset += length;
    }
    assert_eq!(offset, model.len() as u64);
    assert_eq!(reader.extent(offset).await.unwrap_err().kind(), ErrorKind::Invalid);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_writes_are_read_back(steps in steps(), ranges in proptest::collection::vec((any::<u32>(), any::<u32>()), 6)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        runtime.block_on(async {
            let store = small_store().await;
            let (head, model) = write_steps(&store, &steps).await;
            assert!(read_all(&store, &head).await.unwrap() == model);
            let reader = store.reader(&head).await.unwrap();
            for (a, b) in ranges {
                let (a, b) = (a as usize % (model.len() + 1), b as usize % (model.len() + 1));
                let range = a.min(b)..a.max(b);
                let bytes = reader.read(range.start as u64, range.len()).await.unwrap();
                assert!(bytes == model[range.clone()], "{range:?}");
                let pieces: Vec<Bytes> = reader.stream(range.start as u64..range.end as u64).try_collect().await.unwrap();
                assert!(pieces.concat() == model[range]);
            }
            check_extents(&reader, &model).await;
            let verified = store.verify(&head).await.unwrap();
            assert_eq!(verified.chunks + verified.zero, (model.len() as u64).div_ceil(CHUNK as u64));
        });
    }
}

#[tokio::test]
async fn sizes_around_the_borders_are_read_back() {
    let store = small_store().await;
    for border in [0, CHUNK, 2 * CHUNK, SEGMENT, 2 * SEGMENT, 5 * SEGMENT] {
        for length in border.saturating_sub(1)..=border + 1 {
            let bytes = noise(length as u64, length);
            let head = write(&store, DOMAIN, &bytes).await;
            assert!(read_all(&store, &head.bytes).await.unwrap() == bytes, "{length}");
            let zeros = write(&store, DOMAIN, &vec![0; length]).await;
            assert!(read_all(&store, &zeros.bytes).await.unwrap() == vec![0; length], "{length} zeros");
        }
    }
}

#[tokio::test]
async fn real_geometry_on_disk_over_several_packs() {
    let folder = tempfile::tempdir().unwrap();
    let (keys, index) = (kms(), Arc::new(MemoryIndex::new()));
    let open = async || {
        let backend = Arc::new(DirBackend::open(folder.path()).await.unwrap());
        Store::open(backend, index.clone(), keys.clone(), Options::default()).await.unwrap()
    };
    let mut bytes = noise(1, 37 * 1024 * 1024 + 5);
    bytes[3_000_000..9_000_000].fill(0);
    let head = write(&open().await, DOMAIN, &bytes).await;
    // Packs, not the folders they are spread over: two may share one.
    let backend = DirBackend::open(folder.path()).await.unwrap();
    let packs = backend.list("packs/").await.unwrap();
    assert!(packs.len() >= 2, "{packs:?}");

    let store = open().await;
    assert!(read_all(&store, &head.bytes).await.unwrap() == bytes);
    assert_eq!(store.head(head.content).await.unwrap(), head);
    let verified = store.verify(&head.bytes).await.unwrap();
    assert_eq!((verified.length, verified.chunks + verified.zero), (bytes.len() as u64, 75));
    assert!(verified.zero >= 10);
    assert_eq!(store.scrub().await.unwrap().blobs, verified.chunks + 2);
}

#[tokio::test]
async fn a_terabyte_of_zeros_costs_a_head() {
    let store = Store::open(Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms(), Options::default());
    let store = store.await.unwrap();
    let mut writer = store.writer(DOMAIN, Uuid::now_v7()).await.unwrap();
    writer.write_zeros(1 << 40).await.unwrap();
    writer.write(Bytes::from_static(b"end")).await.unwrap();
    let head = writer.finish().await.unwrap();
    let reader = store.reader(&head.bytes).await.unwrap();
    assert_eq!(reader.extent(5).await.unwrap(), (true, (1 << 40) - 5));
    assert_eq!(reader.read((1 << 40) - 2, 5).await.unwrap(), &b"\0\0end"[..]);
    assert!(head.bytes.len() < 400, "{}", head.bytes.len());
    let too_long = store.writer(DOMAIN, Uuid::now_v7()).await.unwrap().write_zeros(u64::MAX).await;
    assert_eq!(too_long.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn ranges_past_the_end_are_refused() {
    let store = small_store().await;
    let head = write(&store, DOMAIN, &noise(1, 100)).await;
    let reader = store.reader(&head.bytes).await.unwrap();
    assert_eq!(reader.read(100, 0).await.unwrap().len(), 0);
    for (offset, length) in [(100, 1), (0, 101), (u64::MAX, 2), (0, usize::MAX)] {
        assert_eq!(reader.read(offset, length).await.unwrap_err().kind(), ErrorKind::Invalid);
    }
    for (start, end) in [(50, 101), (50, 49), (u64::MAX, u64::MAX)] {
        let error = reader.stream(start..end).try_collect::<Vec<_>>().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
}

#[tokio::test]
async fn a_forgotten_content_has_no_head() {
    let store = small_store().await;
    let head = write(&store, DOMAIN, b"bytes").await;
    store.forget(head.content).await.unwrap();
    store.forget(head.content).await.unwrap();
    assert_eq!(store.head(head.content).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn finishing_twice_returns_the_first_head_and_never_other_bytes() {
    let store = small_store().await;
    let content = Uuid::now_v7();
    let finish = async |bytes: &'static [u8]| {
        let mut writer = store.writer(DOMAIN, content).await.unwrap();
        writer.write(Bytes::from_static(bytes)).await.unwrap();
        writer.finish().await
    };
    let first = finish(b"same").await.unwrap();
    assert_eq!(finish(b"same").await.unwrap(), first);
    assert_eq!(finish(b"diff").await.unwrap_err().kind(), ErrorKind::Exists);
    assert_eq!(read_all(&store, &first.bytes).await.unwrap(), b"same");
}

/// Servers spawn these on many threads; that they may is checked by the compiler.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_may_be_spawned() {
    let store = small_store().await;
    let task = tokio::spawn(async move {
        let mut writer = store.writer(DOMAIN, Uuid::now_v7()).await?;
        writer.write(Bytes::from(noise(1, 2 * SEGMENT))).await?;
        writer.write_zeros(SEGMENT as u64).await?;
        let head = writer.finish().await?;
        let joined = store.concat(DOMAIN, Uuid::now_v7(), &[head.bytes.clone(), head.bytes]).await?;
        let copied = store.copy(&joined.bytes, Uuid::now_v7()).await?;
        let sliced = store.slice(&joined.bytes, 5..77, Uuid::now_v7()).await?;
        let mut splice = store.splice(&joined.bytes, Uuid::now_v7()).await?;
        splice.write(5, Bytes::from_static(b"x")).await?;
        splice.write_zeros(50, 5).await?;
        let spliced = splice.finish().await?;
        let mut tally = store.tally();
        for head in [&copied, &sliced, &spliced] {
            tally.add(&head.bytes)?;
        }
        tally.count().await?;
        store.diff(&copied.bytes, &spliced.bytes).await?.try_collect::<Vec<_>>().await?;
        let reader = store.reader(&joined.bytes).await?;
        let (zero, length) = reader.extent(2 * SEGMENT as u64).await?;
        let read = reader.read(5, 10).await?;
        let pieces: Vec<Bytes> = reader.stream(0..reader.len()).try_collect().await?;
        store.verify(&joined.bytes).await?;
        store.scrub().await?;
        store.forget(joined.content).await?;
        Ok::<_, chunks::Error>((zero, length, read, pieces.concat()))
    });
    let (zero, length, read, all) = task.await.unwrap().unwrap();
    assert_eq!((zero, length, all.len()), (true, SEGMENT as u64, 6 * SEGMENT));
    assert_eq!(read, all[5..15]);
}
