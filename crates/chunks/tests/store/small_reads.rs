//! Small reads: what is at hand is what was written, and nothing is at hand that was not wanted.

use std::sync::Arc;

use chunks::{MemoryBackend, MemoryIndex, OpenedOptions, Options, Reader, Store};

use crate::support::{CHUNK, DOMAIN, kms, noise, small, write};

async fn store(size: u64) -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let opened = OpenedOptions { folder: folder.path().into(), size };
    let options = Options { opened: Some(opened), ..small() };
    let store = Store::open(Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms(), options);
    (store.await.unwrap(), folder)
}

/// Reads as a disk does: at hand if it can, else the whole chunk.
async fn small_read(reader: &Reader, offset: u64, buf: &mut [u8]) -> bool {
    if reader.read_at_hand(offset, buf) {
        return true;
    }
    let start = offset / CHUNK as u64 * CHUNK as u64;
    let length = (reader.len() - start).min(CHUNK as u64) as usize;
    let chunk = reader.read(start, length).await.unwrap();
    let inside = (offset - start) as usize;
    buf.copy_from_slice(&chunk[inside..inside + buf.len()]);
    reader.wanted_small(start, &chunk);
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn small_reads_are_what_was_written_and_soon_at_hand() {
    let (store, folder) = store(1 << 20).await;
    // Three chunks, one of zeros, a short one.
    let bytes = [noise(1, 3 * CHUNK), vec![0; CHUNK], noise(2, 1000)].concat();
    let head = write(&store, DOMAIN, &bytes).await;
    let reader = store.reader(&head.bytes).await.unwrap();
    let mut at_hand = 0;
    let places: Vec<usize> = (0..400).map(|step| step * 7919 % (bytes.len() - 100)).collect();
    for (round, offset) in places.iter().copied().enumerate() {
        let count = (1 + round % 100).min(CHUNK - offset % CHUNK);
        let mut buf = vec![1; count];
        at_hand += usize::from(small_read(&reader, offset as u64, &mut buf).await);
        assert!(buf == bytes[offset..offset + count], "{count} bytes at {offset}");
    }
    // Each of four chunks had to be opened twice.
    assert_eq!(at_hand, places.len() - 2 * 4);
    let stats = store.small_reads().unwrap();
    assert!(stats.misses >= 4 && stats.hits > 200 && stats.bytes > 0, "{stats:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the file has no name");
    // Another content with the same chunks finds them at hand.
    let again = write(&store, DOMAIN, &bytes[CHUNK..]).await;
    let again = store.reader(&again.bytes).await.unwrap();
    let mut buf = [0; 9];
    assert!(!again.read_at_hand(5, &mut buf), "nothing is known of its manifest yet");
    again.extent(0).await.unwrap();
    assert!(again.read_at_hand(5, &mut buf) && buf == bytes[CHUNK + 5..CHUNK + 14]);
}

#[tokio::test]
async fn what_cannot_be_at_hand_is_not() {
    let (store, _folder) = store(1 << 20).await;
    let bytes = noise(1, 2 * CHUNK + 10);
    let head = write(&store, DOMAIN, &bytes).await;
    let reader = store.reader(&head.bytes).await.unwrap();
    for _ in 0..3 {
        small_read(&reader, 0, &mut [0; 4]).await;
        small_read(&reader, 2 * CHUNK as u64, &mut [0; 4]).await;
    }
    assert!(reader.read_at_hand(0, &mut [0; 4]));
    assert!(!reader.read_at_hand(CHUNK as u64 - 2, &mut [0; 4]), "it lies in two chunks");
    assert!(!reader.read_at_hand(reader.len() - 2, &mut [0; 4]), "it goes past the end");
    assert!(!reader.read_at_hand(u64::MAX - 1, &mut [0; 4]));
    assert!(!reader.read_at_hand(reader.len() + 1, &mut []));
    // What is said to be a chunk and is not one is not kept.
    let other = write(&store, DOMAIN, &noise(3, CHUNK)).await;
    let other = store.reader(&other.bytes).await.unwrap();
    other.extent(0).await.unwrap();
    for _ in 0..3 {
        other.wanted_small(1, &[0; CHUNK]);
        other.wanted_small(0, &[0; 10]);
        other.wanted_small(CHUNK as u64, &[]);
        other.wanted_small(9 * CHUNK as u64, &[]);
    }
    assert!(!other.read_at_hand(0, &mut [0; 4]));
    // Without a place for them nothing is kept.
    let plain =
        Store::open(Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms(), small()).await.unwrap();
    assert!(plain.small_reads().is_none());
    let head = write(&plain, DOMAIN, &bytes).await;
    let reader = plain.reader(&head.bytes).await.unwrap();
    for _ in 0..3 {
        assert!(!small_read(&reader, 0, &mut [0; 4]).await);
    }
}
