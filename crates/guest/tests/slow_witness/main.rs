//! A second witness for what is told of phony guests: libguestfs, which asks a kernel that has mounted their disks.

#[path = "../inspect/disks.rs"]
#[expect(dead_code, reason = "the witness takes some of what the tests of inspection make")]
mod disks;
#[path = "../inspect/lvm.rs"]
#[expect(dead_code, reason = "the witness takes some of what the tests of inspection make")]
mod lvm;
#[path = "../inspect/phony.rs"]
#[expect(dead_code, reason = "the witness takes some of what the tests of inspection make")]
mod phony;

use std::fs;

/// The text of the first element called `tag`.
fn element<'x>(xml: &'x str, tag: &str) -> Option<&'x str> {
    xml.split_once(&format!("<{tag}>"))?.1.split('<').next()
}

fn check(disk: Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("disk.raw");
    fs::write(&image, &disk).unwrap();
    let arguments = ["--no-applications", "--no-icon", "--format=raw", "-a", image.to_str().unwrap()];
    let witness = disks::tool("libguestfs-tools", "virt-inspector", &arguments, "");
    let report = disks::report(disk);
    let os = report.os.as_ref().unwrap();
    let context = || format!("{report:#?}\n{witness}");
    assert_eq!(os.distro.as_deref(), element(&witness, "distro"), "{}", context());
    assert_eq!(os.arch.as_deref(), element(&witness, "arch"), "{}", context());
    assert_eq!(os.hostname.as_deref(), element(&witness, "hostname"), "{}", context());
    let number = |text: &str| text.parse::<u32>().unwrap();
    let (major, minor) =
        os.version.as_deref().unwrap().split_once('.').unwrap_or((os.version.as_deref().unwrap(), "0"));
    let witnessed =
        [element(&witness, "major_version"), element(&witness, "minor_version")].map(|text| number(text.unwrap()));
    assert_eq!([number(major), number(minor)], witnessed, "{}", context());
    // Both name what is mounted where; a logical volume has two names.
    for filesystem in report.filesystems.iter().filter(|found| found.mounted_at.is_some()) {
        let device = filesystem.device.replace("/dev/mapper/fedora-", "/dev/fedora/");
        let mounted = format!("<mountpoint dev=\"{device}\">{}<", filesystem.mounted_at.as_deref().unwrap());
        assert!(witness.contains(&mounted), "{mounted}: {}", context());
        let uuid = filesystem.uuid.as_deref().unwrap();
        assert!(witness.contains(&format!("<uuid>{uuid}</uuid>")), "{uuid}: {}", context());
    }
}

#[test]
fn fedora_on_lvm_and_xfs() {
    check(phony::fedora());
}

#[test]
fn centos_6_with_grub_1() {
    check(phony::centos6());
}
