//! Promises of exports.

use catalog::{Catalog, ErrorKind, exports, projects};
use model::ExportId;
use model::exports::{Export, Exported};

use crate::fixture::{at, content, domain, project};
use crate::records;

pub(crate) async fn come_back_whole(catalog: Catalog) {
    let mut tx = catalog.write().await.unwrap();
    let owner = domain(&mut tx, "default").await.id;
    let (demo, other) = (project(&mut tx, owner, "demo").await.id, project(&mut tx, owner, "other").await.id);
    let held = content(&mut tx, other).await.id;
    let image = records::export(demo, held);
    let of = Exported::Object { bucket: "ñ".into(), key: "a/b '%".into() };
    let object = Export { id: ExportId::new(), of, expires_at: at(50), ..image.clone() };
    exports::insert(&mut tx, &image, &[1; 32]).await.unwrap();
    exports::insert(&mut tx, &object, &[2; 32]).await.unwrap();
    assert_eq!(exports::get(&mut tx, image.id).await.unwrap(), Some(image.clone()));
    assert_eq!(exports::by_name(&mut tx, &[2; 32]).await.unwrap(), Some(object.clone()));
    assert_eq!(exports::by_name(&mut tx, &[3; 32]).await.unwrap(), None);
    assert_eq!(exports::list(&mut tx, demo).await.unwrap(), [image.clone(), object.clone()]);
    assert_eq!(exports::list(&mut tx, other).await.unwrap(), []);
    assert_eq!(exports::list_expired(&mut tx, at(49), 9).await.unwrap(), []);
    assert_eq!(exports::list_expired(&mut tx, at(50), 9).await.unwrap(), std::slice::from_ref(&object));
    assert_eq!(exports::list_expired(&mut tx, at(100), 1).await.unwrap(), std::slice::from_ref(&object));
    assert!(exports::delete(&mut tx, object.id).await.unwrap());
    assert!(!exports::delete(&mut tx, object.id).await.unwrap());
    assert!(projects::delete(&mut tx, demo).await.unwrap(), "exports end with their project");
    assert_eq!(exports::get(&mut tx, image.id).await.unwrap(), None);
}

pub(crate) async fn have_names_of_their_own(catalog: Catalog) {
    let mut tx = catalog.write().await.unwrap();
    let owner = domain(&mut tx, "default").await.id;
    let demo = project(&mut tx, owner, "demo").await.id;
    let held = content(&mut tx, demo).await.id;
    exports::insert(&mut tx, &records::export(demo, held), &[1; 32]).await.unwrap();
    let taken = exports::insert(&mut tx, &records::export(demo, held), &[1; 32]).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::Conflict);
}
