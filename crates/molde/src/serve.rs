//! `molde serve`: the server, from its first start to its end.
//!
//! lock -> listen -> assemble -> first start? write the credentials, then make what they open -> serve disks -> recover ->
//! ready
//! SIGTERM or Ctrl-C: stop listening, let requests end, free the jobs, exit 0. Servers (virtual machines) go on.

use std::env;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use api::Endpoints;
use clap::Args;
use cli::Failure;
use cli::credentials::Credentials;
use service::{BootstrapSecrets, Runner, Service};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::config::Config;
use crate::data::Data;
use crate::{assemble, disks};

/// How long running requests may take to end after a SIGTERM.
const DRAIN: Duration = Duration::from_secs(20);
/// How long blocking work may take to notice the end of the server.
const STOP: Duration = Duration::from_secs(5);

/// How the server is run.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Data directory: made at the first start, everything lies in it
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Where the API listens; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9292")]
    listen: SocketAddr,
    /// Where the S3 endpoint listens; port 0 picks a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9000")]
    s3_listen: SocketAddr,
    /// Where images are served over NBD, besides the socket `DIR/nbd.sock`; other hosts are served through TLS only
    #[arg(long, value_name = "ADDR:PORT")]
    nbd_listen: Option<SocketAddr>,
    /// Configuration; `DIR/molde.toml` where it is not told
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// End the process at a place in a job (KIND/STEP/before, middle or after), to test recovery
    #[arg(long, value_name = "PLACE", hide = true)]
    abort_at: Option<String>,
}

/// Starts this program again, in the same process, with two arenas of the allocator, unless somebody has chosen already.
///
/// glibc makes eight for each processor, and what uploads free stays in the arena that it came from: ten at once took
/// 100 MiB more, and longer (`cargo xtask bench store`). It reads this at the start of a process only.
fn settle_allocator() {
    const ARENAS: &str = "MALLOC_ARENA_MAX";
    if env::var_os(ARENAS).is_some() {
        return;
    }
    if let Ok(program) = env::current_exe() {
        let name = env::args_os().next().unwrap_or_else(|| program.clone().into_os_string());
        // It returns only where it fails, and then the server runs as it is.
        let _ = Command::new(program).arg0(name).args(env::args_os().skip(1)).env(ARENAS, "2").exec();
    }
}

impl Serve {
    /// Runs the server until it is told to stop.
    pub(crate) fn run(self) -> cli::Result<()> {
        settle_allocator();
        log_to_stderr();
        let failed = |error: anyhow::Error| {
            let hint = error.chain().find_map(|cause| cause.downcast_ref::<chunks::Error>()?.hint());
            Failure::new("the server cannot run").with_some_hint(hint).caused_by(error.as_ref())
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let ended = runtime.block_on(self.serve());
        runtime.shutdown_timeout(STOP);
        ended.map_err(failed)
    }

    async fn serve(self) -> Result<()> {
        if let Some(place) = &self.abort_at {
            let known = service::abort_places();
            anyhow::ensure!(known.contains(place), "no job comes to the place `{place}`; one of: {}", known.join(", "));
        }
        // From the first moment on, so that a signal that comes while the server starts ends it in order as well.
        let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let data = Data::open(&self.data)?;
        let mut config = Config::read(&self.config.clone().unwrap_or_else(|| data.path("molde.toml")))?;
        config.nbd.listen = self.nbd_listen.or(config.nbd.listen);
        let rest = listen(self.listen).await?;
        let s3 = listen(self.s3_listen).await?;
        let service = assemble::service(&data, &config, self.abort_at).await?;
        let nbd = disks::Listeners::bind(&data, &config.nbd, &service)?;
        let endpoints = Endpoints {
            api: config.api.public_url.clone().unwrap_or(format!("http://{}", rest.local_addr()?)),
            s3: config.s3.public_url.clone().unwrap_or(format!("http://{}", s3.local_addr()?)),
            nbd: nbd.uri.clone(),
        };
        first_start(&data, &config, &service, &endpoints).await?;
        // Servers that run wait for their disks, and those that jobs start need them.
        let nbd = nbd.serve()?;
        service.recover().await.context("cannot recover from the last run")?;
        let runner = Runner::start(service.clone()).await.context("cannot start the job runner")?;

        let (stop, stopped) = watch::channel(());
        let wait = |mut stopped: watch::Receiver<()>| async move {
            // An error means that the sender is gone, which is a stop as well.
            let _ = stopped.changed().await;
        };
        let api =
            tokio::spawn(api::serve(rest, api::rest(service.clone(), endpoints.clone()), wait(stopped.clone()), DRAIN));
        let state = api::ApiState { service: service.clone(), endpoints: std::sync::Arc::new(endpoints.clone()) };
        let s3 = tokio::spawn(api::s3::serve_s3(s3, state, wait(stopped), DRAIN));
        println(&format!("molde is ready: api {} s3 {}", endpoints.api, endpoints.s3))?;

        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: requests may end, jobs will be resumed at the next start");
        stop.send_replace(());
        let (api, s3) = tokio::join!(api, s3);
        runner.stop(&service).await.context("cannot free the running jobs")?;
        // Last, as all before may use a disk; this thread has nothing else to do.
        tokio::task::block_in_place(|| nbd.stop())?;
        api??;
        s3??;
        Ok(())
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

/// Makes the administrator at the first start, and writes the credentials at every start: addresses may change.
///
/// The file is durable before the administrator exists, so a crash between the two repeats with the same secrets.
async fn first_start(data: &Data, config: &Config, service: &Service, endpoints: &Endpoints) -> Result<()> {
    let secrets = match data.credentials()? {
        Some(known) => {
            let now = Credentials {
                endpoint: endpoints.api.clone(),
                s3_endpoint: endpoints.s3.clone(),
                region: config.identity.region.clone(),
                ..known
            };
            data.write_credentials(&now)?;
            BootstrapSecrets::of(&now.project_id, now.password, now.access_key, now.secret_key)?
        }
        None => {
            let secrets = BootstrapSecrets::generate()?;
            data.write_credentials(&Credentials {
                endpoint: endpoints.api.clone(),
                s3_endpoint: endpoints.s3.clone(),
                region: config.identity.region.clone(),
                domain: BootstrapSecrets::DOMAIN.into(),
                project_name: BootstrapSecrets::PROJECT.into(),
                project_id: secrets.project.to_string(),
                username: BootstrapSecrets::USER.into(),
                password: secrets.password.clone(),
                access_key: secrets.access_key.clone(),
                secret_key: secrets.secret_key.clone(),
            })?;
            secrets
        }
    };
    if service.identity().bootstrap(&secrets).await? {
        tracing::info!(credentials = %data.path("credentials.json").display(), "first start: an administrator was made");
    }
    Ok(())
}

/// Tells that the server is ready, in one line that programs wait for.
fn println(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("MOLDE_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn,s3s=off,object_store=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
