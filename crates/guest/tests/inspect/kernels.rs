//! What each kernel has to start with: drivers of virtio, and the initramfs that holds them.

use guest::{Driver, DriverState, InitramfsEntry, initramfs_segment};

use crate::disks::{Node, assert_note, debian, ext, full_report, report, text};

const VERSION: &str = "6.1.0-18-amd64";
const DEPENDS: &str = "\
kernel/drivers/virtio/virtio.ko:
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko
kernel/drivers/net/net_failover.ko.xz:
kernel/drivers/net/virtio_net.ko: kernel/drivers/net/net_failover.ko.xz kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/scsi/virtio_scsi.ko: kernel/drivers/scsi/gone.ko
kernel/drivers/scsi/gone.ko:
";

fn initramfs(modules: &[&str]) -> Vec<u8> {
    let paths: Vec<String> =
        modules.iter().map(|name| format!("usr/lib/modules/{VERSION}/kernel/drivers/{name}.ko")).collect();
    let mut entries: Vec<_> = paths.iter().map(|path| InitramfsEntry { path, mode: 0o644, bytes: b"module" }).collect();
    entries.push(InitramfsEntry { path: "scripts/functions", mode: 0o644, bytes: b"" });
    initramfs_segment(0, &entries, 0).unwrap()
}

fn summary(drivers: &[Driver]) -> Vec<(&str, DriverState)> {
    drivers.iter().map(|driver| (driver.name.as_str(), driver.state)).collect()
}

#[test]
fn each_driver_is_told_where_it_is() {
    let image = initramfs(&["virtio/virtio", "virtio/virtio_ring", "block/virtio_blk", "nvme/nvme"]);
    let mut nodes = debian("", b"");
    nodes.retain(|(path, _)| !path.contains("lib/modules/"));
    let base = format!("usr/lib/modules/{VERSION}");
    let paths = [
        "modules.dep",
        "modules.builtin",
        "kernel/drivers/net/virtio_net.ko",
        "kernel/drivers/net/net_failover.ko.xz",
        "kernel/drivers/scsi/virtio_scsi.ko",
    ]
    .map(|name| format!("{base}/{name}"));
    let (boot, config) = (format!("boot/initrd.img-{VERSION}"), format!("boot/config-{VERSION}"));
    nodes.extend([
        (paths[0].as_str(), text(DEPENDS)),
        (paths[1].as_str(), text("kernel/drivers/virtio/virtio_pci.ko\nkernel/fs/ext4/ext4.ko\n")),
        (paths[2].as_str(), text("")),
        (paths[3].as_str(), text("")),
        (paths[4].as_str(), text("")),
        (boot.as_str(), Node::File(&image)),
        (config.as_str(), text("CONFIG_XEN=y\nCONFIG_PARAVIRT=y\nCONFIG_VIRTIO_BLK=m\n")),
    ]);
    let disk = ext(12, &["-t", "ext4"], &nodes);
    // Told only when it is asked for.
    assert_eq!(report(disk.clone()).os.unwrap().boot_kernels, []);
    let report = full_report(disk);
    assert_eq!(report.notes, [] as [String; 0]);
    let [kernel] = &report.os.unwrap().boot_kernels[..] else { panic!("one kernel") };
    assert_eq!((kernel.version.as_str(), kernel.xen_pv_only), (VERSION, Some(false)));
    let expected = [
        ("virtio_pci", DriverState::Builtin),
        ("virtio_blk", DriverState::Initramfs),
        ("virtio_scsi", DriverState::Missing),
        ("virtio_net", DriverState::Module),
    ];
    assert_eq!(summary(&kernel.drivers), expected);
    let files =
        ["net_failover.ko.xz", "virtio_net.ko"].map(|name| format!("/lib/modules/{VERSION}/kernel/drivers/net/{name}"));
    assert_eq!(kernel.drivers[3].files, files);
    let initramfs = kernel.initramfs.as_ref().unwrap();
    assert_eq!(initramfs.path, format!("/boot/initrd.img-{VERSION}"));
    assert_eq!(initramfs.generator.as_deref(), Some("initramfs-tools"));
    assert_eq!((initramfs.complete, initramfs.appendable), (true, true));
    assert_eq!(initramfs.modules, ["nvme", "virtio_blk"]);
}

#[test]
fn kernels_without_tables_are_unknown_and_broken_files_are_notes() {
    let nodes = [
        ("etc/os-release", text("ID=alpine\n")),
        ("lib/modules/6.6.14-0-lts/modules.dep", text("")),
        ("lib/modules/2.6.18-398.el5xen/modules.dep", text("/lib/modules/x/virtio_blk.ko: /lib/modules/x/gone.ko\n")),
        ("boot/config-2.6.18-398.el5xen", text("CONFIG_X86_64_XEN=y\nCONFIG_XEN=y\n")),
        ("boot/initramfs-lts", text("junk")),
    ];
    let report = full_report(ext(8, &["-t", "ext4"], &nodes));
    assert_note(&report, "/boot/initramfs-lts was not read to its end: it goes on with what no kernel unpacks.");
    let os = report.os.unwrap();
    let [old, new] = &os.boot_kernels[..] else { panic!("two kernels") };
    assert_eq!((old.xen_pv_only, new.xen_pv_only), (Some(true), None));
    assert!(old.drivers.iter().all(|driver| driver.state == DriverState::Missing), "{:?}", old.drivers);
    assert!(new.drivers.iter().all(|driver| driver.state == DriverState::Unknown), "{:?}", new.drivers);
    assert!(!new.initramfs.as_ref().unwrap().complete && old.initramfs.is_none());
}
