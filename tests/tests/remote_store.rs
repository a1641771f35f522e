//! Chunks in a bucket of another server: the main job over it, through a cache, across a restart, and what is refused.

use std::fs;
use std::path::Path;

use tests::peers::Moto;
use tests::{Molde, Options, command, disks, files_below, run};

const DATA: u64 = 24 << 20;

/// Writes the key into a file of `folder`, and returns a configuration that keeps chunks in a bucket.
fn config(folder: &Path, address: &str, more: &str) -> String {
    let key = folder.join("store.key");
    fs::write(&key, "testsecret\n").unwrap();
    format!(
        "[store]\nurl = \"s3://chunks/of/molde\"\nendpoint = \"{address}\"\naccess_key = \"testkey\"\n\
         secret_key_file = {key:?}\n{more}\n"
    )
}

fn keys_in(moto: &Moto, prefix: &str) -> usize {
    let query = format!("list-type=2&prefix={}", prefix.replace('/', "%2F"));
    let list = tests::Request { method: "GET", bucket: "chunks", query: &query, ..tests::Request::default() };
    let answer = moto.s3().send(list, b"");
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text().matches("<Key>").count()
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| if entry.path().is_dir() { bytes_below(&entry.path()) } else { entry.metadata().unwrap().len() })
        .sum()
}

#[test]
fn the_main_job_over_a_bucket_with_a_cache() {
    let (moto, folder) = (Moto::start(), tempfile::tempdir().unwrap());
    moto.make_bucket("chunks");
    let config = config(folder.path(), &moto.address(), "cache_size = \"8 MiB\"");
    let mut molde = Molde::start_with(Options { config: Some(config), ..Options::default() });
    assert_eq!(keys_in(&moto, "of/molde/probe/"), 0, "the probe left something");
    assert!(!molde.data().join("store").exists());

    molde.make_bucket("disks");
    let raw = molde.file("disk.raw");
    disks::scattered(&raw, 64, DATA, 7);
    let vmdk = disks::vmdk(&raw);
    molde.cli(["object", "put", "disks/disk.vmdk", vmdk.to_str().unwrap()]).ok();
    let image = molde.cli_json(["image", "create", "first", "--from", "disks/disk.vmdk", "--wait"]);
    assert_eq!(image["status"], "active", "{image}");
    assert!(keys_in(&moto, "of/molde/packs/") > 2 && keys_in(&moto, "of/molde/heads/") >= 2);
    molde.cli(["image", "export", "first", "disks/out.qcow2", "--format", "qcow2", "--wait"]).ok();

    assert_eq!(molde.terminate(), Some(0));
    molde.restart();
    for _ in 0..2 {
        let out = molde.file("out.qcow2");
        molde.cli(["object", "get", "disks/out.qcow2", out.to_str().unwrap(), "--force"]).ok();
        disks::assert_same(&raw, &out, "qcow2");
        let saved = molde.file("saved.raw");
        molde.cli(["image", "save", "first", saved.to_str().unwrap(), "--force"]).ok();
        assert_eq!(disks::md5_of(&saved), disks::md5_of(&raw));
    }
    let cached = bytes_below(&molde.data().join("cache"));
    assert!((4 << 20..=8 << 20).contains(&cached), "{cached} bytes in the cache");
    let log = molde.log();
    assert!(log.contains("s3 bucket `chunks` at http://127.0.0.1") && !log.contains("testsecret"), "{log}");
}

#[test]
fn a_bucket_that_cannot_hold_a_store_is_refused_with_the_way_out() {
    let (moto, folder) = (Moto::start(), tempfile::tempdir().unwrap());
    let file = folder.path().join("molde.toml");
    let refused = |data: &str, config: &str| {
        fs::write(&file, config).unwrap();
        let words = ["serve", "--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0", "--config"];
        let mut serve = command(tests::binary(), words);
        run(serve.arg(&file).arg("--data").arg(folder.path().join(data))).refused()
    };
    let config = config(folder.path(), &moto.address(), "");
    let told = refused("one", &config);
    assert!(told.contains("s3 bucket `chunks` at http://127.0.0.1:"), "{told}");
    assert!(told.contains("it does not exist") && told.contains("hint: make the bucket"), "{told}");

    moto.make_bucket("chunks");
    moto.make_versioned("chunks");
    let told = refused("two", &config);
    assert!(told.contains("keeps old versions") && told.contains("hint: use a bucket"), "{told}");
    // What was kept in the data directory would be out of reach.
    fs::create_dir_all(folder.path().join("three/store")).unwrap();
    let told = refused("three", &config);
    assert!(told.contains("has a store of its own"), "{told}");
    let told = refused("four", &config.replace("url", "uri"));
    assert!(told.contains("uri") && told.contains("url"), "{told}");
}

/// As `docs/store.md` tells it: the file `FOLDER/XY/ID` becomes the key `FOLDER/ID`.
#[test]
fn a_store_moves_from_the_data_directory_into_a_bucket() {
    let (moto, folder) = (Moto::start(), tempfile::tempdir().unwrap());
    moto.make_bucket("chunks");
    let mut molde = Molde::start();
    molde.make_bucket("disks");
    let (file, out) = (molde.file("file"), molde.file("out"));
    disks::scattered(&file, 8, 4 << 20, 3);
    molde.cli(["object", "put", "disks/file", file.to_str().unwrap()]).ok();
    assert_eq!(molde.terminate(), Some(0));

    let store = molde.data().join("store");
    for path in files_below(&store) {
        let parts: Vec<&str> = path.strip_prefix(&store).unwrap().iter().map(|part| part.to_str().unwrap()).collect();
        let key = match &parts[..] {
            [name] => (*name).to_owned(),
            [folders @ .., _, id] => [folders, &[*id]].concat().join("/"),
            [] => panic!("no name"),
        };
        assert_eq!(moto.s3().put("chunks", &format!("of/molde/{key}"), &fs::read(&path).unwrap()).status, 200);
    }
    fs::rename(&store, molde.data().join("store.old")).unwrap();
    fs::write(molde.file("molde.toml"), config(folder.path(), &moto.address(), "cache_size = 0")).unwrap();
    molde.restart();
    molde.cli(["object", "get", "disks/file", out.to_str().unwrap()]).ok();
    assert_eq!(disks::md5_of(&out), disks::md5_of(&file));
    assert!(!molde.data().join("cache").exists(), "a cache of no size was made");
}
