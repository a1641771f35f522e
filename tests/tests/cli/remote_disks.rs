//! Disk files at a web server: what is asked of them, and that it is the same as of local ones.

use std::fs;

use tests::{FileServer, command, disks, run};

fn molde(words: &[&str]) -> tests::Done {
    run(&mut command(tests::binary(), words))
}

#[test]
fn a_disk_at_a_server_is_the_same_as_a_local_one() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    disks::linux(&raw, 48, 31);
    let (vmdk, far, near) = (disks::vmdk(&raw), folder.path().join("far"), folder.path().join("near"));
    let server = FileServer::start(&vmdk, true);
    let url = format!("{}/a/disk.vmdk?X-Amz-Signature=secret", server.address);
    let (local, far, near) = (vmdk.to_str().unwrap(), far.to_str().unwrap(), near.to_str().unwrap());

    let mut info = molde(&["disk", "info", "--json", &url]).json();
    assert_eq!(info["file"], format!("{}/a/disk.vmdk", server.address), "no secret is repeated: {info}");
    info["file"] = local.into();
    assert_eq!(info, molde(&["disk", "info", "--json", local]).json());
    assert!(
        server.requests() < 15 && server.bytes() < 1 << 20,
        "{} requests, {} bytes",
        server.requests(),
        server.bytes()
    );
    assert_eq!(molde(&["disk", "map", &url]).ok(), molde(&["disk", "map", local]).ok());
    molde(&["disk", "check", &url]).ok();
    molde(&["disk", "compare", &url, raw.to_str().unwrap()]).ok();
    let inspected = molde(&["guest", "inspect", "--json", &url]).json();
    assert_eq!(inspected["os"]["hostname"], disks::HOSTNAME, "{inspected}");

    for (format, options) in [("qcow2", &["-o", "compression=zstd"][..]), ("raw", &[]), ("vhdx", &["--checksum"])] {
        let before = (server.requests(), server.bytes());
        for (from, to) in [(url.as_str(), far), (local, near)] {
            molde(&[&["disk", "convert", "--force", "-O", format], options, &[from, to]].concat()).ok();
        }
        assert!(fs::read(far).unwrap() == fs::read(near).unwrap(), "{format}");
        let (requests, bytes) = (server.requests() - before.0, server.bytes() - before.1);
        let length = fs::metadata(&vmdk).unwrap().len();
        assert!(requests < 100 && bytes < length * 3 / 2, "{format}: {requests} requests, {bytes} of {length} bytes");
    }
}

#[test]
fn a_set_and_a_compressed_file_at_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    disks::linux(&raw, 16, 32);
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    molde(&["disk", "convert", "-O", "vmdk", "-o", "subformat=monolithicFlat", &path("disk.raw"), &path("set.vmdk")])
        .ok();
    let (descriptor, data) = (
        FileServer::start(&folder.path().join("set.vmdk"), true),
        FileServer::start(&folder.path().join("set-flat.vmdk"), true),
    );
    let set = format!("{}/set.vmdk", descriptor.address);
    let extent = format!("{}/x/set-flat.vmdk?secret", data.address);
    // What the descriptor names is not looked for, neither here nor there.
    let told = molde(&["disk", "info", &set]).refused();
    assert!(told.contains("set-flat.vmdk") && data.requests() == 0, "{told}");
    molde(&["disk", "compare", "--extent", &extent, &set, &path("disk.raw")]).ok();
    molde(&["guest", "inspect", "--extent", &path("set-flat.vmdk"), &path("set.vmdk")]).ok();

    for kind in ["gzip", "zstd"] {
        let packed = path(kind);
        molde(&["disk", "convert", "-O", "raw", "-o", &format!("wrap={kind}"), &path("disk.raw"), &packed]).ok();
        let server = FileServer::start(packed.as_ref(), true);
        let url = format!("{}/disk.raw.packed", server.address);
        molde(&["disk", "convert", "--force", "-O", "raw", &url, &path("back")]).ok();
        assert_eq!(disks::md5_of(path("back").as_ref()), disks::md5_of(&raw), "{kind}");
    }
}

#[test]
fn servers_that_cannot_serve() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("disk.raw");
    disks::linux(&raw, 16, 33);
    let server = FileServer::start(&raw, false);
    let out = folder.path().join("out");
    let url = format!("{}/disk.raw?secret", server.address);
    let told = molde(&["disk", "convert", "-O", "qcow2", &url, out.to_str().unwrap()]).refused();
    assert!(told.contains("knows no ranges") && told.contains("download it first"), "{told}");
    assert!(!told.contains("secret") && !out.exists(), "{told}");
    let told = molde(&["disk", "convert", "-O", "qcow2", raw.to_str().unwrap(), &url]).refused();
    assert!(!told.contains("secret"), "{told}");
}
