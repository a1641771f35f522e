//! From a checked specification to a QEMU that answers: the server's files, the process, the wait.

use std::fs::File;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use model::ServerId;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::command::{CONFIG_DRIVE, UEFI_VARIABLES};
use super::console;
use super::qmp::Qmp;
use crate::{Error, ErrorKind, Result, ServerSpec};

const QEMU_LOG: &str = "qemu.log";
/// Longest time from spawning QEMU to its first answer; it is 0.2 s on an idle host.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How often a starting QEMU is looked at: it announces its control socket to nobody.
const START_POLL: Duration = Duration::from_millis(20);

/// Makes the server's directory, its config drive and, from the empty ones, its UEFI variables.
pub(super) async fn prepare(spec: &ServerSpec, directory: &Path, empty_variables: Option<&Path>) -> Result<()> {
    let io = |source| Error::io(format!("prepare the directory of server {}", spec.id), source);
    make_directory(directory).await.map_err(io)?;
    replace(directory, CONFIG_DRIVE, &spec.config_drive.image()?).await.map_err(io)?;
    let Some(empty) = empty_variables else { return Ok(()) };
    if tokio::fs::try_exists(directory.join(UEFI_VARIABLES)).await.map_err(io)? {
        return Ok(());
    }
    let empty = tokio::fs::read(empty).await.map_err(io)?;
    replace(directory, UEFI_VARIABLES, &empty).await.map_err(io)
}

/// Starts QEMU and waits until it answers; one that does not is ended.
pub(super) async fn run(qemu: &Path, arguments: Vec<String>, directory: &Path, id: ServerId) -> Result<()> {
    let mut child = spawn(qemu, arguments, directory).map_err(|source| Error::io("start QEMU", source))?;
    let ready = wait_until_ready(&mut child, directory).await;
    match &ready {
        Ok(()) => tracing::info!(server = %id, pid = child.id(), "started"),
        // It may still be alive and mute. When it has ended already, there is nothing to kill.
        Err(_) => drop(child.start_kill()),
    }
    reap(child, id);
    ready
}

fn spawn(qemu: &Path, arguments: Vec<String>, directory: &Path) -> io::Result<Child> {
    let log = File::create(directory.join(QEMU_LOG))?;
    Command::new(qemu)
        .args(arguments)
        .current_dir(directory)
        // Nothing of Molde's environment, which may hold secrets, reaches a process that a guest may take over.
        .env_clear()
        .env("LC_ALL", "C")
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

async fn wait_until_ready(child: &mut Child, directory: &Path) -> Result<()> {
    let give_up = Instant::now() + START_LIMIT;
    loop {
        let status = child.try_wait().map_err(|source| Error::io("wait for QEMU", source))?;
        if let Some(status) = status {
            return Err(did_not_start(directory, &format!("it ended with {status}")));
        }
        match Qmp::connect(directory).await {
            Ok(_) => return Ok(()),
            Err(_) if Instant::now() < give_up => tokio::time::sleep(START_POLL).await,
            Err(_) => return Err(did_not_start(directory, "it does not answer on its control socket")),
        }
    }
}

/// Collects the child's exit status when it ends, as a parent must, and logs it.
fn reap(mut child: Child, id: ServerId) {
    tokio::spawn(async move {
        match child.wait().await {
            Ok(status) if status.success() => tracing::info!(server = %id, "ended"),
            Ok(status) => tracing::warn!(server = %id, %status, "ended"),
            Err(error) => tracing::warn!(server = %id, %error, "cannot wait for the process"),
        }
    });
}

/// Says why QEMU did not start, in its own words where it left some.
fn did_not_start(directory: &Path, otherwise: &str) -> Error {
    let log = console::tail_of(&directory.join(QEMU_LOG), 4096).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let last = log.lines().map(str::trim).rfind(|line| !line.is_empty());
    // The line begins with the program's name.
    let why = last.map_or(otherwise, |line| line.split_once(": ").map_or(line, |(_, message)| message));
    let error = Error::new(ErrorKind::Failed, format!("QEMU did not start: {why}"));
    if why.contains("host forwarding") {
        return error.with_hint("the port is taken on this host; choose another one to forward");
    }
    error.with_hint(format!("the whole message is in `{}`", directory.join(QEMU_LOG).display()))
}

/// Makes a directory, and those above it, for this user alone.
pub(super) async fn make_directory(directory: &Path) -> io::Result<()> {
    let directory = directory.to_owned();
    let make = move || std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    tokio::task::spawn_blocking(make).await.map_err(io::Error::other)?
}

/// Writes a file in one step, so that a crash leaves the old one or the new one.
async fn replace(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = directory.join(format!("{name}.new"));
    tokio::fs::write(&unfinished, bytes).await?;
    tokio::fs::rename(unfinished, directory.join(name)).await
}
