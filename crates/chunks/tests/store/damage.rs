//! Damage is found: every byte of a small store is changed in turn, objects are cut, swapped and lost, and
//! the index lies. A read returns the bytes that were written or an error.

use std::sync::Arc;

use bytes::Bytes;
use chunks::{Backend, ErrorKind, Found, Head, Location, MemoryBackend, MemoryIndex, Result, Store};
use keys::Kms;
use uuid::Uuid;

use crate::support::{CHUNK, DOMAIN, SEGMENT, kms, noise, read_all, small, write};
use crate::watched_index::{Watch, WatchedIndex};

struct Victim {
    backend: Arc<MemoryBackend>,
    index: Arc<MemoryIndex>,
    kms: Arc<dyn Kms>,
    bytes: Vec<u8>,
    head: Head,
}

impl Victim {
    /// A store with raw, compressed and zero chunks, two segments and a short tail, of some 2 KB.
    async fn new() -> Self {
        let (backend, index, kms) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryIndex::new()), kms());
        let store = Store::open(backend.clone(), index.clone(), kms.clone(), small()).await.unwrap();
        let mut bytes = b"compressible ".repeat(SEGMENT / 13 + 1);
        bytes.resize(SEGMENT + CHUNK, 0);
        bytes.extend_from_slice(&noise(1, 300));
        let head = write(&store, DOMAIN, &bytes).await;
        Self { backend, index, kms, bytes, head }
    }

    /// Opens, reads and verifies everything; panics when wrong bytes are returned.
    async fn check(&self, head: &[u8]) -> Result<()> {
        let store = Store::open(self.backend.clone(), self.index.clone(), self.kms.clone(), small()).await?;
        let read = read_all(&store, head).await?;
        assert!(read == self.bytes, "a read returned wrong bytes");
        store.verify(head).await?;
        store.writer(DOMAIN, Uuid::now_v7()).await.map(|_| ())
    }
}

#[tokio::test]
async fn every_changed_byte_of_every_object_is_found() {
    let victim = Victim::new().await;
    let mut changed_bytes = 0;
    for name in victim.backend.list("").await.unwrap() {
        let object = victim.backend.get(&name).await.unwrap();
        for at in 0..object.len() {
            for mask in [0x01, 0x80] {
                let mut changed = object.to_vec();
                changed[at] ^= mask;
                let head = if name.starts_with("heads/") { &changed } else { &victim.head.bytes };
                let head = head.clone();
                victim.backend.overwrite(&name, changed.into());
                let error = victim.check(&head).await.expect_err(&format!("byte {at} of {name} went unseen"));
                assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at} of {name}: {error}");
                changed_bytes += 1;
            }
        }
        victim.backend.overwrite(&name, object);
    }
    victim.check(&victim.head.bytes).await.unwrap();
    assert!(changed_bytes > 3000, "{changed_bytes}");
}

#[tokio::test]
async fn every_changed_byte_of_a_pack_is_found_without_keys() {
    let victim = Victim::new().await;
    let name = victim.backend.list("packs/").await.unwrap().remove(0);
    let object = victim.backend.get(&name).await.unwrap();
    let store = Store::open(victim.backend.clone(), victim.index.clone(), kms(), small()).await.unwrap();
    store.scrub().await.unwrap();
    for at in 0..object.len() {
        let mut changed = object.to_vec();
        changed[at] ^= 0x04;
        victim.backend.overwrite(&name, changed.into());
        assert_eq!(store.scrub().await.unwrap_err().kind(), ErrorKind::Corrupt, "byte {at}");
    }
}

#[tokio::test]
async fn every_cut_object_is_found() {
    let victim = Victim::new().await;
    for name in victim.backend.list("").await.unwrap() {
        let object = victim.backend.get(&name).await.unwrap();
        for length in 0..object.len() {
            let cut = object.slice(..length);
            let head = if name.starts_with("heads/") { cut.to_vec() } else { victim.head.bytes.clone() };
            victim.backend.overwrite(&name, cut);
            let error = victim.check(&head).await.expect_err(&format!("{name} cut to {length} went unseen"));
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name} cut to {length}: {error}");
        }
        victim.backend.overwrite(&name, object);
    }
}

#[tokio::test]
async fn a_corrupt_chunk_is_named_with_its_pack_and_offset() {
    let victim = Victim::new().await;
    let name = victim.backend.list("packs/").await.unwrap().remove(0);
    let mut object = victim.backend.get(&name).await.unwrap().to_vec();
    object[20] ^= 1;
    victim.backend.overwrite(&name, object.into());
    let error = victim.check(&victim.head.bytes).await.unwrap_err();
    let pack = name.strip_prefix("packs/").unwrap();
    assert!(error.to_string().contains(&format!("at offset 0 of pack {pack}")), "{error}");
}

#[tokio::test]
async fn a_lost_or_swapped_pack_is_corrupt() {
    let victim = Victim::new().await;
    let store = Store::open(victim.backend.clone(), victim.index.clone(), victim.kms.clone(), small()).await.unwrap();
    let name = victim.backend.list("packs/").await.unwrap().remove(0);
    write(&store, DOMAIN, &noise(7, 3 * CHUNK)).await;
    let other = victim.backend.list("packs/").await.unwrap().into_iter().find(|other| *other != name).unwrap();
    let (ours, theirs) = (victim.backend.get(&name).await.unwrap(), victim.backend.get(&other).await.unwrap());

    victim.backend.overwrite(&name, theirs);
    assert_eq!(victim.check(&victim.head.bytes).await.unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(store.reindex().await.unwrap_err().kind(), ErrorKind::Corrupt);
    victim.backend.overwrite(&name, ours.clone());
    victim.backend.delete(&name).await.unwrap();
    let error = victim.check(&victim.head.bytes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    victim.backend.overwrite(&name, ours);
    victim.check(&victim.head.bytes).await.unwrap();
}

#[tokio::test]
async fn heads_do_not_open_each_others_contents() {
    let victim = Victim::new().await;
    let store = Store::open(victim.backend.clone(), victim.index.clone(), victim.kms.clone(), small()).await.unwrap();
    let other = write(&store, DOMAIN, b"other").await;
    victim.backend.overwrite(&format!("heads/{}", victim.head.content), Bytes::from(other.bytes.clone()));
    assert_eq!(store.head(victim.head.content).await.unwrap_err().kind(), ErrorKind::Corrupt);

    // A head put together from two: fields of one, keys of the other, with a right checksum.
    let fields = 88;
    let mut forged = [&victim.head.bytes[..fields], &other.bytes[fields..other.bytes.len() - 32]].concat();
    let checksum = blake3::hash(&forged);
    forged.extend_from_slice(checksum.as_bytes());
    let error = store.reader(&forged).await.err().unwrap();
    assert!(matches!(error.kind(), ErrorKind::KeyRefused | ErrorKind::Corrupt), "{error}");
}

#[tokio::test]
async fn any_head_is_refused_without_harm() {
    let victim = Victim::new().await;
    let store = Store::open(victim.backend.clone(), victim.index.clone(), victim.kms.clone(), small()).await.unwrap();
    for seed in 0..200 {
        let mut head = noise(seed, seed as usize * 3);
        if seed % 2 == 0 {
            head.splice(..head.len().min(12), *b"MOLDE-HD\x01\0\0\0");
            let checksum = blake3::hash(&head);
            head.extend_from_slice(checksum.as_bytes());
        }
        let error = store.reader(&head).await.err().unwrap();
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::KeyRefused | ErrorKind::Version), "{error}");
    }
    assert_eq!(store.reader(&vec![0; 1 << 20]).await.err().unwrap().kind(), ErrorKind::Corrupt);
}

struct Liar<F>(F);

impl<F: Fn(&mut [Option<Found>]) + Send + Sync> Watch for Liar<F> {
    fn found(&self, found: &mut [Option<Found>]) {
        (self.0)(found);
    }
}

/// Reads everything while the index answers otherwise; it must be told.
async fn lie(victim: &Victim, what: &str, lie: impl Fn(&mut [Option<Found>]) + Send + Sync + 'static) {
    let index = Arc::new(WatchedIndex { inner: victim.index.clone(), watch: Arc::new(Liar(lie)) });
    let store = Store::open(victim.backend.clone(), index, victim.kms.clone(), small()).await.unwrap();
    let error = read_all(&store, &victim.head.bytes).await.expect_err(&format!("{what} went unseen"));
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error}");
}

#[tokio::test]
async fn an_index_that_lies_never_yields_wrong_bytes() {
    let victim = Victim::new().await;
    let lies: [fn(&mut Location); 10] = [
        |location| location.offset += 1,
        |location| location.offset = u32::MAX,
        |location| location.stored -= 1,
        |location| location.stored = u32::MAX,
        |location| location.stored = 0,
        |location| location.plain += 1,
        |location| location.plain = u32::MAX,
        |location| location.plain = 0,
        |location| location.generation += 1,
        |location| location.pack = Uuid::nil(),
    ];
    for (number, change) in lies.into_iter().enumerate() {
        let change = move |found: &mut [Option<Found>]| {
            found.iter_mut().flatten().for_each(|found| change(&mut found.location));
        };
        lie(&victim, &format!("lie {number}"), change).await;
    }
    lie(&victim, "that rows are lost", |found| found.fill(None)).await;
    lie(&victim, "that rows are swapped", <[_]>::reverse).await;
}

#[tokio::test]
async fn every_changed_bit_of_the_index_is_found() {
    let victim = Victim::new().await;
    for bit in 0..4 * u32::BITS + u128::BITS {
        let flip = move |found: &mut [Option<Found>]| {
            for Found { location, .. } in found.iter_mut().flatten() {
                let mask = 1 << (bit % u32::BITS);
                match bit / u32::BITS {
                    0 => location.offset ^= mask,
                    1 => location.stored ^= mask,
                    2 => location.plain ^= mask,
                    3 => location.generation ^= mask,
                    _ => location.pack = Uuid::from_u128(location.pack.as_u128() ^ 1 << (bit - 4 * u32::BITS)),
                }
            }
        };
        lie(&victim, &format!("bit {bit}"), flip).await;
    }
}
