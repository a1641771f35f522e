//! Servers: their life over a driver without processes, and how long their disk is kept.

use compute::Power;
use model::identity::{Principal, Role};
use model::images::{Image, Visibility};
use model::jobs::{JobKind, JobState};
use model::servers::{Server, ServerState};
use model::{DiskFormat, ImageId};
use service::{ErrorKind, NewImage, NewServer, Runner};

use crate::fixture::{Fixture, new_image};
use crate::payload::{disk, qcow2, read_disk};

struct Host {
    f: Fixture,
    who: Principal,
    image: Image,
    runner: Runner,
}

impl Host {
    /// A running service with an image that is kept as qcow2.
    async fn new() -> Self {
        let f = Fixture::new().await;
        let who = f.member().await;
        let image = f.image(&who, new_image(DiskFormat::Qcow2), &qcow2(disk(1))).await;
        let runner = f.run().await;
        Self { f, who, image, runner }
    }

    /// Makes a server and waits until it runs.
    async fn server(&self) -> Server {
        let (server, job) = self.f.service.servers().create(&self.who, new_server(self.image.id)).await.unwrap();
        let job = self.f.ended(&self.who, job.id).await;
        assert_eq!((job.state, job.error), (JobState::Done, None));
        self.f.service.servers().get(&self.who, server.id).await.unwrap()
    }

    /// Returns the disk that a server's driver was told of.
    async fn base(&self, server: &Server) -> Vec<u8> {
        let base = self.f.driver.spec(server.id).base;
        assert_eq!(base.socket, self.f.service.settings().nbd_socket);
        read_disk(self.f.service.server_disk(&base.export).await.unwrap()).await.unwrap()
    }

    async fn end(self) {
        self.runner.stop(&self.f.service).await.unwrap();
    }
}

fn new_server(image: ImageId) -> NewServer {
    NewServer {
        name: "Web 1".into(),
        image,
        flavor: "m1.nano".into(),
        user_data: Some(b"#cloud-config".to_vec()),
        ssh_key: Some("ssh-ed25519 AAAA ana".into()),
        guest_ports: vec![22, 80],
    }
}

#[tokio::test]
async fn a_server_is_made_from_the_disk_of_its_image() {
    let host = Host::new().await;
    let server = host.server().await;
    assert_eq!((server.state, server.reason.as_deref()), (ServerState::Active, None));
    let spec = host.f.driver.spec(server.id);
    assert_eq!(host.base(&server).await, disk(1), "the base is the disk, not the qcow2 file");
    assert_eq!((spec.vcpus, spec.ram_mib, spec.disk_bytes), (1, 256, 1 << 30));
    assert_eq!(spec.config_drive.user_data.as_deref(), Some(&b"#cloud-config"[..]));
    assert_eq!(spec.config_drive.ssh_keys, ["ssh-ed25519 AAAA ana"]);
    assert_eq!(spec.forwards.iter().map(|(_, guest)| *guest).collect::<Vec<_>>(), [22, 80]);
    assert_eq!(host.f.driver.take_calls(), ["start"]);

    let second = host.server().await;
    let disks = [&server, &second].map(|server| host.f.driver.spec(server.id).base.export);
    assert_eq!(disks, [server.id, second.id].map(|id| format!("server/{id}")));
    let [first, again] =
        [host.f.service.server_disk(&disks[0]).await.unwrap(), host.f.service.server_disk(&disks[1]).await.unwrap()];
    assert!(std::sync::Arc::ptr_eq(&first, &again), "servers of an image share what is held of its disk");
    assert!(second.forwards.iter().all(|(port, _)| server.forwards.iter().all(|(taken, _)| taken != port)));
    host.end().await;
}

#[tokio::test]
async fn a_server_stops_starts_and_goes() {
    let host = Host::new().await;
    let (server, servers) = (host.server().await, host.f.service.servers());
    host.f.driver.take_calls();
    let stopped = servers.stop(&host.who, server.id, false).await.unwrap();
    servers.stop(&host.who, server.id, true).await.expect("stopped already");
    assert_eq!((stopped.state, host.f.driver.take_calls()), (ServerState::Stopped, vec!["stop Soft".into()]));
    let started = servers.start(&host.who, server.id).await.unwrap();
    servers.start(&host.who, server.id).await.expect("started already");
    assert_eq!((started.state, host.f.driver.take_calls()), (ServerState::Active, vec!["start".into()]));
    servers.stop(&host.who, server.id, true).await.unwrap();
    assert_eq!(host.f.driver.take_calls(), ["stop Hard"]);
    assert_eq!(servers.console(&host.who, server.id, 3).await.unwrap(), b"n: ");
    servers.delete(&host.who, server.id).await.unwrap();
    assert_eq!(host.f.driver.take_calls(), ["delete"]);
    assert_eq!(servers.get(&host.who, server.id).await.unwrap_err().kind(), ErrorKind::NotFound);
    let gone = host.f.service.server_disk(&format!("server/{}", server.id)).await.err().map(|error| error.kind());
    assert_eq!(gone, Some(ErrorKind::NotFound));
    host.end().await;
}

#[tokio::test]
async fn a_server_that_went_off_by_itself_is_noticed() {
    let host = Host::new().await;
    let (server, servers) = (host.server().await, host.f.service.servers());
    host.f.driver.set(server.id, Power::Paused { reason: "the disk is full".into() });
    let paused = servers.get(&host.who, server.id).await.unwrap();
    assert_eq!((paused.state, paused.reason.as_deref()), (ServerState::Active, Some("it is paused: the disk is full")));
    host.f.driver.set(server.id, Power::Off);
    assert_eq!(servers.get(&host.who, server.id).await.unwrap().state, ServerState::Stopped);
    assert_eq!(servers.list(&host.who).await.unwrap()[0].state, ServerState::Stopped);
    servers.start(&host.who, server.id).await.unwrap();
    assert_eq!(host.f.driver.peek(server.id), Power::Running);
    host.end().await;
}

#[tokio::test]
async fn a_server_outlives_its_image() {
    let host = Host::new().await;
    let (server, servers) = (host.server().await, host.f.service.servers());
    let content = host.image.content.unwrap();
    host.f.service.images().delete(&host.who, host.image.id).await.unwrap();
    assert!(host.f.is_kept(content).await, "the server holds it");
    servers.stop(&host.who, server.id, true).await.unwrap();
    assert_eq!(servers.start(&host.who, server.id).await.unwrap().state, ServerState::Active);
    assert_eq!(host.base(&server).await, disk(1));
    servers.delete(&host.who, server.id).await.unwrap();
    assert!(!host.f.is_kept(content).await);
    assert_eq!(host.f.contents().await, 0);
    host.end().await;
}

#[tokio::test]
async fn an_image_outlives_its_server() {
    let host = Host::new().await;
    let (first, second) = (host.server().await, host.server().await);
    for server in [first.id, second.id] {
        host.f.service.servers().delete(&host.who, server).await.unwrap();
    }
    assert!(host.f.is_kept(host.image.content.unwrap()).await);
    host.f.service.images().delete(&host.who, host.image.id).await.unwrap();
    assert_eq!(host.f.contents().await, 0);
    host.end().await;
}

#[tokio::test]
async fn a_server_deleted_while_it_starts_is_cleaned_up() {
    let host = Host::new().await;
    let gate = host.f.driver.started.hold("");
    let (server, job) = host.f.service.servers().create(&host.who, new_server(host.image.id)).await.unwrap();
    gate.reached().await;
    let servers = host.f.service.servers();
    assert_eq!(servers.start(&host.who, server.id).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(servers.stop(&host.who, server.id, true).await.unwrap_err().kind(), ErrorKind::Conflict);
    servers.delete(&host.who, server.id).await.unwrap();
    // The guest appears after the deletion has looked for it.
    host.f.driver.set(server.id, Power::Running);
    gate.open();
    assert_eq!(host.f.ended(&host.who, job.id).await.state, JobState::Cancelled);
    assert_eq!(host.f.driver.peek(server.id), Power::Absent);
    assert!(servers.list(&host.who).await.unwrap().is_empty());
    host.end().await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_is_told_in_its_own_words() {
    let f = Fixture::new().await;
    let who = f.member().await;
    let kept_unseen = f.image(&who, new_image(DiskFormat::Zvhd), b"nobody knows").await;
    let refused = f.service.servers().create(&who, new_server(kept_unseen.id)).await.unwrap_err();
    assert_eq!((refused.kind(), refused.to_string().contains("zvhd")), (ErrorKind::BadContent, true), "{refused}");
    let image = f.image(&who, new_image(DiskFormat::Qcow2), &qcow2(disk(1))).await;
    let (server, job) = f.service.servers().create(&who, new_server(image.id)).await.unwrap();
    // What a record says of the format is wrong, as when bytes were exchanged.
    let mut wrong = server.clone();
    wrong.disk.format = DiskFormat::Vmdk;
    let mut tx = f.catalog.write().await.unwrap();
    assert!(catalog::servers::update(&mut tx, &wrong, ServerState::Build).await.unwrap());
    tx.commit().await.unwrap();
    let runner = f.run().await;
    let job = f.ended(&who, job.id).await;
    assert_eq!((job.state, f.driver.take_calls()), (JobState::Failed, vec![]));
    assert!(job.error.as_deref().is_some_and(|error| error.to_lowercase().contains("vmdk")), "{job:?}");
    runner.stop(&f.service).await.unwrap();
}

#[tokio::test]
async fn who_notices_at_once_sees_the_same() {
    let host = Host::new().await;
    let server = host.server().await;
    host.f.driver.set(server.id, Power::Off);
    let gate = host.f.driver.looked.hold("");
    let servers = host.f.service.servers();
    let looks = async { tokio::join!(servers.get(&host.who, server.id), servers.get(&host.who, server.id)) };
    let open = async {
        gate.reached_by(2).await;
        gate.open();
    };
    let ((one, two), ()) = tokio::join!(looks, open);
    assert_eq!((one.unwrap().state, two.unwrap().state), (ServerState::Stopped, ServerState::Stopped));
    host.end().await;
}

#[tokio::test]
async fn a_server_deleted_before_it_was_begun_is_never_started() {
    let f = Fixture::new().await;
    let who = f.member().await;
    let image = f.image(&who, new_image(DiskFormat::Raw), &disk(2)).await;
    let (server, job) = f.service.servers().create(&who, new_server(image.id)).await.unwrap();
    f.service.servers().delete(&who, server.id).await.unwrap();
    let runner = f.run().await;
    assert_eq!(f.ended(&who, job.id).await.state, JobState::Cancelled);
    runner.stop(&f.service).await.unwrap();
    assert_eq!(f.driver.take_calls(), ["delete"]);
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_is_made() {
    let f = Fixture::new().await;
    let (who, root) = (f.member().await, f.root().await);
    let visibility = Visibility::Public;
    let image = f.image(&root, NewImage { visibility, min_ram_mib: 512, ..new_image(DiskFormat::Raw) }, &disk(3)).await;
    let queued = f.service.images().create(&who, new_image(DiskFormat::Raw)).await.unwrap();
    let new = || NewServer { flavor: "m1.tiny".into(), ..new_server(image.id) };
    let cases = [
        (ErrorKind::NotFound, NewServer { flavor: "m1.huge".into(), ..new() }),
        (ErrorKind::Invalid, NewServer { flavor: "m1.nano".into(), ..new() }),
        (ErrorKind::NotFound, NewServer { image: ImageId::new(), ..new() }),
        (ErrorKind::Conflict, NewServer { image: queued.id, ..new() }),
        (ErrorKind::Invalid, NewServer { name: String::new(), ..new() }),
        (ErrorKind::Invalid, NewServer { user_data: Some(vec![b'x'; (64 << 10) + 1]), ..new() }),
        (ErrorKind::Invalid, NewServer { guest_ports: vec![0], ..new() }),
        (ErrorKind::Invalid, NewServer { guest_ports: vec![22; 17], ..new() }),
    ];
    for (kind, new) in cases {
        let refused = f.service.servers().create(&who, new.clone()).await.unwrap_err();
        assert_eq!(refused.kind(), kind, "{new:?}: {refused}");
    }
    assert!(f.service.servers().list(&who).await.unwrap().is_empty());
    let jobs = f.service.jobs().list(&who, service::JobQuery { limit: 10, ..Default::default() }).await.unwrap();
    assert!(jobs.iter().all(|job| job.kind == JobKind::UploadImage), "{jobs:?}");
    let fits = NewServer { user_data: Some(vec![b'x'; 64 << 10]), guest_ports: vec![22; 16], ..new() };
    let (server, _) = f.service.servers().create(&who, fits).await.unwrap();
    assert_eq!((server.state, server.disk.size), (ServerState::Build, 1 << 30));
}

#[tokio::test]
async fn servers_without_a_record_are_ended_at_the_start() {
    let host = Host::new().await;
    let (server, stray) = (host.server().await, model::ServerId::new());
    host.f.driver.set(stray, Power::Running);
    host.f.service.recover().await.unwrap();
    assert_eq!((host.f.driver.peek(stray), host.f.driver.peek(server.id)), (Power::Absent, Power::Running));
    host.end().await;
}

#[tokio::test]
async fn a_public_image_makes_servers_of_other_projects() {
    let host = Host::new().await;
    let root = host.f.root().await;
    let change = service::ImageChange { visibility: Some(Visibility::Public), ..Default::default() };
    host.f.service.images().update(&root, host.image.id, change).await.unwrap();
    let theirs = host.f.principal(&host.f.project("theirs").await, Role::Member).await;
    let (server, job) = host.f.service.servers().create(&theirs, new_server(host.image.id)).await.unwrap();
    assert_eq!(host.f.ended(&theirs, job.id).await.state, JobState::Done);
    host.f.service.images().delete(&host.who, host.image.id).await.unwrap();
    host.f.service.servers().stop(&theirs, server.id, true).await.unwrap();
    host.f.service.servers().start(&theirs, server.id).await.unwrap();
    host.f.service.servers().delete(&theirs, server.id).await.unwrap();
    assert_eq!(host.f.contents().await, 0);
    host.end().await;
}
