//! moto: an S3 service in Python, in memory, that starts in half a second.

use rustix::process::Signal;
use tempfile::TempDir;

use super::{Process, clients, free_port};
use crate::{S3, command};

/// A running moto. It takes any keys.
pub struct Moto {
    process: Process,
    port: u16,
    _folder: TempDir,
}

impl Moto {
    /// Starts moto.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("molde-moto-").tempdir().unwrap();
        let (port, program) = (free_port(), clients().join("bin/python"));
        assert!(program.exists(), "`{}` is not there: run `cargo xtask clients` first", program.display());
        let mut moto = command(program, ["-c", include_str!("moto.py"), "-H", "127.0.0.1", "-p"]);
        let mut process = Process::start("moto", folder.path(), moto.arg(port.to_string()));
        process.wait_until_listening(port);
        Self { process, port, _folder: folder }
    }

    /// Returns its address.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, name: &str) {
        super::make_bucket(&self.s3(), name);
    }

    /// Makes a bucket keep old versions.
    pub fn make_versioned(&self, name: &str) {
        super::make_versioned(&self.s3(), name);
    }

    /// Returns a client.
    #[must_use]
    pub fn s3(&self) -> S3 {
        let host = format!("127.0.0.1:{}", self.port);
        S3 { host, region: "us-east-1".into(), access_key: "testkey".into(), secret_key: "testsecret".into() }
    }

    /// Stops moto where it stands: it still accepts connections and no longer answers.
    pub fn freeze(&self) {
        self.process.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.signal(Signal::CONT);
    }

    /// Kills it (SIGKILL), and with it what it held.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }
}
