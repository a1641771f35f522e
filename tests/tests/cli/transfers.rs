//! Files beyond plain disk files, in and out: compressed, appliances, encrypted. Witnesses are the tools of each kind.

use std::fs;
use std::path::{Path, PathBuf};

use tests::{Molde, disks, tool};

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A server with a bucket, and a disk beside it.
struct Bench {
    molde: Molde,
    raw: PathBuf,
}

impl Bench {
    fn new(seed: u64) -> Self {
        let molde = Molde::start();
        let raw = molde.file("disk.raw");
        disks::linux(&raw, 24, seed);
        molde.make_bucket("images");
        Self { molde, raw }
    }

    fn put(&self, key: &str, file: &Path) {
        self.molde.cli(["object", "put", &format!("images/{key}"), text(file)]).ok();
    }

    /// Makes an image of a file and returns the path of its saved bytes.
    fn import(&self, key: &str, file: &Path, more: &[&str]) -> PathBuf {
        self.put(key, file);
        let from = format!("images/{key}");
        let image = self.molde.cli_json([&["image", "create", key, "--from", &from, "--wait"], more].concat());
        assert_eq!((&image["status"], &image["disk_format"]), (&"active".into(), &"raw".into()), "{key}: {image}");
        let saved = self.molde.file(&format!("{key}.saved"));
        self.molde.cli(["image", "save", key, text(&saved)]).ok();
        saved
    }

    /// Fails to make an image of what is in the bucket; checks that nothing is left of it, and returns what was told.
    fn refused(&self, key: &str, more: &[&str]) -> String {
        let (from, before) = (format!("images/{key}"), self.molde.traces());
        let told = self.molde.cli([&["image", "create", "bad", "--from", &from, "--wait"], more].concat()).refused();
        assert_eq!(self.molde.cli_json(["image", "show", "bad"])["status"], "killed");
        assert_eq!(self.molde.heads(), before["heads"], "{key}: a content is left");
        self.molde.cli(["image", "delete", "bad"]).ok();
        assert_eq!(self.molde.traces(), before, "{key}");
        told
    }

    /// Exports the image `web` and returns the path of the file.
    fn export(&self, key: &str, words: &[&str]) -> PathBuf {
        let to = format!("images/{key}");
        self.molde.cli([&["image", "export", "web", &to, "--wait"], words].concat()).ok();
        let out = self.molde.file(key);
        self.molde.cli(["object", "get", &to, text(&out)]).ok();
        out
    }

    /// Runs a line of a shell in the folder of the files, and returns the path of the file that it makes.
    fn shell(&self, line: &str, makes: &str) -> PathBuf {
        let folder = self.molde.file("");
        tool("sh", ["-c", &format!("cd '{}' && {line}", folder.display())]);
        self.molde.file(makes)
    }
}

#[test]
fn an_image_goes_out_compressed() {
    let bench = Bench::new(60);
    bench.import("web", &bench.raw, &[]);
    for kind in ["zlib", "zstd"] {
        let option = format!("compression={kind},cluster_size=64K");
        let out = bench.export(&format!("{kind}.qcow2"), &["--format", "qcow2", "-o", &option]);
        tool("qemu-img", ["check", "-f", "qcow2", text(&out)]);
        disks::assert_same(&bench.raw, &out, "qcow2");
        let info = tool("qemu-img", ["info", "--output", "json", text(&out)]);
        assert!(info.contains(&format!("\"compression-type\": \"{kind}\"")), "{info}");
        assert!(fs::metadata(&out).unwrap().len() < 12 << 20, "it is compressed");
    }
    let out = bench.export("stream.vmdk", &["--format", "vmdk", "-o", "subformat=streamOptimized"]);
    assert!(tool("qemu-img", ["info", text(&out)]).contains("streamOptimized"));
    disks::assert_same(&bench.raw, &out, "vmdk");

    bench.export("web.ova", &["--format", "ova", "-o", "name=web"]);
    let disk = bench.shell("tar -xf web.ova && sha256sum web-disk1.vmdk && cat web.mf", "web-disk1.vmdk");
    disks::assert_same(&bench.raw, &disk, "vmdk");

    bench.export("web.raw.gz", &["-o", "wrap=gzip", "--format", "raw"]);
    let disk = bench.shell("gzip -t web.raw.gz && gzip -dc web.raw.gz > gz.raw", "gz.raw");
    assert_eq!(disks::md5_of(&disk), disks::md5_of(&bench.raw));
    bench.export("web.raw.zst", &["-o", "wrap=zstd", "-o", "level=5", "--format", "raw"]);
    let disk = bench.shell("zstd -q -t web.raw.zst && zstd -q -dc web.raw.zst > zst.raw", "zst.raw");
    assert_eq!(disks::md5_of(&disk), disks::md5_of(&bench.raw));
}

#[test]
fn wrong_words_of_an_export_are_refused_as_on_the_command_line() {
    let bench = Bench::new(61);
    bench.import("web", &bench.raw, &[]);
    let before = bench.molde.traces();
    for options in ["compression=lzma", "cluster_size=3", "color=blue", "compression=zstd,wrap=zstd"] {
        let local = bench.molde.file("local.qcow2");
        let convert = ["disk", "convert", "-O", "qcow2", "-o", options, text(&bench.raw), text(&local)];
        let export = ["image", "export", "web", "images/out", "--format", "qcow2", "-o", options];
        let (here, there) = (bench.molde.cli(convert).refused(), bench.molde.cli(export).refused());
        assert_eq!(here, there, "{options}");
    }
    assert_eq!(bench.molde.traces(), before);
}

/// Files as their own tools make them, of which no part can be read alone.
#[test]
fn compressed_files_become_images() {
    let bench = Bench::new(62);
    let qcow2 = disks::convert(&bench.raw, "qcow2", "");
    assert!(qcow2.ends_with("disk.qcow2"));
    for (name, line) in [
        ("raw.gz", "gzip -1 -c disk.raw > raw.gz"),
        ("raw.xz", "xz -0 -T1 -c disk.raw > raw.xz"),
        ("raw.zst", "zstd -q -1 -c disk.raw > raw.zst"),
        (
            "raw.bz2",
            "python3 -c 'import bz2,sys; sys.stdout.buffer.write(bz2.compress(open(\"disk.raw\",\"rb\").read(), 1))' > raw.bz2",
        ),
        (
            "raw.zip",
            "python3 -c 'import zipfile; zipfile.ZipFile(\"raw.zip\", \"w\", zipfile.ZIP_DEFLATED).write(\"disk.raw\")'",
        ),
        ("qcow2.gz", "gzip -1 -c disk.qcow2 > qcow2.gz"),
    ] {
        let heads = bench.molde.heads();
        let saved = bench.import(name, &bench.shell(line, name), &[]);
        assert_eq!(disks::md5_of(&saved), disks::md5_of(&bench.raw), "{name}");
        assert_eq!(bench.molde.heads(), heads + 2, "{name}: the object and the image");
    }
}

#[test]
fn damaged_and_swollen_files_are_refused() {
    let bench = Bench::new(63);
    let gz = bench.shell("gzip -1 -c disk.raw > whole.gz && head -c 1000000 whole.gz > cut.gz", "cut.gz");
    bench.put("cut.gz", &gz);
    assert!(bench.refused("cut.gz", &[]).contains("go on where the file ends"));
    // 2 GiB of zeros, a piece of which bzip2 packs to 45 bytes.
    let bomb = "python3 -c 'import bz2,sys; sys.stdout.buffer.write(bz2.compress(bytes(1 << 26)) * 32)' > bomb.bz2";
    bench.put("bomb.bz2", &bench.shell(bomb, "bomb.bz2"));
    let told = bench.refused("bomb.bz2", &[]);
    assert!(told.contains("bytes came out of the first"), "{told}");
}

#[test]
fn a_disk_of_an_appliance_of_several_is_chosen() {
    let bench = Bench::new(64);
    let other = bench.molde.file("other.raw");
    disks::linux(&other, 24, 65);
    for (raw, name) in [(&bench.raw, "one.vmdk"), (&other, "two.vmdk")] {
        fs::rename(disks::vmdk(raw), bench.molde.file(name)).unwrap();
    }
    let descriptor = r#"<?xml version="1.0"?>
<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1">
  <References><File ovf:id="f1" ovf:href="one.vmdk"/><File ovf:id="f2" ovf:href="two.vmdk"/></References>
  <DiskSection><Info>Disks</Info>
    <Disk ovf:diskId="d1" ovf:fileRef="f1" ovf:capacity="25165824"/>
    <Disk ovf:diskId="d2" ovf:fileRef="f2" ovf:capacity="25165824"/>
  </DiskSection>
</Envelope>
"#;
    fs::write(bench.molde.file("web.ovf"), descriptor).unwrap();
    let line = "tar --format=ustar -cf two.ova web.ovf one.vmdk two.vmdk";
    let ova = bench.shell(line, "two.ova");
    let saved = bench.import("two.ova", &ova, &["--member", "two.vmdk"]);
    assert_eq!(disks::md5_of(&saved), disks::md5_of(&other));
    for member in [&[][..], &["--member", "three.vmdk"]] {
        let told = bench.refused("two.ova", member);
        assert!(told.contains("one.vmdk (25165824 bytes), two.vmdk (25165824 bytes)"), "{told}");
        assert!(told.contains("choose one: --member one.vmdk"), "{told}");
    }
}

#[test]
fn an_encrypted_disk_goes_in_and_out() {
    const PASSPHRASE: &str = "correct horse battery staple";
    let bench = Bench::new(66);
    let (right, wrong, binary) = (bench.molde.file("right"), bench.molde.file("wrong"), bench.molde.file("binary"));
    fs::write(&right, format!("{PASSPHRASE}\n")).unwrap();
    fs::write(&wrong, "incorrect horse").unwrap();
    fs::write(&binary, [0xff, 0xfe]).unwrap();
    let luks = format!(
        "printf %s '{PASSPHRASE}' > key && qemu-img convert --object secret,id=s,file=key -f raw -O luks \
         -o key-secret=s,iter-time=10 disk.raw disk.luks"
    );
    let luks = bench.shell(&luks, "disk.luks");
    let saved = bench.import("web", &luks, &["--passphrase-file", text(&right)]);
    assert_eq!(disks::md5_of(&saved), disks::md5_of(&bench.raw));

    let told = bench.refused("web", &["--passphrase-file", text(&wrong)]);
    assert!(told.contains("the passphrase does not open") && !told.contains("horse"), "{told}");
    let told = bench.refused("web", &[]);
    assert!(told.contains("--passphrase-file"), "{told}");
    let told = bench.molde.cli(["image", "create", "x", "--from", "images/web", "--passphrase-file", text(&binary)]);
    assert!(told.refused().contains("is no text in UTF-8"));

    let words = ["--format", "luks", "-o", "iter-time=10", "--new-passphrase-file", text(&right)];
    bench.export("out.luks", &words);
    let compare = "qemu-img compare --object secret,id=s,file=key --image-opts driver=raw,file.filename=disk.raw \
                   driver=luks,key-secret=s,file.filename=out.luks";
    bench.shell(compare, "out.luks");
    assert!(!bench.molde.log().contains("horse"), "the passphrase is in the log");
    let records = fs::read_dir(bench.molde.data()).unwrap().map(|entry| entry.unwrap().path());
    for path in records.filter(|path| path.is_file()) {
        let bytes = fs::read(&path).unwrap();
        let there = bytes.windows(PASSPHRASE.len()).any(|window| window == PASSPHRASE.as_bytes());
        assert!(!there, "the passphrase is in {}", path.display());
    }
}
