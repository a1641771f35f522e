//! A throw-away PostgreSQL cluster.
//!
//! It sorts text by the rules of English, not bytewise, so that a column that forgot its collation is found out. It has a
//! socket in its own folder and no port.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A cluster of its own, for as long as the value lives.
pub struct Postgres {
    programs: PathBuf,
    folder: tempfile::TempDir,
    settings: Vec<String>,
    server: Option<Child>,
}

impl Postgres {
    /// Makes and starts a cluster that need not outlive a crash of the machine; panics with a sentence if PostgreSQL is
    /// not installed.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&["fsync=off"])
    }

    /// Makes and starts a cluster with these settings.
    #[must_use]
    pub fn start_with(settings: &[&str]) -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("molde-pg-").tempdir().unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(folder.path()));
        }
        let settings = settings.iter().map(ToString::to_string).collect();
        let mut cluster = Self { programs, folder, settings, server: None };
        run(cluster
            .command("initdb")
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"])
            .args(["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en", "--pgdata"])
            .arg(cluster.data()));
        cluster.launch();
        cluster
    }

    fn launch(&mut self) {
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        let server = self
            .command("postgres")
            .args(["-c", "listen_addresses=", "-c", "max_connections=200"])
            .args(self.settings.iter().flat_map(|setting| ["-c", setting]))
            .arg("-c")
            .arg(format!("unix_socket_directories={}", self.folder.path().display()))
            .arg("-D")
            .arg(self.data())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.server = Some(server);
        self.wait_until_ready();
    }

    /// Stops it as an operator does, and starts it again.
    pub fn restart(&mut self) {
        self.stop("fast");
        self.launch();
    }

    fn stop(&mut self, mode: &str) {
        let mut stop = self.command("pg_ctl");
        let _ = stop.args(["stop", "--mode", mode, "--silent", "--pgdata"]).arg(self.data()).status();
        if let Some(mut server) = self.server.take() {
            let _ = server.wait();
        }
    }

    /// Makes an empty database and returns its address.
    #[must_use]
    pub fn database(&self, name: &str) -> String {
        run(self.command("createdb").args(["--username=postgres", "--host"]).arg(self.folder.path()).arg(name));
        self.url(name)
    }

    /// Returns the address of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let host = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@localhost/{database}?host={host}")
    }

    /// Runs `psql`, a client that nobody here wrote, and returns what it prints.
    pub fn psql(&self, database: &str, statement: &str) -> String {
        let mut command = self.command("psql");
        command.args([
            "--username=postgres",
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--dbname",
            database,
            "--host",
        ]);
        let output = command.arg::<&Path>(self.folder.path()).args(["--command", statement]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Returns the folder of its files.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Returns a command of PostgreSQL, which refuses to run as root, and which ends when this test does.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        if is_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
        }
        command.arg("--pdeathsig=INT").arg("--").arg(self.programs.join(program)).stdin(Stdio::null());
        command.current_dir(self.folder.path()).process_group(0);
        command
    }

    fn wait_until_ready(&mut self) {
        let begun = Instant::now();
        loop {
            let mut ready = self.command("pg_isready");
            let status = ready.arg("--host").arg(self.folder.path()).stdout(Stdio::null()).status().unwrap();
            if status.success() {
                return;
            }
            let ended = self.server.as_mut().unwrap().try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < Duration::from_secs(30),
                "PostgreSQL did not start: {}",
                fs::read_to_string(self.folder.path().join("log")).unwrap()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop("immediate");
    }
}

fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max();
    found.expect("these tests start a PostgreSQL of their own; install the Debian package `postgresql`")
}

fn is_root() -> bool {
    let mut status = String::new();
    fs::File::open("/proc/self/status").unwrap().read_to_string(&mut status).unwrap();
    status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
