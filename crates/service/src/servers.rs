//! Servers: make, list, start, stop, console, delete.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use catalog::{Tx, images, jobs, servers};
use compute::{Power, Stop};
use disk::Source;
use model::identity::{Principal, Role};
use model::images::Image;
use model::jobs::{Job, JobKind};
use model::names::check_name;
use model::servers::{Flavor, Server, ServerState};
use model::{ImageId, ServerId};

use crate::error::{Error, ErrorKind, Result};
use crate::image_state::active;
use crate::jobs::record::new_job;
use crate::server_spec::{SERVER_EXPORTS, flavor, root_disk, spec};
use crate::service::Service;
use crate::{content, disks, formats, policy};

/// Most guest ports that one server may have reached from this host.
const PORTS_MAX: usize = 16;
/// Longest user data in bytes, as OpenStack and Huawei have it.
const USER_DATA_MAX: usize = 64 << 10;

/// What a client says about a new server.
#[derive(Debug, Clone)]
pub struct NewServer {
    /// What people call it; its host name is made from it.
    pub name: String,
    /// The image it is made from.
    pub image: ImageId,
    /// Name of its flavor.
    pub flavor: String,
    /// What cloud-init gets; at most 64 KiB.
    pub user_data: Option<Vec<u8>>,
    /// A public key for the image's default user.
    pub ssh_key: Option<String>,
    /// Guest ports to reach from this host; a free host port is chosen for each.
    pub guest_ports: Vec<u16>,
}

/// Verbs of servers.
pub struct Servers<'s>(pub(crate) &'s Service);

impl Service {
    /// Returns the verbs of servers.
    #[must_use]
    pub fn servers(&self) -> Servers<'_> {
        Servers(self)
    }

    /// Finds again what a former life of this node left: servers that still run.
    pub async fn recover(&self) -> Result<()> {
        adopt(self).await
    }

    /// Returns the disk that the server of an NBD export begins with. To be read on threads that may block.
    ///
    /// Not for clients: whoever may ask for it reads the disk of any server. `NotFound` if no server has the export.
    pub async fn server_disk(&self, export: &str) -> Result<Arc<dyn Source>> {
        let absent = || Error::not_found("server", "has this disk");
        let id = export.strip_prefix(SERVER_EXPORTS).and_then(|id| id.parse().ok()).ok_or_else(absent)?;
        let mut tx = self.parts.catalog.read().await?;
        let server = servers::get(&mut tx, id).await?.ok_or_else(absent)?;
        drop(tx);
        disks::open(self, server.disk.content, formats::openable(server.disk.format)?).await
    }
}

impl Servers<'_> {
    /// Begins the job that makes a server and starts it.
    pub async fn create(&self, who: &Principal, new: NewServer) -> Result<(Server, Job)> {
        policy::require(who, Role::Member, "create servers")?;
        check_name(&new.name)?;
        let flavor = flavor(&new.flavor)?;
        if new.user_data.as_ref().is_some_and(|data| data.len() > USER_DATA_MAX) {
            return Err(Error::invalid(format!("user data has at most {USER_DATA_MAX} bytes")));
        }
        let mut tx = self.0.parts.catalog.write().await?;
        let image = policy::read_image(who, new.image, images::get(&mut tx, new.image).await?)?;
        active(&image)?;
        fits(&flavor, &image)?;
        let now = self.0.now();
        let mut server = Server {
            id: ServerId::new(),
            project: who.project.id,
            user: who.user.id,
            name: new.name,
            state: ServerState::Build,
            reason: None,
            image: image.id,
            disk: root_disk(&flavor, &image)?,
            flavor: flavor.name.into(),
            user_data: new.user_data,
            ssh_key: new.ssh_key,
            forwards: free_ports(&mut tx, &new.guest_ports).await?,
            job: None,
            created_at: now,
            updated_at: now,
        };
        spec(self.0, &server)?.check()?;
        let job = new_job(self.0, who, JobKind::CreateServer, Some(image.id), Some(server.id), &())?;
        server.job = Some(job.id);
        servers::insert(&mut tx, &server).await?;
        jobs::insert(&mut tx, &job).await?;
        tx.commit().await?;
        self.0.wake.notify_one();
        Ok((server, job))
    }

    /// Returns a server of the project as it is now.
    pub async fn get(&self, who: &Principal, id: ServerId) -> Result<Server> {
        let server = self.find(who, id).await?;
        self.look(server).await
    }

    /// Lists the project's servers as they are now.
    pub async fn list(&self, who: &Principal) -> Result<Vec<Server>> {
        let mut tx = self.0.parts.catalog.read().await?;
        let known = servers::list(&mut tx, Some(who.project.id)).await?;
        drop(tx);
        let mut looked = Vec::with_capacity(known.len());
        for server in known {
            // One server that cannot be looked at must not hide the others.
            let record = server.clone();
            looked.push(self.look(server).await.unwrap_or_else(|error| {
                tracing::warn!(server = %record.id, %error, "cannot look at a server");
                Server { reason: Some(format!("its state cannot be learnt: {error}")), ..record }
            }));
        }
        Ok(looked)
    }

    /// Powers a server on.
    pub async fn start(&self, who: &Principal, id: ServerId) -> Result<Server> {
        policy::require(who, Role::Member, "start servers")?;
        let server = self.get(who, id).await?;
        if server.state == ServerState::Active {
            return Ok(server);
        }
        if server.state == ServerState::Build {
            return Err(
                Error::conflict(format!("server {id} is still being made")).with_hint("wait until it is ACTIVE")
            );
        }
        may(&server, ServerState::Active)?;
        self.0.parts.driver.start(&spec(self.0, &server)?).await?;
        self.set(server, ServerState::Active).await
    }

    /// Powers a server off: by the guest itself if it listens, hard otherwise or when asked.
    pub async fn stop(&self, who: &Principal, id: ServerId, hard: bool) -> Result<Server> {
        policy::require(who, Role::Member, "stop servers")?;
        let server = self.get(who, id).await?;
        if server.state == ServerState::Stopped {
            return Ok(server);
        }
        may(&server, ServerState::Stopped)?;
        self.0.parts.driver.stop(id, if hard { Stop::Hard } else { Stop::Soft }).await?;
        self.set(server, ServerState::Stopped).await
    }

    /// Removes a server and its disk, whatever it is doing.
    pub async fn delete(&self, who: &Principal, id: ServerId) -> Result<()> {
        policy::require(who, Role::Member, "delete servers")?;
        let server = self.find(who, id).await?;
        let mut tx = self.0.parts.catalog.write().await?;
        if let Some(job) = server.job {
            jobs::request_cancel(&mut tx, job).await?;
        }
        // The row goes first: a job that is starting the process looks for it afterwards and cleans up.
        servers::delete(&mut tx, id).await?;
        let released = content::release(&mut tx, server.disk.content).await?;
        tx.commit().await?;
        self.0.parts.driver.delete(id).await?;
        content::forget(self.0, released).await;
        Ok(())
    }

    /// Returns the last bytes of the serial console: the guest's bytes, which may hold anything.
    pub async fn console(&self, who: &Principal, id: ServerId, last_bytes: usize) -> Result<Vec<u8>> {
        self.find(who, id).await?;
        match self.0.parts.driver.console(id, last_bytes).await {
            Err(error) if error.kind() == compute::ErrorKind::NotFound => Ok(Vec::new()),
            console => Ok(console?),
        }
    }

    /// Corrects the records of all servers that went off by themselves.
    pub(crate) async fn look_at_all(&self) -> Result<()> {
        let mut tx = self.0.parts.catalog.read().await?;
        let known = servers::list(&mut tx, None).await?;
        drop(tx);
        for server in known {
            let id = server.id;
            if let Err(error) = self.look(server).await {
                tracing::warn!(server = %id, %error, "cannot look at a server");
            }
        }
        Ok(())
    }

    async fn find(&self, who: &Principal, id: ServerId) -> Result<Server> {
        let mut tx = self.0.parts.catalog.read().await?;
        let server = servers::get(&mut tx, id).await?;
        server.filter(|server| policy::owns(who, server.project)).ok_or_else(|| Error::not_found("server", id))
    }

    /// Corrects a record whose server went off by itself, or is paused.
    async fn look(&self, server: Server) -> Result<Server> {
        if server.state != ServerState::Active {
            return Ok(server);
        }
        match self.0.parts.driver.power(server.id).await? {
            Power::Running => Ok(server),
            Power::Off | Power::Absent => self.set(server, ServerState::Stopped).await,
            Power::Paused { reason } => Ok(Server { reason: Some(format!("it is paused: {reason}")), ..server }),
        }
    }

    async fn set(&self, mut server: Server, state: ServerState) -> Result<Server> {
        let from = server.state;
        server.state = state;
        server.reason = None;
        server.updated_at = self.0.now();
        let mut tx = self.0.parts.catalog.write().await?;
        if !servers::update(&mut tx, &server, from).await? {
            // Somebody else may have noticed or brought about the same.
            if let Some(same) = servers::get(&mut tx, server.id).await?.filter(|now| now.state == state) {
                return Ok(same);
            }
            return Err(
                Error::conflict(format!("server {} is no longer {from}", server.id)).with_hint("look at it again")
            );
        }
        tx.commit().await?;
        Ok(server)
    }
}

/// Finds again what a former life of this node left: processes whose server is gone are ended.
pub(crate) async fn adopt(service: &Service) -> Result<()> {
    for (id, power) in service.parts.driver.adopt().await? {
        let mut tx = service.parts.catalog.read().await?;
        let known = servers::get(&mut tx, id).await?.is_some();
        drop(tx);
        if known {
            tracing::info!(server = %id, ?power, "adopted");
        } else {
            tracing::warn!(server = %id, ?power, "removing a server that has no record");
            service.parts.driver.delete(id).await?;
        }
    }
    Ok(())
}

fn fits(flavor: &Flavor, image: &Image) -> Result<()> {
    if image.min_ram_mib > flavor.ram_mib {
        let (need, have) = (image.min_ram_mib, flavor.ram_mib);
        return Err(Error::invalid(format!(
            "the image needs {need} MiB of memory, flavor `{}` has {have}",
            flavor.name
        )));
    }
    Ok(())
}

fn may(server: &Server, next: ServerState) -> Result<()> {
    if server.state.may_become(next) {
        return Ok(());
    }
    Err(Error::conflict(format!("server {} is {} and cannot become {next}", server.id, server.state)))
}

/// Chooses a free port of this host for each guest port: one that no server has and that can be listened on now.
async fn free_ports(tx: &mut Tx, guest_ports: &[u16]) -> Result<Vec<(u16, u16)>> {
    if guest_ports.len() > PORTS_MAX || guest_ports.contains(&0) {
        return Err(Error::invalid(format!("a server has at most {PORTS_MAX} reachable ports, from 1 to 65535")));
    }
    let known = servers::list(tx, None).await?;
    let mut taken: BTreeSet<u16> = known.iter().flat_map(|server| &server.forwards).map(|(host, _)| *host).collect();
    let mut chosen = Vec::with_capacity(guest_ports.len());
    for guest in guest_ports {
        // The kernel's choice can be a port that a stopped server was promised, so ask a few times.
        let host = (0..64).find_map(|_| free_port().filter(|host| taken.insert(*host)));
        let host = host.ok_or_else(|| Error::new(ErrorKind::Unavailable, "this host has no free port left"))?;
        chosen.push((host, *guest));
    }
    Ok(chosen)
}

fn free_port() -> Option<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .ok()
}
