//! What a server has is not sent to it again, and holes are neither read nor sent.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use tests::{Molde, Proxy, Random, disks, run};

const MIB: u64 = 1 << 20;

#[test]
fn a_file_that_is_there_is_only_named() {
    let molde = Molde::start();
    molde.make_bucket("images");
    let (raw, qcow2) = (molde.file("disk.raw"), molde.file("same.raw"));
    disks::linux(&raw, 60, 81);
    fs::copy(&raw, &qcow2).unwrap();
    let put = |key: &str| molde.cli_json(["object", "put", key, raw.to_str().unwrap()]);
    let first = put("images/first");
    let sent = first["sent"].as_u64().unwrap();
    assert!(first["size"] == 60 * MIB && (20 * MIB..40 * MIB).contains(&sent), "{first}");

    let proxy = Proxy::start(molde.api());
    let known = molde.file("through.json");
    let mut credentials = molde.credentials();
    credentials["endpoint"] = proxy.address.as_str().into();
    fs::write(&known, credentials.to_string()).unwrap();
    let before = molde.pack_bytes();
    let put = ["object", "put", "images/second", raw.to_str().unwrap(), "--output", "json", "--credentials"];
    let second = run(molde.command(put).arg(&known)).json();
    assert_eq!((&second["sent"], &second["known"]), (&0.into(), &sent.into()), "{second}");
    assert!(proxy.sent() < 100_000, "{} bytes were sent", proxy.sent());
    assert!(molde.pack_bytes() < before + 100_000, "only manifests may be new");

    // An image is made of the same chunks, with the checksums of its bytes.
    let create = ["image", "create", "web", "--file", raw.to_str().unwrap(), "--output", "json", "--credentials"];
    let image = run(molde.command(create).arg(&known)).json();
    assert_eq!(image["checksum"], disks::md5_of(&raw).as_str(), "{image}");
    assert!(proxy.sent() < 200_000, "{} bytes were sent", proxy.sent());
    for (what, get) in [("object", ["get", "images/second"]), ("image", ["save", "web"])] {
        let got = molde.file(&format!("{what}.got"));
        molde.cli([what, get[0], get[1], got.to_str().unwrap()]).ok();
        assert_eq!(disks::md5_of(&got), disks::md5_of(&raw), "{what}");
    }

    // One changed byte is one chunk.
    let file = File::options().write(true).open(&raw).unwrap();
    file.write_all_at(b"!", 5 * MIB + 7).unwrap();
    let third = molde.cli_json(["object", "put", "images/third", raw.to_str().unwrap()]);
    assert_eq!(third["sent"], 512 << 10, "{third}");
}

#[test]
fn a_terabyte_of_holes_costs_nothing() {
    let molde = Molde::start();
    molde.make_bucket("images");
    let sparse = molde.file("sparse.raw");
    let file = File::create(&sparse).unwrap();
    file.set_len(1 << 40).unwrap();
    let data = Random::new(82).bytes(4096);
    for place in [MIB, 1 << 39, (1 << 40) - 4096] {
        file.write_all_at(&data, place).unwrap();
    }
    let (read, written) = molde.bytes_read_and_written();
    let put = molde.cli_json(["object", "put", "images/sparse", sparse.to_str().unwrap()]);
    assert_eq!((&put["size"], &put["sent"]), (&(1_u64 << 40).into(), &(3 * (512 << 10)).into()), "{put}");
    let (read, written) = (molde.bytes_read_and_written().0 - read, molde.bytes_read_and_written().1 - written);
    assert!(read < 8 * MIB && written < 8 * MIB, "{read} bytes were read and {written} written");
    let listed = molde.cli_json(["object", "list", "images"]);
    assert_eq!(listed[0]["size"], 1_u64 << 40, "{listed}");
    // A raw file is shared by its image, so a terabyte becomes one in a moment, too.
    let image = molde.cli_json(["image", "create", "large", "--from", "images/sparse", "--format", "raw", "--wait"]);
    assert_eq!((&image["status"], &image["size"]), (&"active".into(), &(1_u64 << 40).into()), "{image}");
}

#[test]
fn a_project_has_only_its_own_chunks() {
    let molde = Molde::start();
    let raw = molde.file("disk.raw");
    disks::linux(&raw, 24, 83);
    molde.cli(["image", "create", "ours", "--file", raw.to_str().unwrap()]).ok();
    let before = molde.pack_bytes();
    molde.cli(["project", "create", "theirs"]).ok();
    molde.cli(["user", "grant", "admin", "theirs", "member"]).ok();
    let image = molde.cli_json(["--project", "theirs", "image", "create", "theirs", "--file", raw.to_str().unwrap()]);
    assert_eq!(image["checksum"], disks::md5_of(&raw).as_str(), "{image}");
    assert!(molde.pack_bytes() > before + before / 2, "another project's chunks are sent and kept again");
}
