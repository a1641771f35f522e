//! Promises of domains, projects, users, roles, tokens and access keys.

use catalog::tokens::TokenRow;
use catalog::{Catalog, ErrorKind, access_keys, domains, projects, roles as grants, tokens as rows, users};
use model::identity::{AccessKey, Project, Role, User};
use model::{ProjectId, UserId};

use crate::fixture::{at, content, domain, project, user};

pub(crate) async fn domains_and_projects(catalog: Catalog) {
    let mut tx = catalog.write().await.unwrap();
    let one = domain(&mut tx, "one").await;
    let two = domain(&mut tx, "dois – 'quoted' \"%_\\").await;
    assert_eq!(domains::by_name(&mut tx, &two.name).await.unwrap(), Some(two.clone()));
    assert_eq!(domains::by_name(&mut tx, "%").await.unwrap(), None);
    let beta = project(&mut tx, one.id, "beta").await;
    let alpha = project(&mut tx, one.id, "Zeta").await;
    let same = project(&mut tx, two.id, "beta").await;
    assert_eq!(projects::get(&mut tx, beta.id).await.unwrap(), Some(beta.clone()));
    assert_eq!(projects::by_name(&mut tx, two.id, "beta").await.unwrap(), Some(same.clone()));
    let mut named = vec![beta.clone(), same.clone()];
    named.sort_by_key(|project| project.id);
    assert_eq!(projects::list_named(&mut tx, "beta").await.unwrap(), named);
    named.insert(0, alpha);
    assert_eq!(projects::list(&mut tx).await.unwrap(), named, "upper case sorts before lower case");
    assert!(projects::update_enabled(&mut tx, beta.id, false).await.unwrap());
    assert!(!projects::get(&mut tx, beta.id).await.unwrap().unwrap().enabled);
    assert!(!projects::update_enabled(&mut tx, ProjectId::new(), true).await.unwrap());
    assert!(projects::delete(&mut tx, same.id).await.unwrap());
    assert!(!projects::delete(&mut tx, same.id).await.unwrap());
    tx.commit().await.unwrap();

    let mut tx = catalog.write().await.unwrap();
    let taken = Project { id: ProjectId::new(), ..beta };
    let error = projects::insert(&mut tx, &taken).await.unwrap_err();
    assert_eq!((error.kind(), error.table()), (ErrorKind::Conflict, Some("projects")));
}

pub(crate) async fn users_and_passwords(catalog: Catalog) {
    let mut tx = catalog.write().await.unwrap();
    let owner = domain(&mut tx, "default").await.id;
    let ana = user(&mut tx, owner, "ana").await;
    assert_eq!(users::get(&mut tx, ana.id).await.unwrap(), Some(ana.clone()));
    assert_eq!(users::by_name(&mut tx, owner, "ana").await.unwrap(), Some(ana.clone()));
    assert_eq!(users::password_hash(&mut tx, ana.id).await.unwrap().as_deref(), Some("hash"));
    assert!(users::set_password_hash(&mut tx, ana.id, "other").await.unwrap());
    assert_eq!(users::password_hash(&mut tx, ana.id).await.unwrap().as_deref(), Some("other"));
    assert!(users::set_enabled(&mut tx, ana.id, false).await.unwrap());
    assert!(!users::get(&mut tx, ana.id).await.unwrap().unwrap().enabled);
    assert_eq!(users::list(&mut tx).await.unwrap().len(), 1);
    let nobody = UserId::new();
    assert_eq!(users::password_hash(&mut tx, nobody).await.unwrap(), None);
    assert!(!users::set_password_hash(&mut tx, nobody, "x").await.unwrap());
    assert!(!users::set_enabled(&mut tx, nobody, true).await.unwrap());
    assert!(!users::delete(&mut tx, nobody).await.unwrap());
    let error = users::insert(&mut tx, &User { id: nobody, ..ana }, "x").await.unwrap_err();
    assert_eq!((error.kind(), error.table()), (ErrorKind::Conflict, Some("users")));
}

pub(crate) async fn roles(catalog: Catalog) {
    let mut tx = catalog.write().await.unwrap();
    let owner = domain(&mut tx, "default").await.id;
    let (ana, bia) = (user(&mut tx, owner, "ana").await, user(&mut tx, owner, "bia").await);
    let (demo, other) = (project(&mut tx, owner, "demo").await, project(&mut tx, owner, "other").await);
    for (user, project, role) in [
        (&bia, &demo, Role::Reader),
        (&ana, &demo, Role::Reader),
        (&ana, &demo, Role::Admin),
        (&ana, &demo, Role::Admin),
        (&ana, &other, Role::Member),
    ] {
        grants::grant(&mut tx, user.id, project.id, role).await.unwrap();
    }
    assert_eq!(grants::list(&mut tx, ana.id, demo.id).await.unwrap(), [Role::Admin, Role::Reader]);
    assert_eq!(grants::projects_of(&mut tx, ana.id).await.unwrap(), [demo.clone(), other]);
    let members = [(ana.clone(), Role::Admin), (ana.clone(), Role::Reader), (bia.clone(), Role::Reader)];
    assert_eq!(grants::members_of(&mut tx, demo.id).await.unwrap(), members);
    assert!(grants::revoke(&mut tx, ana.id, demo.id, Role::Admin).await.unwrap());
    assert!(!grants::revoke(&mut tx, ana.id, demo.id, Role::Admin).await.unwrap());
    assert_eq!(grants::list(&mut tx, ana.id, demo.id).await.unwrap(), [Role::Reader]);
    let error = grants::grant(&mut tx, ana.id, ProjectId::new(), Role::Reader).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "a role in a project that does not exist");
}

fn token(byte: u8, user: UserId, project: Option<ProjectId>, expires: i64) -> TokenRow {
    TokenRow {
        hash: [byte; 32],
        user,
        project,
        methods: "password,token".into(),
        audit_id: format!("audit {byte}"),
        issued_at: at(10),
        expires_at: at(expires),
    }
}

pub(crate) async fn tokens(catalog: Catalog) {
    let mut tx = catalog.write().await.unwrap();
    let owner = domain(&mut tx, "default").await.id;
    let (ana, bia) = (user(&mut tx, owner, "ana").await.id, user(&mut tx, owner, "bia").await.id);
    let demo = project(&mut tx, owner, "demo").await.id;
    let all =
        [token(1, ana, Some(demo), 100), token(2, ana, None, 200), token(3, bia, None, 300), token(4, bia, None, 400)];
    for token in &all {
        rows::insert(&mut tx, token).await.unwrap();
        assert_eq!(rows::get(&mut tx, &token.hash).await.unwrap().as_ref(), Some(token));
    }
    assert_eq!(rows::delete_expired(&mut tx, at(99)).await.unwrap(), 0);
    assert_eq!(rows::delete_expired(&mut tx, at(100)).await.unwrap(), 1);
    assert_eq!(rows::get(&mut tx, &[1; 32]).await.unwrap(), None);
    assert!(rows::delete(&mut tx, &[3; 32]).await.unwrap());
    assert!(!rows::delete(&mut tx, &[3; 32]).await.unwrap());
    assert_eq!(rows::delete_of_user(&mut tx, ana).await.unwrap(), 1);
    assert_eq!(rows::get(&mut tx, &[4; 32]).await.unwrap().as_ref(), Some(&all[3]), "of another user");
}

fn key(name: &str, user: UserId, project: ProjectId) -> AccessKey {
    AccessKey { access_key: name.into(), user, project, description: "for 'backups'".into(), created_at: at(5) }
}

pub(crate) async fn access_keys(catalog: Catalog) {
    let mut tx = catalog.write().await.unwrap();
    let owner = domain(&mut tx, "default").await.id;
    let ana = user(&mut tx, owner, "ana").await.id;
    let demo = project(&mut tx, owner, "demo").await.id;
    let (one, two) = (key("AAAA", ana, demo), key("BBBB", ana, demo));
    access_keys::insert(&mut tx, &two, &[0, 1, 255]).await.unwrap();
    access_keys::insert(&mut tx, &one, &[]).await.unwrap();
    assert_eq!(access_keys::get(&mut tx, "BBBB").await.unwrap(), Some((two.clone(), vec![0, 1, 255])));
    assert_eq!(access_keys::get(&mut tx, "AAAA").await.unwrap(), Some((one.clone(), Vec::new())));
    assert_eq!(access_keys::get(&mut tx, "bbbb").await.unwrap(), None);
    assert_eq!(access_keys::list(&mut tx, ana).await.unwrap(), [one, two.clone()]);
    assert!(access_keys::delete(&mut tx, "AAAA").await.unwrap());
    assert!(!access_keys::delete(&mut tx, "AAAA").await.unwrap());
    assert_eq!(access_keys::insert(&mut tx, &two, &[]).await.unwrap_err().kind(), ErrorKind::Conflict);
}

pub(crate) async fn what_a_deleted_user_or_project_takes_along(catalog: Catalog) {
    let mut tx = catalog.write().await.unwrap();
    let owner = domain(&mut tx, "default").await.id;
    let ana = user(&mut tx, owner, "ana").await.id;
    let (demo, full) = (project(&mut tx, owner, "demo").await.id, project(&mut tx, owner, "full").await.id);
    grants::grant(&mut tx, ana, demo, Role::Member).await.unwrap();
    grants::grant(&mut tx, ana, full, Role::Member).await.unwrap();
    rows::insert(&mut tx, &token(1, ana, Some(demo), 100)).await.unwrap();
    rows::insert(&mut tx, &token(2, ana, Some(full), 100)).await.unwrap();
    access_keys::insert(&mut tx, &key("AAAA", ana, demo), &[1]).await.unwrap();
    access_keys::insert(&mut tx, &key("BBBB", ana, full), &[1]).await.unwrap();
    content(&mut tx, full).await;

    assert!(projects::delete(&mut tx, demo).await.unwrap());
    assert_eq!(rows::get(&mut tx, &[1; 32]).await.unwrap(), None);
    assert_eq!(access_keys::get(&mut tx, "AAAA").await.unwrap(), None);
    assert!(users::delete(&mut tx, ana).await.unwrap());
    assert_eq!(rows::get(&mut tx, &[2; 32]).await.unwrap(), None);
    assert_eq!(access_keys::get(&mut tx, "BBBB").await.unwrap(), None);
    assert_eq!(grants::members_of(&mut tx, full).await.unwrap(), []);
    let error = projects::delete(&mut tx, full).await.unwrap_err();
    assert_eq!((error.kind(), error.table()), (ErrorKind::Conflict, None), "it still owns a content");
}
