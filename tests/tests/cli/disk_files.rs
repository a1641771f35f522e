//! Options of `molde disk` that change how it works, and what it leaves behind where it cannot.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use tests::{Tmpfs, command, disks, run, tool};

fn molde(words: &[&str]) -> tests::Done {
    run(&mut command(tests::binary(), words))
}

/// Bytes that a file takes on its disk.
fn kept(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[test]
fn zeros_threads_and_sync() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let raw = folder.path().join("disk.raw");
    disks::linux(&raw, 32, 21);
    let packed = path("disk.raw.gz");
    molde(&["disk", "convert", "-O", "raw", "-o", "wrap=gzip", &path("disk.raw"), &packed]).ok();
    for from in [path("disk.raw"), packed, disks::vmdk(&raw).to_str().unwrap().to_owned()] {
        for (options, holes) in [
            (&["--sparse", "no"][..], false),
            (&["--sparse", "yes", "--no-sync"], true),
            (&["--threads", "1"], true),
            (&["--threads", "16"], true),
        ] {
            let out = path("out");
            molde(&[&["disk", "convert", "--force", "-O", "raw"], options, &[&from, &out]].concat()).ok();
            assert_eq!(disks::md5_of(out.as_ref()), disks::md5_of(&raw), "{from} {options:?}");
            let kept = kept(out.as_ref());
            assert_eq!(kept < 30 << 20, holes, "{from} {options:?}: {kept} bytes");
        }
    }
    assert_eq!(molde(&["disk", "convert", "--threads", "17", "-O", "raw", "a", "b"]).code, Some(2));
    // Any number of threads writes the same file.
    for threads in ["1", "5"] {
        let out = path(threads);
        let options = ["-O", "vmdk", "-o", "subformat=streamOptimized", "--threads", threads];
        molde(&[&["disk", "convert"], &options[..], &[&path("disk.raw"), &out]].concat()).ok();
    }
    assert_eq!(disks::md5_of(path("1").as_ref()), disks::md5_of(path("5").as_ref()));
}

#[test]
fn the_disk_of_an_archive_is_chosen_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    disks::linux(&folder.path().join("disk.raw"), 16, 22);
    molde(&["disk", "convert", "-O", "ova", "-o", "name=web", &path("disk.raw"), &path("web.ova")]).ok();
    let info = molde(&["disk", "info", "--json", &path("web.ova")]).json();
    let name = info["appliance"]["disks"][0]["file"].as_str().unwrap().to_owned();
    molde(&["disk", "compare", "--member", &name, &path("web.ova"), &path("disk.raw")]).ok();
    let told = molde(&["disk", "info", "--member", "other.vmdk", &path("web.ova")]).refused();
    assert!(told.contains("other.vmdk") && told.contains(&name), "{told}");
}

#[test]
fn a_disk_is_served_until_it_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    disks::linux(&raw, 16, 23);
    let (vmdk, socket) = (disks::vmdk(&raw), folder.path().join("socket"));
    let words = ["disk", "serve", "--json", "--socket", socket.to_str().unwrap(), vmdk.to_str().unwrap()];
    let mut server = command(tests::binary(), words).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let text: String = lines.by_ref().map(Result::unwrap).take_while(|line| line != "}").collect();
    let told: serde_json::Value = serde_json::from_str(&format!("{text}}}")).unwrap();
    assert_eq!(told["virtual_size"], 16 << 20, "{told}");
    let uri = told["uri"].as_str().unwrap();
    tool("qemu-img", ["compare", "-f", "raw", "-F", "raw", uri, raw.to_str().unwrap()]);
    assert!(run(&mut command("qemu-io", ["-f", "raw", "-c", "write 0 512", uri])).code != Some(0), "it is read-only");
    kill_process(Pid::from_child(&server), Signal::TERM).unwrap();
    assert!(server.wait().unwrap().success());
    assert!(lines.next().is_none());
}

/// A key slot may take 128 MiB, and more when that is said; the error says what.
#[test]
fn keys_that_cost_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("key"), "a passphrase").unwrap();
    fs::File::create(path("luks")).unwrap().set_len(20 << 20).unwrap();
    let costs = ["--pbkdf", "argon2id", "--pbkdf-memory", "262144", "--pbkdf-force-iterations", "4"];
    let make = ["luksFormat", "--type", "luks2", "--batch-mode", "--pbkdf-parallel", "1"];
    tool("cryptsetup", [&make[..], &costs, &["--key-file", &path("key"), &path("luks")]].concat());
    let info = ["disk", "info", "--passphrase-file", &path("key"), &path("luks")];
    let told = molde(&info).refused();
    assert!(told.contains("256 MiB of memory") && told.contains("--unlock-memory 256M"), "{told}");
    let told = molde(&[&info[..], &["--unlock-memory", "256M"]].concat()).ok();
    assert!(told.contains("luks"), "{told}");
    let told = molde(&[&info[..], &["--unlock-memory", "256M", "--unlock-seconds", "0"]].concat()).refused();
    assert!(told.contains("--unlock-seconds"), "{told}");
}

/// Whatever way the bytes go: a sentence, and no file, neither whole nor in part.
#[test]
fn a_full_disk_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let raw = folder.path().join("disk.raw");
    disks::scattered(&raw, 64, 24 << 20, 24);
    let (plain, vmdk, gzip) = (path("disk.raw"), disks::vmdk(&raw), path("disk.raw.gz"));
    let vmdk = vmdk.to_str().unwrap();
    molde(&["disk", "convert", "-O", "raw", "-o", "wrap=gzip", &plain, &gzip]).ok();
    // A disk in another format, compressed as a whole, is unpacked first.
    let inner = disks::convert(&raw, "qcow2", "");
    tool("gzip", ["-k", inner.to_str().unwrap()]);
    let packed = format!("{}.gz", inner.display());
    let small = Tmpfs::mount(&folder.path().join("small"), 8);
    let out = small.0.join("out.img").to_str().unwrap().to_owned();
    for (way, words) in [
        ("plain", &["-O", "raw", &plain][..]),
        ("zeros", &["-O", "raw", "--sparse", "no", &plain]),
        ("layout", &["-O", "vhdx", vmdk]),
        ("unpacked into its place", &["-O", "raw", &gzip]),
        ("unpacked first", &["-O", "raw", &packed]),
        ("unpacked first, for another format", &["-O", "vdi", &packed]),
        ("compressed", &["-O", "qcow2", "-o", "compression=zstd", &plain]),
        ("stream", &["-O", "vmdk", "-o", "subformat=streamOptimized", &plain]),
        ("wrapped", &["-O", "raw", "-o", "wrap=zstd", &plain]),
        ("archive", &["-O", "ova", &plain]),
        ("pair", &["-O", "vmdk", "-o", "subformat=monolithicFlat", &plain]),
    ] {
        let told = molde(&[&["disk", "convert"], words, &[&out]].concat()).refused();
        assert!(told.contains("No space left") && told.contains("hint: free some room"), "{way}: {told}");
        let left: Vec<_> = fs::read_dir(&small.0).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{way} leaves {left:?}");
    }
    // What was there stays as it was.
    fs::write(&out, "precious").unwrap();
    molde(&["disk", "convert", "--force", "-O", "raw", &plain, &out]).refused();
    assert_eq!(fs::read(&out).unwrap(), b"precious");
}
