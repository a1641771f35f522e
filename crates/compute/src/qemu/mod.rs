//! The QEMU driver: one detached QEMU process per server on this host.
//!
//! ```text
//! <directory>/                     0700: config drives hold secrets
//!   probe.img                      boot sector of the probe guest (see `probe`)
//!   <server id>/                   made by the first start, removed by delete
//!     root.qcow2                   the guest's writes, over the base; root.qcow2.<pid> until it is whole
//!     base.sock                    link to the socket at which the base is served, made anew at each start
//!     config.img                   config drive, made anew at each start
//!     uefi.vars                    UEFI variables, only with UEFI
//!     console.log                  serial port, appended to over all starts
//!     qemu.log                     what QEMU itself said since its last start
//!     pid                          written by QEMU and locked as long as it lives
//!     qmp                          control socket, as long as QEMU lives
//!
//! start   overlay -> config drive -> spawn QEMU -> QMP answers "running"
//! stop    power button -> wait -> SIGTERM (QEMU closes its files) -> SIGKILL
//! delete  SIGKILL -> remove the directory
//! ```
//!
//! A process is in a process group of its own, reads nothing from Molde and writes to files, so that neither Molde's
//! death nor a Ctrl-C in its terminal reaches it. (A service manager that kills a whole control group does: the unit
//! needs `KillMode=process`.) Whether a server runs is asked of the kernel each time (see `process`); nothing is
//! remembered, so a new driver on the same directory goes on where the last one died.
//!
//! Locks: one per server, held over start and delete, so that these two never interleave. A stop holds it only to look
//! around, because a guest may take a minute to power off and delete must not wait for that. Two Moldes on one
//! directory are kept apart by QEMU's own locks on the pid file and the overlay.
//!
//! Invariant: nothing here waits without a limit.

mod command;
mod console;
mod launch;
mod options;
mod probe;
mod process;
mod qmp;
mod root_disk;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use model::ServerId;
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use self::command::{Accelerator, Host};
pub use self::options::{Acceleration, Network, QemuOptions};
use self::process::Process;
use self::qmp::Qmp;
use crate::{Driver, Error, ErrorKind, Firmware, Power, Result, ServerSpec, Stop};

/// Longest time for QEMU to close its files after SIGTERM.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);
/// How often a control socket that is not there is tried again.
const RETRY_POLL: Duration = Duration::from_millis(20);

/// Runs servers as QEMU processes on this host.
#[derive(Debug)]
pub struct QemuDriver {
    options: QemuOptions,
    /// Decided at the first start: a probe takes up to 6 s.
    accelerator: OnceCell<Accelerator>,
    servers: Mutex<HashMap<ServerId, Weak<Locks>>>,
}

/// What keeps calls for one server apart.
#[derive(Debug, Default)]
struct Locks {
    /// Held by whoever makes or removes the server's directory or process.
    life: tokio::sync::Mutex<()>,
    /// Held by whoever talks to QEMU, which serves one client at a time.
    control: tokio::sync::Mutex<()>,
}

impl QemuDriver {
    /// Makes a driver and its directory. That QEMU is not installed shows at the first start, not here.
    pub async fn new(options: QemuOptions) -> Result<Self> {
        let shown = options.directory.display().to_string();
        let io = |source| Error::io(format!("make the directory `{shown}` for servers"), source);
        let directory = std::path::absolute(&options.directory).map_err(io)?;
        launch::make_directory(&directory).await.map_err(io)?;
        let options = QemuOptions { directory, ..options };
        Ok(Self { options, accelerator: OnceCell::new(), servers: Mutex::default() })
    }

    fn directory(&self, id: ServerId) -> PathBuf {
        self.options.directory.join(id.to_string())
    }

    fn locks(&self, id: ServerId) -> Arc<Locks> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        servers.retain(|_, locks| locks.strong_count() > 0);
        if let Some(locks) = servers.get(&id).and_then(Weak::upgrade) {
            return locks;
        }
        let locks = Arc::new(Locks::default());
        servers.insert(id, Arc::downgrade(&locks));
        locks
    }

    async fn accelerator(&self, qemu: &Path) -> Result<Accelerator> {
        match self.options.acceleration {
            Acceleration::Tcg => Ok(Accelerator::Tcg),
            Acceleration::Auto => Ok(*self.accelerator.get_or_init(|| self.choose_accelerator(qemu)).await),
            Acceleration::Kvm => self.accelerator.get_or_try_init(|| self.require_kvm(qemu)).await.copied(),
        }
    }

    async fn choose_accelerator(&self, qemu: &Path) -> Accelerator {
        match probe::probe_kvm(qemu, &self.options.directory).await {
            Ok(()) => {
                tracing::info!("servers run under KVM");
                Accelerator::Kvm
            }
            Err(reason) => {
                tracing::warn!(%reason, "servers run under TCG, which is slower: KVM does not run a guest here");
                Accelerator::Tcg
            }
        }
    }

    async fn require_kvm(&self, qemu: &Path) -> Result<Accelerator> {
        match probe::probe_kvm(qemu, &self.options.directory).await {
            Ok(()) => Ok(Accelerator::Kvm),
            Err(reason) => {
                Err(Error::new(ErrorKind::Failed, format!("KVM does not run a guest on this host: {reason}"))
                    .with_hint("choose the acceleration `auto` or `tcg`"))
            }
        }
    }

    /// Brings everything into place and starts QEMU. The caller holds the server's `life` lock.
    async fn launch(&self, spec: &ServerSpec, directory: &Path) -> Result<()> {
        let qemu = self.options.find_qemu()?;
        let qemu_img = self.options.find_qemu_img()?;
        let uefi = match spec.firmware {
            Firmware::Bios => None,
            Firmware::Uefi => Some(self.options.find_uefi()?),
        };
        let accelerator = self.accelerator(&qemu).await?;
        launch::prepare(spec, directory, uefi.as_ref().map(|(_, variables)| variables.as_path())).await?;
        root_disk::link_base(directory, &spec.base).await?;
        root_disk::ensure_overlay(&qemu_img, directory, &spec.base, spec.disk_bytes).await?;
        let uefi_code = uefi.as_ref().map(|(code, _)| code.as_path());
        let host = Host { accelerator, network: self.options.network, uefi_code };
        launch::run(&qemu, command::arguments(spec, &host), directory, spec.id).await
    }

    /// Returns whether the server has a process; its guest runs then, even if it was paused.
    async fn go_on(&self, id: ServerId, directory: &Path) -> Result<bool> {
        let Some(process) = Process::find(directory, id)? else { return Ok(false) };
        match self.ask(id, directory, &process).await? {
            Power::Running => {}
            Power::Paused { .. } => self.tell(id, directory, "cont").await?,
            Power::Off | Power::Absent => return Ok(false),
        }
        Ok(true)
    }

    /// Asks QEMU how its guest is; a process that ends meanwhile is `Off`.
    async fn ask(&self, id: ServerId, directory: &Path, process: &Process) -> Result<Power> {
        let locks = self.locks(id);
        let _held = locks.control.lock().await;
        let give_up = Instant::now() + CLOSE_LIMIT;
        loop {
            match query(directory).await {
                Ok(power) => return Ok(power),
                Err(_) if process.has_ended() => return Ok(Power::Off),
                // The control socket appears a moment after the process and goes a moment before it.
                Err(error) if error.kind() == ErrorKind::Io && Instant::now() < give_up => {
                    process.ends_within(RETRY_POLL).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a command that needs no answer beyond "done".
    async fn tell(&self, id: ServerId, directory: &Path, command: &str) -> Result<()> {
        let locks = self.locks(id);
        let _held = locks.control.lock().await;
        Qmp::connect(directory).await?.execute(command).await.map(drop)
    }

    /// Presses the power button and waits; returns whether the guest powered off.
    async fn stop_softly(&self, id: ServerId, directory: &Path, process: &Process) -> bool {
        match self.ask(id, directory, process).await {
            Ok(Power::Running) => {}
            Ok(Power::Off | Power::Absent) => return true,
            // Nobody is there to see the button: the guest's processors stand still, or QEMU is mute.
            Ok(Power::Paused { .. }) | Err(_) => return false,
        }
        if let Err(error) = self.tell(id, directory, "system_powerdown").await {
            tracing::debug!(server = %id, %error, "the power button could not be pressed");
            return process.has_ended();
        }
        process.ends_within(self.options.soft_stop).await
    }
}

#[async_trait]
impl Driver for QemuDriver {
    async fn start(&self, spec: &ServerSpec) -> Result<()> {
        spec.check()?;
        let locks = self.locks(spec.id);
        let _held = locks.life.lock().await;
        let directory = self.directory(spec.id);
        if self.go_on(spec.id, &directory).await? {
            return Ok(());
        }
        match self.launch(spec, &directory).await {
            // A QEMU that another Molde spawned, perhaps just before it was killed, may have been faster.
            Err(error) if self.go_on(spec.id, &directory).await.unwrap_or(false) => {
                tracing::info!(server = %spec.id, %error, "another process of this server was faster");
                Ok(())
            }
            launched => launched,
        }
    }

    async fn stop(&self, id: ServerId, how: Stop) -> Result<()> {
        let locks = self.locks(id);
        let directory = self.directory(id);
        let process = {
            // A start under way is waited for, so that what it makes is stopped as well.
            let _held = locks.life.lock().await;
            Process::find(&directory, id)?
        };
        let Some(process) = process else { return Ok(()) };
        if how == Stop::Soft && self.stop_softly(id, &directory, &process).await {
            return Ok(());
        }
        process.signal(Signal::TERM)?;
        if process.ends_within(CLOSE_LIMIT).await {
            return Ok(());
        }
        tracing::warn!(server = %id, pid = process.pid(), "QEMU does not close its files; it is killed");
        process.kill().await
    }

    async fn delete(&self, id: ServerId) -> Result<()> {
        let locks = self.locks(id);
        let _held = locks.life.lock().await;
        let directory = self.directory(id);
        if let Some(process) = Process::find(&directory, id)? {
            process.kill().await?;
        }
        match tokio::fs::remove_dir_all(&directory).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("remove the directory of server {id}"), error))
            }
            _ => Ok(()),
        }
    }

    async fn power(&self, id: ServerId) -> Result<Power> {
        let directory = self.directory(id);
        let io = |source| Error::io(format!("look for server {id}"), source);
        if !tokio::fs::try_exists(&directory).await.map_err(io)? {
            return Ok(Power::Absent);
        }
        console::trim(&directory).map_err(|source| Error::io(format!("trim the console of server {id}"), source))?;
        match Process::find(&directory, id)? {
            Some(process) => self.ask(id, &directory, &process).await,
            None => Ok(Power::Off),
        }
    }

    async fn console(&self, id: ServerId, last_bytes: usize) -> Result<Vec<u8>> {
        let directory = self.directory(id);
        let io = |source| Error::io(format!("read the console of server {id}"), source);
        if !tokio::fs::try_exists(&directory).await.map_err(io)? {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no server {id} on this host")));
        }
        tokio::task::spawn_blocking(move || console::tail(&directory, last_bytes))
            .await
            .map_err(io::Error::other)
            .and_then(|tail| tail)
            .map_err(io)
    }

    async fn adopt(&self) -> Result<Vec<(ServerId, Power)>> {
        let io = |source| Error::io("list the servers of this host", source);
        let mut entries = tokio::fs::read_dir(&self.options.directory).await.map_err(io)?;
        let mut ids: Vec<ServerId> = Vec::new();
        while let Some(entry) = entries.next_entry().await.map_err(io)? {
            let name = entry.file_name();
            let id: Option<ServerId> = name.to_str().and_then(|name| name.parse().ok());
            // An id has two spellings, a directory only the one that `directory` writes.
            ids.extend(id.filter(|&id| *self.directory(id) == *entry.path()));
        }
        ids.sort_unstable();
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            match self.power(id).await {
                Ok(Power::Absent) => {}
                Ok(power) => found.push((id, power)),
                // One mute QEMU must not hide the others. It has a directory, and is not known to be off.
                Err(error) => {
                    tracing::warn!(server = %id, %error, "adopted, but its state is not known");
                    found.push((id, Power::Paused { reason: format!("its state is not known: {error}") }));
                }
            }
        }
        Ok(found)
    }
}

/// Asks the QEMU of the server in `directory` how its guest is.
async fn query(directory: &Path) -> Result<Power> {
    let mut qmp = Qmp::connect(directory).await?;
    let status = qmp.execute("query-status").await?;
    Ok(match status.get("status").and_then(Value::as_str) {
        Some("running") => Power::Running,
        Some("io-error") => Power::Paused { reason: disk_fault(&qmp.execute("query-block").await?) },
        status => Power::Paused { reason: paused_because(status).into() },
    })
}

fn disk_fault(blocks: &Value) -> String {
    let disks = blocks.as_array().map(Vec::as_slice).unwrap_or_default();
    let full = disks.iter().any(|disk| disk.get("io-status").and_then(Value::as_str) == Some("nospace"));
    if full { "this host has no space left for its disk" } else { "reading or writing its disk failed on this host" }
        .into()
}

fn paused_because(status: Option<&str>) -> &'static str {
    match status {
        Some("internal-error") => "the emulator met an instruction or state that it cannot execute",
        Some("guest-panicked") => "the guest's kernel panicked",
        Some("suspended") => "the guest suspended itself to memory",
        Some("shutdown") => "the guest powered off and its process is about to end",
        Some("prelaunch") => "its process is about to start it",
        _ => "its processors were stopped on this host",
    }
}
