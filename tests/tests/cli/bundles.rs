//! Bundles: an image goes from one server to another as a file, as a whole or since another image.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;
use tests::{Molde, Proxy, Random, disks, run, wait_for};

const MIB: u64 = 1 << 20;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Two servers that know nothing of each other.
struct Bench {
    here: Molde,
    there: Molde,
}

impl Bench {
    fn new() -> Self {
        Self { here: Molde::start(), there: Molde::start() }
    }

    /// Makes an image of a local file.
    fn image(molde: &Molde, name: &str, file: &Path, more: &[&str]) -> Value {
        molde.cli_json([&["image", "create", name, "--file", text(file), "--format", "raw"], more].concat())
    }

    fn bundle(&self, image: &str, more: &[&str]) -> PathBuf {
        let file = self.here.file(&format!("{image}.bundle"));
        self.here.cli([&["store", "bundle", image, "-o", text(&file)], more].concat()).ok();
        file
    }

    fn assert_saved(&self, image: &str, raw: &Path) {
        let saved = self.there.file("saved");
        self.there.cli(["image", "save", image, text(&saved), "--force"]).ok();
        assert_eq!(disks::md5_of(&saved), disks::md5_of(raw), "{image}");
    }

    /// Fails to make an image of a bundle, checks that nothing is left of it, and returns what was told.
    fn refused(&self, bundle: &Path, more: &[&str]) -> String {
        let before = self.there.traces();
        let told = self.there.cli([&["store", "unbundle", text(bundle)], more].concat()).refused();
        assert_eq!(self.there.traces(), before, "{told}");
        told
    }
}

#[test]
fn an_image_goes_over_as_it_is() {
    let bench = Bench::new();
    let raw = bench.here.file("disk.raw");
    disks::linux(&raw, 24, 91);
    let qcow2 = disks::convert(&raw, "qcow2", "");
    let more =
        ["--property", "os_distro=debian", "--property", "a=b=c", "--tag", "gold", "--min-disk", "3", "--min-ram"];
    let create = ["image", "create", "web", "--file", text(&qcow2)];
    let made = bench.here.cli_json([&create[..], &more, &["512"]].concat());
    let file = bench.bundle("web", &[]);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = run(&mut bench.here.client(["store", "bundle", "web", "-o", text(&file)])).refused();
    assert!(again.contains("is there already"), "{again}");

    let image = bench.there.cli_json(["store", "unbundle", text(&file)]);
    for field in [
        "name",
        "status",
        "disk_format",
        "container_format",
        "size",
        "virtual_size",
        "checksum",
        "os_hash_value",
        "min_disk",
        "min_ram",
        "tags",
        "os_distro",
        "a",
    ] {
        assert_eq!(image[field], made[field], "{field}: {image}");
    }
    bench.assert_saved("web", &qcow2);
    // Under another name, for everybody, and without a byte that is kept twice.
    let before = bench.there.pack_bytes();
    let other = ["store", "unbundle", text(&file), "--name", "other", "--visibility", "public"];
    let image = bench.there.cli_json(other);
    assert_eq!((&image["name"], &image["visibility"]), (&"other".into(), &"public".into()));
    assert!(bench.there.pack_bytes() < before + 100_000);
    bench.assert_saved("other", &qcow2);

    // To standard output goes the same file.
    let piped = bench.here.client(["store", "bundle", "web", "-o", "-"]).output().unwrap();
    assert!(piped.status.success() && piped.stdout == fs::read(&file).unwrap());
}

#[test]
fn only_what_changed_goes_over() {
    let bench = Bench::new();
    let (old, new) = (bench.here.file("old.raw"), bench.here.file("new.raw"));
    disks::linux(&old, 48, 92);
    fs::copy(&old, &new).unwrap();
    let file = File::options().write(true).open(&new).unwrap();
    file.write_all_at(&Random::new(1).bytes(100_000), 20 * MIB).unwrap();
    file.set_len(50 * MIB + 123).unwrap();
    file.write_all_at(b"the end", 50 * MIB + 100).unwrap();
    Bench::image(&bench.here, "old", &old, &[]);
    Bench::image(&bench.here, "new", &new, &[]);
    let (whole, since) = (bench.bundle("old", &[]), bench.bundle("new", &["--since", "old"]));
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    assert!(length(&since) < MIB && length(&whole) > 10 * MIB, "{} since {}", length(&since), length(&whole));

    let told = bench.refused(&since, &[]);
    assert!(told.contains("holds only what `old`") && told.contains("--base"), "{told}");
    bench.there.cli(["store", "unbundle", text(&whole)]).ok();
    let told = bench.refused(&whole, &["--base", "old"]);
    assert!(told.contains("needs no base"), "{told}");
    // A base of the same length and other bytes, of which the first that differ are named.
    let wrong = bench.there.file("wrong.raw");
    fs::copy(&old, &wrong).unwrap();
    File::options().write(true).open(&wrong).unwrap().write_all_at(b"!", 0).unwrap();
    Bench::image(&bench.there, "wrong", &wrong, &[]);
    let told = bench.refused(&since, &["--base", "wrong"]);
    assert!(told.contains("has other bytes at 0 "), "{told}");
    Bench::image(
        &bench.there,
        "short",
        &{
            File::options().write(true).open(&wrong).unwrap().set_len(47 * MIB).unwrap();
            wrong
        },
        &[],
    );
    let told = bench.refused(&since, &["--base", "short"]);
    assert!(told.contains("is not the base of the bundle"), "{told}");

    bench.there.cli(["store", "unbundle", text(&since), "--base", "old"]).ok();
    bench.assert_saved("new", &new);
}

#[test]
fn a_damaged_bundle_is_refused_before_anything_is_sent() {
    let bench = Bench::new();
    let raw = bench.here.file("disk.raw");
    disks::scattered(&raw, 8, MIB, 93);
    Bench::image(&bench.here, "web", &raw, &[]);
    let bundle = bench.bundle("web", &[]);
    let bytes = fs::read(&bundle).unwrap();
    let changed = bench.here.file("changed.bundle");
    for at in [0, 9, 13, 17, 30, 500, bytes.len() / 2, bytes.len() - 40, bytes.len() - 1] {
        let mut copy = bytes.clone();
        copy[at] ^= 0x10;
        fs::write(&changed, copy).unwrap();
        let told = bench.refused(&changed, &[]);
        let expect = if at < 8 {
            "is no bundle"
        } else if at < 12 {
            "of version"
        } else {
            "damaged or cut short"
        };
        assert!(told.contains(expect), "byte {at}: {told}");
    }
    for length in [0, 10, 60, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&changed, &bytes[..length]).unwrap();
        bench.refused(&changed, &[]);
    }
    bench.there.cli(["store", "unbundle", text(&bundle)]).ok();
    bench.assert_saved("web", &raw);
}

#[test]
fn an_unbundle_that_was_killed_goes_on() {
    let bench = Bench::new();
    let raw = bench.here.file("large.raw");
    fs::write(&raw, Random::new(94).bytes((240 * MIB) as usize)).unwrap();
    Bench::image(&bench.here, "large", &raw, &[]);
    let bundle = bench.bundle("large", &[]);
    let proxy = Proxy::start(bench.there.api());
    let mut known = bench.there.credentials();
    known["endpoint"] = proxy.address.as_str().into();
    let path = bench.there.file("through.json");
    fs::write(&path, known.to_string()).unwrap();
    let unbundle = || {
        let mut command = bench.there.command(["store", "unbundle", text(&bundle), "--credentials"]);
        command.arg(&path);
        command
    };
    let mut child = unbundle().stdout(std::process::Stdio::null()).spawn().unwrap();
    wait_for("half of it is stored", || (bench.there.pack_bytes() > 120 * MIB).then_some(()));
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it ended before it was killed");
    let (first, stored) = (proxy.sent(), bench.there.pack_bytes());
    run(&mut unbundle()).ok();
    let second = proxy.sent() - first;
    assert!(second < 240 * MIB - stored + 40 * MIB, "{stored} bytes were stored, and {second} were sent");
    let images = bench.there.images();
    let active = images.iter().find(|image| image["status"] == "active").unwrap();
    let saved = bench.there.file("saved");
    bench.there.cli(["image", "save", active["id"].as_str().unwrap(), text(&saved)]).ok();
    assert_eq!(disks::md5_of(&saved), disks::md5_of(&raw));
}
