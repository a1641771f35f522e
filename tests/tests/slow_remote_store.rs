//! The gateway of a real object store dies under the server: a wait or an error, and then recovery.

use std::fs;
use std::time::{Duration, Instant};

use tests::peers::Ceph;
use tests::{Molde, Options, Random, disks, wait_for};

/// How long a call of the store lasts at most, and something for a slow machine.
const CALL_MAX: Duration = Duration::from_secs(150 + 30);

#[test]
fn the_gateway_dies_under_an_upload_and_under_a_read() {
    let (mut ceph, folder) = (Ceph::start(), tempfile::tempdir().unwrap());
    ceph.make_bucket("chunks");
    let key = folder.path().join("store.key");
    fs::write(&key, Ceph::SECRET_KEY).unwrap();
    let config = format!(
        "[store]\nurl = \"s3://chunks\"\nendpoint = \"{}\"\naccess_key = \"{}\"\nsecret_key_file = {key:?}\n\
         cache_size = \"16 MiB\"\n",
        ceph.address(),
        Ceph::ACCESS_KEY
    );
    let mut molde = Molde::start_with(Options { config: Some(config), ..Options::default() });
    molde.make_bucket("disks");
    let (file, out) = (molde.file("file"), molde.file("out"));
    let mut bytes = vec![0; 192 << 20];
    Random::new(11).fill(&mut bytes);
    fs::write(&file, &bytes).unwrap();

    // A short outage under an upload is waited for.
    let mut put = molde.client(["object", "put", "disks/file", file.to_str().unwrap()]).spawn().unwrap();
    wait_for("the upload has begun", || {
        let list = tests::Request { method: "GET", bucket: "chunks", query: "prefix=packs%2F", ..Default::default() };
        ceph.s3().send(list, b"").text().contains("<Key>").then_some(())
    });
    ceph.kill9();
    assert!(put.try_wait().unwrap().is_none(), "the upload was over before the gateway died");
    std::thread::sleep(Duration::from_secs(5));
    ceph.restart();
    assert!(put.wait().unwrap().success());

    // A long one is an error within the time of a call, and the server stays.
    assert_eq!(molde.terminate(), Some(0));
    molde.restart();
    ceph.kill9();
    let start = Instant::now();
    let failed = molde.cli(["object", "get", "disks/file", out.to_str().unwrap()]);
    assert_eq!(failed.code, Some(1), "{failed}");
    assert!(start.elapsed() < 2 * CALL_MAX, "{:?}", start.elapsed());
    let log = molde.log();
    assert!(log.contains("requests to the s3 bucket `chunks` at http://127.0.0.1:"), "{log}");

    ceph.restart();
    molde.cli(["object", "put", "disks/other", file.to_str().unwrap()]).ok();
    for key in ["disks/file", "disks/other"] {
        molde.cli(["object", "get", key, out.to_str().unwrap(), "--force"]).ok();
        assert_eq!(disks::md5_of(&out), disks::md5_of(&file), "{key}");
    }
}
