//! Requests that make no sense, or stop half way.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use reqwest::Method;
use serde_json::json;
use tests::{Molde, Random, Request, wait_for};

#[test]
fn ids_that_are_none() {
    let molde = Molde::start();
    for id in [
        "x",
        "..",
        "%00",
        "00000000-0000-0000-0000-000000000000",
        &"9".repeat(2000),
        "%F0%9F%A6%80",
        "1;drop table images",
    ] {
        for path in [
            format!("/v2/images/{id}"),
            format!("/v2/images/{id}/file"),
            format!("/molde/v1/images/{id}/inspect"),
            format!("/molde/v1/images/{id}/check"),
            format!("/molde/v1/jobs/{id}"),
            format!("/molde/v1/servers/{id}"),
            format!("/v2/cloudimages?id={id}"),
        ] {
            let answer = molde.request(Method::GET, &path).send().unwrap();
            let status = answer.status().as_u16();
            let allowed: &[u16] = if path.contains('?') {
                &[200, 400]
            } else if id == ".." {
                &[200, 300, 400, 404, 405]
            } else {
                &[400, 404]
            };
            assert!(allowed.contains(&status), "{status} for {path}");
        }
    }
}

#[test]
fn bodies_that_are_too_large_or_no_json() {
    let molde = Molde::start();
    let before = molde.traces();
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(8 << 20));
    let deep = "[".repeat(500_000);
    for path in ["/v2/images", "/molde/v1/images", "/v3/auth/tokens", "/v2/cloudimages/action", "/molde/v1/servers"] {
        let send = |body: &str| {
            let request = molde.request(Method::POST, path).header("Content-Type", "application/json");
            let answer = request.body(body.to_owned()).send().unwrap_or_else(|error| panic!("{path}: {error:?}"));
            (answer.status().as_u16(), answer.text().unwrap())
        };
        let (status, told) = send(&large);
        assert!(status == 413 || status == 400, "{path}: {status} {told}");
        assert!(told.contains("1048576"), "{path}: {told}");
        for body in ["", "{", "null", "[]", "\u{0}", "{\"name\": 1}", &deep] {
            let (status, told) = send(body);
            assert!((400..500).contains(&status), "{path} {body:.20}: {status} {told}");
        }
    }
    assert_eq!(molde.traces(), before);
}

#[test]
fn uploads_that_stop_half_way_leave_nothing() {
    let molde = Molde::start();
    molde.make_bucket("files");
    let body = json!({"name": "cut", "disk_format": "raw", "container_format": "bare"});
    let id = molde.post("/v2/images", &body)["id"].as_str().unwrap().to_owned();
    let before = molde.traces();
    let half = Random::new(33).bytes(3 << 20);
    let put = Request { method: "PUT", bucket: "files", key: "cut", length: 6 << 20, query: "" };
    let mut stream = molde.s3().begin(put);
    stream.write_all(&half).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();

    let mut stream = TcpStream::connect(molde.api().strip_prefix("http://").unwrap()).unwrap();
    write!(
        stream,
        "PUT /v2/images/{id}/file HTTP/1.1\r\nHost: molde\r\nX-Auth-Token: {}\r\nContent-Type: application/octet-stream\r\n\
         Content-Length: {}\r\n\r\n",
        molde.token(),
        6 << 20
    )
    .unwrap();
    stream.write_all(&half).unwrap();
    wait_for("the upload begins", || (molde.images()[0]["status"] == "saving").then_some(()));
    stream.shutdown(Shutdown::Write).unwrap();
    stream.read_to_end(&mut Vec::new()).ok();
    wait_for("the image waits for bytes again", || (molde.images()[0]["status"] == "queued").then_some(()));
    let told = molde.ended_jobs();
    assert!(told.iter().any(|job| job["kind"] == "upload_image" && job["state"] == "failed"), "{told:?}");
    let mut after = molde.traces();
    after["images"][0]["updated_at"] = before["images"][0]["updated_at"].clone();
    assert_eq!(after, before);

    let whole = Random::new(34).bytes(1 << 20);
    let send = molde.request(Method::PUT, &format!("/v2/images/{id}/file")).body(whole.clone());
    assert_eq!(send.header("Content-Type", "application/octet-stream").send().unwrap().status(), 204);
    let image = molde.get(&format!("/v2/images/{id}"));
    assert_eq!((&image["status"], &image["size"]), (&"active".into(), &whole.len().into()));
}
