//! Promises of scrubbing: packs take turns by their age, one reader each, and damage is remembered.

use catalog::scrubs::{checked, claim, damaged, record};
use catalog::{Catalog, Result, chunks, packs};
use model::packs::{PackEvent, PackState, Standing};
use uuid::Uuid;

use crate::fixture::wait;

async fn add(catalog: &Catalog, pack: Uuid, size: u64) {
    let mut tx = catalog.write().await.unwrap();
    chunks::add_pack(&mut tx, 0, pack, size, &[]).await.unwrap();
    tx.commit().await.unwrap();
}

async fn claim_one(catalog: &Catalog, age: u64, hold: u32) -> Option<(Uuid, u64)> {
    let mut tx = catalog.write().await.unwrap();
    let claimed = claim(&mut tx, age, hold).await.unwrap();
    tx.commit().await.unwrap();
    claimed
}

async fn recorded(catalog: &Catalog, pack: Uuid, damage: Option<&str>) -> Result<()> {
    let mut tx = catalog.write().await?;
    record(&mut tx, pack, damage).await?;
    tx.commit().await
}

pub(crate) async fn packs_take_turns(catalog: Catalog) {
    assert_eq!(claim_one(&catalog, 0, 60).await, None);
    assert_eq!(checked(&mut catalog.read().await.unwrap()).await.unwrap().oldest, None);
    let ids: Vec<Uuid> = (0..3).map(|_| Uuid::new_v4()).collect();
    for (size, id) in (10..).zip(&ids) {
        add(&catalog, *id, size).await;
        wait(2).await;
    }
    assert_eq!(claim_one(&catalog, 1000, 60).await, None, "all were written just now");
    assert_eq!(claim_one(&catalog, u64::MAX, 60).await, None);
    // Who claims gets each once, the oldest first.
    for (size, id) in (10..).zip(&ids) {
        assert_eq!(claim_one(&catalog, 0, 60).await, Some((*id, size)));
    }
    assert_eq!(claim_one(&catalog, 0, 60).await, None);
    let before = checked(&mut catalog.read().await.unwrap()).await.unwrap();
    assert_eq!((before.packs, before.bytes, before.damaged), (3, 33, 0));
    // What was scrubbed goes to the end; what was claimed and never scrubbed keeps its place.
    recorded(&catalog, ids[0], None).await.unwrap();
    let after = checked(&mut catalog.read().await.unwrap()).await.unwrap();
    assert!(after.oldest > before.oldest);
    assert_eq!(claim_one(&catalog, 0, 0).await, Some((ids[0], 10)), "the others are claimed");
}

pub(crate) async fn a_pack_is_claimed_by_one_of_many(catalog: Catalog) {
    let packs = 6;
    for _ in 0..packs {
        add(&catalog, Uuid::new_v4(), 1).await;
    }
    let tasks: Vec<_> = (0..12)
        .map(|_| {
            let catalog = catalog.clone();
            tokio::spawn(async move { claim_one(&catalog, 0, 60).await })
        })
        .collect();
    let mut claimed = Vec::new();
    for task in tasks {
        claimed.extend(task.await.unwrap());
    }
    // Some come away with nothing where others were at the same row; nobody with what somebody else has.
    while let Some(more) = claim_one(&catalog, 0, 60).await {
        claimed.push(more);
    }
    claimed.sort_unstable();
    claimed.dedup();
    assert_eq!(claimed.len(), packs);
}

pub(crate) async fn damage_is_remembered_and_what_is_written_again_replaces_it(catalog: Catalog) {
    let (domain, bad, other, new) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let location = |pack, offset| chunks::Location { pack, offset, stored: 6, plain: 7, generation: 1 };
    let id = |number: u8| [number; 32];
    let add = async |pack, blobs: &[(Uuid, [u8; 32], chunks::Location)]| {
        let mut tx = catalog.write().await.unwrap();
        chunks::add_pack(&mut tx, 0, pack, 77, blobs).await.unwrap();
        tx.commit().await.unwrap();
    };
    add(bad, &[(domain, id(1), location(bad, 1)), (domain, id(2), location(bad, 2))]).await;
    add(other, &[(domain, id(3), location(other, 3))]).await;
    recorded(&catalog, bad, Some("it is damaged")).await.unwrap();
    recorded(&catalog, Uuid::new_v4(), Some("nobody knows it")).await.unwrap();

    let found = chunks::find(&mut catalog.read().await.unwrap(), domain, &[id(1), id(2), id(3)]).await.unwrap();
    let marks: Vec<bool> = found.iter().map(|found| found.unwrap().damaged).collect();
    assert_eq!(marks, [true, true, false]);
    let known = damaged(&mut catalog.read().await.unwrap(), 10).await.unwrap();
    assert_eq!(known.iter().map(|known| (known.pack, &*known.damage)).collect::<Vec<_>>(), [(bad, "it is damaged")]);
    assert_eq!(checked(&mut catalog.read().await.unwrap()).await.unwrap().damaged, 1);
    let listed = packs::list(&mut catalog.read().await.unwrap()).await.unwrap();
    assert_eq!(listed.iter().filter(|pack| pack.damaged).map(|pack| pack.id).collect::<Vec<_>>(), [bad]);

    // Recording the damaged pack again changes nothing; another one takes the chunk over, and only that.
    add(bad, &[(domain, id(1), location(bad, 9))]).await;
    add(new, &[(domain, id(1), location(new, 5)), (domain, id(3), location(new, 6))]).await;
    let found = chunks::find(&mut catalog.read().await.unwrap(), domain, &[id(1), id(2), id(3)]).await.unwrap();
    let places: Vec<_> = found.iter().map(|found| found.unwrap().location).collect();
    assert_eq!(places, [location(new, 5), location(bad, 2), location(other, 3)]);

    // A later scrub that finds it whole ends it.
    recorded(&catalog, bad, None).await.unwrap();
    assert!(damaged(&mut catalog.read().await.unwrap(), 10).await.unwrap().is_empty());
}

pub(crate) async fn what_is_being_removed_is_left_alone(catalog: Catalog) {
    let pack = Uuid::new_v4();
    add(&catalog, pack, 5).await;
    for _ in 0..4 {
        let mut tx = catalog.write().await.unwrap();
        let expected = packs::standing(&mut tx, pack).await.unwrap().unwrap();
        if expected.state == PackState::Deleting {
            break;
        }
        let event = |last_session| PackEvent::Unreferenced { oldest_session: 1, writer: 0, last_session };
        packs::judge(&mut tx, pack, expected, event).await.unwrap();
        tx.commit().await.unwrap();
    }
    let standing: Option<Standing> = packs::standing(&mut catalog.read().await.unwrap(), pack).await.unwrap();
    assert_eq!(standing.map(|standing| standing.state), Some(PackState::Deleting));
    assert_eq!(claim_one(&catalog, 0, 60).await, None);
    assert_eq!(checked(&mut catalog.read().await.unwrap()).await.unwrap().packs, 0);
}
