//! Promises of single images.

use catalog::reports::Kept;
use catalog::{Catalog, ErrorKind, images, reports};
use model::images::{Image, ImageState};
use model::{ContentId, ImageId};

use crate::fixture::{at, committed_project, content};
use crate::records::{bare_image, image};

pub(crate) async fn come_back_whole(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    let full = Image { content: Some(content(&mut tx, project).await.id), ..image(project) };
    let bare = bare_image(project);
    for image in [&full, &bare] {
        images::insert(&mut tx, image).await.unwrap();
        assert_eq!(images::get(&mut tx, image.id).await.unwrap().as_ref(), Some(image));
    }
    assert_eq!(images::get(&mut tx, ImageId::new()).await.unwrap(), None);
    for state in ImageState::ALL {
        for visibility in model::images::Visibility::ALL {
            let other = Image { id: ImageId::new(), state: *state, visibility: *visibility, ..full.clone() };
            images::insert(&mut tx, &other).await.unwrap();
            assert_eq!(images::get(&mut tx, other.id).await.unwrap(), Some(other));
        }
    }
    assert_eq!(images::insert(&mut tx, &bare).await.unwrap_err().kind(), ErrorKind::Conflict);
}

pub(crate) async fn keep_a_report_as_long_as_they_live(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    let (image, original) = (bare_image(project), content(&mut tx, project).await.id);
    images::insert(&mut tx, &image).await.unwrap();
    assert_eq!(reports::get(&mut tx, image.id).await.unwrap(), None);
    let first = Kept { original: Some(original), report: "{\"note\": \"ñ '%\"}".into() };
    for kept in [&first, &Kept { original: None, report: "{}".into() }, &first] {
        reports::put(&mut tx, image.id, kept).await.unwrap();
        assert_eq!(reports::get(&mut tx, image.id).await.unwrap().as_ref(), Some(kept));
    }
    assert!(images::delete(&mut tx, image.id, image.state).await.unwrap());
    assert_eq!(reports::get(&mut tx, image.id).await.unwrap(), None);
    assert!(!catalog::contents::is_referenced(&mut tx, original).await.unwrap());
}

pub(crate) async fn change_only_from_the_given_state(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    let queued = bare_image(project);
    images::insert(&mut tx, &queued).await.unwrap();
    let active = Image {
        id: queued.id,
        state: ImageState::Active,
        content: Some(content(&mut tx, project).await.id),
        updated_at: at(300),
        ..image(project)
    };
    assert!(!images::update(&mut tx, &active, ImageState::Saving).await.unwrap());
    assert_eq!(images::get(&mut tx, queued.id).await.unwrap().as_ref(), Some(&queued), "not even a tag changed");
    assert!(images::update(&mut tx, &active, ImageState::Queued).await.unwrap());
    assert_eq!(images::get(&mut tx, queued.id).await.unwrap().as_ref(), Some(&active));
    let fewer = Image { tags: ["new".to_owned()].into(), properties: [].into(), ..active };
    assert!(images::update(&mut tx, &fewer, ImageState::Active).await.unwrap());
    assert_eq!(images::get(&mut tx, queued.id).await.unwrap().as_ref(), Some(&fewer));
    assert!(!images::delete(&mut tx, queued.id, ImageState::Queued).await.unwrap());
    assert!(images::delete(&mut tx, queued.id, ImageState::Active).await.unwrap());
    assert!(!images::delete(&mut tx, queued.id, ImageState::Active).await.unwrap());
    assert_eq!(images::get(&mut tx, queued.id).await.unwrap(), None);
    // The tags went too: the same image can be added again.
    images::insert(&mut tx, &fewer).await.unwrap();
    let dangling = Image { content: Some(ContentId::new()), ..fewer };
    let error = images::update(&mut tx, &dangling, ImageState::Active).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "a content that does not exist");
}

/// Of many tasks that read an image and move it on, one succeeds; and tags that each adds are all kept.
pub(crate) async fn one_of_many_updates_wins(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let queued = bare_image(project);
    let mut tx = catalog.write().await.unwrap();
    images::insert(&mut tx, &queued).await.unwrap();
    tx.commit().await.unwrap();
    let tasks = (0..16).map(|number| {
        let (catalog, id) = (catalog.clone(), queued.id);
        tokio::spawn(async move {
            let mut tx = catalog.write().await.unwrap();
            let mut image = images::get(&mut tx, id).await.unwrap().unwrap();
            image.tags.insert(format!("tag {number}"));
            let (from, moves) = (image.state, image.state == ImageState::Queued);
            image.state = ImageState::Saving;
            assert!(images::update(&mut tx, &image, from).await.unwrap());
            tx.commit().await.unwrap();
            moves
        })
    });
    let mut moved = 0;
    for task in tasks.collect::<Vec<_>>() {
        moved += u32::from(task.await.unwrap());
    }
    let mut tx = catalog.read().await.unwrap();
    let image = images::get(&mut tx, queued.id).await.unwrap().unwrap();
    assert_eq!((moved, image.tags.len()), (1, 16));
}

pub(crate) async fn refuse_what_does_not_fit(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let huge = Image { size: Some(u64::MAX), ..image(project) };
    let mut tx = catalog.write().await.unwrap();
    assert_eq!(images::insert(&mut tx, &huge).await.unwrap_err().kind(), ErrorKind::Invalid);
    let orphan = image(model::ProjectId::new());
    assert_eq!(images::insert(&mut tx, &orphan).await.unwrap_err().kind(), ErrorKind::Conflict);
    drop(tx);
    // PostgreSQL keeps no NUL in a text and SQLite does: neither may panic or cut it.
    let nul = Image { name: Some("a\0b".into()), ..image(project) };
    let mut tx = catalog.write().await.unwrap();
    match images::insert(&mut tx, &nul).await {
        Ok(()) => assert_eq!(images::get(&mut tx, nul.id).await.unwrap(), Some(nul)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid),
    }
}
