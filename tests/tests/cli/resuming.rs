//! `molde object put` goes on where it was broken off, by its own end or the server's.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use tests::{Molde, Proxy, Random, Request, disks, run, wait_for};

const MIB: u64 = 1 << 20;

/// What the server takes.
#[derive(Clone, Copy)]
enum Takes {
    /// Chunks: parts have 32 MiB that are not zero.
    Chunks,
    /// Bytes only, as before there was negotiated transfer: parts have 16 MiB.
    Bytes,
}

/// A server behind proxies, and a file that goes in parts.
struct Bench {
    molde: Molde,
    api: Proxy,
    s3: Proxy,
    file: PathBuf,
    length: u64,
    part: u64,
}

impl Bench {
    fn new(takes: Takes, length: u64) -> Self {
        let molde = Molde::start();
        molde.make_bucket("large");
        let file = molde.file("large.bin");
        let (mut random, mut writer) = (Random::new(length), File::create(&file).unwrap());
        for _ in 0..length / MIB {
            writer.write_all(&random.bytes(MIB as usize)).unwrap();
        }
        let (hidden, part) = match takes {
            Takes::Chunks => (None, 32 * MIB),
            Takes::Bytes => (Some("/molde/v1/transfer"), 16 * MIB),
        };
        let (api, s3) = (Proxy::start_hiding(molde.api(), hidden), Proxy::start(molde.s3_address()));
        Self { molde, api, s3, file, length, part }
    }

    /// Makes the command, which asks through the proxies.
    fn put(&self) -> Command {
        let path = self.molde.file("credentials.json");
        let mut known = self.molde.credentials();
        known["s3_endpoint"] = self.s3.address.as_str().into();
        known["endpoint"] = self.api.address.as_str().into();
        fs::write(&path, known.to_string()).unwrap();
        let mut put =
            self.molde.command(["object", "put", "large/large.bin", self.file.to_str().unwrap(), "--credentials"]);
        put.arg(path);
        put
    }

    fn sent(&self) -> u64 {
        self.api.sent() + self.s3.sent()
    }

    /// Counts the parts of the only unfinished upload.
    fn arrived(&self) -> u64 {
        let (s3, ask) = (self.molde.s3(), Request { method: "GET", bucket: "large", ..Request::default() });
        let uploads = s3.send(Request { query: "uploads=", ..ask }, b"");
        assert_eq!(uploads.status, 200, "{}", uploads.text());
        let Some(upload) = uploads.element("UploadId") else { return 0 };
        let parts = s3.send(Request { key: "large.bin", query: &format!("uploadId={upload}"), ..ask }, b"");
        match parts.status {
            200 => parts.text().matches("<PartNumber>").count() as u64,
            // It was completed between the two questions.
            404 => 0,
            other => panic!("{other}: {}", parts.text()),
        }
    }

    /// Puts again, and checks that what had arrived was not sent again and that the object is whole.
    #[track_caller]
    fn put_the_rest(&self, kept: u64) {
        // What the client that ended had sent may still be on its way.
        wait_for("the connections end", || (self.api.is_quiet() && self.s3.is_quiet()).then_some(()));
        let first = self.sent();
        assert!(first < self.length, "the put was broken off after it had sent everything");
        run(&mut self.put()).ok();
        let second = self.sent() - first;
        // Heads of requests and lists of parts are short beside half a part.
        let most = self.length - kept * self.part + self.part / 2;
        assert!(second <= most, "{kept} parts were there, and {second} bytes were sent");
        assert_eq!(self.arrived(), 0, "the upload is finished");
        let got = self.molde.file("got.bin");
        self.molde.cli(["object", "get", "large/large.bin", got.to_str().unwrap()]).ok();
        assert_eq!(disks::md5_of(&got), disks::md5_of(&self.file));
    }
}

fn a_killed_put_does_not_send_twice_what_arrived(takes: Takes) {
    let bench = Bench::new(takes, 320 * MIB);
    let mut child = bench.put().spawn().unwrap();
    wait_for("some parts arrive", || (bench.arrived() > 3).then_some(()));
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "the put ended before it was killed");
    bench.put_the_rest(bench.arrived());
}

fn parts_outlive_a_kill_of_the_server(takes: Takes) {
    let mut bench = Bench::new(takes, 320 * MIB);
    let child = bench.put().stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let kept = wait_for("some parts arrive", || Some(bench.arrived()).filter(|kept| *kept > 2));
    bench.molde.kill9();
    let ended = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("\n\nhint: run the same command again"), "{told}");
    bench.molde.restart();
    bench.api.lead_to(bench.molde.api());
    bench.s3.lead_to(bench.molde.s3_address());
    let now = bench.arrived();
    assert!(now >= kept, "{kept} parts had arrived, {now} are there after the kill");
    bench.put_the_rest(now);
}

#[test]
fn a_killed_put_of_chunks_goes_on() {
    a_killed_put_does_not_send_twice_what_arrived(Takes::Chunks);
}

#[test]
fn a_killed_put_of_bytes_goes_on() {
    a_killed_put_does_not_send_twice_what_arrived(Takes::Bytes);
}

#[test]
fn chunks_outlive_a_kill_of_the_server() {
    parts_outlive_a_kill_of_the_server(Takes::Chunks);
}

#[test]
fn bytes_outlive_a_kill_of_the_server() {
    parts_outlive_a_kill_of_the_server(Takes::Bytes);
}
