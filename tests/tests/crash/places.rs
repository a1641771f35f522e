//! A crash at every place of every job: the job goes on after a restart, and its result is right.

use std::os::unix::process::ExitStatusExt;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Molde, Options, disks, run, tool, wait_for};

const CREATE_IMAGE: &[&str] = &[
    "open/before",
    "open/after",
    "unpack/before",
    "unpack/middle",
    "unpack/after",
    "copy/before",
    "copy/middle",
    "copy/after",
    "inspect/before",
    "inspect/after",
    "prepare/before",
    "prepare/after",
    "end/before",
    "end/after",
];
const PREPARE_IMAGE: &[&str] =
    &["open/before", "open/after", "prepare/before", "prepare/middle", "prepare/after", "end/before", "end/after"];
const EXPORT_IMAGE: &[&str] = &[
    "open/before",
    "open/after",
    "write/before",
    "write/middle",
    "write/joining",
    "write/after",
    "end/before",
    "end/after",
];
const CREATE_SERVER: &[&str] = &["start/before", "start/after", "end/before", "end/after"];

const REBUILD_STORE: &[&str] =
    &["packs/before", "packs/after", "contents/before", "contents/middle", "contents/after", "end/before", "end/after"];

/// SIGABRT.
const ABORTED: Option<i32> = Some(6);

/// A server with a bucket that holds a disk as VMDK, and the tests' record of it.
struct Bench {
    molde: Molde,
    raw: std::path::PathBuf,
    vmdk: std::path::PathBuf,
    md5_of_vmdk: String,
}

impl Bench {
    fn new() -> Self {
        let config = "[compute]\nacceleration = \"tcg\"\n";
        let molde = Molde::start_with(Options { config: Some(config.into()), ..Options::default() });
        let raw = molde.file("disk.raw");
        disks::linux(&raw, 24, 20);
        let vmdk = disks::vmdk(&raw);
        molde.make_bucket("images");
        molde.cli(["object", "put", "images/disk.vmdk", vmdk.to_str().unwrap()]).ok();
        let md5_of_vmdk = disks::md5_of(&vmdk);
        Self { molde, raw, vmdk, md5_of_vmdk }
    }

    /// As [`Bench::die_in`], and what was acknowledged before is still there.
    #[track_caller]
    fn crash(&mut self, place: &str, path: &str, body: &Value) -> Value {
        let job = self.die_in(place, path, body);
        self.check_object("disk.vmdk");
        job
    }

    /// Lets the server die at a place of the job that `body` posted to `path` begins, starts it again, and returns
    /// the job when it has ended.
    #[track_caller]
    fn die_in(&mut self, place: &str, path: &str, body: &Value) -> Value {
        self.molde.terminate();
        self.molde.restart_to_abort_at(place);
        let before = self.jobs();
        // The server may die before it has answered.
        drop(self.molde.request(Method::POST, path).json(body).send());
        let status = self.molde.wait();
        assert_eq!(status.signal(), ABORTED, "{place}");
        assert!(self.molde.log().contains(&format!("place={place:?}")), "{place}: died elsewhere");
        self.molde.restart();
        let new: Vec<String> = self.jobs().into_iter().filter(|id| !before.contains(id)).collect();
        let [id] = &new[..] else { panic!("{place}: one job was begun: {new:?}") };
        let job = self.molde.ended_job(id);
        assert_eq!(job["state"], "done", "{place}: {job}");
        let again = !place.ends_with("end/after");
        assert_eq!(job["attempt"], 1 + i64::from(again), "{place}: {job}");
        job
    }

    fn jobs(&self) -> Vec<String> {
        let answer = self.molde.get("/molde/v1/jobs?limit=1000");
        answer["jobs"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The object that was acknowledged before any crash is what was put.
    #[track_caller]
    fn check_object(&self, key: &str) {
        assert_eq!(disks::md5(&self.molde.s3().get("images", key)), self.md5_of_vmdk);
    }
}

#[test]
fn a_crash_at_every_place_of_an_import() {
    let mut bench = Bench::new();
    // A file that has to be unpacked and a guest that has to be prepared, so that every step has something to do.
    let (raw, gz) = (bench.molde.file("started.raw"), bench.molde.file("disk.vmdk.gz"));
    disks::started(&raw, 24, 22);
    tool("sh", ["-c", &format!("gzip -1 -c '{}' > '{}'", disks::vmdk(&raw).display(), gz.display())]);
    bench.molde.cli(["object", "put", "images/disk.vmdk.gz", gz.to_str().unwrap()]).ok();
    for place in CREATE_IMAGE {
        let heads = bench.molde.heads();
        let body = json!({"name": place, "from": {"bucket": "images", "key": "disk.vmdk.gz"}});
        let job = bench.crash(&format!("create_image/{place}"), "/molde/v1/images", &body);
        let image = bench.molde.get(&format!("/v2/images/{}", job["image"].as_str().unwrap()));
        assert_eq!((&image["status"], &image["name"]), (&"active".into(), &(*place).into()), "{image}");
        let saved = bench.molde.file("saved.raw");
        bench.molde.cli(["image", "save", place, saved.to_str().unwrap(), "--force"]).ok();
        let differs = bench.molde.cli(["guest", "diff", raw.to_str().unwrap(), saved.to_str().unwrap()]);
        assert!(differs.stdout.starts_with("* /etc/machine-id\n+ /var/log\n"), "{place}: {differs}");
        assert_eq!(bench.molde.heads(), heads + 2, "{place}: an image has its content and its original");
        bench.molde.cli(["image", "undo-prepare", place]).ok();
        bench.molde.cli(["image", "save", place, saved.to_str().unwrap(), "--force"]).ok();
        assert_eq!(disks::md5_of(&saved), disks::md5_of(&raw), "{place}");
        assert_eq!(bench.molde.heads(), heads + 1, "{place}: an image that is undone has one content");
    }
}

#[test]
fn a_crash_at_every_place_of_a_preparation() {
    let mut bench = Bench::new();
    let raw = bench.molde.file("started.raw");
    disks::started(&raw, 24, 23);
    let qcow2 = disks::convert(&raw, "qcow2", "");
    // Of a bare disk what changed is spliced in; of another file the whole disk is written, in the middle of which is a place.
    let bare = PREPARE_IMAGE.iter().filter(|place| **place != "prepare/middle").map(|place| (place, "raw", &raw));
    for (place, format, file) in bare.chain(PREPARE_IMAGE.iter().map(|place| (place, "qcow2", &qcow2))) {
        let name = format!("{format}-{place}");
        let image =
            bench.molde.cli_json(["image", "create", &name, "--file", file.to_str().unwrap(), "--format", format]);
        let (id, heads) = (image["id"].as_str().unwrap(), bench.molde.heads());
        bench.crash(&format!("prepare_image/{place}"), &format!("/molde/v1/images/{id}/prepare"), &json!({}));
        let prepared = bench.molde.cli_json(["image", "show", id]);
        assert_eq!((&prepared["status"], &prepared["disk_format"]), (&"active".into(), &"raw".into()), "{prepared}");
        assert_eq!(prepared["molde:prepare"], "prepared", "{prepared}");
        let saved = bench.molde.file("saved.raw");
        bench.molde.cli(["image", "save", id, saved.to_str().unwrap(), "--force"]).ok();
        let differs = bench.molde.cli(["guest", "diff", raw.to_str().unwrap(), saved.to_str().unwrap()]);
        assert!(differs.stdout.starts_with("* /etc/machine-id\n+ /var/log\n"), "{name}: {differs}");
        assert_eq!(bench.molde.heads(), heads + 1, "{name}: the original is kept beside it");
        bench.molde.cli(["image", "undo-prepare", id]).ok();
        bench.molde.cli(["image", "save", id, saved.to_str().unwrap(), "--force"]).ok();
        assert_eq!(disks::md5_of(&saved), disks::md5_of(file), "{name}");
        let undone = bench.molde.cli_json(["image", "show", id]);
        for field in ["disk_format", "checksum", "os_hash_value", "size", "virtual_size"] {
            assert_eq!(undone[field], image[field], "{name}: {field}");
        }
        assert_eq!(bench.molde.heads(), heads, "{name}: an image that is undone has one content");
    }
}

#[test]
fn a_crash_at_every_place_of_an_export() {
    let mut bench = Bench::new();
    bench.molde.cli(["image", "create", "web", "--from", "images/disk.vmdk", "--wait"]).ok();
    let image = bench.molde.cli_json(["image", "show", "web"]);
    let path = format!("/molde/v1/images/{}/export", image["id"].as_str().unwrap());
    // A layout is written as it is; of a stream, the beginning is written last and joined to the rest.
    let laid_out = EXPORT_IMAGE.iter().filter(|place| **place != "write/joining").map(|place| (place, json!({})));
    let streamed = EXPORT_IMAGE.iter().map(|place| (place, json!({"compression": "zstd", "cluster_size": "4K"})));
    for (place, options) in laid_out.chain(streamed) {
        let heads = bench.molde.heads();
        let key = format!("{place}-{}.qcow2", options.as_object().unwrap().len());
        bench.crash(
            &format!("export_image/{place}"),
            &path,
            &json!({"bucket": "images", "key": key, "format": "qcow2", "options": options}),
        );
        let out = bench.molde.file("out.qcow2");
        bench.molde.cli(["object", "get", &format!("images/{key}"), out.to_str().unwrap(), "--force"]).ok();
        tool("qemu-img", ["check", "-f", "qcow2", out.to_str().unwrap()]);
        disks::assert_same(&bench.raw, &out, "qcow2");
        assert_eq!(bench.molde.heads(), heads + 1, "{place}: an object has one content");
    }
}

#[test]
fn a_crash_at_every_place_of_a_new_server() {
    let mut bench = Bench::new();
    let boot = bench.molde.file("boot.raw");
    disks::halting(&boot);
    let image = bench.molde.cli_json(["image", "create", "boot", "--file", boot.to_str().unwrap(), "--format", "raw"]);
    for place in CREATE_SERVER {
        let name = place.replace('/', "-");
        let body = json!({"name": name, "image": image["id"], "flavor": smallest_flavor(&bench.molde)});
        let job = bench.crash(&format!("create_server/{place}"), "/molde/v1/servers", &body);
        let id = job["server"].as_str().unwrap();
        let server = bench.molde.get(&format!("/molde/v1/servers/{id}"));
        assert_eq!(
            (&server["server"]["state"], &server["server"]["name"]),
            (&"ACTIVE".into(), &name.into()),
            "{server}"
        );
        assert_eq!(processes_of(id), 1, "{place}: a server is one process");
        bench.molde.cli(["server", "delete", id]).ok();
        wait_for("the process of a deleted server is gone", || (processes_of(id) == 0).then_some(()));
    }
}

#[test]
fn a_crash_at_every_place_of_a_rebuilt_catalog() {
    let mut bench = Bench::new();
    let raw = bench.raw.to_str().unwrap().to_owned();
    bench.molde.cli(["image", "create", "web", "--file", &raw, "--format", "raw"]).ok();
    let heads = bench.molde.heads();
    for place in REBUILD_STORE {
        bench.molde.terminate();
        for file in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
            drop(std::fs::remove_file(bench.molde.data().join(file)));
        }
        bench.molde.restart();
        assert!(bench.molde.images().is_empty());
        bench.die_in(&format!("rebuild_store/{place}"), "/molde/v1/store/rebuild", &json!({}));
        bench.molde.cli(["store", "verify", "--deep"]).ok();
        // The VMDK that was uploaded, and the disk: each once, whatever the rebuilding had done when it died.
        let images = bench.molde.images();
        assert_eq!(images.len(), 2, "{place}: {images:#?}");
        for image in images {
            let saved = bench.molde.file("saved");
            bench.molde.cli(["image", "save", image["id"].as_str().unwrap(), saved.to_str().unwrap(), "--force"]).ok();
            let expected = if image["disk_format"] == "vmdk" { &bench.vmdk } else { &bench.raw };
            assert_eq!(disks::md5_of(&saved), disks::md5_of(expected), "{place}: {image}");
        }
        assert_eq!(bench.molde.heads(), heads, "{place}");
    }
    // Collection goes on and takes nothing of it.
    for _ in 0..3 {
        bench.molde.cli(["store", "gc"]).ok();
    }
    bench.molde.cli(["store", "verify", "--deep"]).ok();
}

fn smallest_flavor(molde: &Molde) -> Value {
    let flavors = molde.get("/molde/v1/flavors");
    let smallest = flavors["flavors"].as_array().unwrap().iter().min_by_key(|flavor| flavor["ram_mib"].as_u64());
    smallest.unwrap()["name"].clone()
}

/// Counts the QEMU processes that name a server.
fn processes_of(server: &str) -> usize {
    let folders = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
    let lines = folders.filter_map(|folder| std::fs::read(folder.join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    lines
        .filter(|line| line.starts_with("qemu-system") || line.contains("/qemu-system"))
        .filter(|line| line.contains(server))
        .count()
}

#[test]
fn the_places_are_those_that_jobs_come_to() {
    let folder = tempfile::tempdir().unwrap();
    let words = ["serve", "--abort-at", "nowhere", "--data", folder.path().to_str().unwrap()];
    let told = run(&mut tests::command(tests::binary(), words)).refused();
    let known: Vec<&str> = told.trim().split_once("one of: ").unwrap().1.split(", ").collect();
    let kinds = [
        ("create_image", CREATE_IMAGE),
        ("prepare_image", PREPARE_IMAGE),
        ("export_image", EXPORT_IMAGE),
        ("create_server", CREATE_SERVER),
        ("rebuild_store", REBUILD_STORE),
    ];
    let tested = kinds.iter().flat_map(|(kind, places)| places.iter().map(move |place| format!("{kind}/{place}")));
    assert_eq!(known, tested.collect::<Vec<_>>(), "every place has its crash here");
}
