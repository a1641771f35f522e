//! Servers that nobody here wrote, object stores and a database, each a process of its own on the loopback address while a test runs.

mod azurite;
mod ceph;
mod moto;
mod postgres;

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::{S3, command, wait_for};

pub use azurite::Azurite;
pub use ceph::Ceph;
pub use moto::Moto;
pub use postgres::Postgres;

/// A process of a peer. It ends with the value, and with the thread that started it.
struct Process {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Process {
    /// Starts a command; what it says goes into `NAME.log` in `folder`.
    fn start(name: &str, folder: &Path, program: &mut Command) -> Self {
        let log = folder.join(format!("{name}.log"));
        let mut started = command("setpriv", ["--pdeathsig=KILL", "--"]);
        started.arg(program.get_program()).args(program.get_args()).current_dir(folder);
        started.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let said = File::options().create(true).append(true).open(&log).unwrap();
        started.stdout(said.try_clone().unwrap()).stderr(said).stdin(Stdio::null());
        let child = started.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { child, name: name.to_owned(), log }
    }

    /// Waits until something accepts connections on the port.
    #[track_caller]
    fn wait_until_listening(&mut self, port: u16) {
        wait_for(&format!("{} listens", self.name), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                panic!("{} ended with {status}: {said}\n`cargo xtask test` installs what the tests need", self.name);
            }
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn kill9(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Returns a port on which nothing listens.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Returns where the Python clients are: `MOLDE_CLIENTS`, or where `cargo xtask clients` puts them.
#[must_use]
pub fn clients() -> PathBuf {
    std::env::var_os("MOLDE_CLIENTS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/clients")), PathBuf::from)
}

/// Returns where the peers of the slow tests are: `MOLDE_PEERS`, or where `cargo xtask test --slow` puts them.
fn installed() -> PathBuf {
    std::env::var_os("MOLDE_PEERS")
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/peers")), PathBuf::from)
}

/// Makes a bucket on an S3 service.
#[track_caller]
fn make_bucket(s3: &S3, bucket: &str) {
    let answer = s3.send(crate::Request { method: "PUT", bucket, ..crate::Request::default() }, b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Makes a bucket on an S3 service keep old versions.
#[track_caller]
fn make_versioned(s3: &S3, bucket: &str) {
    let body = b"<VersioningConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <Status>Enabled</Status></VersioningConfiguration>";
    let request = crate::Request { method: "PUT", bucket, query: "versioning=", ..crate::Request::default() };
    let answer = s3.send(request, body);
    assert_eq!(answer.status, 200, "{}", answer.text());
}
