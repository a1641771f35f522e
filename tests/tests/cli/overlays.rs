//! A prepared guest as an overlay: what changed alone, over the file that was read.

use std::fs;
use std::path::Path;

use tests::{command, disks, run, tool};

fn molde(words: &[&str]) -> tests::Done {
    run(&mut command(tests::binary(), words))
}

/// Writes the disk that QEMU sees through `overlay` to a raw file.
fn flattened(overlay: &Path) -> String {
    let raw = overlay.with_extension("flat").to_str().unwrap().to_owned();
    tool("qemu-img", ["convert", "-f", "qcow2", "-O", "raw", overlay.to_str().unwrap(), &raw]);
    raw
}

#[test]
fn a_prepared_guest_is_an_overlay_on_what_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let raw = path("disk.raw");
    disks::started(&raw, 24, 61);
    fs::create_dir(path("ready")).unwrap();
    let bases = [
        raw.clone(),
        disks::convert(&raw, "qcow2", ""),
        disks::vmdk(&raw),
        disks::convert(&raw, "vpc", "force_size=on"),
    ];
    for base in bases {
        let (from, name) = (base.to_str().unwrap(), base.file_name().unwrap().to_str().unwrap());
        let (before, out) = (disks::md5_of(&base), path("ready").join(format!("{name}.qcow2")));
        let to = out.to_str().unwrap();
        let done = molde(&["guest", "prepare", "--json", "--overlay", from, "-o", to]).json();
        assert_eq!(done["backing_file"], format!("../{name}"), "{done}");
        assert_eq!((&done["file"], &done["changes"][0]["path"]), (&to.into(), &"/etc/machine-id".into()), "{done}");
        assert!(fs::metadata(&out).unwrap().len() < 2 << 20, "{name}: what changed alone");
        tool("qemu-img", ["check", "-f", "qcow2", to]);
        let chain = tool("qemu-img", ["info", "--backing-chain", to]);
        assert!(
            chain.contains(&format!("backing file format: {}", done["backing_format"].as_str().unwrap())),
            "{chain}"
        );
        let differs = molde(&["guest", "diff", from, &flattened(&out)]);
        assert_eq!(differs.stdout, "* /etc/machine-id\n+ /var/log\n+ /var/log/molde-prepare.log\n", "{differs}");
        assert_eq!(disks::md5_of(&base), before, "{name}: what is read stays as it is");
        let refused = molde(&["disk", "info", to]).refused();
        assert!(refused.contains("names the backing file") && refused.contains(name), "{refused}");
    }
}

#[test]
fn an_overlay_is_told_as_what_it_is_and_refused_where_it_cannot_be() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    disks::started(&folder.path().join("disk.raw"), 24, 62);
    let (from, out) = (path("disk.raw"), path("ready.qcow2"));
    let before = disks::md5_of(from.as_ref());
    let told = molde(&["guest", "prepare", "--overlay", &from, "-o", &out]).ok();
    assert!(
        told.contains("reads all others through `disk.raw`") && told.contains("keep `disk.raw` where it is"),
        "{told}"
    );
    assert!(molde(&["guest", "prepare", "--overlay", &from, "-o", &out]).refused().contains("is there already"));
    molde(&["guest", "prepare", "--overlay", "--force", &from, "-o", &out]).ok();
    let own = molde(&["guest", "prepare", "--overlay", "--force", &from, "-o", &from]).refused();
    assert!(own.contains("take its place"), "{own}");
    assert_eq!(disks::md5_of(from.as_ref()), before);
    assert_eq!(molde(&["guest", "prepare", "--overlay", "--dry-run", &from]).code, Some(2));

    let other = path("other.qcow2");
    let whole = "write a whole file instead: leave out --overlay";
    let vmdk = molde(&["guest", "prepare", "--overlay", "-O", "vmdk", &from, "-o", &other]).refused();
    assert!(vmdk.contains("an overlay is a qcow2 file") && vmdk.contains(whole), "{vmdk}");
    let packed = path("disk.raw.zst");
    molde(&["disk", "convert", "-O", "raw", "-o", "wrap=zstd", &from, &packed]).ok();
    let refused = molde(&["guest", "prepare", "--overlay", &packed, "-o", &other]).refused();
    assert!(refused.contains("in format zstd") && refused.contains(whole), "{refused}");
    let script = format!("'{}' guest prepare --overlay - -o '{other}' < '{from}'", tests::binary().display());
    let refused = run(&mut command("sh", ["-c", &script])).refused();
    assert!(refused.contains("`-` is none") && refused.contains(whole), "{refused}");
    assert!(!Path::new(&other).exists());
}
