//! Certificates made by openssl: an authority, a server and a client of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nbd::Tls;
use tempfile::TempDir;

/// A folder with `ca-cert.pem`, `server-*.pem` and `client-*.pem`, the names that QEMU and libnbd look for.
pub(crate) struct Certificates(TempDir);

impl Certificates {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(
            folder.path().join("extensions"),
            "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n",
        )
        .unwrap();
        let made = Self(folder);
        let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout";
        made.openssl(&format!("req -x509 {new_key} ca-key.pem -out ca-cert.pem -days 2 -subj /CN=authority"));
        for name in ["server", "client"] {
            made.openssl(&format!("req -new {new_key} {name}-key.pem -out {name}.csr -subj /CN=localhost"));
            made.openssl(&format!(
                "x509 -req -in {name}.csr -CA ca-cert.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile extensions \
                 -out {name}-cert.pem"
            ));
        }
        made
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.folder())
            .output()
            .unwrap_or_else(|error| panic!("openssl is needed by these tests (Debian package openssl): {error}"));
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Returns what a server of these is set up with.
    pub(crate) fn tls(&self) -> Tls {
        Tls::from_files(&self.path("server-cert.pem"), &self.path("server-key.pem"), None).unwrap()
    }

    /// The same for a server that wants clients of the authority in `client_ca`.
    pub(crate) fn tls_for_clients_of(&self, client_ca: &Path) -> Tls {
        Tls::from_files(&self.path("server-cert.pem"), &self.path("server-key.pem"), Some(client_ca)).unwrap()
    }
}
