//! Promises of servers.

use catalog::{Catalog, ErrorKind, servers};
use model::servers::{Server, ServerState};
use model::{ProjectId, ServerId};

use crate::fixture::{at, committed_project, content, project};
use crate::records::server;

pub(crate) async fn come_back_whole(catalog: Catalog) {
    let mine = committed_project(&catalog).await;
    let mut tx = catalog.write().await.unwrap();
    let theirs = project(&mut tx, mine.domain, "theirs").await.id;
    let disk = content(&mut tx, mine.id).await.id;
    let full = server(mine.id, disk);
    let bare = Server {
        reason: None,
        user_data: None,
        ssh_key: None,
        forwards: Vec::new(),
        job: None,
        created_at: at(101),
        ..server(mine.id, disk)
    };
    let other = Server { created_at: at(99), ..server(theirs, disk) };
    for server in [&full, &bare, &other] {
        servers::insert(&mut tx, server).await.unwrap();
        assert_eq!(servers::get(&mut tx, server.id).await.unwrap().as_ref(), Some(server));
    }
    assert_eq!(servers::list(&mut tx, Some(mine.id)).await.unwrap(), [bare.clone(), full.clone()]);
    assert_eq!(servers::list(&mut tx, None).await.unwrap(), [bare.clone(), full, other]);
    assert!(servers::delete(&mut tx, bare.id).await.unwrap());
    assert!(!servers::delete(&mut tx, bare.id).await.unwrap());
    assert_eq!(servers::get(&mut tx, bare.id).await.unwrap(), None);
    assert_eq!(
        servers::insert(&mut tx, &server(ProjectId::new(), disk)).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
}

pub(crate) async fn change_only_from_the_given_state(catalog: Catalog) {
    let project = committed_project(&catalog).await.id;
    let mut tx = catalog.write().await.unwrap();
    let disk = content(&mut tx, project).await.id;
    let made = server(project, disk);
    servers::insert(&mut tx, &made).await.unwrap();
    let active =
        Server { state: ServerState::Active, reason: None, name: "db".into(), updated_at: at(9), ..made.clone() };
    assert!(!servers::update(&mut tx, &active, ServerState::Stopped).await.unwrap());
    assert_eq!(servers::get(&mut tx, made.id).await.unwrap().as_ref(), Some(&made));
    assert!(servers::update(&mut tx, &active, ServerState::Build).await.unwrap());
    assert_eq!(servers::get(&mut tx, made.id).await.unwrap().as_ref(), Some(&active));
    let gone = Server { id: ServerId::new(), ..active };
    assert!(!servers::update(&mut tx, &gone, ServerState::Active).await.unwrap());
}
