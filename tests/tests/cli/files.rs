//! The server as a process: the files of the first start, who may hold the directory, how it ends and comes back.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tests::{Molde, Options, Random, Signal, disks, run, wait_for};

#[test]
fn the_first_start_writes_credentials_for_their_owner_only() {
    let molde = Molde::start();
    let mode = fs::metadata(molde.credentials_path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let credentials = molde.credentials();
    for field in [
        "endpoint",
        "s3_endpoint",
        "region",
        "domain",
        "project_name",
        "project_id",
        "username",
        "password",
        "access_key",
        "secret_key",
    ] {
        assert!(credentials[field].as_str().is_some_and(|value| !value.is_empty()), "{field}");
    }
    assert_eq!(credentials["endpoint"], molde.api());
    assert_eq!(credentials["s3_endpoint"], molde.s3_address());
    let clouds = fs::read_to_string(molde.data().join("clouds.yaml")).unwrap();
    assert!(clouds.starts_with("clouds:\n  molde:\n"), "{clouds}");
    assert!(clouds.contains(molde.api()) && clouds.contains(credentials["password"].as_str().unwrap()), "{clouds}");
    for secret in ["password", "secret_key"] {
        assert!(!molde.log().contains(credentials[secret].as_str().unwrap()), "the log holds the {secret}");
    }
    assert_eq!(molde.request(reqwest::Method::GET, "/healthz").send().unwrap().status(), 200);
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let molde = Molde::start();
    let words = ["serve", "--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0", "--data"];
    let done = run(molde.command(words).arg(molde.data()));
    let told = done.refused();
    assert!(told.contains("another server uses the data directory"), "{told}");
    molde.cli(["image", "list"]).ok();
}

#[test]
fn an_address_that_is_taken_and_a_wrong_configuration_are_named() {
    let molde = Molde::start();
    let taken = molde.api().strip_prefix("http://").unwrap().to_owned();
    let other = molde.file("other");
    let serve = |words: &[&str]| run(molde.command(["serve", "--data"]).arg(&other).args(words));
    let told = serve(&["--listen", &taken, "--s3-listen", "127.0.0.1:0"]).refused();
    assert!(told.contains(&taken), "{told}");
    let config = molde.file("wrong.toml");
    fs::write(&config, "[identity]\ntoken_second = 3\n").unwrap();
    let free = ["--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0", "--config"];
    let told = serve(&[&free[..], &[config.to_str().unwrap()]].concat()).refused();
    assert!(told.contains("token_second") && told.contains("token_seconds"), "{told}");
}

#[test]
fn what_was_acknowledged_outlives_a_kill_and_a_stop() {
    let mut molde = Molde::start();
    let before = molde.credentials();
    let (raw, bytes) = (molde.file("disk.raw"), Random::new(8).bytes(3_000_000));
    disks::linux(&raw, 16, 8);
    molde.make_bucket("kept");
    assert_eq!(molde.s3().put("kept", "object", &bytes).status, 200);
    let image = molde.cli_json(["image", "create", "kept", "--file", raw.to_str().unwrap()]);
    for round in 0..3 {
        match round {
            1 => assert_eq!(molde.terminate(), Some(0)),
            _ => molde.kill9(),
        }
        molde.restart();
        let now = molde.credentials();
        for field in ["project_id", "password", "access_key", "secret_key", "username", "region"] {
            assert_eq!(now[field], before[field], "{field}");
        }
        assert_eq!(now["endpoint"], molde.api(), "the address is the new one");
        assert!(molde.s3().get("kept", "object") == bytes);
        assert_eq!(molde.get(&format!("/v2/images/{}", image["id"].as_str().unwrap()))["status"], "active");
        let saved = molde.file("saved.raw");
        molde.cli(["image", "save", "kept", saved.to_str().unwrap(), "--force"]).ok();
        assert_eq!(disks::md5_of(&saved), disks::md5_of(&raw));
    }
}

#[test]
fn a_stop_lets_a_request_end() {
    use std::io::Write;

    let mut molde = Molde::start();
    molde.make_bucket("files");
    let bytes = Random::new(9).bytes(8 << 20);
    let put = tests::Request {
        method: "PUT",
        bucket: "files",
        key: "late",
        length: bytes.len() as u64,
        ..Default::default()
    };
    let mut stream = molde.s3().begin(put);
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    stream.write_all(first).unwrap();
    molde.signal(Signal::TERM);
    wait_for("the server begins to stop", || molde.log().contains("stopping:").then_some(()));
    stream.write_all(rest).unwrap();
    let answer = tests::answer(stream).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(molde.wait().code(), Some(0));
    molde.restart();
    assert!(molde.s3().get("files", "late") == bytes);
}

#[test]
fn a_stop_in_the_moment_of_readiness_is_clean() {
    let mut molde = Molde::start();
    for _ in 0..10 {
        assert_eq!(molde.terminate(), Some(0));
        molde.restart();
    }
}

#[test]
fn configuration_is_read() {
    let molde =
        Molde::start_with(Options { config: Some("[identity]\nregion = \"moon-1\"\n".into()), ..Options::default() });
    assert_eq!(molde.credentials()["region"], "moon-1");
    molde.make_bucket("signed-for-the-moon");
    let s3 = tests::S3 { region: "local-1".into(), ..molde.s3() };
    let answer = s3.put("signed-for-the-moon", "x", b"x");
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(answer.text().contains("moon-1"), "{}", answer.text());
}
