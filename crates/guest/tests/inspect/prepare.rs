//! Prepare: the planned changes are made and nothing else, e2fsck finds no fault, and a second run changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use disk::source::Source;
use disk::{Backing, ConvertOptions, Format, LocalOptions, write_overlay};
use guest::{
    Browser, Choice, InitramfsEntry, Machine, PrepareOptions, Prepared, compare, initramfs_segment, prepare,
    prepare_with,
};

use crate::check::{Files, debian, disk, ids, without_cloud_init};
use crate::disks::{MIB, Memory, Node, dirty, ext, put, table, text, tool};

const NOW: u64 = 1_790_000_000;
pub(crate) const RECORD: &str = "/var/log/molde-prepare.log";

pub(crate) fn options(with: &[&str]) -> PrepareOptions {
    let with = with.iter().map(|id| (*id).to_owned()).collect();
    PrepareOptions { choice: Choice { with, ..Choice::default() }, now: NOW, record: true }
}

/// A Debian as it comes from another hypervisor, with everything wrong that prepare repairs.
pub(crate) fn broken() -> Files {
    let fstab = "/dev/sda1 / ext4 errors=remount-ro 0 1\n/dev/sdb1 /data xfs defaults 0 2\n";
    let grub = "menuentry x {\n\tlinux /boot/vmlinuz root=/dev/sda1 ro quiet\n\tinitrd /boot/i\n}\n";
    debian(&[
        ("etc/fstab", fstab),
        ("boot/grub/grub.cfg", grub),
        ("etc/default/grub", "GRUB_CMDLINE_LINUX=\"\"\n"),
        (
            "etc/network/interfaces",
            "auto lo ens192\niface lo inet loopback\niface ens192 inet static\n  address 10.0.0.9/24\n",
        ),
        (
            "etc/udev/rules.d/70-persistent-net.rules",
            "SUBSYSTEM==\"net\", ATTR{address}==\"00:50:56:00:00:01\", NAME=\"eth0\"\n",
        ),
        ("etc/cloud/cloud-init.disabled", ""),
        ("etc/cloud/cloud.cfg", "datasource_list: [ VMware ]\n"),
        ("usr/lib/systemd/system/cloud-init.service", "[Install]\nWantedBy=cloud-init.target\n"),
        ("var/lib/cloud/instance", "-> /var/lib/cloud/instances/iid-old"),
        ("var/lib/cloud/instances/iid-old/user-data.txt", "#cloud-config\n"),
        ("var/lib/cloud/instances/iid-old/sem/config_ssh", "1"),
        ("var/lib/cloud/instances/iid-old/scripts/", ""),
        ("var/lib/cloud/data/instance-id", "iid-old\n"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/ssh/ssh_host_rsa_key", "old"),
        ("etc/X11/xorg.conf", "Driver \"vmware\"\n"),
        ("root/.bash_history", "secret\n"),
        ("home/ana/notes", "stays\n"),
    ])
}

fn run(disk: Vec<u8>, options: &PrepareOptions) -> Prepared {
    prepare(Arc::new(Memory(disk)), options).unwrap_or_else(|error| panic!("{error}: {:?}", error.hint()))
}

pub(crate) fn bytes(source: &dyn Source) -> Vec<u8> {
    let mut all = vec![0; usize::try_from(source.len()).unwrap()];
    source.read_at(&mut all, 0).unwrap();
    all
}

/// Asserts that e2fsck finds no fault in the first partition.
fn assert_sound(disk: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    fs::write(&image, &disk[MIB..6 * MIB]).unwrap();
    tool("e2fsprogs", "e2fsck", &["-fn", image.to_str().unwrap()], "");
}

/// Asserts that what differs is what the plan names, the record, and folders that had to be made.
pub(crate) fn assert_planned(before: &[u8], after: &[u8], done: &Prepared) {
    let [old, new] = [before, after].map(|disk| Browser::open(Arc::new(Memory(disk.to_vec()))).unwrap());
    let changed: BTreeSet<String> =
        compare(&old, &new).unwrap().into_iter().map(|found| found.before.or(found.after).unwrap().path).collect();
    let is_planned = |path: &str| {
        path == RECORD
            || RECORD.starts_with(&format!("{path}/"))
            || done.plan.changes.iter().any(|change| {
                change.path == path
                    || change.path.starts_with(&format!("{path}/"))
                    || path.starts_with(&format!("{}/", change.path))
            })
    };
    let others: Vec<&String> = changed.iter().filter(|path| !is_planned(path)).collect();
    assert!(others.is_empty(), "not planned and changed: {others:?}");
    assert!(done.plan.changes.iter().all(|change| changed.contains(&change.path)), "{changed:?}");
}

/// Prepares the files and checks what must always hold; returns the disk and what was done.
fn prepared(files: &Files, options: &PrepareOptions) -> (Vec<u8>, Prepared) {
    let before = disk(files);
    let done = run(before.clone(), options);
    let after = bytes(&done.overlay);
    assert_sound(&after);
    assert!(done.after.iter().all(|finding| finding.kind.action != guest::Action::Automatic), "{:#?}", done.after);

    assert_planned(&before, &after, &done);
    let again = run(after.clone(), options);
    assert!(again.overlay.changes().is_empty() && again.plan.changes.is_empty(), "{:#?}", again.plan.changes);
    (after, done)
}

#[test]
fn a_broken_debian_is_repaired_once_and_for_all() {
    let (after, done) = prepared(&broken(), &options(&[]));
    assert!(done.overlay.changed_bytes() < 512 << 10, "{} bytes were changed", done.overlay.changed_bytes());
    assert_eq!(done.after.iter().map(|finding| finding.kind.id).collect::<Vec<_>>(), ["shell-history"]);
    let browser = Browser::open(Arc::new(Memory(after))).unwrap();
    let read = |path: &str| String::from_utf8(browser.read(path, 0, 1 << 20).unwrap()).unwrap();
    assert!(read("/etc/network/interfaces").contains("# molde: iface ens192 inet static"));
    assert!(browser.entry("/var/lib/cloud/instances", false).is_none());
    let link = browser.entry("/etc/systemd/system/cloud-init.target.wants/cloud-init.service", false).unwrap();
    assert_eq!(link.target.as_deref(), Some("/usr/lib/systemd/system/cloud-init.service"));
    assert_eq!(read("/home/ana/notes"), "stays\n");
    let record = read(RECORD);
    assert!(record.contains("edit /etc/fstab\n") && record.contains("delete /etc/ssh/ssh_host_rsa_key\n"), "{record}");
    assert_eq!(browser.entry(RECORD, false).unwrap().mode, 0o600);
}

/// One preparation, kept as a whole file and as an overlay on what was read: QEMU sees the same disk.
#[test]
fn an_overlay_is_the_same_disk_as_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let qemu_img = |words: &[&str]| tool("qemu-utils", "qemu-img", words, "");
    fs::write(path("raw"), disk(&broken())).unwrap();
    for format in ["raw", "qcow2", "vmdk", "vpc"] {
        let base = path(&format!("base.{format}"));
        qemu_img(&["convert", "-f", "raw", "-O", format, path("raw").to_str().unwrap(), base.to_str().unwrap()]);
        let opened = disk::open_unpacked(&base, &LocalOptions::default()).unwrap();
        let done = prepare(Arc::clone(&opened.disk), &options(&[])).unwrap();
        let (changes, bytes) = (done.overlay.changes(), done.overlay.changed_bytes());
        let prepared: Arc<dyn Source> = Arc::new(done.overlay);
        let (whole, overlay) = (path(&format!("whole.{format}")), path(&format!("overlay.{format}")));
        let convert = ConvertOptions::default();
        disk::convert(Arc::clone(&prepared), Some(Format::Raw), &whole, Format::Qcow2, &convert).unwrap();
        let backing = Backing::new(&base, &opened, &[], &overlay).unwrap();
        let written = write_overlay(prepared, &changes, backing, &overlay, &convert).unwrap();
        let (whole, overlay) = (whole.to_str().unwrap(), overlay.to_str().unwrap());
        qemu_img(&["check", "-f", "qcow2", overlay]);
        qemu_img(&["compare", "-f", "qcow2", "-F", "qcow2", overlay, whole]);
        let most = 16 * bytes + (512 << 10);
        assert!(written.bytes_total < most, "{format}: {} bytes for {bytes}", written.bytes_total);
        let told = qemu_img(&["info", "--backing-chain", "--output", "json", overlay]);
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!((&told[0]["backing-filename-format"], &told[1]["format"]), (&format.into(), &format.into()));
        assert_eq!(told[0]["virtual-size"], opened.disk.len(), "{format}");
    }
}

#[test]
fn secrets_go_on_request_and_the_record_can_be_left_out() {
    let options = PrepareOptions { record: false, ..options(&["shell-history"]) };
    let (after, done) = prepared(&broken(), &options);
    assert!(done.after.is_empty(), "{:#?}", done.after);
    let browser = Browser::open(Arc::new(Memory(after))).unwrap();
    assert!(browser.entry("/root/.bash_history", false).is_none() && browser.entry(RECORD, false).is_none());
}

#[test]
fn a_guest_that_is_fit_gets_no_change_and_no_record() {
    let done = run(disk(&debian(&[])), &options(&[]));
    assert!(done.overlay.changes().is_empty() && done.plan.changes.is_empty());
}

#[test]
fn what_is_manual_stays() {
    let done = run(disk(&without_cloud_init(&[])), &options(&[]));
    assert_eq!(ids(&done.plan), ["cloud-init-missing"]);
    assert!(done.overlay.changes().is_empty());
}

/// A new file takes the place of the old one in its folder: rights and owner too.
#[test]
fn files_that_are_put_aside_keep_their_rights() {
    let path = "etc/netplan/50-installer.yaml";
    let files = debian(&[(path, "network:\n  ethernets:\n    e:\n      addresses: [10.0.0.2/24]\n")]);
    let nodes = disk(&files);
    let mut image = nodes[MIB..6 * MIB].to_vec();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("image");
    fs::write(&file, &image).unwrap();
    let commands = format!(
        "set_inode_field /{path} mode 0100600\nset_inode_field /{path} uid 7\nea_set /{path} security.selinux system_u:object_r:net_conf_t:s0\n"
    );
    tool("e2fsprogs", "debugfs", &["-w", "-f", "-", file.to_str().unwrap()], &commands);
    image.copy_from_slice(&fs::read(&file).unwrap());
    let mut disk = nodes;
    put(&mut disk, 1, &image);
    let after = bytes(&run(disk, &options(&[])).overlay);
    assert_sound(&after);
    fs::write(&file, &after[MIB..6 * MIB]).unwrap();
    let ask = |command: &str| tool("e2fsprogs", "debugfs", &["-R", command, file.to_str().unwrap()], "");
    let told = ask(&format!("stat /{path}.molde-saved"));
    assert!(told.contains("Mode:  0600") && told.contains("User:     7"), "{told}");
    assert!(ask(&format!("ea_list /{path}.molde-saved")).contains("net_conf_t"));
}

/// New files come to where the links to their folders lead, and so do folders that have to be made.
#[test]
fn what_lies_behind_links_is_repaired_in_its_place() {
    let netplan = "network:\n  ethernets:\n    e:\n      addresses: [10.0.0.2/24]\n";
    let files = debian(&[
        ("etc/netplan", "-> ../srv/netplan"),
        ("srv/netplan/50.yaml", netplan),
        ("etc/systemd/system", "-> /srv/units"),
        ("srv/units/", ""),
        ("usr/lib/systemd/system/cloud-init.service", "[Install]\nWantedBy=cloud-init.target\n"),
    ]);
    let (after, done) = prepared(&files, &options(&[]));
    assert_eq!(ids(&done.plan), ["cloud-init-disabled", "network-static"]);
    let browser = Browser::open(Arc::new(Memory(after))).unwrap();
    assert_eq!(browser.read("/srv/netplan/50.yaml.molde-saved", 0, 1 << 10).unwrap(), netplan.as_bytes());
    assert!(browser.entry("/srv/units/cloud-init.target.wants/cloud-init.service", false).is_some());
}

/// The record goes to the `/var` that the guest mounts, and not below it where nobody would see it.
#[test]
fn the_record_goes_to_the_file_system_of_var() {
    let mut disk = table(12, "label: dos\nstart=2048, size=10240, type=83\nstart=12288, size=10240, type=83\n");
    let root = [
        ("etc/os-release", text("ID=debian\n")),
        ("etc/fstab", text("/dev/sda1 / ext4 defaults 0 1\nLABEL=var /var ext4 defaults 0 2\n")),
        ("etc/machine-id", text("0123456789abcdef0123456789abcdef\n")),
        ("var", Node::Folder),
    ];
    put(&mut disk, 1, &ext(5, &["-t", "ext4"], &root));
    put(&mut disk, 6, &ext(5, &["-t", "ext4", "-L", "var"], &[("lib", Node::Folder)]));
    let done = run(disk, &options(&[]));
    let after = bytes(&done.overlay);
    let folder = tempfile::tempdir().unwrap();
    for (at, is_there) in [(1, false), (6, true)] {
        let image = folder.path().join("image");
        fs::write(&image, &after[at * MIB..(at + 5) * MIB]).unwrap();
        tool("e2fsprogs", "e2fsck", &["-fn", image.to_str().unwrap()], "");
        let listed = tool("e2fsprogs", "debugfs", &["-R", "ls -l /log", image.to_str().unwrap()], "");
        assert_eq!(listed.contains("molde-prepare.log"), is_there, "{listed}");
    }
}

/// What cannot be changed where it stands is told, and the rest is repaired all the same.
#[test]
fn a_link_that_leads_nowhere_is_left_and_the_rest_repaired() {
    let mut files = broken();
    files.insert("etc/systemd/system".to_owned(), "-> /srv/nowhere".to_owned());
    files.insert("var/log".to_owned(), "-> /srv/nowhere".to_owned());
    let before = disk(&files);
    let done = run(before.clone(), &options(&[]));
    let after = bytes(&done.overlay);
    assert_sound(&after);
    assert_planned(&before, &after, &done);
    assert!(!done.plan.changes.is_empty() && done.plan.changes.iter().all(|change| !change.path.contains("systemd")));
    let told = "/etc/systemd/system/cloud-init.target.wants/cloud-init.service is left as it is";
    assert!(done.plan.report.notes.iter().any(|note| note.starts_with(told)), "{:?}", done.plan.report.notes);
}

#[test]
fn without_a_micro_vm_a_disk_that_was_not_shut_down_is_refused_with_the_way_out() {
    let mut disk = table(8, "label: dos\nstart=2048, size=14336, type=83\n");
    put(&mut disk, 1, &dirty());
    let machine = Machine { kernels: "/nonexistent".into(), ..Machine::default() };
    let error = prepare_with(Arc::new(Memory(disk)), &options(&[]), &machine).unwrap_err();
    assert!(error.to_string().contains("/dev/sda1") && error.to_string().contains("journal"), "{error}");
    assert!(error.hint().unwrap().contains("linux-image-cloud-amd64"), "{:?}", error.hint());
}

#[test]
fn a_full_disk_is_refused_and_nothing_is_half_done() {
    let mut files = broken();
    files.insert("var/big".to_owned(), "x".repeat(2 << 20));
    let sound = disk(&files);
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    fs::write(&image, &sound[MIB..6 * MIB]).unwrap();
    // All blocks that are free are taken by one file.
    let stats = tool("e2fsprogs", "dumpe2fs", &["-h", image.to_str().unwrap()], "");
    let number =
        |key: &str| stats.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().parse::<usize>().unwrap();
    let fill = folder.path().join("fill");
    fs::write(&fill, vec![b'x'; (number("Free blocks:") - 4) * number("Block size:")]).unwrap();
    tool(
        "e2fsprogs",
        "debugfs",
        &["-w", "-f", "-", image.to_str().unwrap()],
        &format!("write {} fill\n", fill.display()),
    );
    let mut disk = sound;
    put(&mut disk, 1, &fs::read(&image).unwrap());
    let error = prepare(Arc::new(Memory(disk)), &options(&[])).unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn without_a_partition_table_too() {
    let nodes =
        [("etc/os-release", text("ID=debian\n")), ("etc/machine-id", text("0123456789abcdef0123456789abcdef\n"))];
    let done = run(ext(4, &["-t", "ext4"], &nodes), &options(&[]));
    assert_eq!(done.plan.changes.iter().map(guest::Change::summary).collect::<Vec<_>>(), ["empty /etc/machine-id"]);
    let browser = Browser::open(Arc::new(done.overlay)).unwrap();
    assert_eq!(browser.entry("/etc/machine-id", false).unwrap().length, 0);
}

/// An initramfs of a machine with other disks gets the drivers of virtio and the tables that lead to them.
#[test]
fn drivers_of_virtio_are_appended_to_the_initramfs() {
    const VERSION: &str = "6.1.0-18-amd64";
    let base = format!("lib/modules/{VERSION}");
    let depends = "kernel/virtio/virtio.ko:\nkernel/virtio/virtio_pci.ko: kernel/virtio/virtio.ko\n\
                   kernel/block/virtio_blk.ko: kernel/virtio/virtio.ko\n";
    let rule = "etc/udev/rules.d/70-persistent-net.rules";
    let inside = [
        InitramfsEntry { path: "scripts/functions", mode: 0o644, bytes: b"" },
        InitramfsEntry { path: &format!("{base}/kernel/nvme.ko"), mode: 0o644, bytes: b"nvme" },
        InitramfsEntry { path: rule, mode: 0o644, bytes: b"NAME=eth0" },
    ];
    let plain = initramfs_segment(0, &inside, 0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let packed = folder.path().join("packed");
    fs::write(&packed, &plain).unwrap();
    tool("zstd", "zstd", &["-q", packed.to_str().unwrap()], "");
    let packed = fs::read(packed.with_extension("zst")).unwrap();
    let boot = format!("boot/initrd.img-{VERSION}");
    let files = debian(&[
        (&format!("{base}/modules.dep"), depends),
        (&format!("{base}/modules.alias"), "alias virtio:d00000002v* virtio_blk\n"),
        (&format!("{base}/modules.builtin"), "kernel/virtio/virtio_scsi.ko\nkernel/net/virtio_net.ko\n"),
        (&format!("{base}/kernel/virtio/virtio.ko"), "virtio"),
        (&format!("{base}/kernel/virtio/virtio_pci.ko"), "pci"),
        (&format!("{base}/kernel/block/virtio_blk.ko"), "blk"),
        (&boot, "PACKED"),
    ]);
    let disk = crate::check::disk_with(&files, &[(&boot, &packed)]);
    let done = run(disk, &options(&[]));
    assert_eq!(ids(&done.plan), ["initramfs-lacks-virtio", "initramfs-net-rules"], "{:#?}", done.plan.findings);
    assert!(done.after.is_empty(), "{:#?}", done.after);
    let after = bytes(&done.overlay);
    assert_sound(&after);

    // The kernel unpacks one archive after the other: so does cpio, beginning where the first ends.
    let browser = Browser::open(Arc::new(Memory(after.clone()))).unwrap();
    let whole = browser.read(&format!("/{boot}"), 0, 1 << 20).unwrap();
    assert!(whole.starts_with(&packed));
    let tail = folder.path().join("tail");
    fs::write(&tail, &whole[packed.len().next_multiple_of(4)..]).unwrap();
    let listed = tool("cpio", "sh", &["-c", &format!("cpio --quiet -t < {}", tail.display())], "");
    let expected = [
        "etc",
        "etc/udev",
        "etc/udev/rules.d",
        "lib",
        "lib/modules",
        &base,
        &format!("{base}/kernel"),
        &format!("{base}/kernel/block"),
        &format!("{base}/kernel/virtio"),
        rule,
        &format!("{base}/kernel/block/virtio_blk.ko"),
        &format!("{base}/kernel/virtio/virtio.ko"),
        &format!("{base}/kernel/virtio/virtio_pci.ko"),
        &format!("{base}/modules.alias"),
        &format!("{base}/modules.dep"),
    ];
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected);
    let again = run(after, &options(&[]));
    assert!(again.plan.changes.is_empty(), "{:#?}", again.plan.changes);
}
