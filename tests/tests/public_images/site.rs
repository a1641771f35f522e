//! A server, a mirror of five distributions, and whoever signs for them.
//!
//! `clear` has a clearsigned list as Fedora has, `apart` a detached signature as AlmaLinux, `single` a list for each image as
//! Arch, `stream` simplestreams as Ubuntu, and `plain` signs nothing, as Debian's cloud images.

use std::fs;

use serde_json::{Value, json};
use sha2::{Digest, Sha256, Sha512};
use tests::{Done, Mirror, Molde, Signer, disks};

const DEFINITIONS: &str = r#"
    [[key]]
    name = "mirror"
    file = "mirror.asc"
    fingerprint = "FINGERPRINT"

    [[distribution]]
    name = "clear"
    title = "Clear"
    os_distro = "clear"
    verification = "clearsigned"
    keys = ["mirror"]
    folder = "https://images.example.org/clear/{version}/{arch}/"
    file = "Clear-{version}-*.{arch}.qcow2"
    checksums = "Clear-{version}-*-{arch}-CHECKSUM"
    architectures = { x86_64 = { arch = "x86_64" } }
    [[distribution.version]]
    version = "44"
    end_of_life = "2999-12-31"

    [[distribution]]
    name = "apart"
    title = "Apart"
    os_distro = "apart"
    verification = "detached"
    signature = "{checksums}.gpg"
    keys = ["mirror"]
    folder = "https://images.example.org/apart/{codename}/"
    file = "apart-{version}-{arch}.qcow2.xz"
    checksums = "SHA512SUMS"
    architectures = { x86_64 = { arch = "amd64" } }
    [[distribution.version]]
    version = "12"
    codename = "worm"
    end_of_life = "2020-06-30"

    [[distribution]]
    name = "single"
    title = "Single"
    os_distro = "single"
    verification = "detached"
    signature = "{checksums}.asc"
    keys = ["mirror"]
    folder = "https://images.example.org/single/v{version}/"
    file = "single-*-{arch}-r0.qcow2"
    checksums = "{file}.sha512"
    architectures = { x86_64 = { arch = "x86_64" } }
    [[distribution.version]]
    version = "3.23"

    [[distribution]]
    name = "stream"
    title = "Stream"
    os_distro = "stream"
    verification = "clearsigned"
    keys = ["mirror"]
    streams = "https://images.example.org/stream/"
    index = "streams/v1/index.sjson"
    product = "org.example:server:{version}:{arch}"
    ftype = "disk1.img"
    architectures = { x86_64 = { arch = "amd64" } }
    [[distribution.version]]
    version = "24.04"

    [[distribution]]
    name = "plain"
    title = "Plain"
    os_distro = "plain"
    verification = "tls"
    folder = "https://images.example.org/plain/"
    file = "plain-{arch}.qcow2"
    checksums = "SHA256SUMS"
    architectures = { x86_64 = { arch = "amd64" } }
    [[distribution.version]]
    version = "1"
"#;

/// Where lists and images of the mirror lie.
pub(crate) const CLEAR: &str = "clear/44/x86_64";
pub(crate) const PRODUCTS: &str = "stream/streams/v1/org.example:released:download.sjson";

pub(crate) struct Site {
    pub(crate) molde: Molde,
    pub(crate) mirror: Mirror,
    pub(crate) signer: Signer,
}

impl Site {
    /// Starts a server beside an empty mirror.
    pub(crate) fn new() -> Self {
        Self::signed_by(Signer::new("ed25519"))
    }

    pub(crate) fn signed_by(signer: Signer) -> Self {
        let molde = Molde::start();
        let mirror = Mirror::start(&molde.file("mirror"));
        fs::write(molde.file("mirror.asc"), signer.key()).unwrap();
        fs::write(molde.file("site.toml"), DEFINITIONS.replace("FINGERPRINT", &signer.fingerprint)).unwrap();
        Self { molde, mirror, signer }
    }

    /// Returns a disk as a qcow2 file.
    pub(crate) fn disk(&self, seed: u64) -> Vec<u8> {
        let raw = self.molde.file(&format!("disk-{seed}.raw"));
        disks::scattered(&raw, 8, 1 << 20, seed);
        fs::read(disks::convert(&raw, "qcow2", "")).unwrap()
    }

    /// Puts a build of `clear` on the mirror.
    pub(crate) fn put_clear(&self, build: &str, disk: &[u8], more: &[&str]) {
        self.mirror.put(&format!("{CLEAR}/Clear-44-{build}.x86_64.qcow2"), disk);
        self.put_clear_list(build, &clear_list(build, disk), more);
    }

    /// Puts the list of a build of `clear` on the mirror; `more` are options of gpg.
    pub(crate) fn put_clear_list(&self, build: &str, list: &str, more: &[&str]) {
        let path = format!("{CLEAR}/Clear-44-{build}-x86_64-CHECKSUM");
        self.mirror.put(&path, self.signer.clearsigned(list, more));
    }

    /// Puts an image of `apart` on the mirror.
    pub(crate) fn put_apart(&self, file: &[u8]) {
        let list = format!("{}  apart-12-amd64.qcow2.xz\n{:0128}  other\n", hex::encode(Sha512::digest(file)), 0);
        self.mirror.put("apart/worm/apart-12-amd64.qcow2.xz", file);
        self.mirror.put("apart/worm/SHA512SUMS", &list);
        self.mirror.put("apart/worm/SHA512SUMS.gpg", self.signer.detached(list.as_bytes(), &[]));
    }

    /// Puts editions of `stream` on the mirror, each with its serial; `alter` has the last word on the products.
    pub(crate) fn put_stream(&self, editions: &[(&str, &[u8])], alter: impl FnOnce(&mut Value)) {
        let product = "org.example:server:24.04:amd64";
        let index = json!({"format": "index:1.0", "index": {"org.example:released:download": {
            "datatype": "image-downloads", "format": "products:1.0", "products": [product],
            "path": "streams/v1/org.example:released:download.sjson",
        }}});
        self.mirror.put("stream/streams/v1/index.sjson", self.signer.clearsigned(&index.to_string(), &[]));
        let versions = editions.iter().map(|(serial, disk)| {
            let path = format!("server/{serial}/stream-amd64.img");
            self.mirror.put(&format!("stream/{path}"), disk);
            let item = json!({"ftype": "disk1.img", "path": path, "size": disk.len(), "sha256": sha256(disk)});
            ((*serial).to_owned(), json!({"items": {"disk1.img": item}}))
        });
        let versions: serde_json::Map<String, Value> = versions.collect();
        let mut products = json!({"format": "products:1.0", "updated": "Wed, 01 May 2024 13:31:26 +0000", "products": {
            product: {"arch": "amd64", "aliases": "24.04,noble", "support_eol": "2998-05-31", "versions": versions},
        }});
        alter(&mut products);
        self.mirror.put(PRODUCTS, self.signer.clearsigned(&products.to_string(), &[]));
    }

    fn words<'w>(&'w self, words: &[&'w str]) -> Vec<String> {
        let site = self.molde.file("site.toml").to_str().unwrap().to_owned();
        let from = ["--definitions", &site, "--mirror", &self.mirror.address];
        [&["catalog"], words, &from[..]].concat().into_iter().map(str::to_owned).collect()
    }

    /// Runs a command of `molde catalog`.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> Done {
        self.molde.cli(self.words(words))
    }

    /// Runs a command of `molde catalog` and returns its JSON.
    #[track_caller]
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        self.molde.cli_json(self.words(words))
    }

    /// Adds an image for x86_64 and returns it.
    #[track_caller]
    pub(crate) fn add(&self, name: &str) -> Value {
        self.json(&["add", name, "--arch", "x86_64"])
    }

    /// Fails to add an image, checks that nothing of it is on the server, and returns what was told.
    #[track_caller]
    pub(crate) fn refused(&self, name: &str, more: &[&str]) -> String {
        let before = self.molde.traces();
        let told = self.run(&[&["add", name, "--arch", "x86_64"], more].concat()).refused();
        assert_eq!(self.molde.traces(), before, "{told}");
        told
    }

    /// Returns the bytes that the server has of an image.
    #[track_caller]
    pub(crate) fn saved(&self, image: &Value) -> Vec<u8> {
        let (id, path) = (image["id"].as_str().unwrap(), self.molde.file("saved"));
        self.molde.cli(["image", "save", "--force", id, path.to_str().unwrap()]).ok();
        fs::read(path).unwrap()
    }
}

/// The list of a build of `clear`.
pub(crate) fn clear_list(build: &str, disk: &[u8]) -> String {
    let (name, length) = (format!("Clear-44-{build}.x86_64.qcow2"), disk.len());
    format!("# {name}: {length} bytes\nSHA256 ({name}) = {}\n", sha256(disk))
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
