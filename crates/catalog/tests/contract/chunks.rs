//! Promises of the chunk index.

use catalog::chunks::{Found, Location, find};
use catalog::{Catalog, Result, Tx};
use model::packs::PackState;
use uuid::Uuid;

fn id(number: u64) -> [u8; 32] {
    let mut id = [0x5a; 32];
    id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id
}

async fn add_pack(tx: &mut Tx, pack: Uuid, bytes: u64, blobs: &[(Uuid, [u8; 32], Location)]) -> Result<()> {
    catalog::chunks::add_pack(tx, 1, pack, bytes, blobs).await
}

fn found(location: Location) -> Option<Found> {
    Some(Found { location, state: PackState::Sealed, damaged: false })
}

fn location(pack: Uuid, number: u32) -> Location {
    Location { pack, offset: number * 100, stored: u32::MAX, plain: 512 << 10, generation: 3 }
}

pub(crate) async fn are_found_in_the_order_asked(catalog: Catalog) {
    let (domain, other, pack) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let blobs: Vec<_> = (0..3000).map(|n| (domain, id(u64::from(n)), location(pack, n))).collect();
    let mut tx = catalog.write().await.unwrap();
    add_pack(&mut tx, pack, 16 << 20, &blobs).await.unwrap();
    add_pack(&mut tx, pack, 16 << 20, &[(other, id(1), location(pack, 77))]).await.unwrap();
    tx.commit().await.unwrap();

    let mut tx = catalog.read().await.unwrap();
    // Backwards, every third unknown, and more than fit into one statement.
    let numbers: Vec<u32> = (0..2500).rev().map(|n| if n % 3 == 0 { n + 1_000_000 } else { n }).collect();
    let ids: Vec<_> = numbers.iter().map(|&n| id(u64::from(n))).collect();
    let wanted: Vec<_> = numbers.iter().map(|&n| if n < 3000 { found(location(pack, n)) } else { None }).collect();
    assert_eq!(find(&mut tx, domain, &ids).await.unwrap(), wanted);
    assert_eq!(find(&mut tx, other, &[id(0), id(1)]).await.unwrap(), [None, found(location(pack, 77))]);
    assert_eq!(find(&mut tx, Uuid::new_v4(), &ids[..5]).await.unwrap(), [None; 5]);
    assert_eq!(find(&mut tx, domain, &[id(5), id(5)]).await.unwrap(), [found(location(pack, 5)); 2]);
    assert_eq!(find(&mut tx, domain, &[id(9_999_999)]).await.unwrap(), [None]);
    assert_eq!(find(&mut tx, domain, &[]).await.unwrap(), []);
}

pub(crate) async fn first_location_wins(catalog: Catalog) {
    let (domain, first, second) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let mut tx = catalog.write().await.unwrap();
    let blob = (domain, id(1), location(first, 1));
    // Twice in one call, and the whole call twice.
    for _ in 0..2 {
        add_pack(&mut tx, first, 10, &[blob, (domain, id(1), location(first, 9))]).await.unwrap();
    }
    add_pack(&mut tx, second, 10, &[(domain, id(1), location(second, 1)), (domain, id(2), location(second, 2))])
        .await
        .unwrap();
    add_pack(&mut tx, Uuid::new_v4(), 0, &[]).await.unwrap();
    let places = find(&mut tx, domain, &[id(1), id(2)]).await.unwrap();
    assert_eq!(places, [found(location(first, 1)), found(location(second, 2))]);
    add_pack(&mut tx, first, 10, &[(domain, id(3), location(Uuid::new_v4(), 0))]).await.unwrap();
    assert_eq!(find(&mut tx, domain, &[id(3)]).await.unwrap(), [None], "a chunk in a pack that nobody recorded");
}

/// Twelve writers record the same 600 chunks, each in its own pack and order; all succeed, and each chunk has one place.
pub(crate) async fn many_writers_add_the_same_chunks(catalog: Catalog) {
    let domain = Uuid::new_v4();
    let tasks = (0..12).map(|writer| {
        let catalog = catalog.clone();
        tokio::spawn(async move {
            let pack = Uuid::new_v4();
            let mut blobs: Vec<_> = (0..600).map(|n| (domain, id(u64::from(n)), location(pack, n))).collect();
            blobs.rotate_left(writer * 50);
            let mut tx = catalog.write().await.unwrap();
            add_pack(&mut tx, pack, 10, &blobs).await.unwrap();
            tx.commit().await.unwrap();
            pack
        })
    });
    let mut packs = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        packs.push(task.await.unwrap());
    }
    let ids: Vec<_> = (0..600).map(id).collect();
    let mut tx = catalog.read().await.unwrap();
    for (number, found) in find(&mut tx, domain, &ids).await.unwrap().into_iter().enumerate() {
        let found = found.unwrap().location;
        assert!(packs.contains(&found.pack));
        assert_eq!(found, location(found.pack, u32::try_from(number).unwrap()));
    }
}
