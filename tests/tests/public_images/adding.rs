//! What is added: whole, verified, with its properties; over a mirror that breaks off, and through TLS.

use std::fs;
use std::process::Stdio;

use serde_json::json;
use sha2::{Digest, Sha512};
use tests::{Mirror, Molde, Signer, command, disks, run, tool, wait_for};

use crate::site::{CLEAR, Site, clear_list, sha256};

#[test]
fn a_list_that_holds_its_signature_is_believed() {
    let site = Site::new();
    let (old, new) = (site.disk(1), site.disk(2));
    site.put_clear("1.9", &old, &[]);
    site.put_clear("1.10", &new, &[]);
    let image = site.add("clear:44");
    assert_eq!(site.saved(&image), new, "1.10 is newer than 1.9");
    for (name, value) in [
        ("name", "clear-44-x86_64"),
        ("status", "active"),
        ("visibility", "public"),
        ("disk_format", "qcow2"),
        ("os_distro", "clear"),
        ("os_version", "44"),
        ("architecture", "x86_64"),
        ("catalog_family", "clear"),
        ("catalog_version", "44"),
        ("catalog_serial", "1.10"),
        ("catalog_end_of_life", "2999-12-31"),
        ("catalog_source", "https://images.example.org/clear/44/x86_64/Clear-44-1.10.x86_64.qcow2"),
        ("catalog_checksum", &format!("sha256:{}", sha256(&new))),
        ("catalog_verified", &format!("OpenPGP {}", site.signer.fingerprint)),
    ] {
        assert_eq!(image[name], value, "{name}");
    }
    assert_eq!(image["os_hidden"], false);
    assert!(image["catalog_dated"].as_str().unwrap().ends_with('Z'), "{image}");

    // A second time, nothing is fetched but the lists.
    drop(site.mirror.asked());
    let told = site.run(&["add", "clear", "--arch", "x86_64"]).ok();
    assert!(told.contains("is the newest one already"), "{told}");
    assert!(site.mirror.asked().iter().all(|path| !path.ends_with(".qcow2")));
    assert_eq!(site.molde.images().len(), 1);
}

#[test]
fn a_signature_in_a_file_of_its_own_is_believed_and_xz_is_unpacked() {
    let site = Site::signed_by(Signer::new("rsa2048"));
    let qcow2 = site.molde.file("apart.qcow2");
    fs::write(&qcow2, site.disk(3)).unwrap();
    tool("xz", ["-k", "-0", qcow2.to_str().unwrap()]);
    site.put_apart(&fs::read(site.molde.file("apart.qcow2.xz")).unwrap());
    let done = site.run(&["add", "apart:worm", "--arch", "x86_64", "--visibility", "private", "--name", "mine"]);
    assert!(done.stderr.contains("warning: Apart 12 is not looked after any more since 2020-06-30"), "{done}");
    done.ok();
    let image = site.molde.cli_json(["image", "show", "mine"]);
    assert_eq!((&image["disk_format"], &image["visibility"]), (&json!("raw"), &json!("private")));
    let saved = site.molde.file("saved.raw");
    fs::write(&saved, site.saved(&image)).unwrap();
    disks::assert_same(&saved, &qcow2, "qcow2");
}

#[test]
fn a_list_of_one_image_is_found_by_its_name() {
    let site = Site::new();
    for (build, seed) in [("3.23.9", 10), ("3.23.10", 11)] {
        let (disk, image) = (site.disk(seed), format!("single/v3.23/single-{build}-x86_64-r0.qcow2"));
        let sum = hex::encode(Sha512::digest(&disk)) + "\n";
        site.mirror.put(&image, disk);
        site.mirror.put(&format!("{image}.sha512"), &sum);
        site.mirror.put(&format!("{image}.sha512.asc"), site.signer.detached(sum.as_bytes(), &["--armor"]));
    }
    let image = site.add("single");
    assert_eq!((site.saved(&image), &image["catalog_serial"]), (site.disk(11), &json!("3.23.10")));
}

#[test]
fn simplestreams_are_read() {
    let site = Site::new();
    let (old, new) = (site.disk(4), site.disk(5));
    site.put_stream(&[("20240423", &old), ("20240501.1", &new)], |_| {});
    let image = site.add("stream:24.04");
    assert_eq!(site.saved(&image), new);
    assert_eq!((&image["catalog_serial"], &image["catalog_end_of_life"]), (&json!("20240501.1"), &json!("2998-05-31")));
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let site = Site::new();
    let disk = site.disk(6);
    site.put_clear("1.1", &disk, &[]);
    let path = format!("{CLEAR}/Clear-44-1.1.x86_64.qcow2");
    site.mirror.cut(&path, 300_000, 2);
    assert_eq!(site.saved(&site.add("clear")), disk);
    let asked = site.mirror.asked();
    let ranges: Vec<&String> = asked.iter().filter(|asked| asked.starts_with(&format!("{path} "))).collect();
    assert_eq!(ranges, [&format!("{path} 300000-"), &format!("{path} 600000-")]);

    // A mirror that knows no ranges sends it whole again.
    let disk = site.disk(7);
    site.put_clear("1.2", &disk, &[]);
    site.mirror.forget_ranges();
    site.mirror.cut(&format!("{CLEAR}/Clear-44-1.2.x86_64.qcow2"), 300_000, 1);
    assert_eq!(site.saved(&site.add("clear")), disk);
}

/// A server of TLS by OpenSSL, with a certificate that only this command trusts.
#[test]
fn what_nobody_signs_comes_through_tls() {
    let site = Site::new();
    let disk = site.disk(8);
    site.mirror.put("plain/plain-amd64.qcow2", &disk);
    site.mirror.put("plain/SHA256SUMS", format!("{}  plain-amd64.qcow2\n", sha256(&disk)));
    let told = site.refused("plain", &[]);
    assert!(told.contains("through TLS or not at all"), "{told}");
    assert_eq!(site.refused("plain", &["--insecure-mirror"]), told);
    assert_eq!(site.mirror.asked(), [""; 0], "nothing was asked for");

    let file = |name: &str| site.molde.file(name).to_str().unwrap().to_owned();
    let (key, certificate) = (file("tls.key"), file("tls.pem"));
    let config = "[req]\ndistinguished_name = name\nx509_extensions = more\n[name]\n[more]\n\
                  subjectAltName = DNS:localhost\nbasicConstraints = critical, CA:FALSE\n";
    fs::write(file("tls.conf"), config).unwrap();
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"];
    let files = ["-config", &file("tls.conf"), "-keyout", &key, "-out", &certificate];
    tool("openssl", [&request[..], &files].concat());
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let words = ["s_server", "-accept", &port, "-cert", &certificate, "-key", &key, "-WWW", "-quiet"];
    let mut server = command("openssl", words);
    let mut server =
        server.current_dir(site.molde.file("mirror")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the server of TLS listens", || std::net::TcpStream::connect(format!("127.0.0.1:{port}")).ok());
    let mirror = format!("https://localhost:{port}");
    let words =
        ["catalog", "add", "plain", "--arch", "x86_64", "--definitions", &file("site.toml"), "--mirror", &mirror];
    let untrusted = site.molde.cli(words).refused();
    let image = run(site.molde.client(words).args(["--output", "json"]).env("SSL_CERT_FILE", &certificate));
    server.kill().unwrap();
    server.wait().unwrap();
    assert!(untrusted.contains("cannot fetch"), "{untrusted}");
    let image = image.json();
    assert_eq!((site.saved(&image), &image["catalog_verified"]), (disk, &json!("TLS")));
}

#[test]
fn what_is_known_is_told_without_a_server() {
    let molde = Molde::start();
    let list = run(&mut molde.command(["catalog", "list", "--json"])).json();
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    for name in ["debian:13", "ubuntu:24.04", "fedora:44", "almalinux:9", "archlinux:rolling", "cirros:0.6"] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(!names.contains(&"debian:11"), "it is over");
    let table = run(&mut molde.command(["catalog", "list", "--all"])).ok();
    let line = table.lines().find(|line| line.starts_with("debian:11")).unwrap();
    for word in ["bullseye", "2026-08-31 (over)", "TLS", "aarch64, x86_64"] {
        assert!(line.contains(word), "{line}");
    }
    let told = run(&mut molde.command(["catalog", "add", "debian"])).refused();
    assert!(told.contains("no server was named"), "{told}");
    let told = molde.cli(["catalog", "add", "plan9"]).refused();
    assert!(told.contains("no distribution `plan9`") && told.contains("molde catalog list"), "{told}");
}

#[test]
fn a_site_has_definitions_of_its_own() {
    let site = Site::new();
    let config = site.molde.file("home/.config/molde");
    fs::create_dir_all(&config).unwrap();
    for name in ["mirror.asc", "site.toml"] {
        let to = name.replace("site.toml", "catalog.toml");
        fs::copy(site.molde.file(name), config.join(to)).unwrap();
    }
    let own = config.join("catalog.toml");
    let second = Mirror::start(&site.molde.file("second"));
    let text = fs::read_to_string(&own).unwrap();
    fs::write(&own, format!("mirror = \"{}/below\"\n{text}", second.address)).unwrap();
    let disk = site.disk(9);
    second.put(&format!("below/{CLEAR}/Clear-44-1.1.x86_64.qcow2"), &disk);
    let list = site.signer.clearsigned(&clear_list("1.1", &disk), &[]);
    second.put(&format!("below/{CLEAR}/Clear-44-1.1-x86_64-CHECKSUM"), list);
    let image = site.molde.cli_json(["catalog", "add", "clear", "--arch", "x86_64"]);
    assert_eq!(site.saved(&image), disk);
    fs::write(&own, text.replace(&site.signer.fingerprint, &"A".repeat(40))).unwrap();
    let told = site.molde.cli(["catalog", "list"]).refused();
    assert!(told.contains("does not hold the key"), "{told}");
}
