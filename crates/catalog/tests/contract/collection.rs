//! Promises that collection of garbage rests on: sessions, standings of packs, strays.

use catalog::sessions::Keeping;
use catalog::{Catalog, chunks, collections, contents, jobs, packs, sessions, strays};
use model::packs::{PackEvent, PackState, Standing};
use model::{ContentId, contents::Content};
use uuid::Uuid;

use crate::fixture::{at, committed_project, content, wait};
use crate::records;

const LONG: u32 = 1000;

async fn begin(catalog: &Catalog, content: &str, process: &str, lease: u32) -> u64 {
    let mut tx = catalog.write().await.unwrap();
    let number = sessions::begin(&mut tx, content, process, lease).await.unwrap();
    tx.commit().await.unwrap();
    number.unwrap()
}

async fn keep(catalog: &Catalog, number: u64, sources: &[String], lease: u32) -> Keeping {
    let mut tx = catalog.write().await.unwrap();
    let kept = sessions::keep(&mut tx, number, b"head", sources, lease).await.unwrap();
    tx.commit().await.unwrap();
    kept
}

async fn end_silent(catalog: &Catalog) -> u64 {
    let mut tx = catalog.write().await.unwrap();
    let ended = sessions::end_silent(&mut tx).await.unwrap();
    tx.commit().await.unwrap();
    ended
}

async fn oldest(catalog: &Catalog) -> u64 {
    sessions::oldest(&mut catalog.read().await.unwrap()).await.unwrap()
}

async fn add_pack(catalog: &Catalog, writer: u64, pack: Uuid, blobs: &[(Uuid, [u8; 32], chunks::Location)]) {
    let mut tx = catalog.write().await.unwrap();
    chunks::add_pack(&mut tx, writer, pack, 77, blobs).await.unwrap();
    tx.commit().await.unwrap();
}

/// Judges a pack as one that nothing refers to, from how it stands now.
async fn condemn(catalog: &Catalog, pack: Uuid, blobs: &[(Uuid, [u8; 32])]) -> Option<Standing> {
    let mut tx = catalog.write().await.unwrap();
    let oldest_session = sessions::oldest(&mut tx).await.unwrap();
    let expected = packs::standing(&mut tx, pack).await.unwrap().unwrap();
    let event = |last_session| PackEvent::Unreferenced { oldest_session, writer: 0, last_session };
    let standing = packs::judge(&mut tx, pack, expected, event).await.unwrap();
    if standing.is_some_and(|standing| standing.state == PackState::Deleting) {
        match blobs {
            [] => chunks::forget_all(&mut tx, pack).await.unwrap(),
            _ => {
                let blobs: Vec<_> = blobs.iter().map(|(domain, id)| (*domain, *id, pack)).collect();
                chunks::forget(&mut tx, &blobs).await.unwrap();
            }
        }
    }
    tx.commit().await.unwrap();
    standing
}

async fn stray_packs(tx: &mut catalog::Tx, listed: &[Uuid]) -> catalog::Result<Vec<Uuid>> {
    let oldest = sessions::oldest(tx).await?;
    strays::packs(tx, listed, oldest).await
}

fn location(pack: Uuid) -> chunks::Location {
    chunks::Location { pack, offset: 5, stored: 6, plain: 7, generation: 1 }
}

pub(crate) async fn sessions_are_numbered_and_kept_until_they_are_committed(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    assert_eq!(oldest(&catalog).await, 1);
    let id = ContentId::new();
    let (first, second) =
        (begin(&catalog, &id.to_string(), "p", LONG).await, begin(&catalog, "other", "p", LONG).await);
    assert_eq!((first, second, oldest(&catalog).await), (1, 2, 1));
    assert_eq!(keep(&catalog, first, &[], LONG).await, Keeping::Kept);
    assert_eq!(keep(&catalog, first, &[], LONG).await, Keeping::GivenUp, "it is no longer open");
    assert_eq!(oldest(&catalog).await, 2);

    let record = Content { id, project, length: 5, head: b"head".to_vec(), created_at: at(3) };
    let mut tx = catalog.write().await.unwrap();
    assert_eq!(sessions::heads(&mut tx).await.unwrap(), [b"head".to_vec()]);
    assert!(sessions::is_kept(&mut tx, &id.to_string()).await.unwrap());
    assert!(contents::commit(&mut tx, &record).await.unwrap());
    assert!(sessions::heads(&mut tx).await.unwrap().is_empty());
    assert_eq!(contents::heads(&mut tx).await.unwrap(), [b"head".to_vec()]);
    assert!(sessions::is_kept(&mut tx, &id.to_string()).await.unwrap());
    let unkept = Content { id: ContentId::new(), ..record };
    assert!(!contents::commit(&mut tx, &unkept).await.unwrap());
    assert_eq!(contents::get(&mut tx, unkept.id).await.unwrap(), None);
    assert!(sessions::is_open(&mut tx, second).await.unwrap());
    sessions::end(&mut tx, &[first, second, 77]).await.unwrap();
    assert!(!sessions::is_open(&mut tx, second).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(oldest(&catalog).await, 3);
}

pub(crate) async fn silent_sessions_are_given_up(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let (silent, living) = (begin(&catalog, "a", "dead", 0).await, begin(&catalog, "b", "alive", 0).await);
    let [lost, promised] = [(); 2].map(|()| ContentId::new().to_string());
    let mut job = records::job(project);
    let mut tx = catalog.write().await.unwrap();
    jobs::insert(&mut tx, &job).await.unwrap();
    job = jobs::claim(&mut tx, "node", LONG).await.unwrap().unwrap();
    let output = format!("{{\"to\":\"{promised}\"}}");
    assert!(jobs::record_step(&mut tx, job.id, job.attempt, "open", &output).await.unwrap());
    sessions::renew(&mut tx, "alive", LONG).await.unwrap();
    tx.commit().await.unwrap();
    for content in [&lost, &promised] {
        let number = begin(&catalog, content, "dead", 0).await;
        assert_eq!(keep(&catalog, number, &[], 0).await, Keeping::Kept);
    }
    wait(5).await;
    assert_eq!(end_silent(&catalog).await, 2);
    let mut tx = catalog.write().await.unwrap();
    assert!(!sessions::is_open(&mut tx, silent).await.unwrap() && sessions::is_open(&mut tx, living).await.unwrap());
    assert!(!sessions::is_kept(&mut tx, &lost).await.unwrap(), "nobody will commit it");
    assert!(sessions::is_kept(&mut tx, &promised).await.unwrap(), "a job will commit it");
    assert_eq!(sessions::begin(&mut tx, &lost, "p", LONG).await.unwrap(), None, "its head is being removed");
    let doomed = strays::heads(&mut tx, &[], LONG).await.unwrap();
    assert_eq!(doomed.iter().map(Uuid::to_string).collect::<Vec<_>>(), std::slice::from_ref(&lost));
    strays::delete_head(&mut tx, doomed[0]).await.unwrap();
    assert!(sessions::begin(&mut tx, &lost, "p", LONG).await.unwrap().is_some());
    jobs::finish(&mut tx, job.id, job.attempt, model::jobs::JobState::Failed, Some("no")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(end_silent(&catalog).await, 1);
}

pub(crate) async fn packs_move_by_the_table_and_only_from_where_they_stood(catalog: Catalog) {
    let (pack, domain, id) = (Uuid::new_v4(), Uuid::new_v4(), [9; 32]);
    add_pack(&catalog, 0, pack, &[(domain, id, location(pack))]).await;
    let open = begin(&catalog, "a", "p", LONG).await;
    let condemned = condemn(&catalog, pack, &[]).await.unwrap();
    assert_eq!(condemned, Standing { state: PackState::Condemned, marks: 0, watermark: open });
    assert_eq!(condemn(&catalog, pack, &[]).await.unwrap(), condemned, "a session from before is open");
    let mut tx = catalog.write().await.unwrap();
    assert_eq!(chunks::find(&mut tx, domain, &[id]).await.unwrap()[0].unwrap().state, PackState::Condemned);
    sessions::end(&mut tx, &[open]).await.unwrap();
    let stale = packs::judge(&mut tx, pack, Standing::SEALED, |_| PackEvent::Referenced).await.unwrap();
    assert_eq!(stale, None, "it stands otherwise by now");
    tx.commit().await.unwrap();
    assert_eq!(condemn(&catalog, pack, &[]).await.unwrap().marks, 1);
    let mut tx = catalog.write().await.unwrap();
    assert!(packs::revive(&mut tx, pack).await.unwrap());
    assert_eq!(packs::standing(&mut tx, pack).await.unwrap(), Some(Standing::SEALED));
    assert!(!packs::revive(&mut tx, Uuid::new_v4()).await.unwrap());
    tx.commit().await.unwrap();

    for blobs in [&[(domain, id)][..], &[]] {
        for _ in 0..2 {
            assert_eq!(condemn(&catalog, pack, blobs).await.unwrap().state, PackState::Condemned);
        }
        assert_eq!(condemn(&catalog, pack, blobs).await.unwrap().state, PackState::Deleting);
        // Whoever records it again, as a rebuild does, brings nothing back.
        add_pack(&catalog, 0, pack, &[(domain, id, location(pack))]).await;
        let mut tx = catalog.write().await.unwrap();
        assert_eq!(chunks::find(&mut tx, domain, &[id]).await.unwrap(), [None]);
        assert!(!packs::revive(&mut tx, pack).await.unwrap());
        assert_eq!(packs::list(&mut tx).await.unwrap().len(), 1);
        packs::delete(&mut tx, pack).await.unwrap();
        assert!(packs::list(&mut tx).await.unwrap().is_empty());
        tx.commit().await.unwrap();
        add_pack(&catalog, 0, pack, &[(domain, id, location(pack))]).await;
        assert!(chunks::find(&mut catalog.read().await.unwrap(), domain, &[id]).await.unwrap()[0].is_some());
    }
}

pub(crate) async fn chunks_move_and_are_forgotten(catalog: Catalog) {
    let (first, second, domain) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    let ids = [[1; 32], [2; 32], [3; 32]];
    add_pack(&catalog, 0, first, &ids.map(|id| (domain, id, location(first)))).await;
    let mut tx = catalog.write().await.unwrap();
    chunks::add_pack(&mut tx, 1, second, 10, &[]).await.unwrap();
    let to = chunks::Location { pack: second, offset: 1, plain: 3, generation: 4, ..location(second) };
    let elsewhere = Uuid::new_v4();
    chunks::relocate(&mut tx, &[(domain, ids[1], first, to), (domain, ids[2], elsewhere, to)]).await.unwrap();
    let places = chunks::find(&mut tx, domain, &ids).await.unwrap();
    let places: Vec<_> = places.into_iter().map(|found| found.unwrap().location).collect();
    assert_eq!(places, [location(first), to, location(first)]);
}

pub(crate) async fn strays_are_named_when_nobody_can_come_for_them(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let (recorded, stray) = (Uuid::new_v4(), Uuid::new_v4());
    add_pack(&catalog, 0, recorded, &[]).await;
    let open = begin(&catalog, &Uuid::new_v4().to_string(), "p", LONG).await;
    let mut tx = catalog.write().await.unwrap();
    assert!(stray_packs(&mut tx, &[recorded, stray]).await.unwrap().is_empty(), "a session may record it yet");
    sessions::end(&mut tx, &[open]).await.unwrap();
    assert_eq!(stray_packs(&mut tx, &[stray]).await.unwrap(), [stray]);
    // Recorded after all, as by a rebuild.
    chunks::add_pack(&mut tx, 0, stray, 1, &[]).await.unwrap();
    assert!(stray_packs(&mut tx, &[]).await.unwrap().is_empty());

    let kept = content(&mut tx, project).await;
    let writing = ContentId::new();
    sessions::begin(&mut tx, &writing.to_string(), "p", LONG).await.unwrap().unwrap();
    let unknown = Uuid::new_v4();
    let listed = [kept.id.uuid(), writing.uuid(), unknown];
    assert!(strays::heads(&mut tx, &listed, LONG).await.unwrap().is_empty(), "it may stay for a while");
    assert!(strays::heads(&mut tx, &listed, 0).await.unwrap().is_empty(), "and what was noted first counts");
    strays::delete_head(&mut tx, unknown).await.unwrap();
    assert_eq!(strays::heads(&mut tx, &listed, 0).await.unwrap(), [unknown]);
    strays::delete_head(&mut tx, unknown).await.unwrap();
    assert!(contents::delete(&mut tx, kept.id).await.unwrap());
    assert_eq!(strays::heads(&mut tx, &[], LONG).await.unwrap(), [kept.id.uuid()], "what is deleted goes at once");
}

pub(crate) async fn sources_must_be_kept(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    let recorded = content(&mut tx, project).await.id.to_string();
    tx.commit().await.unwrap();
    let kept = begin(&catalog, "kept", "p", LONG).await;
    assert_eq!(keep(&catalog, kept, std::slice::from_ref(&recorded), LONG).await, Keeping::Kept);
    let number = begin(&catalog, "new", "p", LONG).await;
    for gone in ["open", "nothing"] {
        let sources = [recorded.clone(), "kept".to_owned(), gone.to_owned()];
        begin(&catalog, "open", "p", LONG).await;
        assert_eq!(keep(&catalog, number, &sources, LONG).await, Keeping::SourceGone(gone.to_owned()));
    }
    assert_eq!(keep(&catalog, number, &[recorded, "kept".to_owned()], LONG).await, Keeping::Kept);
}

pub(crate) async fn one_of_many_nodes_collects(catalog: Catalog) {
    let mut tx = catalog.write().await.unwrap();
    assert_eq!(collections::begun_at(&mut tx).await.unwrap(), None);
    assert!(collections::begin_if_due(&mut tx, LONG).await.unwrap());
    assert!(!collections::begin_if_due(&mut tx, LONG).await.unwrap());
    assert!(collections::begun_at(&mut tx).await.unwrap().is_some());
    assert_eq!(packs::alarm(&mut tx).await.unwrap(), None);
    packs::set_alarm(&mut tx, Some("why")).await.unwrap();
    assert_eq!(packs::alarm(&mut tx).await.unwrap().as_deref(), Some("why"));
    packs::set_alarm(&mut tx, None).await.unwrap();
    assert_eq!(packs::alarm(&mut tx).await.unwrap(), None);
}
