//! The NBD listeners: disks of servers for this host, and exports for whoever knows their name.
//!
//! ```text
//!   DIR/nbd.sock (always, this user alone)      server/<id>, and exports
//!   [nbd] listen (only where it is configured)  exports
//! ```
//! A server's disk has a name that others can know, so it is found at the socket only.

use std::fs;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use disk::Source;
use nbd::{Address, Export, Limits, Refusal, Resolve, Server, Stop, Tls};
use service::{ErrorKind, Service};
use tokio::runtime::Handle;

use crate::config::Nbd;
use crate::data::Data;

/// The socket in the data directory.
pub(crate) const SOCKET: &str = "nbd.sock";
/// Connections to the socket at once: each server of this host has one.
const LOCAL_CONNECTIONS: usize = 512;
/// Commands of such a connection that are carried out at once: guests read little at a time.
const LOCAL_WORKERS: usize = 2;

/// Listeners that do not serve yet.
pub(crate) struct Listeners {
    servers: Vec<Server>,
    /// The URI of the export without a name, as it is told to clients.
    pub(crate) uri: String,
}

/// Listeners that serve.
pub(crate) struct Serving(Vec<(Stop, JoinHandle<io::Result<()>>)>);

impl Listeners {
    /// Listens at the socket and, where that is configured, at an address. The data directory is held, so a socket that
    /// is there already was left by a process that died.
    pub(crate) fn bind(data: &Data, config: &Nbd, service: &Service) -> Result<Self> {
        let path = data.path(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove the old socket `{}`", path.display()));
            }
            _ => {}
        }
        let disks = |all| Disks { service: service.clone(), runtime: Handle::current(), all };
        let limits = Limits { connections: LOCAL_CONNECTIONS, workers: LOCAL_WORKERS, ..Limits::default() };
        let local = Server::bind(&Address::Unix(path.clone()), disks(true), limits)
            .with_context(|| format!("cannot listen at `{}`", path.display()))?;
        let mut listeners = Self { uri: local.uri(""), servers: vec![local] };
        if let Some(address) = config.listen {
            let tls = tls(config)?;
            if tls.is_none() && !address.ip().is_loopback() {
                bail!(
                    "the NBD listener {address} can be reached by other hosts and has no TLS: set `tls_cert` and \
                     `tls_key` in section `nbd`, or listen at 127.0.0.1"
                );
            }
            let mut server = Server::bind(&Address::Tcp(address), disks(false), Limits::default())
                .with_context(|| format!("cannot listen at {address} for NBD"))?;
            if let Some(tls) = tls {
                server = server.with_tls(tls);
            }
            listeners.uri = config.public_url.as_ref().map_or_else(|| server.uri(""), |url| format!("{url}/"));
            listeners.servers.push(server);
        }
        Ok(listeners)
    }

    /// Begins to serve.
    pub(crate) fn serve(self) -> Result<Serving> {
        let begin = |server: Server| {
            let stop = server.stopper();
            let thread = thread::Builder::new().name("nbd listener".to_owned()).spawn(move || server.serve())?;
            Ok((stop, thread))
        };
        Ok(Serving(self.servers.into_iter().map(begin).collect::<io::Result<_>>().context("cannot serve NBD")?))
    }
}

impl Serving {
    /// Ends the listeners, once the commands that they took are carried out. Blocks for some seconds at most.
    pub(crate) fn stop(self) -> Result<()> {
        self.0.iter().for_each(|(stop, _)| stop.stop());
        for (_, thread) in self.0 {
            thread.join().map_err(|_| anyhow::anyhow!("an NBD listener ended unexpectedly"))??;
        }
        Ok(())
    }
}

fn tls(config: &Nbd) -> Result<Option<Tls>> {
    match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => Ok(Some(Tls::from_files(certificate, key, config.tls_client_ca.as_deref())?)),
        (None, None) if config.tls_client_ca.is_none() => Ok(None),
        _ => bail!("TLS takes both `tls_cert` and `tls_key` in section `nbd`"),
    }
}

/// Finds disks in the service, from the threads of a listener.
struct Disks {
    service: Service,
    runtime: Handle,
    /// Also those of servers.
    all: bool,
}

impl Resolve for Disks {
    fn find(&self, name: &str) -> Result<Export, Refusal> {
        // The name of an export has no slash.
        let found: service::Result<Arc<dyn Source>> = if self.all && name.contains('/') {
            self.runtime.block_on(self.service.server_disk(name))
        } else {
            self.runtime.block_on(self.service.exports().disk(name))
        };
        match found {
            Ok(disk) => Ok(Export { name: name.to_owned(), description: String::new(), disk }),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Refusal::Unknown),
            Err(error) => {
                tracing::warn!(%error, "an NBD client does not get its export");
                Err(Refusal::Denied(error.to_string()))
            }
        }
    }
}
