//! The server dies while bytes arrive: what was there before stays, and nothing waits for bytes that never come.

use std::io::Write;
use std::net::TcpStream;

use reqwest::Method;
use serde_json::json;
use tests::{Molde, Random, Request, wait_for};

const LENGTH: usize = 12 << 20;

#[test]
fn an_object_that_was_being_replaced_is_the_old_one() {
    let mut molde = Molde::start();
    molde.make_bucket("files");
    let mut random = Random::new(70);
    let (old, new) = (random.bytes(LENGTH), random.bytes(LENGTH));
    assert_eq!(molde.s3().put("files", "key", &old).status, 200);
    let put = Request { method: "PUT", bucket: "files", key: "key", length: LENGTH as u64, query: "" };
    let mut stream = molde.s3().begin(put);
    stream.write_all(&new[..LENGTH - 1]).unwrap();
    molde.kill9();
    molde.restart();
    assert!(molde.s3().get("files", "key") == old);
    assert_eq!(molde.s3().put("files", "key", &new).status, 200);
    assert!(molde.s3().get("files", "key") == new);
}

#[test]
fn an_image_whose_upload_was_cut_off_says_so() {
    let mut molde = Molde::start();
    let body = json!({"name": "cut", "disk_format": "raw", "container_format": "bare"});
    let id = molde.post("/v2/images", &body)["id"].as_str().unwrap().to_owned();
    let mut stream = TcpStream::connect(molde.api().strip_prefix("http://").unwrap()).unwrap();
    write!(
        stream,
        "PUT /v2/images/{id}/file HTTP/1.1\r\nHost: molde\r\nX-Auth-Token: {}\r\n\
         Content-Type: application/octet-stream\r\nContent-Length: {LENGTH}\r\n\r\n",
        molde.token()
    )
    .unwrap();
    stream.write_all(&Random::new(71).bytes(LENGTH - 1)).unwrap();
    wait_for("the upload begins", || (molde.images()[0]["status"] == "saving").then_some(()));
    molde.kill9();
    molde.restart();

    let jobs = molde.ended_jobs();
    let [job] = &jobs[..] else { panic!("one upload was begun: {jobs:?}") };
    assert_eq!((&job["kind"], &job["state"]), (&"upload_image".into(), &"failed".into()), "{job}");
    assert!(job["error"].as_str().is_some_and(|told| told.contains("interrupted")), "{job}");
    assert_eq!(molde.images()[0]["status"], "killed");
    assert_eq!(molde.request(Method::DELETE, &format!("/v2/images/{id}")).send().unwrap().status(), 204);
    assert_eq!((molde.images().len(), molde.heads()), (0, 0));
}
