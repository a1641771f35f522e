//! Makes an NTFS with mkntfs and fills it through ntfs-3g, which takes root and `/dev/fuse`.
//!
//! Shared with the unit tests of the reader, so that it knows nothing of the crate.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// Makes an NTFS of `mib` MiB and runs the Python `script` in it; returns its bytes and what the script printed.
///
/// `options` are for mkntfs. The script starts in the root of the volume.
pub(crate) fn ntfs(mib: u64, options: &[&str], script: &str) -> (Vec<u8>, String) {
    let folder = tempfile::tempdir().unwrap();
    let (image, root) = (folder.path().join("image"), folder.path().join("root"));
    fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
    fs::create_dir(&root).unwrap();
    finish(program("mkntfs").args(["-F", "-Q", "-q"]).args(options).arg(&image), "ntfs-3g", "");
    let told = {
        let _mounted = Mounted::new(&image, &root);
        finish(program("python3").arg("-").current_dir(&root), "python3", script)
    };
    (fs::read(image).unwrap(), told)
}

fn program(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(command: &mut Command, package: &str) -> Child {
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}: install the Debian package {package}"))
}

fn finish(command: &mut Command, package: &str, input: &str) -> String {
    let mut child = start(command, package);
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A mounted image; the driver has written all when this is dropped.
struct Mounted<'a> {
    root: &'a Path,
    driver: Child,
}

impl<'a> Mounted<'a> {
    fn new(image: &Path, root: &'a Path) -> Self {
        let mut command = program("ntfs-3g");
        command.args(["-o", "no_detach,compression,streams_interface=windows"]).arg(image).arg(root);
        let mut driver = start(&mut command, "ntfs-3g");
        let is_mounted = || fs::read_to_string("/proc/mounts").unwrap().contains(root.to_str().unwrap());
        while !is_mounted() {
            if driver.try_wait().unwrap().is_some() {
                let errors = driver.wait_with_output().unwrap().stderr;
                panic!("ntfs-3g cannot mount (it takes root and /dev/fuse): {}", String::from_utf8_lossy(&errors));
            }
            sleep(Duration::from_millis(5));
        }
        Self { root, driver }
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // A script that failed may have left a file open: then only a lazy unmount is possible.
        let is_done = program("umount").arg(self.root).status().unwrap().success();
        if !is_done {
            let _ = program("umount").arg("-l").arg(self.root).status();
        }
        let _ = self.driver.wait();
    }
}
