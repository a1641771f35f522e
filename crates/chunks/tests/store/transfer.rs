//! Negotiated transfer: chunks by their ids, compressed ones, what has vanished, and ids that a client computes itself.

use std::sync::Arc;

use bytes::Bytes;
use chunks::{Backend, CollectOptions, ErrorKind, Head, MemoryBackend, MemoryIndex, Store, Writer, ZERO_ID};
use uuid::Uuid;

use crate::support::{CHUNK, CountingBackend, DOMAIN, SEGMENT, kms, noise, read_all, small, write};

type Id = [u8; 32];

async fn open(backend: Arc<dyn Backend>) -> Store {
    Store::open(backend, Arc::new(MemoryIndex::new()), kms(), small()).await.unwrap()
}

async fn new() -> Store {
    open(Arc::new(MemoryBackend::new())).await
}

/// Cuts bytes and makes their ids, as a client does that was told the key.
async fn ids(store: &Store, domain: Uuid, bytes: &[u8]) -> Vec<Id> {
    let key = store.chunk_id_key(domain).await.unwrap();
    bytes.chunks(CHUNK).map(|chunk| *blake3::keyed_hash(&key, chunk).as_bytes()).collect()
}

async fn writer(store: &Store) -> Writer {
    store.writer(DOMAIN, Uuid::now_v7()).await.unwrap()
}

async fn known(store: &Store, ids: &[Id]) -> Result<Head, chunks::Error> {
    let mut writer = writer(store).await;
    assert_eq!(writer.write_known(ids).await?, Vec::<Id>::new());
    writer.finish().await
}

#[tokio::test]
async fn a_content_is_made_of_ids_alone() {
    let backend = CountingBackend::new(Arc::new(MemoryBackend::new()));
    let store = open(backend.clone()).await;
    // Several segments, the last chunk shorter.
    let bytes = noise(1, 2 * SEGMENT + CHUNK + 9);
    let first = write(&store, DOMAIN, &bytes).await;
    let ids = ids(&store, DOMAIN, &bytes).await;
    assert_eq!(store.has_chunks(DOMAIN, &ids).await.unwrap(), vec![true; ids.len()]);
    backend.take();
    let second = known(&store, &ids).await.unwrap();
    // All that is new is the head: segments and root are the same.
    assert_eq!(backend.take().0, second.bytes.len() as u64);
    assert_eq!(first.tag().unwrap(), second.tag().unwrap());
    store.forget(first.content).await.unwrap();
    store.verify(&second.bytes).await.unwrap();
    assert!(read_all(&store, &second.bytes).await.unwrap() == bytes);
}

#[tokio::test]
async fn ids_zeros_and_frames_are_mixed() {
    let store = new().await;
    let old = noise(1, 3 * CHUNK);
    write(&store, DOMAIN, &old).await;
    let old_ids = ids(&store, DOMAIN, &old).await;
    let text = b"all work and no play ".repeat(CHUNK / 16);
    let frame = |plain: &[u8]| Bytes::from(zstd::bulk::compress(plain, 1).unwrap());
    let mut writer = writer(&store).await;
    writer.write_zeros(5 * SEGMENT as u64).await.unwrap();
    assert!(writer.write_known(&old_ids[1..]).await.unwrap().is_empty());
    writer.write_packed(frame(&text[..CHUNK]), CHUNK as u32).await.unwrap();
    writer.write(noise(2, CHUNK).into()).await.unwrap();
    assert!(writer.write_known(&old_ids[..1]).await.unwrap().is_empty());
    // Zeros that are sent as a frame are zeros all the same.
    writer.write_packed(frame(&[0; CHUNK]), CHUNK as u32).await.unwrap();
    writer.write_packed(frame(&text[..100]), 100).await.unwrap();
    let head = writer.finish().await.unwrap();
    let expect = [
        vec![0; 5 * SEGMENT],
        old[CHUNK..].to_vec(),
        text[..CHUNK].to_vec(),
        noise(2, CHUNK),
        old[..CHUNK].to_vec(),
        vec![0; CHUNK],
        text[..100].to_vec(),
    ]
    .concat();
    assert!(read_all(&store, &head.bytes).await.unwrap() == expect);
    assert_eq!(head.tag().unwrap(), write(&store, DOMAIN, &expect).await.tag().unwrap());

    let reader = store.reader(&head.bytes).await.unwrap();
    let mut expected = ids(&store, DOMAIN, &expect).await;
    expected.iter_mut().zip(expect.chunks(CHUNK)).for_each(|(id, chunk)| {
        if chunk.iter().all(|byte| *byte == 0) {
            *id = ZERO_ID;
        }
    });
    for (first, count) in [(0, 1000), (0, 3), (3, 2), (19, 3), (20, u64::MAX), (26, 1), (27, 5)] {
        let end = (first + count.min(1000)).min(expected.len() as u64) as usize;
        let found = reader.chunk_ids(first, count).await.unwrap();
        assert_eq!(found, expected[(first as usize).min(end)..end], "{count} from {first}");
    }
    let past = expected.len() as u64 + 1;
    assert_eq!(reader.chunk_ids(past, 1).await.unwrap_err().kind(), ErrorKind::Invalid);
}

#[tokio::test]
async fn another_domain_has_other_ids_and_none_of_ours() {
    let (store, other) = (new().await, Uuid::from_u128(0xd1));
    let bytes = noise(1, 3 * CHUNK);
    write(&store, DOMAIN, &bytes).await;
    let (ours, theirs) = (ids(&store, DOMAIN, &bytes).await, ids(&store, other, &bytes).await);
    assert!(ours.iter().all(|id| !theirs.contains(id)));
    for ids in [ours, theirs] {
        assert_eq!(store.has_chunks(other, &ids).await.unwrap(), [false; 3]);
        let mut writer = store.writer(other, Uuid::now_v7()).await.unwrap();
        assert_eq!(writer.write_known(&ids).await.unwrap(), ids);
    }
}

#[tokio::test]
async fn what_was_collected_since_the_offer_is_told_and_the_writer_goes_on() {
    let store = new().await;
    let (bytes, kept) = (noise(1, 5 * CHUNK), noise(2, CHUNK));
    write(&store, DOMAIN, &kept).await;
    let gone = write(&store, DOMAIN, &bytes).await;
    let asked = ids(&store, DOMAIN, &[kept.clone(), bytes.clone()].concat()).await;
    assert_eq!(store.has_chunks(DOMAIN, &asked).await.unwrap(), [true; 6]);
    store.forget(gone.content).await.unwrap();
    let options = CollectOptions { compact_below: 0, ..CollectOptions::default() };
    while store.has_chunks(DOMAIN, &asked).await.unwrap()[1] {
        store.collect(&options).await.unwrap();
    }
    let mut writer = writer(&store).await;
    assert_eq!(writer.write_known(&asked).await.unwrap(), asked[1..]);
    assert!(writer.write_known(&asked[..1]).await.unwrap().is_empty());
    writer.write(bytes.clone().into()).await.unwrap();
    let head = writer.finish().await.unwrap();
    assert!(read_all(&store, &head.bytes).await.unwrap() == [kept, bytes].concat());
}

#[tokio::test]
async fn what_a_writer_was_granted_outlives_collection() {
    let store = new().await;
    let bytes = noise(1, 3 * SEGMENT);
    let source = write(&store, DOMAIN, &bytes).await;
    let ids = ids(&store, DOMAIN, &bytes).await;
    let mut writer = writer(&store).await;
    assert!(writer.write_known(&ids).await.unwrap().is_empty());
    store.forget(source.content).await.unwrap();
    let options = CollectOptions { compact_below: 0, ..CollectOptions::default() };
    for _ in 0..4 {
        store.collect(&options).await.unwrap();
    }
    let head = writer.finish().await.unwrap();
    for _ in 0..4 {
        store.collect(&options).await.unwrap();
    }
    assert!(read_all(&store, &head.bytes).await.unwrap() == bytes);
}

#[tokio::test]
async fn a_short_chunk_is_the_last_one() {
    let store = new().await;
    let bytes = noise(1, CHUNK + 7);
    write(&store, DOMAIN, &bytes).await;
    let ids = ids(&store, DOMAIN, &bytes).await;
    let (short, whole) = (&ids[1..], &ids[..1]);
    let refused = known(&store, &[short, whole].concat()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    let mut after = writer(&store).await;
    assert!(after.write_known(short).await.unwrap().is_empty());
    assert_eq!(after.write_known(whole).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(after.check_whole().unwrap_err().kind(), ErrorKind::Invalid);
    let head = after.finish().await.unwrap();
    assert_eq!(read_all(&store, &head.bytes).await.unwrap(), bytes[CHUNK..]);
}

#[tokio::test]
async fn frames_that_open_to_anything_else_are_refused() {
    let store = new().await;
    let frame = zstd::bulk::compress(&noise(1, CHUNK), 1).unwrap();
    let bomb = zstd::bulk::compress(&vec![7; 64 << 20], 1).unwrap();
    let cases: [(&[u8], usize); 7] = [
        (&frame, CHUNK - 1),
        (&frame, 1),
        (&frame, 2 * CHUNK),
        (&frame[..frame.len() - 1], CHUNK),
        (&bomb, CHUNK),
        (b"no frame at all", CHUNK),
        (b"", CHUNK),
    ];
    for (bytes, plain) in cases {
        let mut writer = writer(&store).await;
        let refused = writer.write_packed(Bytes::copy_from_slice(bytes), plain as u32).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{plain}: {refused}");
    }
}

/// A frame that saves enough is stored as it came; any other chunk is compressed here.
#[tokio::test]
async fn a_frame_is_kept_where_it_is_short_and_alone() {
    // Letters of sixteen kinds, which only the higher level makes shorter, and a text that both do.
    let letters: Vec<u8> = noise(5, CHUNK / 2).iter().map(|byte| b'a' + byte % 16).collect();
    let plain = [letters, b"all work and no play ".repeat(CHUNK / 16)].concat()[..CHUNK].to_vec();
    let [fast, here] = [-50, 1].map(|level| zstd::bulk::compress(&plain, level).unwrap());
    let skippable = [0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4];
    let stored = async |frame: Option<Vec<u8>>| {
        let backend = CountingBackend::new(Arc::new(MemoryBackend::new()));
        let store = open(backend.clone()).await;
        backend.take();
        let mut writer = writer(&store).await;
        match frame {
            Some(frame) => drop(writer.write_packed(frame.into(), CHUNK as u32).await.unwrap()),
            None => writer.write(plain.clone().into()).await.unwrap(),
        }
        let head = writer.finish().await.unwrap();
        let stored = backend.take().0;
        assert!(read_all(&store, &head.bytes).await.unwrap() == plain);
        stored
    };
    let compressed_here = stored(None).await;
    let longer = fast.len() - here.len();
    assert!(longer > 0, "the levels have to differ for this test");
    assert_eq!(stored(Some(fast.clone())).await, compressed_here + longer as u64);
    assert_eq!(stored(Some([&fast[..], &skippable].concat())).await, compressed_here, "two frames");
    let halves = [&plain[..CHUNK / 2], &plain[CHUNK / 2..]].map(|half| zstd::bulk::compress(half, -50).unwrap());
    assert_eq!(stored(Some(halves.concat())).await, compressed_here, "two frames of bytes");
}

/// The frame of a short chunk is not taken for the longer one that its bytes become a part of.
#[tokio::test]
async fn bytes_after_a_short_frame_are_not_lost() {
    let store = new().await;
    let text = b"all work and no play ".repeat(CHUNK / 16);
    let frame = zstd::bulk::compress(&text[..100], 1).unwrap();
    for zeros in [true, false] {
        let mut writer = writer(&store).await;
        writer.write_packed(frame.clone().into(), 100).await.unwrap();
        let rest = if zeros { vec![0; CHUNK] } else { text[100..100 + CHUNK].to_vec() };
        match zeros {
            true => writer.write_zeros(CHUNK as u64).await.unwrap(),
            false => writer.write(rest.clone().into()).await.unwrap(),
        }
        let head = writer.finish().await.unwrap();
        assert!(read_all(&store, &head.bytes).await.unwrap() == [&text[..100], &rest].concat());
    }
}
