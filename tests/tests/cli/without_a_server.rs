//! Commands that work on local files, completions and manual pages.

use std::fs;

use tests::{Molde, command, disks, run, tool};

fn molde(words: &[&str]) -> tests::Done {
    run(&mut command(tests::binary(), words))
}

#[test]
fn disk_info_has_its_fixed_fields() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    disks::linux(&raw, 16, 11);
    for (format, file) in [("vmdk", disks::vmdk(&raw)), ("qcow2", disks::convert(&raw, "qcow2", "")), ("raw", raw)] {
        let info = molde(&["disk", "info", "--json", file.to_str().unwrap()]).json();
        assert_eq!((&info["format"], &info["virtual_size"]), (&format.into(), &(16 << 20).into()), "{info}");
        assert_eq!(info["file_size"], fs::metadata(&file).unwrap().len(), "{info}");
    }
    let told = molde(&["disk", "info", "--json", "/does/not/exist"]).refused();
    assert!(told.contains("/does/not/exist"), "{told}");
}

#[test]
fn a_disk_file_is_mapped_checked_compared_and_streamed() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    disks::linux(&raw, 16, 14);
    let qcow2 = folder.path().join("disk.qcow2");
    let (from, to) = (raw.to_str().unwrap(), qcow2.to_str().unwrap());
    let made =
        molde(&["disk", "convert", "--checksum", "--json", "-O", "qcow2", "-o", "compression=zstd", from, to]).json();
    assert_eq!(made["sha256"], tool("sha256sum", [from]).split(' ').next().unwrap());
    let map = molde(&["disk", "map", "--json", to]).json();
    let lengths = map.as_array().unwrap().iter().map(|extent| extent["length"].as_u64().unwrap());
    assert_eq!(lengths.sum::<u64>(), 16 << 20);
    molde(&["disk", "compare", from, to]).ok();
    let report = molde(&["disk", "check", "--json", to]).json();
    assert_eq!((&report["sound"], &report["leak_count"]), (&true.into(), &0.into()), "{report}");

    // An encrypted file is told as such without its passphrase, and opens with it.
    let (luks, key) = (folder.path().join("disk.luks"), folder.path().join("key"));
    fs::write(&key, "a passphrase\n").unwrap();
    let (luks, key) = (luks.to_str().unwrap(), key.to_str().unwrap());
    molde(&["disk", "convert", "-O", "luks", "-o", "iter-time=10", "--new-passphrase-file", key, from, luks]).ok();
    let info = molde(&["disk", "info", "--json", luks]).json();
    assert_eq!((&info["format"], &info["virtual_size"]), (&"luks".into(), &serde_json::Value::Null), "{info}");
    let info = molde(&["disk", "info", "--json", "--passphrase-file", key, luks]).json();
    assert_eq!(info["virtual_size"], 16 << 20, "{info}");
    molde(&["disk", "compare", "--passphrase-file", key, from, luks]).ok();
    molde(&["disk", "info", "--passphrase-file", from, luks]).refused();

    // A damaged grain has a wrong checksum: check tells where, and compare that it cannot be read.
    let vmdk = disks::vmdk(&raw);
    let mut bytes = fs::read(&vmdk).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0x55);
    fs::write(&vmdk, bytes).unwrap();
    let told = molde(&["disk", "check", vmdk.to_str().unwrap()]);
    assert_eq!(told.code, Some(1), "{told}");
    assert!(told.stderr.contains("damaged") && told.stdout.contains("bytes at byte"), "{told}");
    assert_eq!(molde(&["disk", "compare", from, vmdk.to_str().unwrap()]).code, Some(1));

    // Through pipes, as a stream that VMware reads, and back.
    let binary = tests::binary();
    let back = folder.path().join("back.raw");
    let script = format!(
        "'{0}' disk convert -O vmdk -o subformat=streamOptimized '{from}' - | '{0}' disk convert -O raw - '{1}'",
        binary.display(),
        back.display()
    );
    tool("sh", ["-c", &script]);
    assert_eq!(disks::md5_of(&back), disks::md5_of(&raw));
}

#[test]
fn disk_convert_agrees_with_qemu_img() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    disks::linux(&raw, 32, 12);
    let (vmdk, qcow2, back) = (disks::vmdk(&raw), folder.path().join("out.qcow2"), folder.path().join("back.raw"));
    let (from, to, last) = (vmdk.to_str().unwrap(), qcow2.to_str().unwrap(), back.to_str().unwrap());
    let options = ["-o", "cluster_size=131072"];
    molde(&[&["disk", "convert", "-f", "vmdk", "-O", "qcow2"], &options[..], &[from, to]].concat()).ok();
    tool("qemu-img", ["check", "-f", "qcow2", to]);
    disks::assert_same(&raw, &qcow2, "qcow2");
    let told = tool("qemu-img", ["info", "--output", "json", to]);
    assert!(told.contains("\"cluster-size\": 131072"), "{told}");
    molde(&["disk", "convert", "-O", "raw", to, last]).ok();
    assert_eq!(disks::md5_of(&back), disks::md5_of(&raw));
    let told = molde(&["disk", "convert", "-O", "raw", to, last]).refused();
    assert!(told.contains("back.raw"), "{told}");
    assert_eq!(molde(&["disk", "convert", "-O", "nonsense", to, last]).code, Some(2));
}

#[test]
fn guest_inspect_has_its_fixed_fields() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    disks::linux(&raw, 16, 13);
    let found = molde(&["guest", "inspect", "--json", disks::vmdk(&raw).to_str().unwrap()]).json();
    let os = &found["os"];
    assert_eq!((&os["type"], &os["distro"], &os["version"]), (&"linux".into(), &"debian".into(), &"12".into()), "{os}");
    assert_eq!((&os["arch"], &os["hostname"]), (&"x86_64".into(), &disks::HOSTNAME.into()), "{os}");
    assert_eq!(found["filesystems"].as_array().unwrap().len(), 1, "{found}");
    assert!(found["boot"].is_object(), "{found}");
    let people = molde(&["guest", "inspect", raw.to_str().unwrap()]).ok();
    assert!(people.starts_with("Debian GNU/Linux 12"), "{people}");
}

#[test]
fn a_guest_is_checked_and_prepared_into_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, ready) = (folder.path().join("disk.raw"), folder.path().join("ready.qcow2"));
    disks::started(&raw, 16, 14);
    let (from, to) = (raw.to_str().unwrap(), ready.to_str().unwrap());
    let before = disks::md5_of(&raw);
    let checked = molde(&["guest", "check", "--json", from]);
    assert_eq!(checked.code, Some(1), "{checked}");
    let found: serde_json::Value = serde_json::from_str(&checked.stdout).unwrap();
    let ids: Vec<&str> = found["findings"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
    assert_eq!((ids, &found["blocking"]), (vec!["cloud-init-missing", "machine-id"], &1.into()));
    assert!(molde(&["guest", "prepare", "--dry-run", from]).ok().contains("empty /etc/machine-id"));
    assert_eq!(molde(&["guest", "prepare", from]).code, Some(2), "a file to write has to be named");
    assert!(molde(&["guest", "prepare", "--only", "nonsense", from, "-o", to]).refused().contains("nonsense"));

    let done = molde(&["guest", "prepare", "--json", from, "-o", to]).json();
    assert_eq!(done["changes"][0]["path"], "/etc/machine-id", "{done}");
    tool("qemu-img", ["check", "-f", "qcow2", to]);
    assert_eq!(disks::md5_of(&raw), before, "the disk that is read stays as it is");
    assert!(molde(&["guest", "prepare", from, "-o", to]).refused().contains("is there already"));
    let differs = molde(&["guest", "diff", from, to]);
    assert_eq!(differs.code, Some(1), "{differs}");
    assert_eq!(differs.stdout, "* /etc/machine-id\n+ /var/log\n+ /var/log/molde-prepare.log\n");
    assert!(molde(&["guest", "cat", to, "/var/log/molde-prepare.log"]).ok().contains("  empty /etc/machine-id\n"));
    assert_eq!(molde(&["guest", "cat", to, "/etc/machine-id", "/etc/hostname"]).ok(), format!("{}\n", disks::HOSTNAME));
    assert!(molde(&["guest", "cat", to, "/etc"]).refused().contains("folder"));
    assert!(molde(&["guest", "ls", to, "/var"]).ok().contains(" /var/data\n"));
    assert_eq!(molde(&["guest", "find", "--name", "hostname", to]).ok(), "/etc/hostname\n");
    let again = molde(&["guest", "prepare", "--dry-run", to]).ok();
    assert!(again.ends_with("there is nothing to change\n"), "{again}");
    let kinds = molde(&["guest", "findings", "--json"]).json();
    assert!(kinds.as_array().unwrap().iter().any(|kind| kind["id"] == "machine-id"), "{kinds}");
}

#[test]
fn completions_and_manual_pages() {
    for shell in ["bash", "zsh", "fish"] {
        let text = molde(&["completions", shell]).ok();
        assert!(text.contains("molde") && text.contains("export"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    molde(&["man", folder.path().to_str().unwrap()]).ok();
    let page = fs::read_to_string(folder.path().join("molde-image-create.1")).unwrap();
    assert!(page.starts_with(".ie") || page.starts_with(".TH"), "{page}");
    assert!(molde(&["--version"]).ok().starts_with("molde 0."));
    assert!(molde(&["image", "--help"]).ok().contains("export"));
}

#[test]
fn a_closed_pipe_is_no_error() {
    let molde = Molde::start();
    let script = format!(
        "'{}' --credentials '{}' completions bash | head -n 1 >/dev/null; exit ${{PIPESTATUS[0]}}",
        tests::binary().display(),
        molde.credentials_path().display()
    );
    run(&mut command("bash", ["-c", &script])).ok();
}
