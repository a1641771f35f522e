//! Rounds of work that is cut off by SIGKILL at a random moment; the seed of a failed round is in its message.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tests::{Molde, Random, Request, S3, Signal, disks, tool};

/// Longest time that work runs before the kill: all of it takes about so long.
const LONGEST: Duration = Duration::from_millis(1500);
/// How many further rounds what a round made has to outlive.
const OUTLIVED: u64 = 3;
const BUCKET: &str = "kept";

/// What the server has acknowledged, by name, with the MD5 of the bytes.
#[derive(Default)]
struct Acknowledged {
    objects: BTreeMap<String, String>,
    uploads: BTreeMap<String, String>,
}

struct Bench {
    molde: Molde,
    raw: PathBuf,
    known: Acknowledged,
    /// The image that is exported.
    image: String,
    /// How many exports were ever begun.
    exports: usize,
}

/// Runs `count` rounds whose seeds begin at `first`, all on one data directory.
pub(crate) fn run(first: u64, count: u64) {
    let molde = Molde::start();
    let raw = molde.file("disk.raw");
    disks::linux(&raw, 32, first);
    let vmdk = disks::vmdk(&raw);
    molde.make_bucket(BUCKET);
    molde.cli(["object", "put", &format!("{BUCKET}/disk.vmdk"), vmdk.to_str().unwrap()]).ok();
    let image = molde.cli_json(["image", "create", "base", "--from", &format!("{BUCKET}/disk.vmdk"), "--wait"]);
    let mut known = Acknowledged::default();
    known.objects.insert("disk.vmdk".into(), disks::md5_of(&vmdk));
    let image = image["id"].as_str().unwrap().to_owned();
    let mut bench = Bench { molde, raw, known, image, exports: 0 };
    for seed in first..first + count {
        bench.round(seed);
        bench.check(seed);
        if let Some(old) = seed.checked_sub(OUTLIVED).filter(|old| *old >= first) {
            bench.remove(old);
        }
    }
}

impl Bench {
    /// Puts, uploads, imports and exports at once, and kills the server in the middle.
    fn round(&mut self, seed: u64) {
        let mut random = Random::new(seed);
        let small = random.some_bytes(1, 3 << 20);
        let large = random.some_bytes(4 << 20, 28 << 20);
        let upload = random.some_bytes(1 << 20, 16 << 20);
        let moment = LONGEST.mul_f64(random.below(1000) as f64 / 1000.0);
        let (s3, molde) = (self.molde.s3(), &self.molde);
        let token = molde.token();
        let post = |path: String, body: Value| {
            drop(molde.request_as(&token, Method::POST, &path).json(&body).send());
        };
        let name = |what: &str| format!("{what}-{seed}");
        let (objects, uploaded) = thread::scope(|scope| {
            let small = scope.spawn(|| put(&s3, &name("small"), &small));
            let large = scope.spawn(|| put(&s3, &name("large"), &large));
            let uploaded = scope.spawn(|| upload_image(molde, &token, &name("upload"), &upload));
            scope.spawn(|| {
                let from = json!({"bucket": BUCKET, "key": "disk.vmdk"});
                post("/molde/v1/images".into(), json!({"name": name("import"), "from": from}));
            });
            scope.spawn(|| {
                let to = json!({"bucket": BUCKET, "key": name("export"), "format": "qcow2"});
                post(format!("/molde/v1/images/{}/export", self.image), to);
            });
            // The moment of the kill is what the seed chose, and nothing is waited for.
            thread::sleep(moment);
            molde.signal(Signal::KILL);
            ([small.join().unwrap(), large.join().unwrap()], uploaded.join().unwrap())
        });
        self.known.objects.extend(objects.into_iter().flatten());
        self.known.uploads.extend(uploaded);
        self.molde.kill9();
        self.molde.restart();
    }

    /// Checks everything that was ever acknowledged, and that nothing is left half made.
    fn check(&mut self, seed: u64) {
        let jobs = self.molde.ended_jobs();
        self.check_export(seed, &jobs);
        let molde = &self.molde;
        for job in jobs {
            let well = job["state"] == "done";
            let told = job["error"].as_str().is_some_and(|error| error.len() > 10);
            assert!(well || (told && job["kind"] == "upload_image"), "round {seed}: {job}");
        }
        for (key, md5) in &self.known.objects {
            assert_eq!(&disks::md5(&molde.s3().get(BUCKET, key)), md5, "round {seed}: object {key}");
        }
        let images = molde.images();
        for image in &images {
            self.check_image(seed, image);
        }
        for name in self.known.uploads.keys() {
            assert!(images.iter().any(|image| image["name"] == name.as_str()), "round {seed}: {name} is lost");
        }
    }

    fn check_image(&self, seed: u64, image: &Value) {
        let (name, status) = (image["name"].as_str().unwrap(), image["status"].as_str().unwrap());
        let acknowledged = self.known.uploads.get(name);
        match status {
            "active" if name.starts_with("upload-") => {
                // An upload may be whole although its answer was cut off; its own checksum is right all the same.
                let md5 = disks::md5(&self.bytes_of(image));
                assert_eq!(image["checksum"], md5.as_str(), "round {seed}: {image}");
                assert!(acknowledged.is_none_or(|known| *known == md5), "round {seed}: {image}");
            }
            "active" => {
                let saved = self.molde.file("saved.raw");
                std::fs::write(&saved, self.bytes_of(image)).unwrap();
                disks::assert_same(&self.raw, &saved, "raw");
            }
            "killed" | "queued" => {
                assert!(name.starts_with("upload-") && acknowledged.is_none(), "round {seed}: {image}");
            }
            other => panic!("round {seed}: an image stays {other}: {image}"),
        }
    }

    fn bytes_of(&self, image: &Value) -> Vec<u8> {
        let path = format!("/v2/images/{}/file", image["id"].as_str().unwrap());
        let answer = self.molde.request(Method::GET, &path).send().unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().unwrap().to_vec()
    }

    /// An export that was begun is whole now.
    fn check_export(&mut self, seed: u64, jobs: &[Value]) {
        let exports = jobs.iter().filter(|job| job["kind"] == "export_image").count();
        let begun = exports - std::mem::replace(&mut self.exports, exports);
        let key = format!("export-{seed}");
        let listed = self.molde.cli_json(["object", "list", &format!("{BUCKET}/{key}")]);
        assert_eq!(listed.as_array().unwrap().len(), begun, "round {seed}: {listed}");
        if begun == 1 {
            let out = self.molde.file("out.qcow2");
            std::fs::write(&out, self.molde.s3().get(BUCKET, &key)).unwrap();
            tool("qemu-img", ["check", "-f", "qcow2", out.to_str().unwrap()]);
            disks::assert_same(&self.raw, &out, "qcow2");
        }
    }

    /// Removes what a round made, once it has outlived a few more: checks would take ever longer.
    fn remove(&mut self, seed: u64) {
        let of_round = |name: &str| name.ends_with(&format!("-{seed}"));
        for image in self.molde.images().iter().filter(|image| of_round(image["name"].as_str().unwrap())) {
            self.molde.cli(["image", "delete", image["id"].as_str().unwrap()]).ok();
        }
        // Putting or exporting may have gone through without an answer.
        for what in ["small", "large", "export"] {
            self.molde.cli(["object", "rm", &format!("{BUCKET}/{what}-{seed}")]).ok();
        }
        self.known.objects.retain(|name, _| !of_round(name));
        self.known.uploads.retain(|name, _| !of_round(name));
    }
}

/// Puts an object; returns its key and MD5 if the server acknowledged it.
fn put(s3: &S3, key: &str, bytes: &[u8]) -> Option<(String, String)> {
    let request = Request { method: "PUT", bucket: BUCKET, key, length: bytes.len() as u64, ..Request::default() };
    let mut stream = s3.try_begin(request).ok()?;
    stream.write_all(bytes).ok()?;
    let answer = tests::answer(stream).ok()?;
    assert_eq!(answer.status, 200, "{}", answer.text());
    Some((key.to_owned(), disks::md5(bytes)))
}

/// Uploads an image; returns its name and MD5 if the server acknowledged its bytes.
fn upload_image(molde: &Molde, token: &str, name: &str, bytes: &[u8]) -> Option<(String, String)> {
    let body = json!({"name": name, "disk_format": "raw", "container_format": "bare"});
    let image: Value = molde.request_as(token, Method::POST, "/v2/images").json(&body).send().ok()?.json().ok()?;
    let path = format!("/v2/images/{}/file", image["id"].as_str()?);
    let request = molde.request_as(token, Method::PUT, &path).header("Content-Type", "application/octet-stream");
    let answer = request.body(bytes.to_vec()).send().ok()?;
    assert_eq!(answer.status(), 204);
    Some((name.to_owned(), disks::md5(bytes)))
}
