//! Guests that run in QEMU on an emulated processor, and what they say on their serial line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::{command, pause, tool};

/// Most lines of the console that a failed test shows.
const SHOWN: usize = 60;

/// What starts the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF, without any entry for a system in its variables.
    Uefi,
}

/// A running guest: one virtio disk, one virtio adapter that gets its address by DHCP, and a disk with cloud-init's seed.
/// It ends with the value, and with the thread that started it.
pub struct Guest {
    child: Child,
    serial: PathBuf,
}

impl Guest {
    /// Starts the guest on a qcow2 or raw `disk`, which stays as it is; files go to `folder`.
    #[must_use]
    pub fn start(folder: &Path, disk: &Path, firmware: Firmware, user_data: &str) -> Self {
        let serial = folder.join("serial.log");
        let _ = fs::remove_file(&serial);
        let mut started = command("setpriv", ["--pdeathsig=KILL", "--", "qemu-system-x86_64"]);
        // The clock counts instructions: where the machine is busy the guest is slow and does not find its timers broken.
        started.args(["-machine", "q35", "-accel", "tcg", "-icount", "shift=2", "-cpu", "max", "-m", "512"]);
        started.args(["-display", "none", "-nodefaults"]);
        started.args(["-monitor", "none", "-no-reboot", "-netdev", "user,id=net,restrict=on"]);
        started.args(["-device", "virtio-net-pci,netdev=net", "-serial", &format!("file:{}", serial.display())]);
        if firmware == Firmware::Uefi {
            let variables = folder.join("variables.fd");
            fs::copy("/usr/share/OVMF/OVMF_VARS_4M.fd", &variables).expect("OVMF is in the Debian package ovmf");
            let code = "/usr/share/OVMF/OVMF_CODE_4M.fd";
            started.arg("-drive").arg(format!("if=pflash,format=raw,readonly=on,file={code}"));
            started.arg("-drive").arg(format!("if=pflash,format=raw,file={}", variables.display()));
        }
        let format = if disk.extension().is_some_and(|end| end == "qcow2") { "qcow2" } else { "raw" };
        for (file, format) in [(disk, format), (&seed(folder, user_data), "raw")] {
            started.arg("-drive").arg(format!("if=virtio,snapshot=on,format={format},file={}", file.display()));
        }
        let child = started.stdin(Stdio::null()).spawn().unwrap();
        Self { child, serial }
    }

    /// Waits until a line of the console has `words`, and returns that line; panics with the last lines after `within`.
    #[track_caller]
    pub fn wait_until_it_says(&mut self, words: &str, within: Duration) -> String {
        let start = Instant::now();
        loop {
            let said = self.console();
            if let Some(line) = said.lines().find(|line| line.contains(words)) {
                return line.to_owned();
            }
            let lines: Vec<&str> = said.lines().collect();
            let last = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
            assert!(start.elapsed() < within, "the guest did not say `{words}` within {within:?}:\n{last}");
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("QEMU ended with {status} before the guest said `{words}`:\n{last}");
            }
            pause();
        }
    }

    /// Returns what the guest said so far.
    #[must_use]
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.serial).unwrap_or_default()).into_owned()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Makes the disk that cloud-init takes its data from (its documentation, "NoCloud").
fn seed(folder: &Path, user_data: &str) -> PathBuf {
    let (files, image) = (folder.join("seed"), folder.join("seed.iso"));
    fs::create_dir_all(&files).unwrap();
    fs::write(files.join("meta-data"), "instance-id: iid-new\nlocal-hostname: new-server\n").unwrap();
    fs::write(files.join("user-data"), user_data).unwrap();
    let words = ["-as", "mkisofs", "-quiet", "-R", "-V", "cidata", "-o", image.to_str().unwrap()];
    tool("xorriso", [&words[..], &[files.to_str().unwrap()]].concat());
    image
}
