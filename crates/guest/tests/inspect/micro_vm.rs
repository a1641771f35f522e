//! Prepare by a kernel in the micro-VM: XFS, btrfs, logical volumes and journals that were not replayed.
//!
//! Each file system is looked at by its own checker afterwards, and what differs is what the plan names.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use disk::source::Source;
use guest::{Browser, Change, Choice, Machine, PrepareOptions, Prepared, prepare, prepare_with};

use crate::check::Files;
use crate::disks::{MIB, Memory, Node, btrfs, dirty, elf, ext, put, table, tool, xfs};
use crate::lvm::{HEAD, IDS, group, physical_volume, segment, volume};
use crate::prepare::{RECORD, assert_planned, broken, bytes, options};

/// A disk of `mib` MiB with one partition from 1 MiB on.
fn disk_of(mib: usize, content: &[u8]) -> Vec<u8> {
    let mut disk = table(mib, "label: dos\nstart=2048, type=83, bootable\n");
    put(&mut disk, 1, content);
    disk
}

/// Gives `files` as nodes to `make`, with a program that tells the processor.
fn made(files: &Files, make: impl FnOnce(&[(&str, Node<'_>)]) -> Vec<u8>) -> Vec<u8> {
    let program = elf(62);
    let mut nodes = vec![("usr/bin/sh", Node::File(&program))];
    for (path, content) in files {
        nodes.push(match (content.strip_prefix("-> "), path.strip_suffix('/')) {
            (Some(target), _) => (path, Node::Link(target)),
            (None, Some(folder)) => (folder, Node::Folder),
            (None, None) => (path, Node::File(content.as_bytes())),
        });
    }
    make(&nodes)
}

fn run(disk: &[u8], options: &PrepareOptions) -> Prepared {
    let done = prepare(Arc::new(Memory(disk.to_vec())), options);
    done.unwrap_or_else(|error| panic!("{error}: {:?}", error.hint()))
}

/// Prepares `disk` and checks what must always hold; returns the disk as it is then.
fn prepared(disk: &[u8]) -> (Vec<u8>, Prepared) {
    let done = run(disk, &options(&[]));
    let after = bytes(&done.overlay);
    assert!(done.after.iter().all(|finding| finding.kind.action != guest::Action::Automatic), "{:#?}", done.after);
    assert_planned(disk, &after, &done);
    let again = run(&after, &options(&[]));
    assert!(again.overlay.changes().is_empty() && again.plan.changes.is_empty(), "{:#?}", again.plan.changes);
    (after, done)
}

/// Asserts that a checker finds no fault.
fn assert_sound(package: &str, program: &str, arguments: &[&str], content: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    fs::write(&image, content).unwrap();
    tool(package, program, &[arguments, &[image.to_str().unwrap()]].concat(), "");
}

fn assert_xfs_sound(content: &[u8]) {
    // Small ones have a single group, which it wants to be told.
    assert_sound("xfsprogs", "xfs_repair", &["-n", "-o", "force_geometry"], content);
}

fn assert_ext_sound(content: &[u8]) {
    assert_sound("e2fsprogs", "e2fsck", &["-fn"], content);
}

fn read(browser: &Browser, path: &str) -> String {
    String::from_utf8(browser.read(path, 0, 1 << 20).unwrap()).unwrap()
}

fn open(disk: &[u8]) -> Browser {
    Browser::open(Arc::new(Memory(disk.to_vec()))).unwrap()
}

/// Everything that prepare repairs, on XFS: made, changed, linked, emptied, deleted, and put aside.
#[test]
fn micro_vm_changes_xfs() {
    let mut files = broken();
    let netplan = "network:\n  ethernets:\n    e:\n      addresses: [10.0.0.2/24]\n";
    files.insert("etc/netplan/50-installer.yaml".to_owned(), netplan.to_owned());
    let before = disk_of(42, &made(&files, |nodes| xfs(40, &[], nodes)));
    let (after, done) = prepared(&before);
    assert_xfs_sound(&after[MIB..41 * MIB]);
    assert!(done.overlay.changed_bytes() < 4 << 20, "{} bytes were changed", done.overlay.changed_bytes());
    let browser = open(&after);
    assert!(read(&browser, "/etc/network/interfaces").contains("# molde: iface ens192 inet static"));
    assert!(browser.entry("/var/lib/cloud/instances", false).is_none());
    let link = browser.entry("/etc/systemd/system/cloud-init.target.wants/cloud-init.service", false).unwrap();
    assert_eq!(link.target.as_deref(), Some("/usr/lib/systemd/system/cloud-init.service"));
    assert!(read(&browser, RECORD).contains("edit /etc/fstab\n"));
    let rights = |path: &str| browser.entry(path, false).map(|found| (found.mode, found.uid, found.gid)).unwrap();
    assert_eq!(rights(RECORD), (0o600, 0, 0));
    // As the test's own mkfs made them: what is changed keeps owner and rights, and what is put aside too.
    assert_eq!(rights("/etc/fstab"), (0o640, 7, 8));
    assert_eq!(rights("/etc/netplan/50-installer.yaml.molde-saved"), (0o640, 7, 8));
}

#[test]
fn micro_vm_keeps_labels_of_selinux_and_gives_them_to_what_is_new() {
    let mut files = broken();
    files.retain(|path, _| !path.starts_with("boot/grub"));
    let root = made(&files, |nodes| ext(16, &["-t", "ext4", "-O", "bigalloc"], nodes));
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let set = "ea_set /etc/fstab security.selinux system_u:object_r:etc_t:s0\n\
               ea_set /var security.selinux system_u:object_r:var_t:s0\nset_inode_field /etc/fstab uid 5\n";
    fs::write(&image, root).unwrap();
    tool("e2fsprogs", "debugfs", &["-w", "-f", "-", image.to_str().unwrap()], set);
    let (after, _) = prepared(&disk_of(18, &fs::read(&image).unwrap()));
    assert_ext_sound(&after[MIB..17 * MIB]);
    fs::write(&image, &after[MIB..17 * MIB]).unwrap();
    let ask = |command: &str| tool("e2fsprogs", "debugfs", &["-R", command, image.to_str().unwrap()], "");
    assert!(ask("ea_list /etc/fstab").contains("etc_t"));
    assert!(ask("stat /etc/fstab").contains("User:     5"), "{}", ask("stat /etc/fstab"));
    assert!(ask("ea_list /var/log").contains("var_t"), "{}", ask("ea_list /var/log"));
    assert!(ask(&format!("ea_list {RECORD}")).contains("var_t"));
}

#[test]
fn micro_vm_changes_the_subvolume_that_is_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = broken();
    files.insert(
        "etc/fstab".to_owned(),
        "/dev/sda1 / btrfs subvol=@ 0 0\n/dev/sda1 /home btrfs subvol=@home 0 0\n".to_owned(),
    );
    files.remove("boot/grub/grub.cfg");
    let inside: Files = files.into_iter().map(|(path, text)| (format!("@/{path}"), text)).collect();
    let content = made(&inside, |nodes| btrfs(128, &["-L", "root"], nodes));
    // mkfs of Debian 12 makes no subvolumes: a kernel does.
    let image = folder.path().join("image");
    fs::write(&image, content).unwrap();
    let at = folder.path().join("mounted");
    fs::create_dir(&at).unwrap();
    let (image, at) = (image.to_str().unwrap(), at.to_str().unwrap());
    let script = format!(
        "mount -o loop {image} {at}; trap 'cd / && umount {at}' EXIT; cd {at}; mv @ old; btrfs -q subvolume create @; \
         btrfs -q subvolume create @home; cp -a old/. @/; rm -rf old; mkdir @home/ana; echo stays > @home/ana/kept; \
         chmod 600 @/etc/fstab; setfattr -n security.selinux -v etc_t @/etc/fstab"
    );
    if !is_root() {
        return;
    }
    tool("btrfs-progs", "sh", &["-ec", &script], "");
    let (after, done) = prepared(&disk_of(130, &fs::read(image).unwrap()));
    assert_sound("btrfs-progs", "btrfs", &["check", "--readonly"], &after[MIB..129 * MIB]);
    assert!(done.plan.changes.iter().all(|change| change.subvolume.is_some()));
    let browser = open(&after);
    assert_eq!(read(&browser, "/home/ana/kept"), "stays\n");
    assert_eq!(browser.entry("/etc/fstab", false).unwrap().mode, 0o600);
    assert!(read(&browser, RECORD).contains("edit /etc/fstab\n"));
}

fn is_root() -> bool {
    tool("coreutils", "id", &["-u"], "").trim() == "0"
}

/// A root of XFS in two pieces on a physical volume and one on another, and /boot of ext4, which needs no machine.
#[test]
fn micro_vm_changes_a_logical_volume_that_lies_in_pieces() {
    let mut disk = table(
        64,
        "label: dos\nstart=2048, size=8192, type=83\nstart=10240, size=73728, type=8e\nstart=83968, size=40960, type=8e\n",
    );
    let mut files = broken();
    files.insert(
        "etc/fstab".to_owned(),
        "/dev/mapper/vg-root / xfs defaults 0 0\n/dev/sda1 /boot ext4 defaults 0 2\n".to_owned(),
    );
    files.retain(|path, _| !path.starts_with("boot/"));
    files.insert("boot/".to_owned(), String::new());
    let grub = "menuentry x {\n\tlinux /vmlinuz root=/dev/mapper/vg-root ro quiet\n\tinitrd /i\n}\n";
    put(&mut disk, 1, &ext(4, &["-t", "ext4"], &[("grub/grub.cfg", Node::File(grub.as_bytes()))]));
    let segments = [segment(0, 15, &[("pv0", 18)]), segment(15, 10, &[("pv0", 2)]), segment(25, 15, &[("pv1", 3)])];
    let text = group("vg", &[(IDS[0], 36), (IDS[1], 20)], &volume("root", &segments));
    let mut physical = [(IDS[0], 36), (IDS[1], 20)].map(|(id, mib)| physical_volume(id, mib, &text, 512));
    let root = made(&files, |nodes| xfs(40, &[], nodes));
    let mut lay = |number: usize, extent: usize, content: &[u8]| {
        physical[number][HEAD + extent * MIB..HEAD + extent * MIB + content.len()].copy_from_slice(content);
    };
    lay(0, 18, &root[..15 * MIB]);
    lay(0, 2, &root[15 * MIB..25 * MIB]);
    lay(1, 3, &root[25 * MIB..]);
    put(&mut disk, 5, &physical[0]);
    put(&mut disk, 41, &physical[1]);

    let (after, done) = prepared(&disk);
    let piece = |at: usize, extent: usize, count: usize| {
        let start = at * MIB + HEAD + extent * MIB;
        after[start..start + count * MIB].to_vec()
    };
    assert_xfs_sound(&[piece(5, 18, 15), piece(5, 2, 10), piece(41, 3, 15)].concat());
    assert_ext_sound(&after[MIB..5 * MIB]);
    let devices: std::collections::BTreeSet<&str> =
        done.plan.changes.iter().map(|change| change.device.as_str()).collect();
    assert_eq!(devices.into_iter().collect::<Vec<_>>(), ["/dev/mapper/vg-root", "/dev/sda1"]);
    assert!(read(&open(&after), "/boot/grub/grub.cfg").contains("console=ttyS0"));
}

/// What stands in the journal is kept, and it is empty afterwards.
#[test]
fn micro_vm_replays_journals() {
    let damaged_later = |mut disk: Vec<u8>| {
        // The checksum of the journal's superblock: readers leave such a journal alone, and so does the kernel.
        let journal = disk.chunks(1024).position(|block| block.starts_with(&[0xc0, 0x3b, 0x39, 0x98])).unwrap();
        disk[journal * 1024 + 12] ^= 0xff;
        disk
    };
    let mut ext4 = table(8, "label: dos\nstart=2048, size=14336, type=83\n");
    put(&mut ext4, 1, &dirty());
    let done = run(&ext4, &options(&[]));
    let after = bytes(&done.overlay);
    assert_ext_sound(&after[MIB..7 * MIB]);
    assert_eq!(read(&open(&after), "/etc/hostname").trim_end_matches('\0'), "newer\n");

    let mut hopeless = table(8, "label: dos\nstart=2048, size=14336, type=83\n");
    put(&mut hopeless, 1, &damaged_later(dirty()));
    let error = prepare(Arc::new(Memory(hopeless)), &options(&[])).unwrap_err();
    assert!(error.to_string().contains("/dev/sda1"), "{error}");

    // The log of version 4 is not replayed in memory: the mark of its clean end is taken away, so that it is first replayed
    // by the kernel, and the plan made then.
    let mut old = made(&broken(), |nodes| xfs(40, &["-m", "crc=0"], nodes));
    let record = (0..old.len() / 512).find(|at| old[at * 512..].starts_with(&[0xfe, 0xed, 0xba, 0xbe])).unwrap();
    old[(record + 1) * 512 + 9] ^= 0x20;
    let before = disk_of(42, &old);
    assert_eq!(guest::inspect(Arc::new(Memory(before.clone()))).unwrap().unreplayed, ["/dev/sda1"]);
    let (after, done) = prepared(&before);
    assert_xfs_sound(&after[MIB..41 * MIB]);
    assert!(done.plan.report.unreplayed.is_empty());
}

/// A machine that says nothing is started once more, with the kernel as it was packed, and is not believed then either.
#[test]
fn machines_that_do_not_answer_are_ended_and_nothing_is_kept() {
    let disk = disk_of(42, &made(&broken(), |nodes| xfs(40, &[], nodes)));
    let folder = tempfile::tempdir().unwrap();
    let count = folder.path().join("count");
    let qemu = |text: &str| {
        let path = folder.path().join("qemu");
        let kind = "if head -c 4 kernel | grep -q ELF; then echo unpacked; else echo packed; fi";
        fs::write(&path, format!("#!/bin/sh\n{kind} >> {}\n{text}\n", count.display())).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        Machine { qemu: path, time_limit: Duration::from_millis(700), ..Machine::default() }
    };
    let fault = |machine: &Machine| {
        let _ = fs::remove_file(&count);
        let error = prepare_with(Arc::new(Memory(disk.clone())), &options(&[]), machine).unwrap_err();
        (format!("{error} {}", error.hint().unwrap_or_default()), fs::read_to_string(&count).unwrap_or_default())
    };
    let start = Instant::now();
    let (told, runs) = fault(&qemu("exec sleep 60"));
    assert!(
        told.contains("/dev/sda1") && told.contains("twice") && start.elapsed() < Duration::from_secs(20),
        "{told}"
    );
    assert_eq!(runs, "unpacked\npacked\n");
    let (told, runs) = fault(&qemu("echo 'it is \x1b[31mbroken' >&2"));
    assert!(told.contains("without an answer") && told.contains("broken") && !told.contains('\x1b'), "{told}");
    assert_eq!(runs, "unpacked\npacked\n");
    let (told, runs) = fault(&qemu("echo 'molde: failed: /etc/fstab: its content is another' > answer"));
    assert!(told.contains("/etc/fstab: its content is another"), "{told}");
    assert_eq!(runs, "unpacked\n");
    // It says that all was done, and nothing was: the examination afterwards tells.
    let (told, _) = fault(&qemu("echo 'molde: done' > answer"));
    assert!(told.contains("afterwards there is still to"), "{told}");
    let (told, _) = fault(&Machine { qemu: "/nonexistent/qemu".into(), ..Machine::default() });
    assert!(told.contains("qemu-system-x86"), "{told}");
}

/// A disk on which a file is another once the machine was started.
struct Turning {
    disk: Vec<u8>,
    at: usize,
    is: &'static [u8],
    started: std::path::PathBuf,
}

impl Source for Turning {
    fn len(&self) -> u64 {
        self.disk.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::error::Result<()> {
        self.disk.read_at(buf, offset)?;
        let at = self.at;
        let skip = usize::try_from(offset).unwrap();
        if self.started.exists() && skip <= at && at + self.is.len() <= skip + buf.len() {
            buf[at - skip..at - skip + self.is.len()].copy_from_slice(self.is);
        }
        Ok(())
    }
}

#[test]
fn micro_vm_changes_nothing_that_is_not_what_was_planned_for() {
    let disk = disk_of(42, &made(&broken(), |nodes| xfs(40, &[], nodes)));
    let folder = tempfile::tempdir().unwrap();
    let (qemu, started) = (folder.path().join("qemu"), folder.path().join("started"));
    fs::write(&qemu, format!("#!/bin/sh\ntouch {}\nexec qemu-system-x86_64 \"$@\"\n", started.display())).unwrap();
    fs::set_permissions(&qemu, fs::Permissions::from_mode(0o700)).unwrap();
    let was = b"/dev/sda1 / ext4 errors=remount-ro";
    let at = disk.windows(was.len()).position(|bytes| bytes == was).unwrap();
    let disk = Turning { disk, at, is: b"/dev/sdz9", started };
    let error = prepare_with(Arc::new(disk), &options(&[]), &Machine { qemu, ..Machine::default() }).unwrap_err();
    assert!(error.to_string().contains("/etc/fstab: its content is not what was planned for"), "{error}");
}

/// Neither a machine nor a change where nothing is wrong.
#[test]
fn micro_vm_leaves_a_guest_alone_that_needs_nothing() {
    let before = disk_of(42, &made(&crate::check::debian(&[]), |nodes| xfs(40, &[], nodes)));
    let machine = Machine { qemu: "/nonexistent/qemu".into(), ..Machine::default() };
    let only =
        PrepareOptions { choice: Choice { only: vec!["machine-id".to_owned()], ..Choice::default() }, ..options(&[]) };
    let done = prepare_with(Arc::new(Memory(before)), &only, &machine).unwrap();
    assert!(done.overlay.changes().is_empty());
    assert_eq!(done.plan.changes.iter().map(Change::summary).collect::<Vec<_>>(), [] as [String; 0]);
}
