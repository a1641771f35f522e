//! `molde object put` goes on where it was broken off, by its own end or the server's.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use tests::{Molde, Proxy, Random, Request, disks, run, wait_for};

const MIB: u64 = 1 << 20;
/// Bytes of a part: what the command line sends at once.
const PART: u64 = 16 * MIB;

/// A server behind a proxy, and a file that goes in parts.
struct Bench {
    molde: Molde,
    proxy: Proxy,
    file: PathBuf,
    length: u64,
}

impl Bench {
    fn new(length: u64) -> Self {
        let molde = Molde::start();
        molde.make_bucket("large");
        let file = molde.file("large.bin");
        let (mut random, mut writer) = (Random::new(length), File::create(&file).unwrap());
        for _ in 0..length / MIB {
            writer.write_all(&random.bytes(MIB as usize)).unwrap();
        }
        let proxy = Proxy::start(molde.s3_address());
        Self { molde, proxy, file, length }
    }

    /// Makes the command, which asks through the proxy.
    fn put(&self) -> Command {
        let path = self.molde.file("credentials.json");
        let mut known = self.molde.credentials();
        known["s3_endpoint"] = self.proxy.address.as_str().into();
        fs::write(&path, known.to_string()).unwrap();
        let mut put =
            self.molde.command(["object", "put", "large/large.bin", self.file.to_str().unwrap(), "--credentials"]);
        put.arg(path);
        put
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
        let first = self.proxy.sent();
        assert!(first < self.length, "the put was broken off after it had sent everything");
        run(&mut self.put()).ok();
        let second = self.proxy.sent() - first;
        // Heads of requests and lists of parts are short beside half a part.
        let most = self.length - kept * PART + PART / 2;
        assert!(second <= most, "{kept} parts were there, and {second} bytes were sent");
        assert_eq!(self.arrived(), 0, "the upload is finished");
        let got = self.molde.file("got.bin");
        self.molde.cli(["object", "get", "large/large.bin", got.to_str().unwrap()]).ok();
        assert_eq!(disks::md5_of(&got), disks::md5_of(&self.file));
    }
}

#[test]
fn a_killed_put_does_not_send_twice_what_arrived() {
    let bench = Bench::new(240 * MIB);
    let mut child = bench.put().spawn().unwrap();
    wait_for("some parts arrive", || (bench.arrived() > 3).then_some(()));
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "the put ended before it was killed");
    bench.put_the_rest(bench.arrived());
}

#[test]
fn parts_outlive_a_kill_of_the_server() {
    let mut bench = Bench::new(160 * MIB);
    let child = bench.put().stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let kept = wait_for("some parts arrive", || Some(bench.arrived()).filter(|kept| *kept > 2));
    bench.molde.kill9();
    let ended = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("\n\nhint: run the same command again"), "{told}");
    bench.molde.restart();
    bench.proxy.lead_to(bench.molde.s3_address());
    let now = bench.arrived();
    assert!(now >= kept, "{kept} parts had arrived, {now} are there after the kill");
    bench.put_the_rest(now);
}
