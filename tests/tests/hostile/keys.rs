//! Object keys that look like paths: they are names, and never become files.

use std::fs;
use std::path::Path;

use tests::{Molde, Request};

const KEYS: &[&str] = &[
    "../../escaped",
    "..",
    ".",
    "../files/escaped",
    "/escaped",
    "a//escaped",
    "a/./escaped",
    "a/../escaped",
    "%2e%2e/escaped",
    "..%2fescaped",
    "escaped/",
    "with space",
    "plus+and&amp;?#[]@!$'()*,;=:",
    "ünïcödé 磁盘 🦀",
    "back\\slash\\..\\escaped",
    "quote\"'<>",
    "tab\tand\nnewline",
    "~escaped",
    "CON",
    "con",
    "a",
    "a/",
    "a/b",
];

#[test]
fn keys_are_names() {
    let molde = Molde::start();
    molde.make_bucket("files");
    molde.make_bucket("other");
    let s3 = molde.s3();
    for key in KEYS {
        let answer = s3.put("files", key, key.as_bytes());
        assert_eq!(answer.status, 200, "{key:?}: {}", answer.text());
    }
    for key in KEYS {
        assert!(s3.get("files", key) == key.as_bytes(), "{key:?}");
    }
    let listed = s3.send(
        Request { method: "GET", bucket: "files", query: "encoding-type=url&list-type=2", ..Request::default() },
        b"",
    );
    assert_eq!(listed.text().matches("<Key>").count(), KEYS.len(), "{}", listed.text());
    let other = s3.send(Request { method: "GET", bucket: "other", query: "list-type=2", ..Request::default() }, b"");
    assert_eq!(other.text().matches("<Key>").count(), 0, "{}", other.text());
    assert_nothing_escaped(&molde.file(""));
    for key in KEYS {
        let gone = s3.send(Request { method: "DELETE", bucket: "files", key, ..Request::default() }, b"");
        assert_eq!(gone.status, 204, "{key:?}: {}", gone.text());
    }
    molde.cli(["bucket", "delete", "files"]).ok();
    assert_eq!(molde.heads(), 0);
}

fn assert_nothing_escaped(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        assert!(!entry.to_string_lossy().contains("escaped"), "{}", entry.display());
        if entry.is_dir() {
            assert_nothing_escaped(&entry);
        }
    }
}

#[test]
fn the_command_line_puts_what_it_was_told_or_says_no() {
    let molde = Molde::start();
    molde.make_bucket("files");
    let file = molde.file("file");
    for key in KEYS {
        fs::write(&file, key).unwrap();
        let put = molde.cli(["object", "put", &format!("files/{key}x"), file.to_str().unwrap()]);
        if put.code == Some(0) {
            assert!(molde.s3().get("files", &format!("{key}x")) == key.as_bytes(), "{key:?}x");
        } else {
            put.refused();
        }
    }
    let buckets = molde.cli_json(["bucket", "list"]);
    assert_eq!(buckets.as_array().unwrap().len(), 1, "a key became a bucket: {buckets}");
}

#[test]
fn names_have_limits() {
    let molde = Molde::start();
    molde.make_bucket("files");
    let s3 = molde.s3();
    let longest = "k".repeat(1024);
    assert_eq!(s3.put("files", &longest, b"x").status, 200);
    assert!(s3.get("files", &longest) == b"x");
    let before = molde.traces();
    let answer = s3.put("files", &"k".repeat(1025), b"x");
    assert_eq!((answer.status, answer.element("Code").as_deref()), (400, Some("KeyTooLongError")), "{}", answer.text());
    let upload = Request { method: "POST", bucket: "files", key: &"k".repeat(1025), query: "uploads=", length: 0 };
    assert_eq!(s3.send(upload, b"").status, 400);
    for bucket in ["ab", "UPPER", "under_score", "-dash", "192.168.0.1", &"b".repeat(64)] {
        let answer = s3.send(Request { method: "PUT", bucket, ..Request::default() }, b"");
        assert_eq!((answer.status, answer.element("Code").as_deref()), (400, Some("InvalidBucketName")), "{bucket}");
    }
    let body =
        |length| serde_json::json!({"name": "ü".repeat(length), "disk_format": "raw", "container_format": "bare"});
    let create = |path, body| molde.request(reqwest::Method::POST, path).json(&body).send().unwrap();
    let answer = create("/v2/images", body(256));
    assert!(answer.status() == 400 && answer.text().unwrap().contains("255"));
    let mut import = body(256);
    import["from"] = serde_json::json!({"bucket": "files", "key": longest});
    let answer = create("/molde/v1/images", import);
    assert!(answer.status() == 400, "{}", answer.text().unwrap());
    assert!(molde.cli(["project", "create", &"p".repeat(256)]).refused().contains("255"));
    assert_eq!(molde.traces(), before);
    assert_eq!(create("/v2/images", body(255)).status(), 201);
}
