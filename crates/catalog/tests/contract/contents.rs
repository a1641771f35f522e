//! Promises of contents.

use catalog::{Catalog, ErrorKind, contents, images, objects, parts, reports, uploads};
use model::ContentId;
use model::contents::Content;

use crate::fixture::{at, committed_project, content};
use crate::records;

pub(crate) async fn come_back_whole(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    let kept = Content {
        id: ContentId::new(),
        project,
        length: u64::from(u32::MAX) * 1000,
        head: (0..=255).collect(),
        created_at: model::Timestamp::from_microsecond(1_700_000_000_123_456).unwrap(),
    };
    contents::insert(&mut tx, &kept).await.unwrap();
    assert_eq!(contents::get(&mut tx, kept.id).await.unwrap(), Some(kept.clone()));
    assert!(contents::delete(&mut tx, kept.id).await.unwrap());
    assert!(!contents::delete(&mut tx, kept.id).await.unwrap());
    assert_eq!(contents::get(&mut tx, kept.id).await.unwrap(), None);
    let error = contents::insert(&mut tx, &Content { length: u64::MAX, ..kept }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// Asserts that a content is held, and that deleting it is a conflict which changes nothing.
async fn assert_held(catalog: &Catalog, id: ContentId) {
    let mut tx = catalog.write().await.unwrap();
    assert!(contents::is_referenced(&mut tx, id).await.unwrap());
    assert_eq!(contents::delete(&mut tx, id).await.unwrap_err().kind(), ErrorKind::Conflict);
    drop(tx);
    let mut tx = catalog.read().await.unwrap();
    assert!(contents::get(&mut tx, id).await.unwrap().is_some());
}

pub(crate) async fn stay_while_referred_to(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    let [by_image, by_report, by_object, by_part, by_server, by_export, free] = [(); 7].map(|()| ContentId::new());
    for id in [by_image, by_report, by_object, by_part, by_server, by_export, free] {
        let content = Content { id, project, length: 1, head: Vec::new(), created_at: at(1) };
        contents::insert(&mut tx, &content).await.unwrap();
    }
    let image = model::images::Image { content: Some(by_image), ..records::image(project) };
    images::insert(&mut tx, &image).await.unwrap();
    let kept = reports::Kept { original: Some(by_report), report: "{}".into() };
    reports::put(&mut tx, image.id, &kept).await.unwrap();
    let bucket = records::bucket(&mut tx, project, "bucket").await;
    objects::put(&mut tx, &records::object(bucket.id, "key", by_object)).await.unwrap();
    let upload = records::upload(bucket.id, "key");
    uploads::insert(&mut tx, &upload).await.unwrap();
    parts::put(&mut tx, upload.id, &records::part(1, by_part)).await.unwrap();
    let server = records::server(project, by_server);
    catalog::servers::insert(&mut tx, &server).await.unwrap();
    let export = records::export(project, by_export);
    catalog::exports::insert(&mut tx, &export, &[1; 32]).await.unwrap();
    tx.commit().await.unwrap();

    for id in [by_image, by_report, by_object, by_part, by_server, by_export] {
        assert_held(&catalog, id).await;
    }
    let mut tx = catalog.write().await.unwrap();
    assert!(!contents::is_referenced(&mut tx, free).await.unwrap());
    assert!(contents::delete(&mut tx, free).await.unwrap());
    assert!(images::delete(&mut tx, image.id, image.state).await.unwrap());
    assert!(objects::delete(&mut tx, bucket.id, "key").await.unwrap().is_some());
    assert!(uploads::delete(&mut tx, upload.id).await.unwrap());
    assert!(catalog::servers::delete(&mut tx, server.id).await.unwrap());
    assert!(catalog::exports::delete(&mut tx, export.id).await.unwrap());
    for id in [by_image, by_report, by_object, by_part, by_server, by_export] {
        assert!(!contents::is_referenced(&mut tx, id).await.unwrap());
        assert!(contents::delete(&mut tx, id).await.unwrap());
    }
}

pub(crate) async fn the_unreferenced_are_found_once_old(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    let mut all = Vec::new();
    for second in [30, 10, 20, 40] {
        let content = Content { id: ContentId::new(), project, length: 1, head: vec![1], created_at: at(second) };
        contents::insert(&mut tx, &content).await.unwrap();
        all.push(content);
    }
    let held = content(&mut tx, project).await;
    let image = model::images::Image { content: Some(held.id), ..records::image(project) };
    images::insert(&mut tx, &image).await.unwrap();
    let served = content(&mut tx, project).await;
    catalog::exports::insert(&mut tx, &records::export(project, served.id), &[1; 32]).await.unwrap();
    let original = content(&mut tx, project).await;
    let kept = reports::Kept { original: Some(original.id), report: String::new() };
    reports::put(&mut tx, image.id, &kept).await.unwrap();
    let held_by = contents::holders(&mut tx, original.id).await.unwrap();
    assert_eq!(held_by[0].id, image.id.to_string());
    let found = contents::list_unreferenced(&mut tx, at(40), 10).await.unwrap();
    assert_eq!(found, [all[1].clone(), all[2].clone(), all[0].clone()]);
    assert_eq!(contents::list_unreferenced(&mut tx, at(40), 2).await.unwrap(), found[..2]);
    assert_eq!(contents::list_unreferenced(&mut tx, at(10), 2).await.unwrap(), []);
}
