//! `molde object put` goes on where it was killed.

use std::fs::{self, File};
use std::io::Write;

use tests::{Molde, Proxy, Random, Request, disks, run, wait_for};

const LENGTH: u64 = 240 << 20;

#[test]
fn a_killed_put_does_not_send_twice_what_arrived() {
    let molde = Molde::start();
    molde.make_bucket("large");
    let file = molde.file("large.bin");
    let mut random = Random::new(10);
    let mut writer = File::create(&file).unwrap();
    for _ in 0..LENGTH >> 20 {
        writer.write_all(&random.bytes(1 << 20)).unwrap();
    }
    let proxy = Proxy::start(molde.s3_address());
    let credentials = molde.file("credentials.json");
    let mut known = molde.credentials();
    known["s3_endpoint"] = proxy.address.as_str().into();
    fs::write(&credentials, known.to_string()).unwrap();
    let put = || {
        let mut put = molde.command(["object", "put", "large/large.bin", file.to_str().unwrap(), "--credentials"]);
        put.arg(&credentials);
        put
    };

    let mut child = put().spawn().unwrap();
    wait_for("some parts arrive", || (arrived(&molde) > 3).then_some(()));
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "the put ended before it was killed");
    let kept = arrived(&molde) as u64;
    let first = proxy.sent();
    assert!(first < LENGTH, "the put was killed after it had sent everything");

    run(&mut put()).ok();
    let second = proxy.sent() - first;
    // Parts are 16 MiB; the head of a request is short beside one.
    assert!(second < LENGTH - (kept - 1) * (16 << 20), "{kept} parts were there, and {second} bytes were sent");
    assert_eq!(arrived(&molde), 0, "the upload is finished");
    let got = molde.file("got.bin");
    molde.cli(["object", "get", "large/large.bin", got.to_str().unwrap()]).ok();
    assert_eq!(disks::md5_of(&got), disks::md5_of(&file));
}

/// Counts the parts of the bucket's only unfinished upload.
fn arrived(molde: &Molde) -> usize {
    let (s3, ask) = (molde.s3(), Request { method: "GET", bucket: "large", ..Request::default() });
    let uploads = s3.send(Request { query: "uploads=", ..ask }, b"");
    assert_eq!(uploads.status, 200, "{}", uploads.text());
    let Some(upload) = uploads.element("UploadId") else { return 0 };
    let parts = s3.send(Request { key: "large.bin", query: &format!("uploadId={upload}"), ..ask }, b"");
    match parts.status {
        200 => parts.text().matches("<PartNumber>").count(),
        // It was completed between the two questions.
        404 => 0,
        other => panic!("{other}: {}", parts.text()),
    }
}
