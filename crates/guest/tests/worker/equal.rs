//! A worker finds what this process finds.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use disk::FileSource;
use disk::error::{Error, ErrorKind, Result};
use disk::source::Source;
use guest::{Choice, Extras, PrepareOptions, Sandbox};

use super::workers;

/// Runs `program` of the Debian package `package`.
fn tool(package: &str, program: &str, arguments: &[&str]) {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let done = Command::new(program).args(arguments).env("PATH", path).output().unwrap_or_else(|error| {
        panic!("cannot run {program} ({error}): install the Debian package {package}, for example with apt-get");
    });
    assert!(done.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A disk that is an ext4 with a Linux that names its root by a device and was given an address.
pub(crate) fn disk(folder: &Path) -> Arc<dyn Source> {
    let root = folder.join("root");
    let files = [
        ("etc/os-release", "ID=debian\nVERSION_ID=12\nPRETTY_NAME=\"Debian \u{1b}[2J12\"\n"),
        ("etc/fstab", "/dev/sda / ext4 defaults 0 1\n/dev/sdb1 /data ext4 defaults 0 2\n"),
        ("etc/hostname", "web\n"),
        ("etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("etc/ssh/ssh_host_rsa_key", "secret\n"),
        ("etc/udev/rules.d/70-persistent-net.rules", "SUBSYSTEM==\"net\"\n"),
        ("boot/grub/grub.cfg", "linux /boot/vmlinuz root=/dev/sda ro quiet\n"),
        ("var/lib/dpkg/status", "Package: base\nStatus: install ok installed\nVersion: 1:2-3\nArchitecture: amd64\n"),
    ];
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let file = folder.join("disk");
    let (root, name) = (root.to_str().unwrap(), file.to_str().unwrap());
    tool("e2fsprogs", "mke2fs", &["-q", "-t", "ext4", "-d", root, name, "32M"]);
    Arc::new(FileSource::open(&file).unwrap())
}

#[test]
fn reports_and_plans_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let garbage: Vec<u8> = (0..3_000_001_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let empty: Vec<u8> = Vec::new();
    for disk in [disk(folder.path()), Arc::new(garbage), Arc::new(empty)] {
        let (here, there) = (Sandbox::none(), workers(""));
        let extras = Extras { boot_kernels: true, packages: true };
        let inspected = |sandbox: &Sandbox| sandbox.inspect_with(disk.clone(), extras).unwrap();
        let mut report = inspected(&there);
        report.notes.retain(|note| !note.contains("no Landlock"));
        assert_eq!(report, inspected(&here));
        assert_eq!(report.to_json(), inspected(&here).to_json());
        let choice = Choice { with: vec!["logs".to_owned()], ..Choice::default() };
        let planned = |sandbox: &Sandbox| sandbox.plan(disk.clone(), &choice).unwrap();
        let mut plan = planned(&there);
        plan.report.notes.retain(|note| !note.contains("no Landlock"));
        assert_eq!(plan, planned(&here));
        assert_eq!(plan.to_json(), planned(&here).to_json());
    }
}

#[test]
fn what_a_worker_plans_is_prepared() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    let options = PrepareOptions { choice: Choice::default(), now: 1_800_000_000, record: true };
    let here = Sandbox::none().prepare(disk.clone(), &options).unwrap();
    let there = workers("").prepare(disk.clone(), &options).unwrap();
    assert!(there.plan.changes.len() >= 3, "{:#?}", there.plan.changes);
    assert_eq!(there.plan.changes, here.plan.changes);
    assert_eq!(there.after, here.after);
    assert_eq!(there.overlay.changes(), here.overlay.changes());
    for range in here.overlay.changes() {
        let bytes = |overlay: &guest::Overlay| {
            let mut bytes = vec![0; (range.end - range.start) as usize];
            overlay.read_at(&mut bytes, range.start).unwrap();
            bytes
        };
        assert!(bytes(&there.overlay) == bytes(&here.overlay), "{range:?}");
    }
}

/// A disk of which the bytes from some reads on cannot be had.
struct Failing {
    disk: Arc<dyn Source>,
    left: AtomicU64,
    kind: ErrorKind,
}

impl Source for Failing {
    fn len(&self) -> u64 {
        self.disk.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() {
            return Err(Error::new(self.kind, "the store is away").with_hint("start it again"));
        }
        self.disk.read_at(buf, offset)
    }
}

#[test]
fn what_the_disk_fails_with_is_what_the_call_fails_with() {
    let folder = tempfile::tempdir().unwrap();
    let disk = disk(folder.path());
    for left in [0, 1, 2] {
        let failing = |kind| Arc::new(Failing { disk: disk.clone(), left: AtomicU64::new(left), kind });
        let error = workers("").plan(failing(ErrorKind::Io), &Choice::default()).unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Io, "the store is away"));
        assert_eq!(error.hint(), Some("start it again"));
        // Damage of the file that holds the disk is told, and the rest is described.
        let here = Sandbox::none().inspect(failing(ErrorKind::Corrupt)).unwrap();
        let mut there = workers("").inspect(failing(ErrorKind::Corrupt)).unwrap();
        there.notes.retain(|note| !note.contains("no Landlock"));
        assert_eq!(there, here);
    }
}
