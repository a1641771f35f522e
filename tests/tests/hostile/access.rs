//! Who may not: other projects, wrong and unknown keys, tokens that have expired, readers that want to write.

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Molde, Options, Request, S3, disks, wait_for};

/// A user with one role in a project of its own.
struct Other {
    token: String,
    s3: S3,
    project: String,
}

fn other(molde: &Molde, name: &str, role: &str) -> Other {
    let project =
        molde.post("/molde/v1/projects", &json!({"name": name}))["project"]["id"].as_str().unwrap().to_owned();
    let user = molde.post("/molde/v1/users", &json!({"name": name, "password": "correct horse"}));
    let user = user["user"]["id"].as_str().unwrap();
    let grant = format!("/molde/v1/projects/{project}/users/{user}/roles/{role}");
    assert_eq!(molde.request(Method::PUT, &grant).send().unwrap().status(), 204);
    let known = json!({"username": name, "password": "correct horse", "project_name": name, "domain": "Default"});
    let token = molde.sign_in(&known);
    let made = molde.request_as(&token, Method::POST, "/molde/v1/access-keys").json(&json!({"description": ""}));
    let key: Value = made.send().unwrap().json().unwrap();
    let text = |field: &str| key["access_key"][field].as_str().unwrap().to_owned();
    let s3 = S3 { access_key: text("access_key"), secret_key: text("secret_key"), ..molde.s3() };
    Other { token, s3, project }
}

/// Posts JSON with a token; returns the status and the sentence of the error.
fn post(molde: &Molde, token: &str, path: &str, body: &Value) -> (u16, String) {
    let answer = molde.request_as(token, Method::POST, path).json(body).send().unwrap();
    let (status, body) = (answer.status().as_u16(), answer.text().unwrap());
    let body: Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
    (status, body["error"]["message"].as_str().or(body["message"].as_str()).unwrap_or_default().to_owned())
}

#[test]
fn a_bucket_of_another_project_does_not_exist() {
    let molde = Molde::start();
    molde.make_bucket("private");
    assert_eq!(molde.s3().put("private", "disk.raw", b"secret").status, 200);
    let image = molde.post("/v2/images", &json!({"name": "mine", "disk_format": "raw", "container_format": "bare"}));
    let before = molde.traces();
    let other = other(&molde, "stranger", "manager");

    let ask = |method, key, query| {
        let answer = other.s3.send(Request { method, bucket: "private", key, query, length: 0 }, b"");
        (answer.status, answer.element("Code").unwrap_or_default())
    };
    let absent = (404, "NoSuchBucket".to_owned());
    for (method, key, query) in [
        ("GET", "", ""),
        ("GET", "disk.raw", ""),
        ("PUT", "disk.raw", ""),
        ("DELETE", "disk.raw", ""),
        ("DELETE", "", ""),
        ("POST", "disk.raw", "uploads="),
        ("GET", "", "uploads="),
    ] {
        assert_eq!(ask(method, key, query), absent, "{method} {key} {query}");
    }
    let list = other.s3.send(Request { method: "GET", ..Request::default() }, b"");
    assert!(list.status == 200 && !list.text().contains("private"), "{}", list.text());

    let import = json!({"name": "stolen", "from": {"bucket": "private", "key": "disk.raw"}, "format": "raw"});
    let (status, told) = post(&molde, &other.token, "/molde/v1/images", &import);
    assert!(status == 404 && told.contains("private"), "{status} {told}");
    let body = json!({"name": "stolen", "image_url": "private:disk.raw", "os_type": "Linux", "min_disk": 1});
    let (status, told) = post(&molde, &other.token, "/v2/cloudimages/action", &body);
    assert!(matches!(status, 400 | 404), "{status} {told}");
    let path = format!("/v2/images/{}", image["id"].as_str().unwrap());
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(molde.request_as(&other.token, method.clone(), &path).send().unwrap().status(), 404, "{method}");
    }
    let jobs = format!("/molde/v1/projects/{}", other.project);
    assert_eq!(molde.request_as(&other.token, Method::DELETE, &jobs).send().unwrap().status(), 403);
    assert_eq!(molde.traces(), before);

    // Each project has names of its own: the same name is another bucket.
    let made = other.s3.send(Request { method: "PUT", bucket: "private", ..Request::default() }, b"");
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(ask("GET", "disk.raw", ""), (404, "NoSuchKey".to_owned()));
    assert_eq!(other.s3.put("private", "disk.raw", b"strange").status, 200);
    assert_eq!(molde.s3().get("private", "disk.raw"), b"secret");
}

#[test]
fn wrong_keys_and_signatures() {
    let molde = Molde::start();
    molde.make_bucket("files");
    let before = molde.traces();
    let check = |s3: S3, code: &str| {
        let answer = s3.put("files", "x", b"bytes");
        assert_eq!((answer.status, answer.element("Code").as_deref()), (403, Some(code)), "{}", answer.text());
        assert!(answer.element("Message").is_some_and(|message| message.len() > 10), "{}", answer.text());
    };
    check(S3 { secret_key: "wrong".into(), ..molde.s3() }, "SignatureDoesNotMatch");
    check(S3 { access_key: "MKUNKNOWNUNKNOWNUNKN".into(), ..molde.s3() }, "InvalidAccessKeyId");
    let anonymous = reqwest::blocking::get(format!("{}/files/x", molde.s3_address())).unwrap();
    assert_eq!(anonymous.status(), 403);
    let wrong = json!({"auth": {"identity": {"methods": ["password"], "password": {"user":
        {"name": "admin", "domain": {"name": "Default"}, "password": "wrong"}}}}});
    let (status, told) = post(&molde, "", "/v3/auth/tokens", &wrong);
    assert!(status == 401 && told.contains("password"), "{status} {told}");
    for token in ["", "wrong", &"x".repeat(4000)] {
        let answer = molde.request_as(token, Method::GET, "/v2/images").send().unwrap();
        assert_eq!(answer.status(), 401, "{}", token.len());
    }
    assert_eq!(molde.traces(), before);
}

#[test]
fn a_token_ends() {
    let config = "[identity]\ntoken_seconds = 1\n";
    let molde = Molde::start_with(Options { config: Some(config.into()), ..Options::default() });
    let token = molde.sign_in(&molde.credentials());
    let told = wait_for("the token expires", || {
        let answer = molde.request_as(&token, Method::GET, "/molde/v1/jobs").send().unwrap();
        (answer.status() == 401).then(|| answer.text().unwrap())
    });
    assert!(told.contains("expired"), "{told}");
    for path in ["/v2/images", "/v2/cloudimages", "/v3/projects"] {
        assert_eq!(molde.request_as(&token, Method::GET, path).send().unwrap().status(), 401, "{path}");
    }
    // The command line signs in anew each time.
    molde.cli(["image", "list"]).ok();
}

#[test]
fn a_reader_reads_and_does_not_write() {
    let molde = Molde::start();
    let reader = other(&molde, "reader", "reader");
    let raw = molde.file("disk.raw");
    disks::scattered(&raw, 1, 400_000, 32);
    let public =
        ["image", "create", "public", "--visibility", "public", "--format", "raw", "--file", raw.to_str().unwrap()];
    let public = molde.cli_json(public)["id"].as_str().unwrap().to_owned();
    for path in ["/v2/images", &format!("/v2/images/{public}"), "/molde/v1/jobs", "/molde/v1/servers"] {
        let answer = molde.request_as(&reader.token, Method::GET, path).send().unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    assert_eq!(reader.s3.send(Request { method: "GET", ..Request::default() }, b"").status, 200);
    let before = molde.traces();
    let export = format!("/molde/v1/images/{public}/export");
    for (path, body) in [
        ("/v2/images", json!({"name": "x", "disk_format": "raw", "container_format": "bare"})),
        ("/molde/v1/images", json!({"name": "x", "from": {"bucket": "b", "key": "k"}})),
        ("/molde/v1/servers", json!({"name": "x", "image": public, "flavor": "m1.small"})),
        (&export, json!({"bucket": "b", "key": "k", "format": "raw"})),
        ("/molde/v1/projects", json!({"name": "x"})),
        ("/molde/v1/users", json!({"name": "x", "password": "correct horse"})),
    ] {
        let (status, told) = post(&molde, &reader.token, path, &body);
        assert_eq!(status, 403, "{path}: {told}");
        assert!(told.contains("role"), "{path}: {told}");
    }
    let bucket = reader.s3.send(Request { method: "PUT", bucket: "readers", ..Request::default() }, b"");
    assert_eq!((bucket.status, bucket.element("Code").as_deref()), (403, Some("AccessDenied")), "{}", bucket.text());
    let image = molde.request_as(&reader.token, Method::DELETE, &format!("/v2/images/{public}")).send().unwrap();
    assert_eq!(image.status(), 403);
    assert_eq!(molde.traces(), before);
}
