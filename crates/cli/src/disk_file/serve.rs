//! `molde disk serve`: a disk for NBD clients, read-only, until the command is interrupted.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use nbd::{Address, Export, Exports, Limits, Server, Tls};
use serde_json::json;

use super::input::{DiskFile, Input};
use crate::error::{Failure, Result};
use crate::output::{Output, line, print_json};

/// Serves the disk in a file read-only, for example to `qemu-img`, `qemu-nbd` or a virtual machine, until it is interrupted.
#[derive(Debug, Args)]
pub struct Serve {
    /// The file, its address (http, https), or - for standard input
    file: PathBuf,
    #[command(flatten)]
    input: Input,
    /// Address and port to listen at; whoever reaches it can read the disk. Port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:10809", conflicts_with = "socket")]
    listen: SocketAddr,
    /// Listen at a socket in the file system instead
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Serve through TLS only: the certificate and those between it and its root, in PEM form
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM form
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve only clients with a certificate of one of these authorities, in PEM form
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,
    /// What the export is called; clients that ask for no name get it too
    #[arg(long, default_value = "")]
    name: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Serve {
    pub(super) fn run(self, output: Output) -> Result<()> {
        let file = DiskFile::find(&self.file)?;
        let opened = self.input.open(&file)?;
        let address = match &self.socket {
            Some(path) => Address::Unix(path.clone()),
            None => Address::Tcp(self.listen),
        };
        let size = opened.disk.len();
        let description = format!("{} ({})", file.name().rsplit('/').next().unwrap_or_default(), opened.format);
        let export = Export { name: self.name.clone(), description, disk: opened.disk };
        let exports = Exports::new(vec![export]).map_err(|error| Failure::new(error.to_string()))?;
        let tls = self.tls()?;
        let mut server = Server::bind(&address, exports, Limits::default())
            .map_err(|error| Failure::new(format!("cannot listen at {address}: {error}")))?;
        if let Some(tls) = tls {
            server = server.with_tls(tls);
        }
        let uri = server.uri(&self.name);
        if self.json || output == Output::Json {
            print_json(&json!({"uri": uri, "virtual_size": size}))?;
        } else {
            line(&format!("serving {size} bytes read-only at {uri}"))?;
        }
        let stop = server.stopper();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.spawn(async move {
            interrupted().await;
            stop.stop();
        });
        Ok(server.serve()?)
    }

    fn tls(&self) -> Result<Option<Tls>> {
        let (Some(certificate), Some(key)) = (&self.tls_cert, &self.tls_key) else { return Ok(None) };
        let tls = Tls::from_files(certificate, key, self.tls_client_ca.as_deref());
        tls.map(Some).map_err(|error| Failure::new(error.to_string()))
    }
}

/// Waits for SIGINT or SIGTERM.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers both signals end the process at once.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
