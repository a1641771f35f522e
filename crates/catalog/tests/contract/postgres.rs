//! A throw-away PostgreSQL cluster, and a run of promises on it.
//!
//! The cluster sorts text by the rules of English, not bytewise, so that a column that forgot its
//! collation is found out. It has a socket in its own folder and no port.

use std::fs;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use catalog::Catalog;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Promises that run at once.
const WIDTH: usize = 4;

pub(crate) struct Cluster {
    programs: PathBuf,
    folder: tempfile::TempDir,
    server: Option<Child>,
}

impl Cluster {
    /// Makes and starts a cluster; panics with a sentence if PostgreSQL is not installed.
    pub(crate) fn start() -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("molde-pg-").tempdir().unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(folder.path()));
        }
        let mut cluster = Self { programs, folder, server: None };
        run(cluster
            .command("initdb")
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"])
            .args(["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en", "--pgdata"])
            .arg(cluster.data()));
        let log = fs::File::create(cluster.folder.path().join("log")).unwrap();
        let server = cluster
            .command("postgres")
            .args(["-c", "fsync=off", "-c", "listen_addresses=", "-c", "max_connections=200"])
            .arg("-c")
            .arg(format!("unix_socket_directories={}", cluster.folder.path().display()))
            .arg("-D")
            .arg(cluster.data())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        cluster.server = Some(server);
        cluster.wait_until_ready();
        cluster
    }

    /// Makes an empty database and returns its address.
    pub(crate) fn database(&self, name: &str) -> String {
        run(self.command("createdb").args(["--username=postgres", "--host"]).arg(self.folder.path()).arg(name));
        self.url(name)
    }

    pub(crate) fn url(&self, database: &str) -> String {
        let host = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@localhost/{database}?host={host}")
    }

    fn data(&self) -> PathBuf {
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

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = self.command("pg_ctl");
        let _ = stop.args(["stop", "--mode=immediate", "--silent", "--pgdata"]).arg(self.data()).status();
        if let Some(mut server) = self.server.take() {
            let _ = server.wait();
        }
    }
}

/// Promises on their way, each in a database of its own.
pub(crate) struct Run<'a> {
    cluster: &'a Cluster,
    turns: Arc<Semaphore>,
    promises: Vec<(&'static str, JoinHandle<()>)>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, turns: Arc::new(Semaphore::new(WIDTH)), promises: Vec::new() }
    }

    pub(crate) fn add<F>(&mut self, name: &'static str, promise: fn(Catalog) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let url = self.cluster.database(&name.replace("::", "_"));
        let turns = self.turns.clone();
        let task = tokio::spawn(async move {
            let _turn = turns.acquire_owned().await.unwrap();
            let catalog = Catalog::connect(&url).await.unwrap();
            promise(catalog.clone()).await;
            catalog.close().await;
        });
        self.promises.push((name, task));
    }

    /// Waits for all and fails with the names of those that were not kept.
    pub(crate) async fn finish(self) {
        let mut broken = Vec::new();
        for (name, task) in self.promises {
            if let Err(error) = task.await {
                eprintln!("PostgreSQL: {name}: {error}");
                broken.push(name);
            }
        }
        assert!(broken.is_empty(), "PostgreSQL breaks: {}", broken.join(", "));
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

/// Runs `psql` of the cluster, a client that nobody here wrote, and returns what it prints.
pub(crate) fn psql(cluster: &Cluster, database: &str, statement: &str) -> String {
    let mut command = cluster.command("psql");
    command.args(["--username=postgres", "--no-psqlrc", "--tuples-only", "--no-align", "--dbname", database, "--host"]);
    let output = command.arg::<&Path>(cluster.folder.path()).args(["--command", statement]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
