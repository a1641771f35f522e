//! The real binary: served on a data directory of its own, spoken to through its own commands.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{command, interrupt};

/// How long the server may take to say that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to finish what it does after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// A running `molde serve`. It is stopped when this is dropped.
pub(crate) struct Server {
    binary: PathBuf,
    data: PathBuf,
    child: Child,
    /// Where the REST dialects are served.
    pub(crate) api: String,
    /// Where buckets are served.
    pub(crate) s3: String,
}

impl Server {
    /// Starts the server on the new directory `data`, with free ports, and waits until it is ready.
    pub(crate) fn start(binary: &Path, data: &Path) -> Result<Server> {
        Self::start_with(binary, data, "")
    }

    /// Starts it with `config` as its `molde.toml`.
    pub(crate) fn start_with(binary: &Path, data: &Path, config: &str) -> Result<Server> {
        fs::create_dir_all(data).with_context(|| format!("cannot create {}", data.display()))?;
        let log = File::create(log_of(data)).context("cannot create the server's log")?;
        let told = data.with_extension("toml");
        fs::write(&told, config).with_context(|| format!("cannot write {}", told.display()))?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--data").arg(data).arg("--config").arg(told);
        command.args(["--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0"]);
        // A group of its own: Ctrl-C is heard here first, and the server is then stopped in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().with_context(|| format!("cannot start `{} serve`", binary.display()))?;
        let lines = lines_of(child.stdout.take().context("the server has no standard output")?);
        let mut server =
            Server { binary: binary.into(), data: data.into(), child, api: String::new(), s3: String::new() };
        (server.api, server.s3) = server.wait_until_ready(&lines)?;
        Ok(server)
    }

    /// A command of the binary, with the credentials of this server.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("MOLDE_CREDENTIALS", self.data.join("credentials.json"));
        command
    }

    /// The binary.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }

    /// The data directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The most memory that the server ever had, in MiB.
    pub(crate) fn memory_peak(&self) -> Result<f64> {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.child.id())).context("no figures of the server")?;
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")?.trim().parse::<f64>().ok());
        peak.map(|kibibytes| kibibytes / 1024.0).context("the server's peak of memory is not told")
    }

    /// The last lines of the server's log.
    pub(crate) fn log_tail(&self) -> String {
        log_tail(&self.data)
    }

    /// Fails when the server has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the server ended by itself: {status}"),
            None => Ok(()),
        }
    }

    /// Asks the server to end, waits, and returns how it ended. Guests that outlive it are ended too.
    pub(crate) fn stop(&mut self) -> Result<ExitStatus> {
        if self.child.try_wait()?.is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM).context("cannot signal the server")?;
        }
        let status = command::wait(&mut self.child, STOP_WITHIN);
        // Also after a server that ended by itself.
        end_guests_of(&self.data);
        let Some(status) = status? else {
            self.child.kill().context("cannot kill the server")?;
            self.child.wait()?;
            bail!("the server did not end within {} s of SIGTERM and was killed", STOP_WITHIN.as_secs());
        };
        Ok(status)
    }

    fn wait_until_ready(&mut self, lines: &mpsc::Receiver<String>) -> Result<(String, String)> {
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            interrupt::check()?;
            match lines.recv_timeout(Duration::from_millis(50)) {
                Ok(line) => return addresses(&line).with_context(|| format!("not the line of readiness: `{line}`")),
                Err(_) => self.check()?,
            }
        }
        bail!("the server was not ready after {} s", READY_WITHIN.as_secs());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            command::report(&error);
        }
    }
}

/// The last lines that a server on `data` logged.
pub(crate) fn log_tail(data: &Path) -> String {
    let text = fs::read(log_of(data)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

fn log_of(data: &Path) -> PathBuf {
    data.with_extension("log")
}

/// `molde is ready: api URL s3 URL` -> the two URLs.
fn addresses(line: &str) -> Option<(String, String)> {
    let rest = line.strip_prefix("molde is ready: api ")?;
    let (api, s3) = rest.split_once(" s3 ")?;
    Some((api.to_owned(), s3.trim().to_owned()))
}

fn lines_of(output: impl std::io::Read + Send + 'static) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Reading goes on when nobody listens any more, so that the server never waits for its reader.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// Ends the QEMU processes that work inside `data` or name a file there: guests outlive their server by design.
fn end_guests_of(data: &Path) {
    let Some(needle) = data.to_str() else { return };
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw) else {
            continue;
        };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let works_there = fs::read_link(entry.path().join("cwd")).is_ok_and(|folder| folder.starts_with(data));
        let line = String::from_utf8_lossy(&line);
        let program = line.split('\0').next().unwrap_or_default();
        let is_guest = program.rsplit('/').next().is_some_and(|name| name.starts_with("qemu-system"));
        if is_guest && (works_there || line.contains(&format!("{needle}/"))) {
            println!("ending a guest that was left over: process {}", pid.as_raw_nonzero());
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_readiness_names_two_addresses() {
        let line = "molde is ready: api http://127.0.0.1:9292 s3 http://127.0.0.1:9000";
        assert_eq!(addresses(line), Some(("http://127.0.0.1:9292".into(), "http://127.0.0.1:9000".into())));
        assert_eq!(addresses("listening"), None);
    }
}
