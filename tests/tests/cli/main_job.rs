//! What Molde is for: a disk file goes in, becomes an image, and comes out as the same disk.

use std::path::{Path, PathBuf};

use tests::{Molde, Options, disks, tool};

#[test]
fn a_disk_goes_in_as_vmdk_and_comes_out_as_the_same_qcow2() {
    let molde = Molde::start();
    let raw = molde.file("disk.raw");
    disks::linux(&raw, 96, 1);
    let vmdk = disks::vmdk(&raw);
    molde.cli(["bucket", "create", "images"]).ok();
    molde.cli(["object", "put", "images/", vmdk.to_str().unwrap()]).ok();

    let inside = molde.cli_json(["object", "inspect", "images/disk.vmdk"]);
    assert_eq!(inside["os"]["hostname"], disks::HOSTNAME, "{inside}");
    let checked = molde.cli(["object", "check", "images/disk.vmdk"]);
    assert!(checked.code == Some(1) && checked.stdout.contains("(cloud-init-missing)"), "{checked}");
    assert!(molde.cli(["object", "check", "images/none"]).refused().contains("none"));

    let made = molde.cli_json(["image", "create", "web", "--from", "images/disk.vmdk", "--format", "vmdk", "--wait"]);
    assert_eq!(made["status"], "active", "{made}");
    let shown = molde.cli_json(["image", "show", "web"]);
    assert_eq!(shown["id"], made["id"]);
    assert_eq!((&shown["disk_format"], &shown["container_format"]), (&"raw".into(), &"bare".into()));
    assert_eq!(shown["virtual_size"], 96 << 20);
    assert_eq!(shown["size"], 96 << 20);

    let inside = molde.cli_json(["image", "inspect", "web"]);
    assert_eq!(inside["os"]["distro"], "debian", "{inside}");
    assert_eq!((&inside["os"]["version"], &inside["os"]["arch"]), (&"12".into(), &"x86_64".into()), "{inside}");
    assert_eq!(inside["os"]["hostname"], disks::HOSTNAME);
    assert_eq!(inside["filesystems"][0]["type"], "ext4", "{inside}");

    let checked = molde.cli(["image", "check", "web"]);
    assert_eq!(checked.code, Some(1), "{checked}");
    assert!(checked.stdout.contains("(cloud-init-missing)"), "{checked}");
    let kept = molde.cli_json(["image", "report", "web"]);
    assert_eq!((&kept["state"], &kept["blocking"]), (&"nothing-to-do".into(), &1.into()), "{kept}");

    molde.cli(["image", "export", "web", "images/out.qcow2", "--format", "qcow2", "--wait"]).ok();
    let out = molde.file("out.qcow2");
    molde.cli(["object", "get", "images/out.qcow2", out.to_str().unwrap()]).ok();
    tool("qemu-img", ["check", "-f", "qcow2", out.to_str().unwrap()]);
    disks::assert_same(&raw, &out, "qcow2");

    let saved = molde.file("saved.raw");
    molde.cli(["image", "save", "web", saved.to_str().unwrap()]).ok();
    assert_eq!(disks::md5_of(&saved), disks::md5_of(&raw));

    let object = molde.file("again.vmdk");
    molde.cli(["object", "get", "images/disk.vmdk", object.to_str().unwrap()]).ok();
    assert_eq!(disks::md5_of(&object), disks::md5_of(&vmdk), "the object is what was put");
}

#[test]
fn a_guest_is_prepared_on_the_way_and_that_can_be_undone() {
    let molde = Molde::start();
    let raw = molde.file("disk.raw");
    disks::started(&raw, 24, 5);
    molde.make_bucket("images");
    molde.cli(["object", "put", "images/disk.vmdk", disks::vmdk(&raw).to_str().unwrap()]).ok();
    let stored = molde.pack_bytes();
    let made = molde.cli_json(["image", "create", "web", "--from", "images/disk.vmdk", "--wait"]);
    let plain = molde.pack_bytes() - stored;
    assert_eq!((&made["molde:prepare"], &made["__is_config_init"]), (&"prepared".into(), &"true".into()), "{made}");

    let saved = molde.file("saved.raw");
    let (before, after) = (raw.to_str().unwrap(), saved.to_str().unwrap());
    molde.cli(["image", "save", "web", after]).ok();
    let differs = molde.cli(["guest", "diff", before, after]);
    assert_eq!(differs.stdout, "* /etc/machine-id\n+ /var/log\n+ /var/log/molde-prepare.log\n", "{differs}");

    let told = molde.cli(["image", "report", "web"]).ok();
    for part in
        ["prepared at 20", ": 1 changes, ", "  empty /etc/machine-id\n", "what is left:\n", "(cloud-init-missing)"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
    let kept = molde.cli_json(["image", "report", "web"]);
    assert_eq!(kept["changes"][0]["path"], "/etc/machine-id", "{kept}");
    assert!(kept["changed_bytes"].as_u64().is_some_and(|bytes| (4096..1 << 20).contains(&bytes)), "{kept}");
    let id = made["id"].as_str().unwrap();
    assert_eq!(molde.get(&format!("/v2/images/{id}/molde/report")), kept, "the same beside Glance's own paths");

    let as_it_was = molde.cli_json(["image", "create", "same", "--from", "images/disk.vmdk", "--no-prepare", "--wait"]);
    assert_eq!(as_it_was["molde:prepare"], "not-asked", "{as_it_was}");
    let twice = molde.pack_bytes() - stored - plain;
    assert!(twice < 1 << 20, "the prepared disk and its original share what did not change: {twice} more bytes");

    assert!(molde.cli(["image", "set", "web", "--property", "molde:prepare=no"]).refused().contains("by Molde alone"));
    let heads = molde.heads();
    assert!(molde.cli(["image", "undo-prepare", "web"]).ok().contains("as it was before"));
    assert_eq!(molde.heads(), heads - 1, "what was prepared is gone");
    molde.cli(["image", "save", "web", after, "--force"]).ok();
    assert_eq!(disks::md5_of(&saved), disks::md5_of(&raw));
    assert!(molde.cli(["image", "undo-prepare", "web"]).refused().contains("no changes of prepare"));
    assert!(molde.cli(["image", "report", "web"]).ok().contains(", and undone since\n"));
    let wrong = ["image", "create", "bad", "--from", "images/disk.vmdk", "--repair-with", "everything"];
    assert!(molde.cli(wrong).refused().contains("no finding `everything`"));
}

/// What only a kernel changes is changed in a micro-VM, and left as it was with the reason where there is none.
#[test]
fn a_guest_on_btrfs_is_prepared_where_there_is_a_micro_vm() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    disks::started_on_btrfs(&raw, 6);
    let made = |molde: &Molde| {
        molde.make_bucket("images");
        molde.cli(["object", "put", "images/disk.raw", raw.to_str().unwrap()]).ok();
        let made = molde.cli_json(["image", "create", "web", "--from", "images/disk.raw", "--wait"]);
        assert_eq!(made["status"], "active", "{made}");
        (made["molde:prepare"].clone(), molde.cli_json(["image", "report", "web"]))
    };
    let molde = Molde::start();
    let (state, kept) = made(&molde);
    assert_eq!(state, "prepared", "{kept}");
    assert!(kept["changed_bytes"].as_u64().is_some_and(|bytes| (4096..4 << 20).contains(&bytes)), "{kept}");
    let saved = molde.file("saved.raw");
    molde.cli(["image", "save", "web", saved.to_str().unwrap()]).ok();
    let differs = molde.cli(["guest", "diff", raw.to_str().unwrap(), saved.to_str().unwrap()]);
    assert_eq!(differs.stdout, "* /etc/machine-id\n+ /var/log\n+ /var/log/molde-prepare.log\n", "{differs}");

    let bare = Molde::start_with(Options { path: Some(folder.path().into()), ..Options::default() });
    let (state, kept) = made(&bare);
    assert_eq!(state, "refused", "{kept}");
    let reason = kept["reason"].as_str().unwrap();
    assert!(
        reason.contains("/dev/sda1") && reason.contains("micro-VM") && reason.contains("qemu-system-x86"),
        "{reason}"
    );
    bare.cli(["image", "save", "web", saved.to_str().unwrap(), "--force"]).ok();
    assert_eq!(disks::md5_of(&saved), disks::md5_of(&raw));
}

#[test]
fn an_image_that_is_there_is_prepared_later() {
    let molde = Molde::start();
    let raw = molde.file("disk.raw");
    disks::started(&raw, 24, 6);
    let qcow2 = disks::convert(&raw, "qcow2", "");
    let image = molde.cli_json(["image", "create", "web", "--file", qcow2.to_str().unwrap()]);
    assert!(molde.cli(["image", "report", "web"]).refused().contains("no report is kept"));
    let planned = molde.cli(["image", "prepare", "web", "--dry-run"]).ok();
    assert!(planned.contains("  empty /etc/machine-id\n"), "{planned}");
    let left = molde.cli(["image", "prepare", "web", "--dry-run", "--repair-skip", "machine-id"]).ok();
    assert_eq!(left, "there is nothing to change\n");
    assert!(molde.cli(["image", "prepare", "web", "--repair-only", "all"]).refused().contains("no finding `all`"));
    assert_eq!(molde.cli_json(["image", "show", "web"])["updated_at"], image["updated_at"], "nothing has happened");

    let told = molde.cli(["image", "prepare", "web"]).ok();
    for part in ["prepared at 20", ": 1 changes, ", "  empty /etc/machine-id\n", "(cloud-init-missing)"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let prepared = molde.cli_json(["image", "show", "web"]);
    assert_eq!(
        (&prepared["molde:prepare"], &prepared["disk_format"]),
        (&"prepared".into(), &"raw".into()),
        "{prepared}"
    );
    assert_eq!(
        (&prepared["os_distro"], &prepared["checksum"]),
        (&"debian".into(), &serde_json::Value::Null),
        "{prepared}"
    );
    let saved = molde.file("saved");
    let (before, after) = (raw.to_str().unwrap(), saved.to_str().unwrap());
    molde.cli(["image", "save", "web", after]).ok();
    let differs = molde.cli(["guest", "diff", before, after]);
    assert_eq!(differs.stdout, "* /etc/machine-id\n+ /var/log\n+ /var/log/molde-prepare.log\n", "{differs}");

    let again = molde.cli(["image", "prepare", "web"]);
    assert!(again.stderr.contains("there is nothing to change"), "{again}");
    assert_eq!(again.ok(), told, "the report of what was changed stays");
    molde.cli(["image", "undo-prepare", "web"]).ok();
    molde.cli(["image", "save", "web", after, "--force"]).ok();
    assert_eq!(disks::md5_of(&saved), disks::md5_of(&qcow2));
    let undone = molde.cli_json(["image", "show", "web"]);
    assert_eq!((&undone["disk_format"], &undone["checksum"]), (&"qcow2".into(), &image["checksum"]), "{undone}");
    molde.cli(["image", "set", "web", "--protected"]).ok();
    assert!(molde.cli(["image", "prepare", "web"]).refused().contains("is protected"));
}

#[test]
fn every_format_that_is_read_becomes_the_same_disk() {
    let molde = Molde::start();
    let raw = molde.file("disk.raw");
    disks::linux(&raw, 24, 2);
    molde.make_bucket("images");
    let files = [
        ("raw", raw.clone()),
        ("qcow2", disks::convert(&raw, "qcow2", "compression_type=zstd")),
        ("vdi", disks::convert(&raw, "vdi", "")),
        ("vpc", disks::convert(&raw, "vpc", "force_size=on")),
        ("vmdk", disks::convert(&raw, "vmdk", "subformat=monolithicSparse")),
        ("vhdx", disks::convert(&raw, "vhdx", "")),
        ("qed", disks::convert(&raw, "qed", "")),
        ("parallels", disks::convert(&raw, "parallels", "")),
        ("ova", local(&molde, &raw, "disk.ova", &["-O", "ova"])),
        ("zst", local(&molde, &raw, "disk.raw.zst", &["-O", "raw", "-o", "wrap=zstd"])),
    ];
    for (name, file) in files {
        molde.cli(["object", "put", &format!("images/{name}"), file.to_str().unwrap()]).ok();
        let image = molde.cli_json(["image", "create", name, "--from", &format!("images/{name}"), "--wait"]);
        assert_eq!((&image["status"], &image["disk_format"]), (&"active".into(), &"raw".into()), "{name}: {image}");
        let saved = molde.file(&format!("{name}.saved"));
        molde.cli(["image", "save", name, saved.to_str().unwrap()]).ok();
        assert_eq!(disks::md5_of(&saved), disks::md5_of(&raw), "{name}");
    }
}

/// Writes `raw` as another local file.
fn local(molde: &Molde, raw: &Path, name: &str, options: &[&str]) -> PathBuf {
    let to = molde.file(name);
    let ends = [raw.to_str().unwrap(), to.to_str().unwrap()];
    molde.cli([&["disk", "convert"], options, &ends].concat()).ok();
    to
}

#[test]
fn an_image_goes_out_in_every_format_that_is_laid_out() {
    let molde = Molde::start();
    let raw = molde.file("disk.raw");
    disks::linux(&raw, 24, 4);
    molde.make_bucket("images");
    molde.cli(["object", "put", "images/disk", raw.to_str().unwrap()]).ok();
    molde.cli(["image", "create", "web", "--from", "images/disk", "--wait"]).ok();
    for (format, qemu) in [("vhd", "vpc"), ("vhdx", "vhdx"), ("vdi", "vdi"), ("vmdk", "vmdk"), ("qcow2", "qcow2")] {
        molde.cli(["image", "export", "web", &format!("images/{format}"), "--format", format, "--wait"]).ok();
        let out = molde.file(&format!("out.{format}"));
        molde.cli(["object", "get", &format!("images/{format}"), out.to_str().unwrap()]).ok();
        disks::assert_same(&raw, &out, qemu);
    }
}

#[test]
fn a_local_file_becomes_an_image_and_is_kept_as_it_is() {
    let molde = Molde::start();
    let raw = molde.file("disk.raw");
    disks::linux(&raw, 24, 3);
    let qcow2 = disks::convert(&raw, "qcow2", "");
    let image = molde.cli_json(["image", "create", "local", "--file", qcow2.to_str().unwrap()]);
    assert_eq!((&image["status"], &image["disk_format"]), (&"active".into(), &"qcow2".into()), "{image}");
    assert_eq!(image["checksum"], disks::md5_of(&qcow2).as_str());
    assert_eq!(image["virtual_size"], 24 << 20);
    let saved = molde.file("saved.qcow2");
    molde.cli(["image", "save", "local", saved.to_str().unwrap()]).ok();
    assert_eq!(disks::md5_of(&saved), disks::md5_of(&qcow2));
    molde.make_bucket("images");
    molde.cli(["image", "export", "local", "images/out.raw", "--format", "raw", "--wait"]).ok();
    let out = molde.file("out.raw");
    molde.cli(["object", "get", "images/out.raw", out.to_str().unwrap()]).ok();
    assert_eq!(disks::md5_of(&out), disks::md5_of(&raw));
}
