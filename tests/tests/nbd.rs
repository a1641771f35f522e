//! Images and objects over NBD, with QEMU's tools and libnbd as clients, and servers whose disks come that way.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tests::{Molde, Options, command, disks, run, tool, wait_for};

fn start(config: &str) -> Molde {
    let config = format!("[compute]\nacceleration = \"tcg\"\n{config}");
    Molde::start_with(Options { config: Some(config), ..Options::default() })
}

/// Puts a disk into a bucket as VMDK and makes an image of it; returns the raw disk.
fn with_image(molde: &Molde) -> std::path::PathBuf {
    let raw = molde.file("disk.raw");
    disks::linux(&raw, 24, 9);
    molde.make_bucket("images");
    molde.cli(["object", "put", "images/", disks::vmdk(&raw).to_str().unwrap()]).ok();
    molde.cli(["image", "create", "web", "--from", "images/disk.vmdk", "--wait"]).ok();
    raw
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

#[test]
fn an_image_and_an_object_are_served_at_the_socket() {
    let mut molde = start("");
    let raw = with_image(&molde);
    let socket = molde.data().join("nbd.sock");
    let printed = molde.cli(["image", "serve", "web", "--for", "10m"]);
    assert!(printed.stderr.contains("whoever knows the URI"), "{printed}");
    let uri = printed.ok();
    let uri = uri.trim();
    assert!(uri.starts_with("nbd+unix:///") && uri.ends_with(socket.to_str().unwrap()), "{uri}");
    tool("qemu-img", ["compare", "-f", "raw", "-F", "raw", uri, raw.to_str().unwrap()]);
    let copy = molde.file("copy.raw");
    tool("nbdcopy", ["--connections=4", uri, copy.to_str().unwrap()]);
    assert_eq!(disks::md5_of(&copy), disks::md5_of(&raw));

    // The disk in the file, and the file itself.
    let disk = molde.cli_json(["object", "serve", "images/disk.vmdk"]);
    assert_eq!((&disk["format"], &disk["size"]), (&"vmdk".into(), &(24 << 20).into()), "{disk}");
    tool("qemu-img", ["compare", "-f", "raw", "-F", "raw", text(&disk["uri"]), raw.to_str().unwrap()]);
    let file = molde.cli_json(["object", "serve", "images/disk.vmdk", "--format", "raw"]);
    let vmdk = molde.file("disk.vmdk");
    tool("nbdcopy", [text(&file["uri"]), copy.to_str().unwrap()]);
    assert_eq!(disks::md5_of(&copy), disks::md5_of(&vmdk));

    // Nothing is listed to NBD clients, and names do not come back.
    let info: Value = serde_json::from_str(&tool("nbdinfo", ["--json", "--list", &nbd_uri(&socket, "")])).unwrap();
    assert_eq!(info["exports"], Value::Array(vec![]), "{info}");
    let listed = molde.cli_json(["nbd", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 3);
    assert!(!listed.to_string().contains(text(&disk["name"])) && listed[1]["id"] == disk["id"], "{listed}");

    // A restart closes nothing; a close does, for one alone.
    molde.kill9();
    molde.restart();
    tool("nbdinfo", ["--size", uri]);
    molde.cli(["nbd", "close", text(&disk["id"])]).ok();
    let refused = run(&mut command("qemu-img", ["info", text(&disk["uri"])]));
    assert!(refused.code == Some(1) && refused.stderr.contains("no export has this name"), "{refused}");
    tool("nbdinfo", ["--size", uri]);
    assert_eq!(molde.terminate(), Some(0));
    assert!(!socket.exists());
}

fn nbd_uri(socket: &Path, name: &str) -> String {
    format!("nbd+unix:///{name}?socket={}", socket.display())
}

#[test]
fn other_hosts_are_served_through_tls_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let make = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -keyout {} -out {} \
         -addext subjectAltName=IP:127.0.0.1",
        path("key.pem"),
        path("ca-cert.pem"),
    );
    tool("openssl", make.split_whitespace());
    let tls = format!("tls_cert = {:?}\ntls_key = {:?}\n", path("ca-cert.pem"), path("key.pem"));
    let molde = start(&format!("[nbd]\nlisten = \"127.0.0.1:0\"\n{tls}"));
    let raw = with_image(&molde);
    let export = molde.cli_json(["image", "serve", "web"]);
    let uri = text(&export["uri"]);
    assert!(uri.starts_with("nbds://127.0.0.1:") && uri.ends_with(text(&export["name"])), "{uri}");
    let copy = molde.file("copy.raw");
    tool("nbdcopy", [&format!("{uri}?tls-certificates={}", folder.path().display()), copy.to_str().unwrap()]);
    assert_eq!(disks::md5_of(&copy), disks::md5_of(&raw));
    let plain = run(&mut command("qemu-img", ["info", &uri.replacen("nbds", "nbd", 1)]));
    assert!(plain.code == Some(1) && plain.stderr.contains("used through TLS only"), "{plain}");
    // A server's disk has a name that others may know: it is no name here.
    let boot = molde.file("boot.raw");
    disks::halting(&boot);
    molde.cli(["image", "create", "boot", "--file", boot.to_str().unwrap(), "--format", "raw"]).ok();
    let server = molde.cli_json(["server", "create", "one", "--image", "boot", "--flavor", "m1.nano", "--wait"]);
    let name = format!("server/{}", text(&server["id"]));
    tool("nbdinfo", ["--size", &nbd_uri(&molde.data().join("nbd.sock"), &name)]);
    let there = |name: &str| {
        let uri = uri.replace(text(&export["name"]), name);
        run(&mut command("nbdinfo", ["--size", &format!("{uri}?tls-certificates={}", folder.path().display())]))
    };
    there(text(&export["name"])).ok();
    let refused = there(&name);
    assert!(refused.code == Some(1) && refused.stderr.contains("No such file or directory"), "{refused}");
}

#[test]
fn what_would_open_the_door_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("molde.toml");
    let data = folder.path().join("data");
    let refuses = |config_text: &str, more: &[&str], says: &str| {
        fs::write(&config, config_text).unwrap();
        let words =
            ["serve", "--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
        let words = [&words[..], &["--config", config.to_str().unwrap()], more].concat();
        let done = run(&mut command(tests::binary(), words));
        assert!(done.code == Some(1) && done.stderr.contains(says), "{done}");
    };
    refuses("", &["--nbd-listen", "0.0.0.0:0"], "can be reached by other hosts and has no TLS");
    refuses("[nbd]\nlisten = \"[::]:0\"\n", &[], "has no TLS");
    refuses("[nbd]\nlisten = \"127.0.0.1:0\"\ntls_cert = \"/x\"\n", &[], "both `tls_cert` and `tls_key`");
    refuses("[nbd]\nlisten = \"127.0.0.1:0\"\ntls_cert = \"/x\"\ntls_key = \"/y\"\n", &[], "`/x`");
}

/// The guest reads its disk all the time. Molde is killed, and comes back seconds later.
#[test]
fn a_guest_does_not_notice_that_molde_was_away() {
    let mut molde = start("");
    let boot = molde.file("boot.raw");
    disks::reciting(&boot);
    molde.cli(["image", "create", "boot", "--file", boot.to_str().unwrap(), "--format", "raw"]).ok();
    let server = molde.cli_json(["server", "create", "reader", "--image", "boot", "--flavor", "m1.nano", "--wait"]);
    let console = molde.data().join("servers").join(text(&server["id"])).join("console.log");
    let said = || {
        let said = fs::read_to_string(&console).unwrap_or_default();
        for (at, letter) in said.bytes().enumerate() {
            assert_eq!(char::from(letter), char::from(b'a' + ((at + 1) % 26) as u8), "letter {at} of {said}");
        }
        said.len()
    };
    for _ in 0..2 {
        let before = said();
        wait_for("the guest reads", || (said() > before + 20).then_some(()));
        molde.kill9();
        let stopped = said();
        std::thread::sleep(Duration::from_secs(3));
        assert!(said() <= stopped + 2, "it read on without its disk");
        molde.restart();
    }
    let before = said();
    wait_for("the guest reads again", || (said() > before + 20).then_some(()));
    let shown = molde.cli_json(["server", "show", "reader"]);
    assert_eq!((&shown["state"], &shown["reason"]), (&"ACTIVE".into(), &Value::Null), "{shown}");
    molde.cli(["server", "delete", "reader"]).ok();
}
