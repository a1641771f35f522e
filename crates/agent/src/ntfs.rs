//! NTFS: the host's ntfs-3g serves it to the kernel.
//!
//! Invariant: the driver ended well after all was unmounted, or nothing of what it wrote counts.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use agent::{LIBRARIES, NTFS};

use crate::Outcome;
use crate::machine::FOLDER;

/// How often it is looked whether the driver is ready; how long it may take is for the host to say.
const PAUSE: Duration = Duration::from_millis(5);

/// The driver of a mounted NTFS.
pub(crate) struct Driver(Child);

/// Mounts the NTFS on `device`.
pub(crate) fn mount(device: &str, options: &str) -> Outcome<Driver> {
    // What it says goes where the kernel speaks, and from there to whoever asks why it failed.
    let console = || OpenOptions::new().write(true).open("/dev/console").map_or_else(|_| Stdio::null(), Stdio::from);
    let mut driver = Command::new(format!("/{NTFS}"))
        .args(["-o", options, device, FOLDER])
        .env_clear()
        .env("LD_LIBRARY_PATH", format!("/{LIBRARIES}"))
        .stdin(Stdio::null())
        .stdout(console())
        .stderr(console())
        .spawn()
        .map_err(|error| format!("{NTFS} cannot be started: {error}"))?;
    let number = |folder: &str| fs::metadata(folder).map(|found| found.dev()).map_err(|error| error.to_string());
    let outside = number("/")?;
    loop {
        if let Some(ended) = driver.try_wait().map_err(|error| error.to_string())? {
            return Err(format!("{NTFS} does not mount it: {ended}"));
        }
        if number(FOLDER)? != outside {
            return Ok(Driver(driver));
        }
        thread::sleep(PAUSE);
    }
}

impl Driver {
    /// Waits until it has written all; the file system is unmounted.
    pub(crate) fn finish(mut self) -> Outcome<()> {
        let ended = self.0.wait().map_err(|error| error.to_string())?;
        if ended.success() { Ok(()) } else { Err(format!("{NTFS} did not end well: {ended}")) }
    }
}
