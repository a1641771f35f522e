//! Memory stays bounded while much goes through at once: a large upload, an import and an export.

#![expect(clippy::print_stderr, reason = "the peaks are worth reading even where they are below the bounds")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Child;

use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tests::{Molde, Random, disks, memory_peak, wait_for};

const MIB: u64 = 1 << 20;
/// Most memory of the server.
const SERVER: u64 = 400 * MIB;
/// Most memory of the command line.
const COMMAND: u64 = 100 * MIB;
const UPLOAD: u64 = 2048 * MIB;
/// Size of the disk that is imported and the one that is exported.
const DISK_MIB: u64 = 2048;
/// How much of it is data.
const DATA: u64 = 1024 * MIB;

#[test]
fn an_upload_an_import_and_an_export_at_once() {
    let molde = Molde::start();
    molde.make_bucket("images");
    let raw = molde.file("disk.raw");
    disks::scattered(&raw, DISK_MIB, DATA, 50);
    let vmdk = disks::vmdk(&raw);
    molde.cli(["object", "put", "images/disk.vmdk", vmdk.to_str().unwrap()]).ok();
    let first = molde.cli_json(["image", "create", "first", "--from", "images/disk.vmdk", "--wait"]);
    fs::remove_file(vmdk).unwrap();
    let file = molde.file("large.bin");
    write_random(&file, UPLOAD);

    let mut put = molde.client(["object", "put", "images/large.bin", file.to_str().unwrap()]).spawn().unwrap();
    // It goes on when both jobs run, however fast it is.
    signal(&put, Signal::STOP);
    let import = json!({"name": "second", "from": {"bucket": "images", "key": "disk.vmdk"}});
    let import = molde.post("/molde/v1/images", &import);
    let path = format!("/molde/v1/images/{}/export", first["id"].as_str().unwrap());
    let export = molde.post(&path, &json!({"bucket": "images", "key": "out.qcow2", "format": "qcow2"}));
    wait_for("both jobs run", || {
        let job = |job: &Value| molde.get(&format!("/molde/v1/jobs/{}", job["job"]["id"].as_str().unwrap()));
        [&import, &export].iter().all(|begun| job(begun)["job"]["started_at"] != Value::Null).then_some(())
    });
    signal(&put, Signal::CONT);
    let peak_of_put = end(&mut put);
    for job in [import, export] {
        let job = wait_for("a job ends", || {
            let job = molde.get(&format!("/molde/v1/jobs/{}", job["job"]["id"].as_str().unwrap()));
            (job["job"]["ended_at"] != Value::Null).then_some(job)
        });
        assert_eq!(job["job"]["state"], "done", "{job}");
    }

    let out = molde.file("out");
    let get = |key: &str| {
        let words = ["object", "get", key, out.to_str().unwrap(), "--force"];
        end(&mut molde.client(words).spawn().unwrap())
    };
    let peak_of_get = get("images/large.bin");
    assert_eq!(disks::md5_of(&out), disks::md5_of(&file), "the object is what was put");
    get("images/out.qcow2");
    disks::assert_same(&raw, &out, "qcow2");
    fs::remove_file(&out).unwrap();
    molde.cli(["image", "save", "second", out.to_str().unwrap()]).ok();
    assert_eq!(disks::md5_of(&out), disks::md5_of(&raw), "the import is the disk");

    let server = molde.memory_peak();
    let [put, get] = [peak_of_put, peak_of_get].map(|peak| peak / MIB);
    eprintln!("peaks in MiB: server {}, `object put` {put}, `object get` {get}", server / MIB);
    assert!(server < SERVER, "the server had {server} bytes");
    assert!(peak_of_put.max(peak_of_get) < COMMAND, "the command line had {put} and {get} MiB");
}

fn signal(child: &Child, signal: Signal) {
    rustix::process::kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits for a command to end well, and returns the most memory that it was seen with.
fn end(child: &mut Child) -> u64 {
    let pid = i32::try_from(child.id()).unwrap();
    let mut peak = 0;
    loop {
        peak = memory_peak(pid).unwrap_or(0).max(peak);
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            assert!(peak > 0, "the command was never seen");
            return peak;
        }
        tests::pause();
    }
}

fn write_random(path: &Path, length: u64) {
    let (mut random, mut file) = (Random::new(51), File::create(path).unwrap());
    let mut bytes = vec![0; MIB as usize];
    for _ in 0..length / MIB {
        random.fill(&mut bytes);
        file.write_all(&bytes).unwrap();
    }
}
