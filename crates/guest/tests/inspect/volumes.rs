//! Logical volumes of LVM2: linear, striped, on several physical volumes, with parts that are not there, and hostile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use guest::{FilesystemKind, Report, inspect, prepare};

use crate::disks::{MIB, Memory, Node, assert_note, debian, elf, ext, fat, fixture, put, report, table, text, xfs};
use crate::lvm::{HEAD, IDS, group, grouped, physical_volume, pvck, seal_area, segment, volume};
use crate::prepare::options;

/// Puts `content` on extents of 1 MiB of a physical volume.
fn lay(physical: &mut [u8], extent: usize, content: &[u8]) {
    physical[HEAD + extent * MIB..HEAD + extent * MIB + content.len()].copy_from_slice(content);
}

fn devices(report: &Report) -> Vec<(&str, &str, Option<&str>)> {
    let found = report.filesystems.iter();
    found.map(|found| (found.device.as_str(), found.kind.as_str(), found.mounted_at.as_deref())).collect()
}

/// The files of a small Rocky Linux, without those below `/boot`.
pub(crate) fn rocky<'a>(fstab: &'a str, program: &'a [u8]) -> Vec<(&'a str, Node<'a>)> {
    vec![
        ("usr/lib/os-release", text("ID=\"rocky\"\nVERSION_ID=\"9.3\"\nPRETTY_NAME=\"Rocky Linux 9.3 (Blue Onyx)\"\n")),
        ("etc/os-release", Node::Link("../usr/lib/os-release")),
        ("bin", Node::Link("usr/bin")),
        ("lib", Node::Link("usr/lib")),
        ("usr/bin/bash", Node::File(program)),
        ("usr/bin/sh", Node::Link("bash")),
        ("usr/bin/dnf", text("")),
        ("var/lib/rpm/rpmdb.sqlite", text("")),
        ("usr/lib/modules/5.14.0-362.8.1.el9_3.x86_64/modules.dep", text("")),
        ("etc/hostname", text("rocky-01\n")),
        ("etc/fstab", text(fstab)),
        ("boot/efi", Node::Folder),
        ("home", Node::Folder),
    ]
}

/// GPT, ESP, /boot of its own, and a group with XFS root, home and swap: what the installers of Red Hat make.
#[test]
fn fedora_like_disk_with_xfs_on_lvm() {
    let script = "label: gpt\nstart=2048, size=8192, type=U\nstart=10240, size=8192, type=L\n\
                  start=18432, size=81920, type=E6D6D379-F507-44C2-A23C-238F2A3DF928\n";
    let mut disk = table(52, script);
    let loaders = [("EFI/BOOT/BOOTX64.EFI", "x"), ("EFI/rocky/shimx64.efi", "x"), ("EFI/rocky/grub.cfg", "x")];
    put(&mut disk, 1, &fat(4, &["-n", "ESP", "-i", "ABCD1234"], &loaders));
    let boot = [
        ("grub2/grub.cfg", text("")),
        ("loader/entries/0123-5.14.0.conf", text("title Rocky\n")),
        ("loader/entries/0123-0-rescue.conf", text("title Rescue\n")),
        ("vmlinuz-5.14.0-362.8.1.el9_3.x86_64", text("k")),
    ];
    put(&mut disk, 5, &ext(4, &["-t", "ext4", "-L", "boot"], &boot));
    let fstab = "/dev/mapper/rocky--vg-root / xfs defaults 0 0\nLABEL=boot /boot ext4 defaults 0 0\n\
                 UUID=ABCD-1234 /boot/efi vfat umask=0077 0 2\n/dev/rocky-vg/home-1 /home ext4 defaults 0 0\n\
                 /dev/mapper/rocky--vg-swap none swap defaults 0 0\n";
    let program = elf(62);
    let volumes = [
        volume("root", &[segment(0, 12, &[("pv0", 5)]), segment(12, 12, &[("pv0", 20)])]),
        volume("home-1", &[segment(0, 3, &[("pv0", 0)])]),
        volume("swap", &[segment(0, 2, &[("pv0", 3)])]),
    ]
    .concat();
    let content = group("rocky-vg", &[(IDS[0], 40)], &volumes);
    let mut physical = physical_volume(IDS[0], 40, &content, 512);
    assert!(pvck(&physical).contains(content.trim()));
    let root = xfs(24, &["-L", "root"], &rocky(fstab, &program));
    lay(&mut physical, 5, &root[..12 * MIB]);
    lay(&mut physical, 20, &root[12 * MIB..]);
    lay(&mut physical, 0, &ext(3, &["-t", "ext4"], &[]));
    physical[HEAD + 3 * MIB + 4086..HEAD + 3 * MIB + 4096].copy_from_slice(b"SWAPSPACE2");
    put(&mut disk, 9, &physical);

    let report = report(disk);
    assert_eq!(
        devices(&report),
        [
            ("/dev/sda1", "vfat", Some("/boot/efi")),
            ("/dev/sda2", "ext4", Some("/boot")),
            ("/dev/sda3", "LVM2_member", None),
            ("/dev/mapper/rocky--vg-root", "xfs", Some("/")),
            ("/dev/mapper/rocky--vg-home--1", "ext4", Some("/home")),
            ("/dev/mapper/rocky--vg-swap", "swap", None),
        ]
    );
    assert_eq!(report.filesystems[2].uuid.as_deref(), Some(grouped(IDS[0]).as_str()));
    assert_eq!((report.filesystems[3].label.as_deref(), report.filesystems[3].partition), (Some("root"), None));
    assert_eq!(report.notes, [] as [String; 0]);
    let os = report.os.unwrap();
    assert_eq!((os.distro.as_deref(), os.version.as_deref()), (Some("rocky"), Some("9.3")));
    assert_eq!((os.arch.as_deref(), os.hostname.as_deref()), (Some("x86_64"), Some("rocky-01")));
    assert_eq!(os.root.as_deref(), Some("/dev/mapper/rocky--vg-root"));
    assert_eq!(os.kernels, ["5.14.0-362.8.1.el9_3.x86_64"]);
    assert_eq!(report.boot.loader.as_deref(), Some("grub2"));
    let sign = "2 boot loader entries in /loader/entries on /dev/sda2".to_owned();
    assert!(report.boot.evidence.contains(&sign), "{:?}", report.boot);
}

/// Deals a file system out to two physical volumes in stripes of 64 KiB, as device-mapper does.
fn striped() -> (Vec<u8>, Vec<u8>) {
    let root = ext(8, &["-t", "ext4"], &debian("/dev/vg/root / ext4\n", b""));
    let linear = ext(3, &["-t", "ext4", "-L", "linear"], &[]);
    let volumes = [
        volume("root", &[segment(0, 8, &[("pv0", 1), ("pv1", 0)])]),
        volume("span", &[segment(0, 1, &[("pv1", 5)]), segment(1, 2, &[("pv0", 6)])]),
    ]
    .concat();
    let content = group("vg", &[(IDS[0], 10), (IDS[1], 8)], &volumes);
    // The text goes over the end of its ring on the first, and the second has none.
    let mut first = physical_volume(IDS[0], 10, &content, MIB - 4096 - 512);
    assert!(pvck(&first).contains("stripe_count = 2"));
    let mut second = physical_volume(IDS[1], 8, "", 0);
    for (turn, stripe) in root.chunks(64 << 10).enumerate() {
        let (column, at) = if turn % 2 == 0 { (&mut first, HEAD + MIB) } else { (&mut second, HEAD) };
        column[at + turn / 2 * stripe.len()..][..stripe.len()].copy_from_slice(stripe);
    }
    lay(&mut second, 5, &linear[..MIB]);
    lay(&mut first, 6, &linear[MIB..]);
    (first, second)
}

#[test]
fn volumes_on_two_partitions_are_put_together() {
    let (first, second) = striped();
    let mut disk = table(20, "label: dos\nstart=2048, size=20480, type=8e\nstart=22528, size=16384, type=8e\n");
    put(&mut disk, 1, &first);
    put(&mut disk, 11, &second);
    let report = report(disk);
    assert_eq!(report.notes, [] as [String; 0]);
    let found = devices(&report);
    assert_eq!(found[2..], [("/dev/mapper/vg-root", "ext4", Some("/")), ("/dev/mapper/vg-span", "ext4", None)]);
    assert_eq!(report.filesystems[3].label.as_deref(), Some("linear"));
    assert_eq!(report.os.unwrap().hostname.as_deref(), Some("web-01"));
}

/// The same with everything that LVM keeps written by lvm2 itself.
#[test]
fn metadata_of_lvm2_is_read() {
    let report = report(fixture("lvm.zst"));
    assert_eq!(report.notes, [] as [String; 0]);
    let found = report.filesystems.iter().map(|found| (found.device.as_str(), found.label.as_deref()));
    let expected = [("/dev/mapper/vg--a-root", Some("striped")), ("/dev/mapper/vg--a-home--1", Some("home"))];
    assert_eq!(found.skip(2).collect::<Vec<_>>(), expected);
    let os = report.os.unwrap();
    assert_eq!((os.distro.as_deref(), os.root.as_deref()), (Some("real"), Some("/dev/mapper/vg--a-home--1")));
}

#[test]
fn missing_physical_volume_is_named() {
    let (first, _) = striped();
    let report = report(first);
    let note = "The volume group vg lacks physical volumes that are not on this disk (they were /dev/sdb1); of its \
                logical volumes in part: root, span.";
    assert_note(&report, note);
    // The superblock of the striped one is there, and not much more.
    let kinds: Vec<_> = report.filesystems.iter().map(|found| (found.device.as_str(), found.kind)).collect();
    assert_eq!(kinds[1..], [("/dev/mapper/vg-root", FilesystemKind::Ext4)]);
}

#[test]
fn newest_text_counts() {
    let linear = |mib| group("vg", &[(IDS[0], 6), (IDS[1], 6)], &volume("root", &[segment(0, mib, &[("pv0", 0)])]));
    let old = linear(1).replace("seqno = 7", "seqno = 6");
    let mut disk = table(14, "label: dos\nstart=2048, size=12288, type=8e\nstart=14336, size=12288, type=8e\n");
    let mut first = physical_volume(IDS[0], 6, &old, 512);
    lay(&mut first, 0, &ext(4, &["-t", "ext4"], &debian("", b"")));
    put(&mut disk, 1, &first);
    put(&mut disk, 7, &physical_volume(IDS[1], 6, &linear(4), 512));
    assert!(report(disk).os.is_some());
}

/// Each kind as lvm2 writes it: what is inside is not shown, what a user sees is refused.
#[test]
fn other_kinds_are_refused() {
    let hidden = |name: &str, text: &str| volume(name, &[text.to_owned()]).replace(", \"VISIBLE\"", "");
    let of_kind = |kind: &str, more: &str| format!("start_extent = 0\nextent_count = 1\n\ntype = \"{kind}\"\n{more}\n");
    let volumes = [
        volume("thin", &[of_kind("thin", "thin_pool = \"pool\"\ntransaction_id = 0\ndevice_id = 1")]),
        volume("pool", &[of_kind("thin-pool", "metadata = \"pool_tmeta\"\npool = \"pool_tdata\"")]),
        hidden("pool_tdata", &segment(0, 1, &[("pv0", 0)])),
        hidden("pool_tmeta", &segment(0, 1, &[("pv0", 1)])),
        volume("raid", &[of_kind("raid1", "raids = [\n\"raid_rmeta_0\", \"raid_rimage_0\"\n]")]),
        hidden("raid_rimage_0", &segment(0, 1, &[("pv0", 2)])),
        volume("mirror", &[of_kind("mirror", "mirrors = [\n\"m_mimage_0\", 0\n]")]),
        volume("cache", &[of_kind("cache+METADATA_FORMAT", "cache_pool = \"cpool\"\norigin = \"o\"")]),
        volume("base", &[segment(0, 1, &[("pv0", 3)])]),
        volume("snap", &[segment(0, 1, &[("pv0", 4)])]),
        hidden("snapshot0", &of_kind("snapshot", "chunk_size = 8\norigin = \"base\"\ncow_store = \"snap\"")),
    ]
    .concat();
    let mut physical = physical_volume(IDS[0], 8, &group("vg", &[(IDS[0], 8)], &volumes), 512);
    (0..6).for_each(|extent| lay(&mut physical, extent, &ext(1, &["-t", "ext2"], &[])));
    let report = report(physical);
    for (name, kind) in
        [("thin", "thin"), ("pool", "thin-pool"), ("raid", "raid1"), ("mirror", "mirror"), ("cache", "cache")]
    {
        assert_note(
            &report,
            &format!(
                "logical volume {name} of the group vg cannot be read: it is of the kind {kind}, which is not read"
            ),
        );
    }
    assert_note(&report, "logical volume snap of the group vg cannot be read: it is a snapshot");
    let found: Vec<_> = report.filesystems.iter().map(|found| found.device.as_str()).collect();
    assert_eq!(found, ["/dev/sda", "/dev/mapper/vg-base"]);
    assert_eq!(report.notes.len(), 6, "{:?}", report.notes);
}

/// Blocks that change are kept for a snapshot by the device-mapper alone: what is written past it would show in the snapshot.
#[test]
fn a_volume_with_snapshots_is_not_written() {
    let of_snapshot = |store: &str| {
        let text = format!(
            "start_extent = 0\nextent_count = 1\n\ntype = \"snapshot\"\nchunk_size = 8\norigin = \"root\"\n{store} = \"snap\"\n"
        );
        volume("shot", &[text]).replace(", \"VISIBLE\"", "")
    };
    let nodes =
        [("etc/os-release", text("ID=debian\n")), ("etc/machine-id", text("0123456789abcdef0123456789abcdef\n"))];
    let root = ext(5, &["-t", "ext4"], &nodes);
    let with = |more: &str| {
        let volumes =
            [volume("root", &[segment(0, 5, &[("pv0", 0)])]), volume("snap", &[segment(0, 1, &[("pv0", 5)])])];
        let text = group("vg", &[(IDS[0], 8)], &(volumes.concat() + more));
        let mut physical = physical_volume(IDS[0], 8, &text, 512);
        lay(&mut physical, 0, &root);
        Arc::new(Memory(physical))
    };
    assert_eq!(prepare(with(""), &options(&[])).unwrap().plan.changes.len(), 1);
    let refused = prepare(with(&of_snapshot("cow_store")), &options(&[])).unwrap_err();
    assert!(refused.to_string().contains("/dev/mapper/vg-root: its logical volume has LVM snapshots"), "{refused}");
    assert!(refused.hint().unwrap().contains("lvremove"));
    // While a snapshot is merged, what the guest sees lies in part in the snapshot.
    let report = inspect(with(&of_snapshot("merging_store"))).unwrap();
    assert!(report.os.is_none());
    assert_note(&report, "volume root of the group vg cannot be read: a snapshot is being merged into it");
}

#[test]
fn luks_on_a_logical_volume_is_told() {
    let content = group("vg", &[(IDS[0], 4)], &volume("root", &[segment(0, 2, &[("pv0", 0)])]));
    let mut physical = physical_volume(IDS[0], 4, &content, 512);
    lay(&mut physical, 0, &[b"LUKS\xba\xbe\0\x02", &[0; 504][..]].concat());
    let report = report(physical);
    assert_eq!(devices(&report)[1], ("/dev/mapper/vg-root", "crypto_LUKS", None));
    assert_note(&report, "The system may be on /dev/mapper/vg-root: crypto_LUKS is recognised, but not opened");
}

/// Each text is sound by its checksum, and says something that cannot be.
#[test]
fn volumes_that_lie_about_their_places_are_refused() {
    let root = |segments: &[String]| group("vg", &[(IDS[0], 8)], &volume("root", segments));
    let one = |start, count, first| root(&[segment(start, count, &[("pv0", first)])]);
    let sound = one(0, 2, 0);
    let striped = root(&[segment(0, 2, &[("pv0", 0), ("pv0", 1)])]);
    for (content, part) in [
        (one(0, 8, 0), "reaches out of its physical volume"),
        (one(0, 1, 7), "reaches out of its physical volume"),
        (one(0, 1, u64::MAX), "reaches out of its physical volume"),
        (one(0, u64::MAX, 0), "its segments are too long"),
        (one(0, u64::MAX / MIB as u64, 0), "reaches out of its physical volume"),
        (one(0, 0, 0), "its stripes do not divide its extents"),
        (one(1, 1, 0), "its segments overlap or leave a hole"),
        (root(&[segment(0, 2, &[("pv0", 0)]), segment(1, 2, &[("pv0", 2)])]), "its segments overlap or leave a hole"),
        (root(&[segment(0, 2, &[("pv0", 0)]), segment(2, 2, &[("pv0", 1)])]), "shares its place with another volume"),
        (
            group("vg", &[(IDS[0], 8), (IDS[0], 8)], &volume("root", &[segment(0, 2, &[("pv0", 0), ("pv1", 0)])])),
            "shares its place with another volume",
        ),
        (root(&[]), "it has no segments"),
        (striped.replace("stripe_size = 128", "stripe_size = 0"), "its stripes have a wrong size"),
        (striped.replace("stripe_size = 128", "stripe_size = 129"), "its stripes have a wrong size"),
        (striped.replace("stripe_size = 128", "stripe_size = 18446744073709551615"), "its stripes have a wrong size"),
        (striped.replace("extent_count = 2", "extent_count = 3"), "its stripes do not divide its extents"),
        (sound.replace("\"pv0\", 0", ""), "its stripes do not divide its extents"),
        (sound.replace("\"pv0\", 0", "\"pv0\""), "a segment has no places"),
        (sound.replace("\"pv0\", 0", "\"pv7\", 0"), "a physical volume that its group does not have"),
        (sound.replace("pe_start = 2048", "pe_start = 8"), "it lies on the metadata of its physical volume"),
        (sound.replace("pe_start = 2048", "pe_start = 0"), "it lies on the metadata of its physical volume"),
        (sound.replace("pe_start = 2048", "pe_start = 18446744073709551615"), "its first extent is too far away"),
        (sound.replace("pe_start = 2048", "pe_start = 36028797018963967"), "it reaches out of its physical volume"),
        (sound.replace("extent_size = 2048", "extent_size = 0"), "its extents have no size"),
        (sound.replace("extent_size = 2048", "extent_size = 36028797018963968"), "its extents have no size"),
        (sound.replace("extent_count = 2", "extent_count = -2"), "it has no number for extent_count"),
        (sound.replace("seqno = 7", "seqno = \"7\""), "it has no number for seqno"),
        (sound.replace("root {", "..  {"), ".. is no name"),
        (sound.replace("root {", "a\x1b {"), "a\\u{1b} is no name"),
        ("{".repeat(10_000), "breaks the grammar"),
        ("a {".repeat(300_000), "has too many values"),
        ("a = 1\n".repeat(150_000), "too many values"),
        (String::from("x"), "breaks the grammar"),
    ] {
        let start = Instant::now();
        let report = report(physical_volume(IDS[0], 8, &content, 512));
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_note(&report, part);
        assert_eq!(report.filesystems.len(), 1, "{part}");
    }
}

#[test]
fn areas_that_lie_are_refused() {
    let content = group("vg", &[(IDS[0], 8)], &volume("root", &[segment(0, 2, &[("pv0", 0)])]));
    let sound = physical_volume(IDS[0], 8, &content, 512);
    let at = 4096;
    for (place, value, part) in [
        (at + 48, 16 << 20, "over the limit of 4194304"),
        (at + 48, u64::MAX, "over the limit of 4194304"),
        (at + 48, 2 << 20, "does not fit into its area"),
        (at + 40, u64::MAX, "does not fit into its area"),
        (at + 40, 8, "does not fit into its area"),
        (at + 32, u64::MAX, "does not belong to it"),
        (at + 24, 0, "does not belong to it"),
        (at + 48, 100, "the checksum of its text is wrong"),
    ] {
        let mut disk = sound.clone();
        disk[place..place + 8].copy_from_slice(&value.to_le_bytes());
        seal_area(&mut disk);
        let report = report(disk);
        assert_note(&report, part);
        assert_eq!(report.filesystems.len(), 1, "{part}");
    }
    // The list of areas leads out of the volume, and all over it.
    for (offset, size) in [(u64::MAX, 512), (7 << 20, u64::MAX), (1, 1)] {
        let mut disk = sound.clone();
        crate::lvm::put64(&mut disk, 512 + 104, &[offset, size, offset, size, offset, size]);
        crate::lvm::seal_label(&mut disk);
        assert!(!report(disk).notes.is_empty());
    }
    let mut disk = sound;
    disk[512 + 100] ^= 1;
    assert_note(&report(disk), "the checksum of its label is wrong");
}
