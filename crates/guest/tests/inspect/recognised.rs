//! Contents that are recognised by superblock, with blkid as the witness for kind, UUID and label.

use std::fs;
use std::sync::Arc;

use guest::inspect;

use crate::disks::{OnFile, ext, fat, report, tool};
use crate::lvm::{IDS, physical_volume};

/// Makes a file of `mib` MiB and runs a tool of `package` on it; `{}` stands for the file.
fn made_by(package: &str, program: &str, arguments: &[&str], mib: u64) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image").to_str().unwrap().to_owned();
    fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
    let arguments: Vec<_> = arguments.iter().map(|part| if *part == "{}" { image.as_str() } else { *part }).collect();
    tool(package, program, &arguments, "secret");
    (folder, image)
}

/// An NTFS of `mib` MiB.
pub(crate) fn ntfs(mib: u64) -> Vec<u8> {
    let (_folder, image) = made_by("ntfs-3g", "mkntfs", &["-F", "-Q", "-q", "-L", "WIN", "{}"], mib);
    fs::read(image).unwrap()
}

fn blkid(image: &str, tag: &str) -> Option<String> {
    let told = tool("util-linux", "blkid", &["-p", "-o", "export", image], "");
    told.lines().find_map(|line| line.strip_prefix(tag)?.strip_prefix('=')).map(|value| value.replace("\\ ", " "))
}

/// Compares kind, UUID and label with what blkid says of the same file.
fn check(image: &str, kind: &str) {
    let found = inspect(Arc::new(OnFile(fs::File::open(image).unwrap()))).unwrap();
    let [filesystem] = found.filesystems.as_slice() else { panic!("{kind}: {:?}", found.filesystems) };
    assert_eq!(filesystem.kind.as_str(), kind);
    assert_eq!(Some(filesystem.kind.to_string()), blkid(image, "TYPE"));
    assert_eq!(filesystem.uuid, blkid(image, "UUID").filter(|uuid| !uuid.is_empty()), "{kind}");
    // mkntfs is the exception: its label is in a file of NTFS, which is not opened.
    if kind != "ntfs" {
        assert_eq!(filesystem.label, blkid(image, "LABEL"), "{kind}");
    }
    assert_eq!(found.partitions, []);
}

fn check_bytes(bytes: &[u8], kind: &str) {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    fs::write(&image, bytes).unwrap();
    check(image.to_str().unwrap(), kind);
}

#[test]
fn each_kind_is_recognised_as_blkid_does() {
    for (package, program, arguments, mib, kind) in [
        ("xfsprogs", "mkfs.xfs", ["-q", "-L", "data", "{}"].as_slice(), 300, "xfs"),
        ("btrfs-progs", "mkfs.btrfs", &["-q", "-L", "pool", "{}"], 128, "btrfs"),
        ("ntfs-3g", "mkntfs", &["-F", "-Q", "-q", "{}"], 8, "ntfs"),
        ("util-linux", "mkswap", &["-L", "page", "{}"], 2, "swap"),
        (
            "cryptsetup-bin",
            "cryptsetup",
            &[
                "luksFormat",
                "-q",
                "--label",
                "vault",
                "--pbkdf",
                "pbkdf2",
                "--pbkdf-force-iterations",
                "1000",
                "{}",
                "-",
            ],
            20,
            "crypto_LUKS",
        ),
    ] {
        let (_folder, image) = made_by(package, program, arguments, mib);
        check(&image, kind);
    }
    for (kind, label) in [("ext2", "two"), ("ext3", "three"), ("ext4", "four")] {
        check_bytes(&ext(2, &["-t", kind, "-L", label], &[]), kind);
    }
    for bits in ["12", "16", "32"] {
        let mib = if bits == "32" { 34 } else { 9 };
        check_bytes(&fat(mib, &["-F", bits, "-n", "BOOT"], &[]), "vfat");
    }
    // blkid does not look for volumes on what could be a floppy disk.
    check_bytes(&physical_volume(IDS[0], 4, "", 0), "LVM2_member");
}

#[test]
fn installation_disc_is_recognised_beside_its_partitions() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "x").unwrap();
    let image = folder.path().join("disc.iso");
    let (tree, image) = (folder.path().join("file"), image.to_str().unwrap());
    let arguments =
        ["-as", "mkisofs", "-quiet", "-V", "INSTALL", "-partition_offset", "16", "-o", image, tree.to_str().unwrap()];
    tool("xorriso", "xorriso", &arguments, "");
    let report = report(fs::read(image).unwrap());
    let whole = report.filesystems.iter().find(|found| found.partition.is_none()).unwrap();
    assert_eq!((whole.kind.as_str(), whole.label.as_deref()), ("iso9660", Some("INSTALL")));
    assert_eq!(whole.uuid, blkid(image, "UUID"));
    assert!(!report.partitions.is_empty());
}
