//! Azurite: Microsoft's emulator of Azure Blob Storage, in memory.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::blocking::Client;
use sha2::Sha256;
use tempfile::TempDir;

use super::{Process, free_port, installed};
use crate::command;

const VERSION: &str = "2023-11-03";

/// A running Azurite with its one account, which Microsoft's documentation publishes.
pub struct Azurite {
    _process: Process,
    port: u16,
    _folder: TempDir,
}

impl Azurite {
    /// The account.
    pub const ACCOUNT: &str = "devstoreaccount1";
    /// Its key.
    pub const KEY: &str = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

    /// Starts Azurite.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("molde-azurite-").tempdir().unwrap();
        let (port, program) = (free_port(), installed().join("npm/node_modules/.bin/azurite-blob"));
        assert!(program.exists(), "`{}` is not there: `cargo xtask test --slow` installs it", program.display());
        let mut azurite = command(program, ["--blobHost", "127.0.0.1", "--inMemoryPersistence", "--disableTelemetry"]);
        azurite.args(["--skipApiVersionCheck", "--silent", "--blobPort"]).arg(port.to_string());
        let mut process = Process::start("azurite", folder.path(), &mut azurite);
        process.wait_until_listening(port);
        Self { _process: process, port, _folder: folder }
    }

    /// Returns the address of the account.
    #[must_use]
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}/{}", self.port, Self::ACCOUNT)
    }

    /// Makes a container.
    pub fn make_container(&self, name: &str) {
        let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        // Eleven standard headers are empty, then come those of Azure and the resource with its account.
        let account = Self::ACCOUNT;
        let text = format!(
            "PUT{}x-ms-date:{date}\nx-ms-version:{VERSION}\n/{account}/{account}/{name}\nrestype:container",
            "\n".repeat(12)
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(Self::KEY).unwrap()).unwrap();
        mac.update(text.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let answer = Client::new()
            .put(format!("{}/{name}?restype=container", self.address()))
            .header("x-ms-date", date)
            .header("x-ms-version", VERSION)
            .header("Authorization", format!("SharedKey {account}:{signature}"))
            .header("Content-Length", 0)
            .send()
            .unwrap();
        assert_eq!(answer.status(), 201, "{}", answer.text().unwrap());
    }
}
