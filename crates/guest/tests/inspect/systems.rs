//! Whole systems: what is told of a Debian, an Alpine and a Fedora, with the boot files where each keeps them.

use guest::{CloudInit, FilesystemKind, OsKind, PartitionTable};

use crate::disks::{Node, assert_note, debian, dirty, elf, ext, fat, put, report, table, text};

const BOOT_UUID: &str = "11111111-2222-3333-4444-555555555555";

/// GPT with BIOS boot partition, ESP, /boot of its own, root by label and swap: everything at once.
#[test]
fn debian_with_separate_boot_on_gpt() {
    let script = "label: gpt\n\
        start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n\
        start=4096, size=8192, type=U, name=esp\n\
        start=12288, size=8192, type=L\n\
        start=20480, size=16384, type=L, name=root\n\
        start=36864, size=2048, type=S\n";
    let mut disk = table(20, script);
    disk[384..388].copy_from_slice(b"GRUB");
    let loaders = [("EFI/BOOT/BOOTX64.EFI", "x"), ("EFI/debian/shimx64.efi", "x"), ("EFI/debian/grub.cfg", "x")];
    put(&mut disk, 2, &fat(4, &["-n", "ESP", "-i", "ABCD1234"], &loaders));
    let boot = [("grub/grub.cfg", text("menuentry x\n")), ("vmlinuz-6.1.0-18-amd64", text("k"))];
    put(&mut disk, 6, &ext(4, &["-t", "ext2", "-U", BOOT_UUID], &boot));
    let fstab =
        format!("LABEL=root / ext4\nUUID={BOOT_UUID} /boot ext2\nUUID=ABCD-1234 /boot/efi vfat\nUUID=x none swap\n");
    let mut nodes = debian(&fstab, &[]);
    let program = elf(62);
    nodes.iter_mut().filter(|(path, _)| *path == "usr/bin/dash").for_each(|(_, node)| *node = Node::File(&program));
    nodes.push(("boot/vmlinuz-5.0.0-hidden", text("lies under the mount")));
    put(&mut disk, 10, &ext(8, &["-t", "ext4", "-L", "root"], &nodes));

    let report = report(disk);
    assert_eq!(report.partition_table, Some(PartitionTable::Gpt));
    let kinds: Vec<_> = report.partitions.iter().map(|partition| (partition.number, partition.kind.as_str())).collect();
    let expected = ["BIOS boot", "EFI System", "Linux filesystem", "Linux filesystem", "Linux swap"];
    assert_eq!(kinds, (1..).zip(expected).collect::<Vec<_>>());
    assert_eq!((report.partitions[1].esp, report.partitions[1].name.as_deref()), (true, Some("esp")));
    let found: Vec<_> = report
        .filesystems
        .iter()
        .map(|found| (found.device.as_str(), found.kind, found.label.as_deref(), found.mounted_at.as_deref()))
        .collect();
    assert_eq!(
        found,
        [
            ("/dev/sda2", FilesystemKind::Vfat, Some("ESP"), Some("/boot/efi")),
            ("/dev/sda3", FilesystemKind::Ext2, None, Some("/boot")),
            ("/dev/sda4", FilesystemKind::Ext4, Some("root"), Some("/")),
        ]
    );
    let os = report.os.unwrap();
    assert_eq!((os.kind, os.root.as_deref()), (OsKind::Linux, Some("/dev/sda4")));
    assert_eq!((os.distro.as_deref(), os.version.as_deref()), (Some("debian"), Some("12")));
    assert_eq!(os.name.as_deref(), Some("Debian GNU/Linux 12 (bookworm)"));
    assert_eq!((os.arch.as_deref(), os.hostname.as_deref()), (Some("x86_64"), Some("web-01")));
    assert_eq!(os.package_manager.as_deref(), Some("apt"));
    assert_eq!(os.kernels, ["6.1.0-9-amd64", "6.1.0-18-amd64"]);
    let datasources = ["NoCloud", "OpenStack", "None"].map(str::to_owned).to_vec();
    let version = Some("22.4.2-1+deb12u3".to_owned());
    assert_eq!(os.cloud_init, Some(CloudInit { version, disabled: false, datasources }));
    assert!(report.boot.bios && report.boot.uefi);
    assert_eq!(report.boot.loader.as_deref(), Some("grub2"));
    assert!(report.boot.evidence.iter().any(|sign| sign == "EFI/BOOT/BOOTX64.EFI on /dev/sda2"), "{:?}", report.boot);
    assert_eq!(report.notes, [] as [String; 0]);
}

#[test]
fn alpine_on_a_logical_partition() {
    let script = "label: dos\nlabel-id: 0x12345678\n\
        start=2048, size=2048, type=82\n\
        start=4096, size=36864, type=5\n\
        start=6144, size=2048, type=83\n\
        start=10240, size=16384, type=83, bootable\n";
    let mut disk = table(22, script);
    let program = elf(183);
    let nodes = [
        (
            "etc/os-release",
            text("NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.19.1\nPRETTY_NAME=\"Alpine Linux v3.19\"\n"),
        ),
        ("bin/busybox", Node::File(&program)),
        ("bin/sh", Node::Link("/bin/busybox")),
        ("lib/apk/db/installed", text("P:musl\nV:1.2\n\nP:cloud-init\nV:23.4-r0\n")),
        ("lib/modules/6.6.14-0-lts/x", text("")),
        ("boot/vmlinuz-lts", text("")),
        ("boot/extlinux.conf", text("DEFAULT lts\n")),
        ("usr/bin/cloud-init", text("")),
        ("etc/cloud/cloud-init.disabled", text("")),
        ("etc/hostname", text("alpine.example.org\n")),
        ("etc/fstab", text("PARTUUID=12345678-06 / ext4\n/dev/sda5 /data ext2\n")),
    ];
    put(&mut disk, 3, &ext(1, &["-t", "ext2", "-L", "data"], &[]));
    put(&mut disk, 5, &ext(8, &["-t", "ext4"], &nodes));

    let report = report(disk);
    assert_eq!(report.partition_table, Some(PartitionTable::Mbr));
    let numbers: Vec<_> = report.partitions.iter().map(|found| (found.number, found.type_id.as_str())).collect();
    assert_eq!(numbers, [(1, "0x82"), (2, "0x05"), (5, "0x83"), (6, "0x83")]);
    assert_eq!(report.partitions[3].uuid.as_deref(), Some("12345678-06"));
    let found: Vec<_> = report.filesystems.iter().map(|found| (found.kind, found.mounted_at.as_deref())).collect();
    assert_eq!(found, [(FilesystemKind::Ext2, Some("/data")), (FilesystemKind::Ext4, Some("/"))]);
    let os = report.os.unwrap();
    assert_eq!((os.distro.as_deref(), os.version.as_deref()), (Some("alpine"), Some("3.19.1")));
    assert_eq!((os.arch.as_deref(), os.hostname.as_deref()), (Some("aarch64"), Some("alpine.example.org")));
    assert_eq!(os.package_manager.as_deref(), Some("apk"));
    assert_eq!(os.kernels, ["6.6.14-0-lts"]);
    let cloud_init = os.cloud_init.unwrap();
    assert_eq!((cloud_init.version.as_deref(), cloud_init.disabled), (Some("23.4-r0"), true));
    assert_eq!(report.boot.loader.as_deref(), Some("syslinux"));
}

#[test]
fn fedora_straight_on_the_disk() {
    let program = elf(62);
    let nodes = [
        ("usr/lib/os-release", text("ID=fedora\nVERSION_ID=38\nPRETTY_NAME='Fedora Linux 38 (Cloud Edition)'\n")),
        ("bin", Node::Link("/usr/bin")),
        ("usr/bin/bash", Node::File(&program)),
        ("usr/bin/sh", Node::Link("bash")),
        ("usr/bin/dnf", text("")),
        ("usr/bin/cloud-init", text("")),
        ("usr/lib/python3.11/site-packages/cloud_init-23.1.1-py3.11.egg-info/x", text("")),
        ("usr/lib/sysimage/rpm/rpmdb.sqlite", text("")),
        ("etc/sysconfig/network", text("NETWORKING=yes\nHOSTNAME=\"fed\"\n")),
        ("boot/vmlinuz-6.2.9-300.fc38.x86_64", text("")),
        ("boot/vmlinuz-0-rescue-0123456789abcdef0123456789abcdef", text("")),
        ("boot/grub2/grub.cfg", text("")),
    ];
    let report = report(ext(8, &["-t", "ext4", "-L", "cloudimg"], &nodes));
    assert_eq!((report.partition_table, report.partitions.len()), (None, 0));
    assert_eq!((report.filesystems[0].device.as_str(), report.filesystems[0].partition), ("/dev/sda", None));
    assert_eq!(report.filesystems[0].size, 8 << 20);
    assert!(report.filesystems[0].used.unwrap() < 8 << 20);
    let os = report.os.unwrap();
    assert_eq!((os.distro.as_deref(), os.version.as_deref()), (Some("fedora"), Some("38")));
    assert_eq!((os.arch.as_deref(), os.hostname.as_deref()), (Some("x86_64"), Some("fed")));
    assert_eq!(os.package_manager.as_deref(), Some("dnf"));
    assert_eq!(os.kernels, ["6.2.9-300.fc38.x86_64"]);
    assert_eq!(os.cloud_init.unwrap().version.as_deref(), Some("23.1.1"));
    assert_eq!((report.boot.bios, report.boot.uefi, report.boot.loader.as_deref()), (false, false, Some("grub2")));
}

/// A boot partition alone can be opened when the root lies on LVM, and the metadata of that is damaged.
#[test]
fn boot_partition_beside_an_unread_root() {
    let mut disk = table(8, "label: dos\nstart=2048, size=8192, type=83, bootable\nstart=10240, size=4096, type=8e\n");
    disk[384..388].copy_from_slice(b"GRUB");
    put(&mut disk, 1, &ext(4, &["-t", "ext4"], &[("grub2/grub.cfg", text(""))]));
    let mut volume = crate::lvm::physical_volume(crate::lvm::IDS[0], 2, "vg {}", 512);
    volume[4096 + 512] ^= 1;
    put(&mut disk, 5, &volume);
    let report = report(disk);
    assert!(report.os.is_none());
    assert_note(&report, "The LVM metadata on /dev/sda2 cannot be used: the checksum of its text is wrong");
    assert_eq!(report.boot.loader.as_deref(), Some("grub2"));
    assert!(report.boot.evidence.contains(&"/grub2/grub.cfg on /dev/sda1".to_owned()), "{:?}", report.boot);
}

#[test]
fn windows_is_told_by_its_loader() {
    let mut disk = table(
        16,
        "label: gpt\nstart=2048, size=8192, type=U\nstart=10240, size=20480, type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7\n",
    );
    put(&mut disk, 1, &fat(4, &[], &[("EFI/Microsoft/Boot/bootmgfw.efi", "x"), ("EFI/Boot/bootx64.efi", "x")]));
    put(&mut disk, 5, &crate::recognised::ntfs(8));
    let report = report(disk);
    assert_eq!(report.os.as_ref().unwrap().kind, OsKind::Windows);
    assert_eq!(report.boot.loader.as_deref(), Some("windows"));
    assert!(report.boot.uefi);
    assert_note(&report, "This is a Windows by its loader, but its folder was not found on /dev/sda2");
}

#[test]
fn journal_is_replayed_in_memory() {
    let disk = dirty();
    let replayed = report(disk.clone());
    assert_note(&replayed, "its journal was replayed in memory");
    assert_eq!(replayed.os.unwrap().hostname.as_deref(), Some("newer"));

    // A damaged journal is left alone, and the disk is read as it stands.
    let mut damaged = disk;
    let journal = damaged.chunks(1024).position(|block| block.starts_with(&[0xc0, 0x3b, 0x39, 0x98])).unwrap();
    damaged[journal * 1024 + 12] ^= 0xff;
    let stale = report(damaged);
    assert_note(&stale, "its journal cannot be replayed");
    assert_eq!(stale.os.unwrap().hostname.as_deref(), Some("web-01"));
}
