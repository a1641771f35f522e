//! Guests that start by UEFI, on a disk whose EFI system partition has no loader that is found without entries.

use std::fs;
use std::sync::Arc;

use disk::source::Source;
use guest::{Browser, Choice, PrepareOptions, Prepared, prepare};

use crate::check::{UUID, ids};
use crate::disks::{MIB, Memory, Node, elf, ext, fat, put, table, text, tool};

const SHIM: &str = "MZ this is shim";
const GRUB: &str = "MZ this is grub";
const STUB: &str =
    "search --no-floppy --fs-uuid --set=root ABCD-1234\nset prefix=($root)/EFI/debian\nconfigfile $prefix/grub.cfg\n";

/// A Debian on the second partition, and an EFI system partition of 16 MiB with `files` on the first.
fn disk(files: &[(&str, &str)], fstab: &str, size: usize) -> Vec<u8> {
    let program = elf(62);
    let grub =
        format!("menuentry x {{\n\tlinux /boot/vmlinuz root=UUID={UUID} ro console=ttyS0\n\tinitrd /boot/i\n}}\n");
    let fstab = format!("UUID={UUID} / ext4 defaults 0 1\n{fstab}");
    let nodes = [
        ("usr/bin/sh", Node::File(&program)),
        ("bin", Node::Link("usr/bin")),
        ("etc/os-release", text("ID=debian\nVERSION_ID=12\n")),
        ("etc/fstab", text(&fstab)),
        ("usr/bin/cloud-init", text("#!/usr/bin/python3\n")),
        ("etc/cloud/cloud.cfg", text("datasource_list: [ ConfigDrive, OpenStack, None ]\n")),
        ("etc/machine-id", text("")),
        ("boot/grub/grub.cfg", text(&grub)),
        ("boot/efi", Node::Folder),
    ];
    let mut disk = table(24, "label: gpt\nstart=2048, size=32768, type=uefi\nstart=34816, size=12288, type=linux\n");
    put(&mut disk, 1, &fat(size, &["-i", "abcd1234"], files));
    put(&mut disk, 17, &ext(6, &["-t", "ext4", "-U", UUID, "-O", "^has_journal"], &nodes));
    disk
}

fn run(disk: Vec<u8>) -> Prepared {
    let options = PrepareOptions { choice: Choice::default(), now: 1_790_000_000, record: true };
    prepare(Arc::new(Memory(disk)), &options).unwrap_or_else(|error| panic!("{error}: {:?}", error.hint()))
}

fn bytes(source: &dyn Source) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(source.len()).unwrap()];
    source.read_at(&mut all, 0).unwrap();
    all
}

/// Prepares a disk with `files`, and checks what is in `\EFI\BOOT` then.
fn check(files: &[(&str, &str)], fstab: &str, expected: &[(&str, &str)]) {
    let done = run(disk(files, fstab, 16));
    assert_eq!(ids(&done.plan), ["uefi-fallback-missing"], "{:#?}", done.plan.findings);
    let after = bytes(&done.overlay);
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    fs::write(&image, &after[MIB..17 * MIB]).unwrap();
    let image = image.to_str().unwrap();
    tool("dosfstools", "fsck.fat", &["-n", image], "");
    let listed = tool("mtools", "mdir", &["-b", "-i", image, "::/EFI/BOOT"], "");
    assert_eq!(listed.lines().count(), expected.len(), "{listed}");
    for (name, content) in expected {
        let read = tool("mtools", "mcopy", &["-n", "-i", image, &format!("::/EFI/BOOT/{name}"), "-"], "");
        assert_eq!(read, *content, "{name}");
    }
    // The guest sees them where it mounts the partition, and a second run has nothing to do.
    let browser = Browser::open(Arc::new(Memory(after.clone()))).unwrap();
    assert_eq!(browser.read("/boot/efi/EFI/BOOT/BOOTX64.EFI", 0, 100).unwrap(), expected[0].1.as_bytes());
    assert!(run(after).overlay.changes().is_empty());
}

#[test]
fn shim_and_its_grub_are_copied_together_and_nothing_that_writes_entries() {
    let files = [
        ("EFI/debian/shimx64.efi", SHIM),
        ("EFI/debian/grubx64.efi", GRUB),
        ("EFI/debian/fbx64.efi", "MZ writes entries"),
        ("EFI/debian/mmx64.efi", "MZ"),
        ("EFI/debian/grub.cfg", "configfile elsewhere\n"),
    ];
    let expected = [("BOOTX64.EFI", SHIM), ("grubx64.efi", GRUB), ("grub.cfg", STUB)];
    check(&files, "UUID=ABCD-1234 /boot/efi vfat umask=0077 0 1\n", &expected);
    // The same where fstab does not name the partition.
    check(&files, "", &expected);
}

#[test]
fn other_loaders() {
    check(
        &[("EFI/opensuse/shim.efi", SHIM), ("EFI/opensuse/grub.efi", GRUB)],
        "",
        &[("BOOTX64.EFI", SHIM), ("grub.efi", GRUB)],
    );
    check(&[("EFI/debian/grubx64.efi", GRUB)], "", &[("BOOTX64.EFI", GRUB)]);
    let systemd = [("EFI/systemd/systemd-bootx64.efi", "MZ systemd"), ("loader/loader.conf", "timeout 3\n")];
    check(&systemd, "", &[("BOOTX64.EFI", "MZ systemd")]);
    // The loader of the distribution comes before that of another.
    let two = [("EFI/alma/grubx64.efi", "MZ other"), ("EFI/debian/grubx64.efi", GRUB)];
    check(&two, "", &[("BOOTX64.EFI", GRUB)]);
}

#[test]
fn what_stays_as_it_is() {
    let none: [&str; 0] = [];
    for files in [&[("EFI/debian/grubx64.efi", GRUB), ("EFI/BOOT/bootx64.efi", GRUB)][..], &[("other", "x")], &[]] {
        assert_eq!(ids(&run(disk(files, "", 16)).plan), none, "{files:?}");
    }
    // Shim without a grub, a unified kernel, and what is no program.
    for files in [
        [("EFI/debian/shimx64.efi", SHIM)],
        [("EFI/Linux/debian.efi", "MZ kernel")],
        [("EFI/debian/grubx64.efi", "text")],
    ] {
        let done = run(disk(&files, "", 16));
        assert_eq!(ids(&done.plan), ["uefi-fallback-unknown"], "{files:?}");
        assert!(done.overlay.changes().is_empty());
    }
}

#[test]
fn a_full_partition_is_refused_with_the_reason() {
    let large = "MZ".to_owned() + &"x".repeat(600 << 10);
    let disk = disk(&[("EFI/debian/grubx64.efi", &large)], "", 1);
    let options = PrepareOptions { choice: Choice::default(), now: 0, record: true };
    let error = prepare(Arc::new(Memory(disk)), &options).unwrap_err();
    let told = error.to_string();
    assert!(told.contains("create /boot/efi/EFI/BOOT/BOOTX64.EFI") && told.contains("is full"), "{told}");
    assert!(error.hint().is_some());
}
