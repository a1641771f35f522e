//! Keys and signatures by GnuPG, with subkeys, ends and revocations, against what is believed here.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::*;

/// A home of GnuPG with one key.
struct Gpg(TempDir);

impl Gpg {
    fn new(words: &[&str]) -> Self {
        let own = Self(tempfile::Builder::new().prefix("gpg-").tempdir().unwrap());
        own.run(words);
        own
    }

    /// A key that certifies and a subkey that signs for so long, both of 2020.
    fn with_subkey(life: &str) -> Self {
        let own = Self::new(&[AT_2020, &["--quick-gen-key", "A <a@example.org>", "ed25519", "cert", "never"]].concat());
        own.run(&[AT_2020, &["--quick-add-key", &own.fingerprint(), "ed25519", "sign", life]].concat());
        own
    }

    fn run(&self, words: &[&str]) -> Vec<u8> {
        let usual = ["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--homedir"];
        let done = Command::new("gpg").args(usual).arg(self.0.path()).args(words).output();
        let done = done.unwrap_or_else(|error| panic!("cannot run gpg of the Debian package gnupg: {error}"));
        assert!(done.status.success(), "gpg {words:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The fingerprints of the primary key and the subkeys.
    fn fingerprints(&self) -> Vec<String> {
        let listed = String::from_utf8(self.run(&["--with-colons", "--list-keys"])).unwrap();
        listed
            .lines()
            .filter(|line| line.starts_with("fpr:"))
            .map(|line| line.split(':').nth(9).unwrap().into())
            .collect()
    }

    fn fingerprint(&self) -> String {
        self.fingerprints()[0].clone()
    }

    fn key(&self) -> Key {
        let armored = String::from_utf8(self.run(&["--armor", "--export"])).unwrap();
        Key::read(&self.fingerprint(), &armored).unwrap()
    }

    fn sign(&self, words: &[&str]) -> Vec<u8> {
        let text = self.file("text");
        fs::write(&text, TEXT).unwrap();
        let signed = self.file("signed");
        self.run(&[&["--output", signed.to_str().unwrap()], words, &[text.to_str().unwrap()]].concat());
        fs::read(signed).unwrap()
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // The agent that gpg started would outlive its home.
        Command::new("gpgconf").arg("--homedir").arg(self.0.path()).args(["--kill", "gpg-agent"]).status().unwrap();
    }
}

const TEXT: &[u8] = b"a text  \n- with a dash\nand more";
const AT_2020: &[&str] = &["--faked-system-time", "20200201T000000!"];
const DETACH: &[&str] = &["--detach-sign"];

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-01T00:00:00Z")
}

#[track_caller]
fn doubted(signature: &[u8], key: Key, when: Timestamp, words: &str) {
    let told = detached(TEXT, signature, &[key], when).unwrap_err().to_string();
    assert!(told.contains(words), "`{told}` does not say `{words}`");
}

#[test]
fn a_subkey_signs_for_its_primary_key() {
    let gpg = Gpg::with_subkey("2y");
    let signature = gpg.sign(&[AT_2020, DETACH].concat());
    let found = detached(TEXT, &signature, &[gpg.key()], at("2021-01-01T00:00:00Z")).unwrap();
    assert_eq!(found, Signed { by: gpg.fingerprint(), at: at("2020-02-01T00:00:00Z") });
    doubted(&signature, gpg.key(), now(), "the key has expired");
    doubted(&signature, Gpg::with_subkey("never").key(), now(), "signed by another key");
    // The subkey's own fingerprint is not what is pinned.
    let armored = String::from_utf8(gpg.run(&["--armor", "--export"])).unwrap();
    assert!(Key::read(&gpg.fingerprints()[1], &armored).is_err());
}

#[test]
fn a_subkey_that_was_not_bound_does_not_sign() {
    let gpg = Gpg::with_subkey("never");
    let signature = gpg.sign(&[AT_2020, DETACH].concat());
    assert!(detached(TEXT, &signature, &[gpg.key()], now()).is_ok());
    // Somebody else's primary key, to which the same subkey was put.
    let other = Gpg::with_subkey("never");
    let (mut thief, own) = (other.key(), gpg.key());
    thief.public.public_subkeys = own.public.public_subkeys;
    doubted(&signature, thief, now(), "not one over this text");
}

#[test]
fn what_was_revoked_does_not_sign() {
    let gpg = Gpg::with_subkey("never");
    let signature = gpg.sign(&[AT_2020, DETACH].concat());
    let edit = gpg.file("edit");
    fs::write(&edit, "key 1\nrevkey\ny\n0\n\ny\nsave\n").unwrap();
    let commands = ["--command-file", edit.to_str().unwrap(), "--edit-key", &gpg.fingerprint()];
    gpg.run(&commands);
    doubted(&signature, gpg.key(), now(), "the key was revoked");

    let gpg = Gpg::new(&["--quick-gen-key", "A <a@example.org>", "rsa2048", "sign", "never"]);
    let signature = gpg.sign(DETACH);
    let far = at("2100-01-01T00:00:00Z");
    assert!(detached(TEXT, &signature, &[gpg.key()], far).is_ok());
    // GnuPG keeps a revocation beside each new key, with a colon before it so that nobody imports it by mistake.
    let kept = gpg.file("openpgp-revocs.d").join(format!("{}.rev", gpg.fingerprint()));
    let revocation = fs::read_to_string(kept).unwrap().replace(":-----BEGIN", "-----BEGIN");
    fs::write(gpg.file("revocation"), revocation).unwrap();
    gpg.run(&["--import", gpg.file("revocation").to_str().unwrap()]);
    doubted(&signature, gpg.key(), far, "the key was revoked");
}

#[test]
fn what_is_signed_is_what_comes_out() {
    let gpg = Gpg::new(&["--quick-gen-key", "A <a@example.org>", "ed25519", "sign", "never"]);
    let far = at("2100-01-01T00:00:00Z");
    let message = String::from_utf8(gpg.sign(&["--clearsign"])).unwrap();
    let (text, found) = clearsigned(&message, &[gpg.key()], far).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), ["a text", "- with a dash", "and more"]);
    assert_eq!(found.by, gpg.fingerprint());
    // Any byte but those of line ends and of what is not signed makes it void, and none makes a panic.
    let end = message.find("-----BEGIN PGP SIGNATURE").unwrap();
    for at in message.find("a text").unwrap()..end {
        let mut bytes = message.clone().into_bytes();
        bytes[at] ^= 1;
        if let Ok((other, _)) = clearsigned(&String::from_utf8(bytes).unwrap(), &[gpg.key()], far) {
            assert_eq!(other.trim_end(), text.trim_end(), "{at}");
        }
    }
    let signature = gpg.sign(&["--armor", "--detach-sign"]);
    assert!(detached(TEXT, &signature, &[gpg.key()], far).is_ok());
    for at in 0..signature.len() {
        let _ = detached(TEXT, &signature[..at], &[gpg.key()], far);
    }
    assert!(detached(TEXT, b"", &[gpg.key()], far).is_err());
    assert!(detached(TEXT, &signature, &[], far).is_err());
    // A key that signed itself is no signature over a text.
    assert!(detached(TEXT, &gpg.run(&["--export"]), &[gpg.key()], far).is_err());
}

#[test]
fn weak_hashes_and_ends_of_signatures() {
    let gpg = Gpg::new(&[AT_2020, &["--quick-gen-key", "A <a@example.org>", "rsa2048", "sign", "never"]].concat());
    doubted(&gpg.sign(&[AT_2020, &["--digest-algo", "SHA1"], DETACH].concat()), gpg.key(), now(), "weak hash");
    let short = gpg.sign(&[AT_2020, &["--default-sig-expire", "10d"], DETACH].concat());
    assert!(detached(TEXT, &short, &[gpg.key()], at("2020-02-05T00:00:00Z")).is_ok());
    doubted(&short, gpg.key(), now(), "the signature has expired");
    let early = at("2020-01-15T00:00:00Z");
    doubted(&short, gpg.key(), early, "dated in the future");
}
