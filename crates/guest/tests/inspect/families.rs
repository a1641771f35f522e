//! Families of systems that cannot be installed here: what is told of a phony guest of each, and what prepare makes of it.
//!
//! On ext4 e2fsck judges the result, and debugfs reads all files before and after: what was not planned is the same.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use disk::source::Source;
use guest::{Action, Browser, Choice, FilesystemKind, Plan, PrepareOptions, Prepared, Report, plan, prepare};

use crate::check::ids;
use crate::disks::{MIB, Memory, fixture, tool};
use crate::phony;

const RECORD: &str = "/var/log/molde-prepare.log";

/// What is told of a system, in short.
fn told(report: &Report) -> String {
    let Some(os) = &report.os else { return "no system".to_owned() };
    let word = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let firmware = match (report.boot.bios, report.boot.uefi) {
        (true, true) => "both",
        (true, false) => "bios",
        (false, true) => "uefi",
        (false, false) => "neither",
    };
    format!(
        "{} {} on {}, {}, {}, {} by {}",
        word(&os.distro),
        word(&os.version),
        word(&os.root),
        word(&os.hostname),
        word(&os.package_manager),
        firmware,
        word(&report.boot.loader)
    )
}

fn examined(disk: &[u8]) -> Plan {
    plan(Arc::new(Memory(disk.to_vec())), &Choice::default()).unwrap()
}

/// Says how adapters are set up: each stack that is there, then each file in the words of its stack.
fn networks(report: &Report) -> String {
    let os = report.os.as_ref().unwrap();
    let stacks = os.network_stacks.iter().map(|stack| stack.as_str());
    let adapter = |network: &guest::Network| {
        let name = network.name.as_deref().unwrap_or("any");
        let how = if network.is_automatic { "automatic".to_owned() } else { network.addresses.join("+") };
        format!("{} {name} {how} {}", network.stack.as_str(), network.mac.as_deref().unwrap_or("-"))
    };
    format!(
        "{}: {}",
        stacks.collect::<Vec<_>>().join(" "),
        os.networks.iter().map(adapter).collect::<Vec<_>>().join("; ")
    )
}

/// Asserts what is told of a disk, and what is found on it.
#[track_caller]
fn check(disk: &[u8], expected: &str, findings: &[&str]) -> Plan {
    let plan = examined(disk);
    assert_eq!(told(&plan.report), expected, "{:#?}", plan.report);
    assert_eq!(ids(&plan), findings, "{:#?}", plan.findings);
    plan
}

fn run(disk: &[u8]) -> Prepared {
    run_with(disk, true)
}

fn run_with(disk: &[u8], record: bool) -> Prepared {
    let options = PrepareOptions { choice: Choice::default(), now: 1_790_000_000, record };
    prepare(Arc::new(Memory(disk.to_vec())), &options).unwrap_or_else(|error| panic!("{error}: {:?}", error.hint()))
}

fn bytes(source: &dyn Source) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(source.len()).unwrap()];
    source.read_at(&mut all, 0).unwrap();
    all
}

/// Every path of every ext file system of a disk with its kind, mode and content, as debugfs reads them; e2fsck must find no fault.
fn files_of(disk: &[u8], report: &Report) -> BTreeMap<(String, String), (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    for filesystem in &report.filesystems {
        if !matches!(filesystem.kind, FilesystemKind::Ext2 | FilesystemKind::Ext3 | FilesystemKind::Ext4) {
            continue;
        }
        let place = report.partitions.iter().find(|found| Some(found.number) == filesystem.partition).unwrap();
        let [from, length] = [place.offset, place.length].map(|number| usize::try_from(number).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let (image, tree) = (folder.path().join("image"), folder.path().join("tree"));
        fs::write(&image, &disk[from..from + length]).unwrap();
        fs::create_dir(&tree).unwrap();
        let (image, into) = (image.to_str().unwrap(), tree.to_str().unwrap());
        tool("e2fsprogs", "e2fsck", &["-fn", image], "");
        tool("e2fsprogs", "debugfs", &["-R", &format!("rdump / {into}"), image], "");
        walk(&tree, &tree, &mut |path, about| {
            all.insert((filesystem.device.clone(), path), about);
        });
    }
    all
}

fn walk(top: &Path, folder: &Path, found: &mut impl FnMut(String, (u32, Vec<u8>))) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let about = path.symlink_metadata().unwrap();
        let content = match about.file_type() {
            kind if kind.is_symlink() => fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            kind if kind.is_dir() => Vec::new(),
            _ => fs::read(&path).unwrap(),
        };
        let name = format!("/{}", path.strip_prefix(top).unwrap().display());
        found(name, (about.permissions().mode(), content));
        if about.is_dir() {
            walk(top, &path, found);
        }
    }
}

/// Prepares a disk: nothing but what was planned is changed, nothing automatic is left, and a second time changes nothing.
#[track_caller]
fn prepared(disk: &[u8]) -> BTreeMap<String, String> {
    let done = run(disk);
    let after = bytes(&done.overlay);
    let report = &done.plan.report;
    let [old, new] = [disk, &after].map(|disk| files_of(disk, report));
    let mut changed: Vec<_> = old.keys().chain(new.keys()).filter(|key| old.get(key) != new.get(key)).collect();
    changed.dedup();
    let is_below = |path: &str, folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    for (device, path) in changed {
        let planned = done.plan.changes.iter().any(|change| {
            change.device == *device
                && (change.inner == *path || is_below(path, &change.inner) || is_below(&change.inner, path))
        });
        assert!(planned || RECORD == path || is_below(RECORD, path), "{path} on {device} was changed and not planned");
    }
    assert!(done.overlay.changed_bytes() < 1 << 20, "{} bytes were changed", done.overlay.changed_bytes());
    assert!(done.after.iter().all(|found| found.kind.action != Action::Automatic), "{:#?}", done.after);
    let again = run(&after);
    assert!(again.plan.changes.is_empty() && again.overlay.changes().is_empty(), "{:#?}", again.plan.changes);
    assert!(bytes(&again.overlay) == after, "a second run changed bytes");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    new.iter().map(|((_, path), (_, content))| (path.clone(), text(content))).collect()
}

#[test]
fn ubuntu_with_netplan() {
    let disk = phony::ubuntu();
    let found = [
        "initramfs-lacks-virtio",
        "cloud-init-datasource",
        "cloud-init-network-disabled",
        "network-static",
        "ssh-host-keys",
        "machine-id",
        "serial-console-missing",
    ];
    let plan = check(&disk, "ubuntu 22.04 on /dev/sda3, jammy, apt, both by grub2", &found);
    assert_eq!(networks(&plan.report), "netplan: netplan ens160 192.168.7.20/24 -");
    let after = prepared(&disk);
    assert!(after["/boot/grub/grub.cfg"].contains("net.ifnames=0 console=tty0 console=ttyS0,115200\n"));
    assert_eq!(
        after["/etc/cloud/cloud.cfg.d/99-installer.cfg"].lines().last(),
        Some("# molde: datasource_list: [None]")
    );
    assert!(!after.contains_key("/etc/netplan/00-installer-config.yaml"));
    assert_eq!(after["/home/ana/notes"], "stays\n");
}

/// The drivers go into an initramfs on another file system than the one that has them.
#[test]
fn centos_7_with_ifcfg() {
    let disk = phony::centos7();
    let found = [
        "fstab-device-name",
        "fstab-missing-device",
        "root-by-name",
        "initramfs-lacks-virtio",
        "network-static",
        "network-mac",
        "network-static",
        "device-cache",
        "hypervisor-tools",
        "machine-id",
        "serial-console-missing",
    ];
    let plan = check(&disk, "centos 7 on /dev/sda2, c7.example.org, yum, bios by grub2", &found);
    assert_eq!(networks(&plan.report), ": ifcfg ens192 10.7.0.9 00:50:56:00:00:07");
    let after = prepared(&disk);
    let adapter = "TYPE=Ethernet\nBOOTPROTO=dhcp\nNAME=ens192\nDEVICE=ens192\nONBOOT=yes\n";
    assert_eq!(after["/etc/sysconfig/network-scripts/ifcfg-ens192"], adapter);
    let line = " root=UUID=77777777-3333-4333-8333-333333333307 ro rhgb quiet console=tty0 console=ttyS0,115200\n";
    assert!(after["/grub2/grub.cfg"].contains(line), "{}", after["/grub2/grub.cfg"]);
    assert!(after["/initramfs-3.10.0-1160.el7.x86_64.img"].contains("/kernel/virtio_blk.ko"));
}

#[test]
fn centos_6_with_grub_1() {
    let disk = phony::centos6();
    let found = [
        "fstab-device-name",
        "root-by-name",
        "cloud-init-missing",
        "network-static",
        "network-mac",
        "network-static",
        "persistent-net-rules",
        "ssh-host-keys",
        "device-cache",
        "resolv-conf-static",
        "serial-console-missing",
    ];
    let plan = check(&disk, "centos 6.10 on /dev/sda1, c6, yum, bios by grub1", &found);
    assert_eq!(networks(&plan.report), ": ifcfg eth0 10.6.0.9 00:50:56:00:00:06");
    let after = prepared(&disk);
    let fstab = "UUID=66666666-3333-4333-8333-333333333306 / ext4 defaults 1 1\ntmpfs /dev/shm tmpfs defaults 0 0\n\
                 UUID=66666666-6666-6666-6666-666666666666 swap swap defaults 0 0\n";
    assert_eq!(after["/etc/fstab"], fstab);
    assert_eq!(after["/boot/grub/menu.lst"], "./grub.conf");
    assert!(after["/boot/grub/grub.conf"].contains("root=UUID=66666666-3333-4333-8333-333333333306 rhgb"));
}

#[test]
fn alpine_with_extlinux() {
    let disk = phony::alpine();
    let found = [
        "fstab-device-name",
        "root-by-name",
        "initramfs-lacks-virtio",
        "cloud-init-missing",
        "network-static",
        "ssh-host-keys-kept",
        "serial-console-missing",
    ];
    let plan = check(&disk, "alpine 3.19.1 on /dev/sda1, alp, apk, neither by syslinux", &found);
    assert_eq!(networks(&plan.report), ": ifupdown eth0 10.3.0.9 -");
    let after = prepared(&disk);
    assert_eq!(
        after["/etc/network/interfaces"],
        "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet dhcp\n"
    );
    // The next kernel's entry is made of these.
    let settings = "default_kernel_opts=\"quiet rootfstype=ext4 console=tty0 console=ttyS0,115200\"\n\
                    root=UUID=a1a1a1a1-3333-4333-8333-333333333319\nmodules=sd-mod,usb-storage,ext4\n";
    assert_eq!(after["/etc/update-extlinux.conf"], settings);
}

#[test]
fn fedora_on_lvm_and_xfs() {
    let found = ["initramfs-lacks-virtio", "lvm-devices-file", "network-static", "machine-id"];
    check(&phony::fedora(), "fedora 39 on /dev/mapper/fedora-root, fed39, dnf, uefi by grub2", &found);
}

#[test]
fn arch_with_systemd_boot() {
    let found = [
        "fstab-device-name",
        "root-by-name",
        "cloud-init-missing",
        "network-static",
        "machine-id",
        "serial-console-missing",
    ];
    check(&phony::arch(), "arch - on /dev/sda2, arch, pacman, uefi by systemd-boot", &found);
}

#[test]
fn systems_on_subvolumes_of_btrfs() {
    let fedora = fixture("btrfs-fedora.zst");
    check(&fedora, "fedora 38 on /dev/sda, fedora-01, dnf, neither by grub2", &["cloud-init-missing"]);
    let suse = fixture("btrfs-suse.zst");
    check(&suse, "opensuse-leap 15.6 on /dev/sda, leap, zypper, neither by grub2", &["cloud-init-missing"]);
}

/// The other system is told of, and stays as it is to the byte.
#[test]
fn two_systems_on_one_disk() {
    let disk = phony::two_systems();
    let found = ["fstab-device-name", "machine-id"];
    let plan = check(&disk, "debian 12 on /dev/sda1, -, -, neither by -", &found);
    let others: Vec<_> = plan.report.other_systems.iter().map(|os| os.distro.as_deref()).collect();
    assert_eq!(others, [Some("centos")]);
    prepared(&disk);
    assert!(bytes(&run(&disk).overlay)[5 * MIB..] == disk[5 * MIB..], "the other system was changed");
}

#[test]
fn encrypted_and_blank_disks_have_no_system() {
    let disk = phony::encrypted();
    let plan = check(&disk, "no system", &["no-system"]);
    let kinds: Vec<_> = plan.report.filesystems.iter().map(|found| found.kind.as_str()).collect();
    assert_eq!((kinds, plan.report.boot.loader.as_deref()), (vec!["ext4", "crypto_LUKS"], Some("grub2")));
    assert!(run(&disk).overlay.changes().is_empty());
    let blank = vec![0; MIB];
    check(&blank, "no system", &["no-system"]);
    assert!(run(&blank).overlay.changes().is_empty());
}

/// Whatever is planned for it stays inside, and is done once; nothing that it says reaches a terminal or shows a secret.
#[test]
fn a_hostile_guest_harms_nobody() {
    let disk = phony::hostile();
    let found =
        ["cloud-init-disabled", "cloud-init-stale-instance", "network-static", "ssh-host-keys", "passwords", "logs"];
    let plan = check(&disk, "debian 12 on /dev/sda1, -, -, neither by grub1", &found);
    let places =
        plan.findings.iter().flat_map(|found| &found.evidence).flat_map(|at| [Some(&at.path), at.value.as_ref()]);
    let texts = plan.findings.iter().map(|found| &found.text).chain(places.flatten()).chain(&plan.report.notes);
    for text in texts {
        assert!(!text.contains('\u{1b}') && !text.contains("secrethash"), "{text:?}");
    }
    assert!(plan.changes.iter().all(|change| !change.path.contains("..")), "{:#?}", plan.changes);
    // The record goes where the link leads, inside the guest.
    let recorded = Browser::open(Arc::new(Memory(bytes(&run_with(&disk, true).overlay)))).unwrap();
    assert!(recorded.entry("/home/molde-prepare.log", false).is_some());
    let done = run_with(&disk, false);
    let after = bytes(&done.overlay);
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    fs::write(&image, &after[MIB..7 * MIB]).unwrap();
    tool("e2fsprogs", "e2fsck", &["-fn", image.to_str().unwrap()], "");
    let again = run_with(&after, false);
    assert!(again.plan.changes.is_empty() && again.overlay.changes().is_empty(), "{:#?}", again.plan.changes);
}
