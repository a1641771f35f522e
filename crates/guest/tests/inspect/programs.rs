//! Programs of the guest in the micro-VM: what they may do, what becomes of it, and that they run only where they may.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use guest::{
    Action, Browser, Choice, InitramfsEntry, Machine, PrepareOptions, Prepared, Programs, Touch, compare,
    initramfs_segment, plan, prepare, prepare_with,
};

use crate::check::{Files, UUID, ids, without_cloud_init};
use crate::disks::{MIB, Memory, Node, ext_edited, put, table, tool};
use crate::prepare::{RECORD, bytes, options};

/// Where Debian has a shell that needs nothing, from busybox-static.
const BUSYBOX: &str = "/bin/busybox";
const RELABEL: &str = "/.autorelabel";
const VERSION: &str = "6.1.0-18-amd64";

/// A Debian without cloud-init in which `dpkg` is a script for the shell, and tells what is done in it in `/told`.
fn guest(dpkg: &str) -> Files {
    without_cloud_init(&[
        ("var/lib/dpkg/status", ""),
        ("usr/bin/dpkg", &format!("#!/usr/bin/busybox sh\nset -e\n{dpkg}")),
        ("dev/", ""),
        ("proc/", ""),
        ("sys/", ""),
        ("run/", ""),
        ("tmp/", ""),
        ("var/log/", ""),
        ("etc/selinux/config", "# why\nSELINUX=permissive\n"),
        ("home/ana/notes", "stays\n"),
        ("home/ana/old", "goes\n"),
    ])
}

fn disk(files: &Files) -> Vec<u8> {
    let busybox = fs::read(BUSYBOX).expect("install the Debian package busybox-static");
    let mut nodes: Vec<(&str, Node<'_>)> = vec![("usr/bin/busybox", Node::File(&busybox))];
    for (path, content) in files {
        nodes.push(match (content.strip_prefix("-> "), path.strip_suffix('/')) {
            (Some(target), _) => (path, Node::Link(target)),
            (None, Some(folder)) => (folder, Node::Folder),
            (None, None) => (path, Node::File(content.as_bytes())),
        });
    }
    let mut disk = table(20, "label: dos\nstart=2048, type=83, bootable\n");
    let modes = "set_inode_field usr/bin/busybox mode 0100755\nset_inode_field usr/bin/dpkg mode 0100755\n";
    put(&mut disk, 1, &ext_edited(16, &["-t", "ext4", "-U", UUID, "-O", "^has_journal"], &nodes, modes));
    disk
}

/// A folder with a package of cloud-init in it.
fn packages() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("cloud-init_22.4_all.deb"), "#!/usr/bin/python3\n").unwrap();
    folder
}

fn may_install(folder: &Path) -> PrepareOptions {
    let programs = Some(Programs::with_packages(folder).unwrap());
    PrepareOptions { choice: Choice { programs, ..Choice::default() }, ..options(&[]) }
}

fn run(disk: &[u8], options: &PrepareOptions) -> Prepared {
    let done = prepare(Arc::new(Memory(disk.to_vec())), options);
    done.unwrap_or_else(|error| panic!("{error}: {:?}", error.hint()))
}

fn read(disk: &[u8], path: &str) -> String {
    let browser = Browser::open(Arc::new(Memory(disk.to_vec()))).unwrap();
    String::from_utf8(browser.read(path, 0, 1 << 20).unwrap()).unwrap()
}

/// Installs the package, and tries all that a program must not be able to do.
const INSTALL: &str = r#"
b=/usr/bin/busybox
try() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "$name: yes"; else echo "$name: no"; fi >>/told; }
echo "$*" >>/told
$b cp /tmp/molde/cloud-init_22.4_all.deb /usr/bin/cloud-init
$b chmod 755 /usr/bin/cloud-init
$b mkdir -p /etc/cloud
echo 'datasource_list: [ VMware ]' >/etc/cloud/cloud.cfg
$b rm /home/ana/old
echo changed >>/home/ana/notes
echo x >/tmp/x
echo x >/run/x
$b mknod /serial c 4 65
$b mknod /drive b 254 0
try own $b chown 1:1 /serial
try null $b sh -c 'echo x >/dev/null'
try random $b head -c 1 /dev/urandom
try self $b head -c 1 /proc/self/status
try serial $b sh -c 'echo "molde: done" >/serial'
try drive $b head -c 1 /drive
try dev $b touch /dev/x
try remount $b mount -o remount,rw /dev
try mount $b mount -t tmpfs x /mnt
try proc $b sh -c 'echo b >/proc/sysrq-trigger'
try kernel $b sh -c 'echo x >/proc/sys/kernel/core_pattern'
try sys $b sh -c 'echo 1 >/sys/kernel/mm/ksm/run'
try agent $b ls /proc/1/root/
try memory $b head -c 1 /proc/1/mem
try chroot $b chroot / /usr/bin/busybox true
try clock $b sh -c 'b=/usr/bin/busybox; $b date -s 2001-01-01; $b test $($b date +%Y) = 2001'
try name $b hostname x
try network $b ifconfig lo up
try nice $b nice -n -5 $b true
$b sleep 1000 &
exit 0
"#;
const TOLD: &str = "\
--install --skip-same-version --refuse-downgrade --force-confdef --force-confold /tmp/molde/cloud-init_22.4_all.deb
own: yes
null: yes
random: yes
self: yes
serial: no
drive: no
dev: no
remount: no
mount: no
proc: no
kernel: no
sys: no
agent: no
memory: no
chroot: no
clock: no
name: no
network: no
nice: no
";

#[test]
fn programs_run_in_a_cage_and_all_they_did_is_told() {
    let before = disk(&guest(INSTALL));
    let folder = packages();
    let options = may_install(folder.path());
    let done = run(&before, &options);
    let after = bytes(&done.overlay);
    let image = folder.path().join("image");
    fs::write(&image, &after[MIB..17 * MIB]).unwrap();
    tool("e2fsprogs", "e2fsck", &["-fn", image.to_str().unwrap()], "");
    assert_eq!(read(&after, "/told"), TOLD);

    let touched = |touch: Touch, path: &str| (touch, path.to_owned());
    let expected = [
        touched(Touch::Created, "/drive"),
        touched(Touch::Created, "/etc/cloud"),
        touched(Touch::Created, "/etc/cloud/cloud.cfg"),
        touched(Touch::Changed, "/home/ana/notes"),
        touched(Touch::Deleted, "/home/ana/old"),
        touched(Touch::Created, "/serial"),
        touched(Touch::Created, "/told"),
        touched(Touch::Created, "/usr/bin/cloud-init"),
    ];
    assert_eq!((&done.touched.paths[..], done.touched.more), (&expected[..], 0));
    // What was installed is repaired as all else is.
    assert!(read(&after, "/etc/cloud/cloud.cfg").starts_with('#'), "{}", read(&after, "/etc/cloud/cloud.cfg"));
    let summaries: Vec<String> = done.plan.changes.iter().map(guest::Change::summary).collect();
    assert_eq!(summaries, ["edit /etc/cloud/cloud.cfg"]);
    let record = read(&after, RECORD);
    let run_line = "  run `dpkg --install --skip-same-version --refuse-downgrade --force-confdef --force-confold` with 1 package\n";
    assert!(record.contains(run_line) && record.contains("  edit /etc/cloud/cloud.cfg\n"), "{record}");
    assert!(ids(&done.plan).contains(&"cloud-init-missing"), "it tells what was found before");
    assert!(done.after.iter().all(|finding| finding.kind.id != "cloud-init-missing"), "{:#?}", done.after);

    // All that differs was told, but the wish for labels, which no policy gave here.
    assert_eq!(read(&after, RELABEL), "");
    let [old, new] = [&before, &after].map(|disk| Browser::open(Arc::new(Memory(disk.clone()))).unwrap());
    let differ: Vec<String> =
        compare(&old, &new).unwrap().into_iter().map(|found| found.before.or(found.after).unwrap().path).collect();
    let mut told: Vec<String> =
        done.touched.paths.iter().map(|(_, path)| path.clone()).chain([RECORD.into(), RELABEL.into()]).collect();
    told.sort();
    assert_eq!(differ, told);

    let again = run(&after, &options);
    assert!(again.overlay.changes().is_empty() && again.plan.programs.is_empty(), "{:#?}", again.plan);
}

#[test]
fn programs_that_fail_leave_nothing_and_tell_why() {
    let folder = packages();
    let refused = |dpkg: &str, machine: &Machine| {
        let disk = Arc::new(Memory(disk(&guest(dpkg))));
        let error = prepare_with(disk, &may_install(folder.path()), machine).unwrap_err();
        format!("{error} {}", error.hint().unwrap_or_default())
    };
    let told = refused("echo the disk says no\nexit 3\n", &Machine::default());
    assert!(told.contains("dpkg") && told.contains("exit status: 3") && told.contains("the disk says no"), "{told}");
    // It ends well and nothing is better for it.
    let told = refused("exit 0\n", &Machine::default());
    assert!(told.contains("ended well") && told.contains("cloud-init-missing"), "{told}");
    // One that does not end is ended, and not started again.
    let (qemu, count) = (folder.path().join("qemu"), folder.path().join("count"));
    fs::write(&qemu, format!("#!/bin/sh\necho x >>{}\nexec sleep 60\n", count.display())).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o700)).unwrap();
    let machine = Machine { qemu, program_limit: Duration::from_millis(700), ..Machine::default() };
    let told = refused("exit 0\n", &machine);
    assert!(told.contains("programs have not ended within 0.7 s"), "{told}");
    assert_eq!(fs::read_to_string(count).unwrap(), "x\n");
}

#[test]
fn programs_run_only_where_they_may_and_are_there() {
    let planned = |files: &Files, programs: Option<Programs>| {
        plan(Arc::new(Memory(disk(files))), &Choice { programs, ..Choice::default() }).unwrap()
    };
    let files = guest("exit 0\n");
    let action = |plan: &guest::Plan| {
        plan.findings.iter().find(|found| found.kind.id == "cloud-init-missing").map(|found| found.action)
    };
    assert!(planned(&files, None).programs.is_empty() && action(&planned(&files, None)) == Some(Action::Manual));
    assert!(planned(&files, Some(Programs::default())).programs.is_empty());
    let folder = packages();
    let supplied = Programs::with_packages(folder.path()).unwrap();
    let plan = planned(&files, Some(supplied.clone()));
    assert_eq!((plan.programs.len(), action(&plan)), (1, Some(Action::Automatic)));
    // Nothing is run for a guest for which there is no package, and that is told.
    let mut fedora = files.clone();
    fedora.remove("var/lib/dpkg/status");
    fedora.insert("usr/lib/sysimage/rpm/rpmdb.sqlite".into(), String::new());
    fedora.insert("etc/os-release".into(), "ID=fedora\nVERSION_ID=40\n".into());
    let plan = planned(&fedora, Some(supplied));
    assert!(plan.programs.is_empty() && action(&plan) == Some(Action::Manual));
    assert!(plan.report.notes.iter().any(|note| note.contains("fedora-40")), "{:#?}", plan.report.notes);
}

/// The tool that made an initramfs makes it anew where nothing can be appended.
#[test]
fn an_initramfs_that_is_sealed_is_made_anew_by_its_tool() {
    for (mark, tool_of_it, expected) in [
        ("scripts/functions", "usr/sbin/update-initramfs", format!("update-initramfs -u -k {VERSION}")),
        (
            "usr/lib/dracut/hooks/x",
            "usr/bin/dracut",
            format!(
                "dracut --force --no-hostonly --add-drivers virtio_pci virtio_blk virtio_scsi virtio_net /boot/initrd.img-{VERSION} {VERSION}"
            ),
        ),
        (
            "init_functions",
            "usr/bin/mkinitcpio",
            format!("mkinitcpio -S autodetect -k {VERSION} -g /boot/initrd.img-{VERSION}"),
        ),
        (
            "sbin/nlplug-findfs",
            "sbin/mkinitfs",
            format!("mkinitfs -F base ext4 lvm virtio -o /boot/initrd.img-{VERSION} {VERSION}"),
        ),
    ] {
        let entries = [InitramfsEntry { path: mark, mode: 0o644, bytes: b"" }];
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        fs::write(&image, initramfs_segment(0, &entries, 0).unwrap()).unwrap();
        let packed = folder.path().join("packed");
        tool("lz4", "lz4", &["-l", "-q", image.to_str().unwrap(), packed.to_str().unwrap()], "");
        let packed = fs::read(packed).unwrap();
        let base = format!("usr/lib/modules/{VERSION}");
        let blk = format!("{base}/kernel/virtio_blk.ko");
        let nodes = [
            ("etc/os-release", Node::File(b"ID=debian\nVERSION_ID=12\n")),
            ("etc/mkinitfs/mkinitfs.conf", Node::File(b"features=\"base ext4 lvm\"\n")),
            ("usr/bin/sh", Node::File(b"")),
            (tool_of_it, Node::File(b"")),
            (&format!("{base}/modules.dep"), Node::File(b"kernel/virtio_blk.ko:\n")),
            (&format!("{base}/modules.builtin"), Node::File(b"kernel/virtio_pci.ko\n")),
            (&blk, Node::File(b"")),
            (&format!("boot/vmlinuz-{VERSION}"), Node::File(b"")),
            (&format!("boot/initrd.img-{VERSION}"), Node::File(&packed)),
            ("lib", Node::Link("usr/lib")),
        ];
        let disk = ext_edited(8, &["-t", "ext4"], &nodes, "");
        let programs = Some(Programs::default());
        let plan = plan(Arc::new(Memory(disk)), &Choice { programs, ..Choice::default() }).unwrap();
        assert!(ids(&plan).contains(&"initramfs-not-appendable"), "{mark}: {:#?}", plan.findings);
        let commands: Vec<String> = plan.programs.iter().map(|program| program.arguments.join(" ")).collect();
        assert_eq!(commands, [expected], "{:#?}", plan.report.notes);
    }
}
