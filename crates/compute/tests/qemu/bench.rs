//! A place to run servers in: a directory, a driver, specifications, and an end that leaves no process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use compute::{
    Acceleration, Base, ConfigDrive, Driver, Firmware, Power, QemuDriver, QemuOptions, ServerSpec, hostname_for,
};
use disk::Source;
use model::ServerId;
use tempfile::TempDir;

use crate::bases::Bases;
use crate::guest::{self, Mode};

/// Longest time for anything in a test. Generous, as a failing test is the only one that waits for it.
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Bench {
    pub(crate) driver: QemuDriver,
    pub(crate) options: QemuOptions,
    pub(crate) bases: Bases,
    scratch: TempDir,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// Makes a bench whose options `adjust` has changed.
    pub(crate) async fn with(adjust: impl FnOnce(&mut QemuOptions)) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let mut options = QemuOptions::new(scratch.path().join("servers"));
        options.acceleration = Acceleration::Tcg;
        adjust(&mut options);
        let bases = Bases::serve(scratch.path().join("nbd.sock"));
        Self { driver: QemuDriver::new(options.clone()).await.unwrap(), options, bases, scratch }
    }

    /// Returns a driver that knows nothing of the first one but its directory, as after a restart of Molde.
    pub(crate) async fn new_driver(&self) -> QemuDriver {
        QemuDriver::new(self.options.clone()).await.unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub(crate) fn directory(&self, id: ServerId) -> PathBuf {
        self.options.directory.join(id.to_string())
    }

    /// Returns a server whose guest does what `mode` says, on a base of its own.
    pub(crate) fn server(&self, mode: Mode) -> ServerSpec {
        self.server_on(guest::disk(mode, guest::COUNTER_SECTOR))
    }

    /// Returns a server on this base.
    pub(crate) fn server_on(&self, base: impl Source + 'static) -> ServerSpec {
        let id = ServerId::new();
        let base = self.bases.add(&format!("server/{id}"), base);
        server_on(base, id)
    }

    /// Runs a tool in a server's directory and returns its standard output; fails the test with what it said otherwise.
    pub(crate) fn run_in(&self, id: ServerId, program: &str, arguments: &str) -> Vec<u8> {
        let mut command = std::process::Command::new(program);
        finish(command.args(arguments.split(' ')).current_dir(self.directory(id)))
    }

    /// Waits until the server's console holds `text`.
    pub(crate) async fn wait_for_text(&self, id: ServerId, text: &str) {
        let shows = async || String::from_utf8_lossy(&self.driver.console(id, 4096).await.unwrap()).contains(text);
        until(&format!("console shows {text:?}"), shows).await;
    }

    /// Waits until the server's power is `power`.
    pub(crate) async fn wait_for_power(&self, id: ServerId, power: Power) {
        until(&format!("{power:?}"), async || self.driver.power(id).await.unwrap() == power).await;
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A test that failed half-way must not leave its guests running.
        for pid in qemu_processes(&self.options.directory.display().to_string()) {
            kill(pid);
        }
    }
}

pub(crate) fn server_on(base: Base, id: ServerId) -> ServerSpec {
    ServerSpec {
        id,
        name: "test".into(),
        vcpus: 1,
        ram_mib: 64,
        disk_bytes: 2 * guest::DISK_BYTES,
        base,
        firmware: Firmware::Bios,
        config_drive: ConfigDrive {
            hostname: hostname_for("test", id),
            user_data: None,
            ssh_keys: Vec::new(),
            meta: BTreeMap::new(),
            uuid: id.uuid(),
        },
        forwards: Vec::new(),
    }
}

/// Polls until `condition` holds; fails the test after [`LIMIT`].
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < LIMIT, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns the processes that are QEMU and have `needle` on their command line or in their working directory.
///
/// This reads `/proc` by itself, so that it can contradict the driver.
pub(crate) fn qemu_processes(needle: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let command_line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let working = std::fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let command_line = String::from_utf8_lossy(&command_line).into_owned();
        let is_qemu = command_line.split('\0').next().is_some_and(|program| program.contains("qemu-system"));
        if is_qemu && (command_line.contains(needle) || working.display().to_string().contains(needle)) {
            found.push(pid);
        }
    }
    found
}

/// Returns whether the process is there and no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

/// Kills the process, which may be gone already.
pub(crate) fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Runs a tool and returns its standard output; fails the test with what it said otherwise.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    finish(std::process::Command::new(program).args(arguments))
}

fn finish(command: &mut std::process::Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be run, is it installed? {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}{said}", String::from_utf8_lossy(&output.stdout));
    output.stdout
}

/// Returns the text of a path, for command lines.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
