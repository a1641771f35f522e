//! Systems on XFS, btrfs, ISO 9660 and FAT, and several systems on one disk.

use std::time::{Duration, Instant};

use guest::{Report, inspect};

use crate::disks::{
    Memory, Node, assert_note, btrfs, debian, elf, ext, fat, fixture, iso, put, report, table, text, xfs,
};
use crate::volumes::rocky;

fn is_rocky(report: &Report) {
    let os = report.os.as_ref().unwrap_or_else(|| panic!("{:?}", report.notes));
    assert_eq!((os.distro.as_deref(), os.version.as_deref()), (Some("rocky"), Some("9.3")));
    assert_eq!((os.arch.as_deref(), os.hostname.as_deref()), (Some("x86_64"), Some("rocky-01")));
    assert_eq!((os.package_manager.as_deref(), os.kernels.len()), (Some("dnf"), 1));
}

#[test]
fn xfs_of_both_versions_and_other_sizes() {
    let program = elf(62);
    let many: Vec<String> = (0..600).map(|at| format!("usr/share/many/a-rather-long-name-of-a-file-{at}")).collect();
    let long = "x/".repeat(300) + "../etc/os-release";
    for options in [
        ["-m", "crc=1"].as_slice(),
        &["-m", "crc=0"],
        &["-m", "crc=0", "-n", "ftype=0"],
        &["-b", "size=1024"],
        &["-n", "size=8192", "-i", "size=1024"],
        &["-m", "bigtime=1,rmapbt=1", "-i", "nrext64=1"],
        &["-s", "size=4096"],
    ] {
        let mut nodes = rocky("LABEL=x / xfs\n", &program);
        nodes.extend(many.iter().map(|path| (path.as_str(), text(""))));
        nodes.push(("usr/share/many/link", Node::Link(&long)));
        let found = report(xfs(32, options, &nodes));
        is_rocky(&found);
        assert_eq!(found.notes, [] as [String; 0], "{options:?}");
    }
}

#[test]
fn log_of_xfs_is_replayed_in_memory() {
    let disk = fixture("xfs-dirty.zst");
    let replayed = report(disk.clone());
    assert_note(&replayed, "/dev/sda was not shut down cleanly; its log was replayed in memory");
    assert_eq!(replayed.os.unwrap().hostname.as_deref(), Some("newer"));

    // A record in the middle is damaged, far from the end that a crash may tear.
    let mut damaged = disk;
    let records = (0..damaged.len() / 512).filter(|at| damaged[at * 512..].starts_with(&[0xfe, 0xed, 0xba, 0xbe]));
    let records: Vec<usize> = records.collect();
    assert!(records.len() > 2, "{records:?}");
    for record in records {
        damaged[record * 512 + 320..record * 512 + 324].fill(0xff);
    }
    let stale = report(damaged);
    assert_note(&stale, "its log cannot be replayed; it was read as it stands");
    assert_eq!(stale.os.unwrap().hostname.as_deref(), Some("older"));
}

/// The log of version 4 is not replayed: what mkfs wrote as the mark of a clean end is taken away.
#[test]
fn log_of_old_xfs_is_left_alone() {
    let mut disk = xfs(24, &["-m", "crc=0"], &rocky("", &elf(62)));
    let record = (0..disk.len() / 512).find(|at| disk[at * 512..].starts_with(&[0xfe, 0xed, 0xba, 0xbe])).unwrap();
    disk[(record + 1) * 512 + 9] ^= 0x20;
    let report = report(disk);
    assert_note(&report, "its log cannot be replayed; it was read as it stands");
    is_rocky(&report);
}

#[test]
fn btrfs_by_its_own_tool() {
    let found = report(btrfs(16, &["--mixed", "-L", "root"], &rocky("LABEL=root / btrfs\n", &elf(62))));
    is_rocky(&found);
    assert_eq!((found.filesystems[0].mounted_at.as_deref(), found.notes.len()), (Some("/"), 0));
    let duplicated = report(btrfs(128, &["-m", "dup"], &rocky("", &elf(62))));
    is_rocky(&duplicated);
}

/// The default subvolume is the top, where no system is; the root has a snapshot beside it.
#[test]
fn fedora_on_subvolumes_at_the_top() {
    let report = report(fixture("btrfs-fedora.zst"));
    let os = report.os.as_ref().unwrap();
    assert_eq!((os.distro.as_deref(), os.version.as_deref()), (Some("fedora"), Some("38")));
    assert_eq!((os.arch.as_deref(), os.hostname.as_deref()), (Some("x86_64"), Some("fedora-01")));
    assert_eq!((os.package_manager.as_deref(), os.kernels.len()), (Some("dnf"), 1));
    assert_eq!((report.other_systems.len(), report.boot.loader.as_deref()), (0, Some("grub2")));
    let sign = "1 boot loader entry in /boot/loader/entries on /dev/sda".to_owned();
    assert!(report.boot.evidence.contains(&sign), "{:?}", report.boot);
    assert_eq!((report.filesystems[0].mounted_at.as_deref(), &report.notes), (Some("/"), &Vec::new()));
}

#[test]
fn opensuse_with_its_root_in_a_snapshot() {
    let report = report(fixture("btrfs-suse.zst"));
    let os = report.os.as_ref().unwrap();
    assert_eq!((os.distro.as_deref(), os.version.as_deref()), (Some("opensuse-leap"), Some("15.6")));
    assert_eq!((os.hostname.as_deref(), os.package_manager.as_deref()), (Some("leap"), Some("zypper")));
    assert_eq!((report.other_systems.len(), report.boot.loader.as_deref()), (0, Some("grub2")));
    // One entry of fstab names a subvolume that was deleted.
    assert_eq!(report.notes, ["/gone on /dev/sda cannot be read: there is no such subvolume."]);
}

#[test]
fn live_disc_is_read_through_rock_ridge() {
    let program = elf(62);
    let nodes = [
        ("isolinux/isolinux.cfg", text("x")),
        ("boot/grub/grub.cfg", text("x")),
        ("loader/entries/a.conf", text("x")),
        (
            "loader/entries/b very long name that needs more room than one record of a folder has, and so is continued elsewhere, with still more letters that nobody wants to type or read.conf",
            text("x"),
        ),
        ("bin/tool", Node::File(&program)),
        ("boot/link", Node::Link("../bin/./tool")),
    ];
    for (options, entries) in [(["-R"].as_slice(), 2), (&["-R", "-J"], 2), (&["--norock"], 2)] {
        let found = report(iso(&[options, &["-V", "LIVE"]].concat(), &nodes));
        assert_eq!(found.notes, [] as [String; 0]);
        assert_eq!(found.filesystems[0].kind.as_str(), "iso9660");
        let sign = format!("{entries} boot loader entries in /loader/entries on /dev/sda");
        // Without Rock Ridge, names are cut to eight letters and three: .con is no entry.
        assert_eq!(found.boot.evidence.contains(&sign), options[0] == "-R", "{options:?}: {:?}", found.boot);
    }
}

#[test]
fn systemd_boot_is_told_from_grub() {
    let disk = |files: &[(&str, &str)], nodes: &[(&str, &str)]| {
        let mut disk = table(14, "label: gpt\nstart=2048, size=8192, type=U\nstart=10240, size=16384, type=L\n");
        put(&mut disk, 1, &fat(4, &["-n", "ESP"], files));
        let mut root = debian("LABEL=ESP /boot vfat\n", b"");
        root.extend(nodes.iter().map(|(path, content)| (*path, text(content))));
        put(&mut disk, 5, &ext(8, &["-t", "ext4"], &root));
        report(disk)
    };
    let own = [
        ("EFI/BOOT/BOOTX64.EFI", "x"),
        ("EFI/systemd/systemd-bootx64.efi", "x"),
        ("loader/loader.conf", "x"),
        ("loader/entries/abc-6.1.0-18-amd64.conf", "x"),
        ("loader/entries/README", "x"),
        ("Vmlinuz-6.1.0-20-AMD64", "k"),
    ];
    let found = disk(&own, &[]);
    assert_eq!(found.boot.loader.as_deref(), Some("systemd-boot"));
    let sign = "1 boot loader entry in /loader/entries on /dev/sda1".to_owned();
    assert!(found.boot.evidence.contains(&sign), "{:?}", found.boot);
    assert_eq!(found.filesystems[0].mounted_at.as_deref(), Some("/boot"));
    // The copy for firmware without entries is all that is left, beside the settings.
    assert_eq!(disk(&own[..1], &[]).boot.loader, None);
    assert_eq!(disk(&[own[0], own[2]], &[]).boot.loader.as_deref(), Some("systemd-boot"));
    let both = [own[0], ("EFI/debian/grubx64.efi", "x"), own[3]];
    assert_eq!(disk(&both, &[("boot/grub/grub.cfg", "x")]).boot.loader.as_deref(), Some("grub2"));
}

#[test]
fn kernels_on_fat_are_seen_through_the_mount() {
    let mut disk = table(14, "label: gpt\nstart=2048, size=8192, type=U\nstart=10240, size=16384, type=L\n");
    let files = [("vmlinuz-6.1.0-99-amd64", "k"), ("a folder/with a long name.txt", "x")];
    put(&mut disk, 1, &fat(4, &["-n", "ESP"], &files));
    put(&mut disk, 5, &ext(8, &["-t", "ext4"], &debian("LABEL=ESP /boot vfat\n", b"")));
    assert_eq!(report(disk).os.unwrap().kernels.last().map(String::as_str), Some("6.1.0-99-amd64"));
}

#[test]
fn grub_1_is_told_by_its_boot_sector() {
    let mut disk = table(4, "label: dos\nstart=2048, size=4096, type=83, bootable\n");
    disk[0x3e..0x40].copy_from_slice(&[3, 2]);
    disk[0x180..0x184].copy_from_slice(b"GRUB");
    assert_eq!(report(disk.clone()).boot.loader.as_deref(), Some("grub1"));
    disk[0x3e] = 0;
    assert_eq!(report(disk).boot.loader.as_deref(), Some("grub2"));
}

#[test]
fn each_system_of_a_disk_is_described() {
    let mut disk = table(
        60,
        "label: gpt\nstart=2048, size=16384, type=L\nstart=18432, size=49152, type=L\nstart=67584, size=32768, type=L\nstart=100352, size=4096, type=L\n",
    );
    put(&mut disk, 1, &ext(8, &["-t", "ext4"], &debian("LABEL=data /data ext4\n", b"")));
    put(&mut disk, 9, &xfs(24, &[], &rocky("/dev/sda2 / xfs\nLABEL=data /srv ext4\n", &elf(62))));
    put(&mut disk, 33, &btrfs(16, &["--mixed"], &[("etc/os-release", text("ID=arch\n"))]));
    put(&mut disk, 49, &ext(2, &["-t", "ext4", "-L", "data"], &[]));
    let found = inspect(std::sync::Arc::new(Memory(disk))).unwrap();
    assert_eq!(found.os.as_ref().unwrap().distro.as_deref(), Some("debian"));
    let others: Vec<_> = found.other_systems.iter().map(|os| (os.distro.as_deref(), os.root.as_deref())).collect();
    assert_eq!(others, [(Some("rocky"), Some("/dev/sda2")), (Some("arch"), Some("/dev/sda3"))]);
    assert_eq!(found.other_systems[0].hostname.as_deref(), Some("rocky-01"));
    let mounted: Vec<_> = found.filesystems.iter().map(|found| found.mounted_at.as_deref()).collect();
    assert_eq!(mounted, [Some("/"), None, None, Some("/data")]);
    assert_eq!(found.notes, ["There is another Linux on /dev/sda2.", "There is another Linux on /dev/sda3."]);
}

/// Returns the report, made in a time that no sound disk of this size needs.
fn in_time(disk: Vec<u8>) -> Report {
    let start = Instant::now();
    let report = report(disk);
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    report
}

/// Version 4 has no checksums: each field is believed that nobody checks.
#[test]
fn superblocks_of_xfs_that_lie_are_refused() {
    let sound = xfs(24, &["-m", "crc=0"], &rocky("", &elf(62)));
    for (at, value) in [
        (4, 0_u32),
        (4, u32::MAX),
        (4, 65536),
        (8, u32::MAX),
        (48, u32::MAX),
        (56, u32::MAX),
        (84, 0),
        (84, u32::MAX),
        (88, 0),
        (88, u32::MAX),
        (96, 0),
        (96, u32::MAX),
        (100, 0),
        (104, 0),
        (104, u32::MAX),
        (120, u32::MAX),
        (121, 0),
        (124, u32::MAX),
        (192, u32::MAX),
    ] {
        let mut disk = sound.clone();
        disk[at..at + 4].copy_from_slice(&value.to_be_bytes());
        assert!(in_time(disk).filesystems.len() <= 1, "{at}");
    }
}

/// Replaces the only mapping of `/etc` by a tree of mappings: a block that leads to itself, over and over.
#[test]
fn map_of_xfs_that_runs_in_a_circle_is_refused() {
    let mut disk = xfs(24, &["-m", "crc=0"], &rocky("", &elf(62)));
    let inode = folder_inode(&disk);
    let block = 5000_u32;
    disk[inode + 5] = 3;
    disk[inode + 82] = 0;
    let fork = inode + 100;
    disk[fork..fork + 4].copy_from_slice(&[0, 2, 0, 1]);
    let pointers = fork + 4 + (256 - 100 - 4) / 16 * 8;
    let number = block_number(&disk, block);
    disk[pointers..pointers + 8].copy_from_slice(&number.to_be_bytes());
    let at = block as usize * 4096;
    let records = (4096 - 24) / 16;
    disk[at..at + 8].copy_from_slice(&[b'B', b'M', b'A', b'P', 0, 1, 0, records as u8]);
    for index in 0..records {
        let pointer = at + 24 + records * 8 + index * 8;
        disk[pointer..pointer + 8].copy_from_slice(&number.to_be_bytes());
    }
    let start = Instant::now();
    let report = report(disk);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_note(&report, "/etc/");
    assert_note(&report, "a part of it cannot be read, or is too large");
}

/// Returns where the inode of the folder `/etc` is, which holds its names in place.
fn folder_inode(disk: &[u8]) -> usize {
    let name = disk.windows(10).position(|part| part == b"os-release").unwrap();
    let inode = name / 256 * 256;
    assert_eq!(&disk[inode..inode + 3], b"IN\x41");
    inode
}

/// Returns the number of a block, which has its group in the upper bits.
fn block_number(disk: &[u8], block: u32) -> u64 {
    let per_group = u32::from_be_bytes(disk[84..88].try_into().unwrap());
    u64::from(block / per_group) << disk[124] | u64::from(block % per_group)
}

#[test]
fn lengths_of_xfs_that_lie_are_refused() {
    let sound = xfs(24, &["-m", "crc=0"], &rocky("", &elf(62)));
    let mut huge = sound.clone();
    let inode = folder_inode(&huge);
    huge[inode + 56..inode + 64].copy_from_slice(&(1_u64 << 40).to_be_bytes());
    assert_note(&in_time(huge), "The folder /etc is too large to look into");
    let mut link = sound;
    let target = link.windows(21).position(|part| part == b"../usr/lib/os-release").unwrap();
    let inode = target / 256 * 256;
    link[inode + 56..inode + 64].copy_from_slice(&(1_u64 << 40).to_be_bytes());
    assert_note(&in_time(link), "a link of 1099511627776 bytes is over the limit");
}

/// CRC-32C as btrfs keeps it over all that follows the checksum.
pub(crate) fn seal_node(node: &mut [u8]) {
    let crc = node[32..].iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    });
    node[..4].copy_from_slice(&(!crc).to_le_bytes());
}

/// Whoever makes a disk makes the checksums too.
#[test]
fn superblocks_of_btrfs_that_lie_are_refused() {
    let sound = btrfs(16, &["--mixed"], &rocky("", &elf(62)));
    let at = 64 << 10;
    for (field, value) in [
        (0x50, u64::MAX),
        (0x50, 0),
        (0x58, u64::MAX),
        (0x58, 1 << 20),
        (0x60, u64::MAX),
        (0x70, u64::MAX),
        (0x80, u64::MAX),
        (0x90, 0),
        (0x90, u64::MAX),
        (0xa0, u64::MAX),
        (0xbc, u64::MAX),
        (0xd1, u64::MAX),
    ] {
        let mut disk = sound.clone();
        disk[at + field..at + field + 8].copy_from_slice(&value.to_le_bytes());
        seal_node(&mut disk[at..at + 4096]);
        let report = in_time(disk);
        assert_eq!(report.filesystems.len(), 1, "{field:#x}");
    }
    // Each number of the array from which the map of chunks starts.
    for index in 0..(17 + 48 + 32) / 8 {
        for value in [0, 1, u64::MAX, u64::MAX - 4095, 1 << 63] {
            let mut disk = sound.clone();
            let field = at + 0x32b + index * 8;
            disk[field..field + 8].copy_from_slice(&value.to_le_bytes());
            seal_node(&mut disk[at..at + 4096]);
            in_time(disk);
        }
    }
}

/// Every node of a btrfs leads to the one that is the root of all trees, and each node is sound by its checksum.
#[test]
fn trees_of_btrfs_that_run_in_a_circle_end() {
    let sound = btrfs(16, &["--mixed"], &rocky("", &elf(62)));
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let is_node =
        |node: &[u8]| node[32..48] == sound[(64 << 10) + 32..(64 << 10) + 48] && node[0x40..0x48] != *b"_BHRfS_M";
    let nodes: Vec<usize> = (0..sound.len() / 4096).filter(|at| is_node(&sound[at * 4096..])).collect();
    assert!(nodes.len() > 5, "{nodes:?}");
    for index in nodes {
        let mut disk = sound.clone();
        let node = &mut disk[index * 4096..(index + 1) * 4096];
        let own = number(node, 0x30);
        // An inner node, full of pointers to itself.
        node[0x64] = 1;
        node[0x60..0x64].copy_from_slice(&121_u32.to_le_bytes());
        for (order, pointer) in node[0x65..0x65 + 121 * 33].chunks_mut(33).enumerate() {
            pointer[..8].copy_from_slice(&(order as u64).to_le_bytes());
            pointer[17..25].copy_from_slice(&own.to_le_bytes());
        }
        seal_node(node);
        in_time(disk);
    }
}

#[test]
fn discs_that_lie_are_refused() {
    let nodes = [("etc/os-release", text("ID=x\n")), ("boot/grub/grub.cfg", text("")), ("l", Node::Link("boot"))];
    let sound = iso(&["-R"], &nodes);
    let root = 16 * 2048 + 156;
    for (at, value) in [
        (16 * 2048 + 128, 0_u32),
        (16 * 2048 + 128, u32::MAX),
        (root, 0),
        (root + 2, u32::MAX),
        (root + 10, u32::MAX),
        (root + 10, 0),
        (root + 32, u32::MAX),
    ] {
        let mut disk = sound.clone();
        disk[at..at + 4].copy_from_slice(&value.to_le_bytes());
        in_time(disk);
    }
    // A field that is continued where it stands.
    let mut disk = sound;
    let field = disk.windows(4).position(|part| part == b"CE\x1c\x01").unwrap();
    let (block, offset) = (field / 2048, field % 2048);
    disk[field + 4..field + 8].copy_from_slice(&u32::try_from(block).unwrap().to_le_bytes());
    disk[field + 12..field + 16].copy_from_slice(&u32::try_from(offset).unwrap().to_le_bytes());
    disk[field + 20..field + 24].copy_from_slice(&28_u32.to_le_bytes());
    in_time(disk);
}
