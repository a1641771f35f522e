//! What is never published: wrong signatures, wrong sums, old lists, names that lead elsewhere, answers without end.

use serde_json::json;
use tests::Signer;

use crate::site::{CLEAR, PRODUCTS, Site, clear_list, sha256};

const LIST: &str = "clear/44/x86_64/Clear-44-1.1-x86_64-CHECKSUM";

/// A site whose list of `clear` is `list`; its image is there.
fn with_list(list: impl FnOnce(&Site, &str) -> String) -> Site {
    let site = Site::new();
    let disk = site.disk(20);
    site.put_clear("1.1", &disk, &[]);
    let list = list(&site, &clear_list("1.1", &disk));
    site.mirror.put(LIST, list);
    site
}

/// Fails to add `clear`, before anything of its image was asked for.
#[track_caller]
fn unbelieved(site: &Site, words: &str) {
    let told = site.refused("clear", &[]);
    assert!(told.contains(words), "`{told}` does not say `{words}`");
    let asked = site.mirror.asked();
    assert!(asked.iter().all(|path| !path.ends_with(".qcow2")), "the image was asked for: {asked:?}");
}

#[test]
fn a_list_that_was_changed_is_not_believed() {
    unbelieved(
        &with_list(|site, list| site.signer.clearsigned(list, &[]).replace("bytes", "BYTES")),
        "not one over this text",
    );
    let sum = sha256(b"another");
    let added = |site: &Site, list: &str| {
        let line = format!("SHA256 (Clear-44-1.1.x86_64.qcow2) = {sum}\n");
        (site.signer.clearsigned(list, &[]), line)
    };
    // Nothing before the signed text, in it, or after it can be added.
    unbelieved(
        &with_list(|site, list| added(site, list).1 + &added(site, list).0),
        "no text with an OpenPGP signature",
    );
    unbelieved(
        &with_list(|site, list| added(site, list).0 + &added(site, list).1),
        "no text with an OpenPGP signature",
    );
    unbelieved(&with_list(|_, list| list.to_owned()), "no text with an OpenPGP signature");
    unbelieved(&with_list(|_, _| "\u{0}\u{1}".to_owned()), "no text with an OpenPGP signature");
}

#[test]
fn a_signature_by_another_key_is_not_believed() {
    unbelieved(&with_list(|_, list| Signer::new("ed25519").clearsigned(list, &[])), "it was signed by another key");
    let site = with_list(|site, list| site.signer.clearsigned(list, &["--digest-algo", "SHA1"]));
    unbelieved(&site, "weak hash");
    let later = "20400101T000000!";
    let site = with_list(|site, list| site.signer.clearsigned(list, &["--faked-system-time", later]));
    unbelieved(&site, "dated in the future");
}

#[test]
fn a_key_that_has_expired_is_not_believed() {
    let site = Site::signed_by(Signer::of_2020("1y"));
    site.put_clear("1.1", &site.disk(21), &["--faked-system-time", "20200601T000000!"]);
    unbelieved(&site, "the key has expired");
}

#[test]
fn a_detached_signature_is_over_the_whole_list() {
    let site = Site::new();
    let disk = site.disk(22);
    site.put_apart(&disk);
    let list = format!("{:0>128}  apart-12-amd64.qcow2.xz\n", 1);
    site.mirror.put("apart/worm/SHA512SUMS", list);
    assert!(site.refused("apart", &[]).contains("not one over this text"));
    site.put_apart(&disk);
    site.mirror.put("apart/worm/SHA512SUMS.gpg", b"no signature");
    site.refused("apart", &[]);
    site.mirror.remove("apart/worm/SHA512SUMS.gpg");
    assert!(site.refused("apart", &[]).contains("404 Not Found"));
}

#[test]
fn bytes_that_are_not_those_of_the_list_are_refused() {
    let site = Site::new();
    let (promised, other) = (site.disk(23), site.disk(24));
    site.put_clear("1.1", &promised, &[]);
    let path = format!("{CLEAR}/Clear-44-1.1.x86_64.qcow2");
    site.mirror.put(&path, &other);
    let told = site.refused("clear", &[]);
    assert!(told.contains("is not what the list promises") && told.contains(&sha256(&promised)), "{told}");

    // Cut before the end, as if that were all, or broken off each time.
    site.mirror.put(&path, &promised[..promised.len() / 2]);
    assert!(site.refused("clear", &[]).contains("is not what the list promises"));
    site.mirror.put(&path, &promised);
    site.mirror.cut(&path, 1000, u32::MAX);
    assert!(site.refused("clear", &[]).contains("broke off"));

    let stream = site.disk(25);
    site.put_stream(&[("20240501", &stream)], |_| {});
    let path = "stream/server/20240501/stream-amd64.img";
    site.mirror.put(path, &stream[..stream.len() - 1]);
    assert!(site.refused("stream", &[]).contains("was cut off"));
    site.mirror.put(path, [&stream[..], b"more"].concat());
    assert!(site.refused("stream", &[]).contains("more than the"));
}

#[test]
fn an_old_list_takes_nothing_back() {
    let site = Site::signed_by(Signer::of_2020("never"));
    let (old, new) = (site.disk(26), site.disk(27));
    site.put_clear("1.10", &new, &[]);
    site.add("clear");
    site.mirror.remove(&format!("{CLEAR}/Clear-44-1.10-x86_64-CHECKSUM"));
    site.put_clear("1.9", &old, &[]);
    let told = site.refused("clear", &[]);
    assert!(told.contains("is older than what was published: its number is 1.9, not 1.10"), "{told}");
    // The same number on a list of before.
    site.mirror.remove(&format!("{CLEAR}/Clear-44-1.9-x86_64-CHECKSUM"));
    site.put_clear("1.10", &old, &["--faked-system-time", "20250101T000000!"]);
    let told = site.refused("clear", &[]);
    assert!(told.contains("its list is of 2025-01-01"), "{told}");
    assert!(site.refused("clear", &["--max-age", "30"]).contains("days old"));
    let done = site.run(&["sync"]);
    assert!(done.code == Some(1) && done.stderr.contains("its list is of 2025-01-01"), "{done}");
}

#[test]
fn names_lead_nowhere_else() {
    let site = Site::new();
    let disk = site.disk(28);
    site.mirror.put("secret.qcow2", &disk);
    site.put_clear("1.1", &disk, &[]);
    let list = format!("SHA256 (Clear-44-1.1/../../../../secret.x86_64.qcow2) = {}\n", sha256(&disk));
    site.put_clear_list("1.1", &list, &[]);
    unbelieved(&site, "has no SHA-256 and no SHA-512");
    for path in ["../../secret.qcow2", "/secret.qcow2", "https://elsewhere.example.org/x", "a/%2e%2e/x"] {
        site.put_stream(&[("20240501", &disk)], |products| {
            let product = &mut products["products"]["org.example:server:24.04:amd64"];
            product["versions"]["20240501"]["items"]["disk1.img"]["path"] = json!(path);
        });
        assert!(site.refused("stream", &[]).contains("leads out of its folder"), "{path}");
    }
    for (to, words) in [
        ("file:///etc/passwd", "the mirror answered 302 Found"),
        ("ftp://127.0.0.1/x", "cannot fetch"),
        ("http://images.example.org/x", "cannot fetch"),
        ("http://169.254.169.254/x", "cannot fetch"),
    ] {
        site.mirror.redirect(PRODUCTS, to);
        let told = site.refused("stream", &[]);
        assert!(told.contains(words), "{to}: {told}");
    }
}

#[test]
fn lists_are_bounded() {
    let site = Site::new();
    site.put_clear("1.1", &site.disk(29), &[]);
    site.mirror.put(LIST, vec![b'a'; (16 << 20) + 1]);
    unbelieved(&site, "has more than 16 MiB, as no list has");
    site.mirror.redirect(LIST, &format!("{}/{LIST}", site.mirror.address));
    unbelieved(&site, "without end");
}
