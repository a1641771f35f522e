//! Keys and signatures by GnuPG, which shares no code with what verifies them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{command, run, tool};

/// One key and what it signs. Its home is gone with the value.
pub struct Signer {
    home: TempDir,
    /// Forty hexadecimal digits.
    pub fingerprint: String,
}

impl Signer {
    /// Makes a key, of a kind such as `ed25519` or `rsa2048`, that never expires.
    #[must_use]
    pub fn new(kind: &str) -> Self {
        Self::with(&["--quick-gen-key", "Mirror <mirror@example.org>", kind, "sign", "never"])
    }

    /// Makes a key of the year 2020 that lives for so long, such as `1y` or `never`.
    #[must_use]
    pub fn of_2020(life: &str) -> Self {
        let words = ["--quick-gen-key", "Mirror <mirror@example.org>", "ed25519", "sign", life];
        Self::with(&[&["--faked-system-time", "20200101T000000!"], &words[..]].concat())
    }

    fn with(generate: &[&str]) -> Self {
        let home = tempfile::Builder::new().prefix("gpg-").tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let mut signer = Self { home, fingerprint: String::new() };
        signer.gpg(generate);
        let listed = signer.gpg(&["--with-colons", "--list-keys"]);
        let line = listed.lines().find(|line| line.starts_with("fpr:")).expect("gpg (Debian package gnupg) made a key");
        signer.fingerprint = line.split(':').nth(9).unwrap().to_owned();
        signer
    }

    /// Runs gpg in the home of the key.
    #[track_caller]
    pub fn gpg(&self, words: &[&str]) -> String {
        let home = self.home.path().to_str().unwrap();
        let usual =
            ["--homedir", home, "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""];
        tool("gpg", [&usual[..], words].concat())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Returns the public key, armored.
    #[must_use]
    pub fn key(&self) -> String {
        self.gpg(&["--armor", "--export", &self.fingerprint])
    }

    /// Returns `text` with its signature around it; `more` are options of gpg.
    #[must_use]
    pub fn clearsigned(&self, text: &str, more: &[&str]) -> String {
        self.signed("--clearsign", text.as_bytes(), more, |path| fs::read_to_string(path).unwrap())
    }

    /// Returns the signature of `bytes`, not armored.
    #[must_use]
    pub fn detached(&self, bytes: &[u8], more: &[&str]) -> Vec<u8> {
        self.signed("--detach-sign", bytes, more, |path| fs::read(path).unwrap())
    }

    fn signed<T>(&self, verb: &str, bytes: &[u8], more: &[&str], read: impl FnOnce(&Path) -> T) -> T {
        let (from, to) = (self.file("text"), self.file("signed"));
        fs::write(&from, bytes).unwrap();
        let words = [more, &["--output", to.to_str().unwrap(), verb, from.to_str().unwrap()]].concat();
        self.gpg(&words);
        read(&to)
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        // The agent that gpg started would outlive its home.
        run(&mut command("gpgconf", ["--homedir", self.home.path().to_str().unwrap(), "--kill", "gpg-agent"]));
    }
}
