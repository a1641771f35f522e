//! The config drive as tools that nobody here wrote see it: fsck.vfat, mtools and blkid.

use std::collections::BTreeMap;
use std::path::Path;

use compute::{ConfigDrive, Driver};
use serde_json::{Value, json};

use crate::bench::{Bench, run, text};
use crate::guest::Mode;

fn drive(user_data: Option<Vec<u8>>) -> ConfigDrive {
    ConfigDrive {
        hostname: "web-1.example.com".into(),
        user_data,
        ssh_keys: vec!["ssh-ed25519 AAAAC3Nza one@example".into(), "ssh-rsa AAAAB3 \"two\" ü".into()],
        meta: BTreeMap::from([("role".into(), "a \"b\"\n\\ c".into())]),
        uuid: "b4bcb6a0-5d8e-4b1e-9c3d-0123456789ab".parse().unwrap(),
    }
}

fn written(drive: &ConfigDrive) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), drive.image().unwrap()).unwrap();
    run("fsck.vfat", &["-n", text(file.path())]);
    file
}

fn read(image: &Path, name: &str) -> Vec<u8> {
    run("mtype", &["-i", text(image), &format!("::{name}")])
}

#[test]
fn other_tools_read_what_was_written() {
    let image = written(&drive(Some(b"#!/bin/sh\necho hello\n".to_vec())));
    let label = run("blkid", &["-p", "-o", "value", "-s", "LABEL", "-s", "TYPE", text(image.path())]);
    assert_eq!(String::from_utf8(label).unwrap(), "config-2\nvfat\n", "what cloud-init looks for");
    let listing = run("mdir", &["-i", text(image.path()), "-/", "-b", "::"]);
    let mut names: Vec<&str> = str::from_utf8(&listing).unwrap().lines().collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "::/openstack/",
            "::/openstack/latest/",
            "::/openstack/latest/meta_data.json",
            "::/openstack/latest/user_data"
        ]
    );
    assert_eq!(read(image.path(), "openstack/latest/user_data"), b"#!/bin/sh\necho hello\n");
    let meta_data: Value = serde_json::from_slice(&read(image.path(), "openstack/latest/meta_data.json")).unwrap();
    assert_eq!(
        meta_data,
        json!({
            "uuid": "b4bcb6a0-5d8e-4b1e-9c3d-0123456789ab",
            "hostname": "web-1.example.com",
            "name": "web-1.example.com",
            "launch_index": 0,
            "public_keys": {"key-0": "ssh-ed25519 AAAAC3Nza one@example", "key-1": "ssh-rsa AAAAB3 \"two\" ü"},
            "keys": [
                {"name": "key-0", "type": "ssh", "data": "ssh-ed25519 AAAAC3Nza one@example"},
                {"name": "key-1", "type": "ssh", "data": "ssh-rsa AAAAB3 \"two\" ü"},
            ],
            "meta": {"role": "a \"b\"\n\\ c"},
        })
    );
}

#[test]
fn user_data_of_every_length() {
    for length in [1, 511, 512, 513, 65_535, 65_536] {
        let user_data: Vec<u8> = (0..length).map(|n: usize| (n * 31 % 251) as u8).collect();
        let image = written(&drive(Some(user_data.clone())));
        assert!(read(image.path(), "openstack/latest/user_data") == user_data, "{length} bytes");
    }
    for none in [None, Some(Vec::new())] {
        let image = written(&drive(none));
        let listing = run("mdir", &["-i", text(image.path()), "-/", "-b", "::"]);
        assert!(!String::from_utf8(listing).unwrap().contains("user_data"), "cloud-init would log an empty one");
    }
}

#[test]
fn the_largest_metadata_fits() {
    let mut full = drive(Some(vec![b'u'; 64 << 10]));
    full.ssh_keys = vec![format!("ssh-rsa {}", "A".repeat(1900)); 64];
    let image = written(&full);
    let meta_data: Value = serde_json::from_slice(&read(image.path(), "openstack/latest/meta_data.json")).unwrap();
    assert_eq!(meta_data["keys"].as_array().unwrap().len(), 64);
    full.meta = (0..128).map(|n| (n.to_string(), "x".repeat(4096))).collect();
    assert!(full.image().unwrap_err().to_string().contains("at most 262144 bytes"));
}

#[test]
fn equal_values_make_equal_bytes() {
    let image = |length| drive(Some(vec![b'x'; length])).image().unwrap();
    assert!(image(1000) == image(1000));
    assert!(image(1000) != image(1001));
}

#[tokio::test]
async fn a_server_gets_the_drive_of_its_last_start() {
    let bench = Bench::new().await;
    let mut spec = bench.server(Mode::Brief);
    for hostname in ["first", "second"] {
        spec.config_drive.hostname = hostname.into();
        bench.driver.start(&spec).await.unwrap();
        let image = bench.directory(spec.id).join("config.img");
        let meta_data: Value = serde_json::from_slice(&read(&image, "openstack/latest/meta_data.json")).unwrap();
        assert_eq!(meta_data["hostname"], hostname);
        bench.wait_for_power(spec.id, compute::Power::Off).await;
    }
    bench.driver.delete(spec.id).await.unwrap();
}
