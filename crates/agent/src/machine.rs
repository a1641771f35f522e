//! The machine around the job: its folders, its modules, its clock, its drives.

use std::ffi::CString;
use std::fs;

use agent::{DRIVE, MODULES, Mount};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::system::RebootCommand;
use rustix::time::{ClockId, Timespec};

use crate::Outcome;

/// Where the file system is mounted that is being changed.
pub(crate) const FOLDER: &str = "/mnt";

/// Mounts what the kernel tells of devices.
pub(crate) fn start() -> Outcome<()> {
    for (kind, folder) in [("devtmpfs", "/dev"), ("sysfs", "/sys"), ("proc", "/proc")] {
        fs::create_dir_all(folder).map_err(|error| format!("{folder} cannot be made: {error}"))?;
        rustix::mount::mount(kind, folder, kind, MountFlags::NOSUID | MountFlags::NOEXEC, None)
            .map_err(|error| format!("{folder} cannot be mounted: {error}"))?;
    }
    fs::create_dir_all(FOLDER).map_err(|error| format!("{FOLDER} cannot be made: {error}"))
}

/// Sets the clock, from which changed files get their time.
pub(crate) fn set_clock(now: u64) -> Outcome<()> {
    let tv_sec = i64::try_from(now).map_err(|_| "the time is out of range")?;
    rustix::time::clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec: 0 })
        .map_err(|error| format!("the clock cannot be set: {error}"))
}

/// Loads the modules in their order.
pub(crate) fn load_modules(count: u64) -> Outcome<()> {
    for number in 0..count {
        let path = format!("/{MODULES}/{number}");
        let module = fs::read(&path).map_err(|error| format!("module {number} cannot be read: {error}"))?;
        match rustix::system::init_module(&module, c"") {
            // It may be built in under another name.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(format!("module {number} cannot be loaded: {error}")),
        }
        // The memory is the machine's, and small.
        let _ = fs::remove_file(&path);
    }
    Ok(())
}

/// Returns the device of a drive, which is known by its serial number.
pub(crate) fn drive(number: u64) -> Outcome<String> {
    let wanted = format!("{DRIVE}{number}");
    let disks = fs::read_dir("/sys/block").map_err(|error| format!("the drives cannot be listed: {error}"))?;
    for disk in disks.flatten() {
        let serial = fs::read_to_string(disk.path().join("serial")).unwrap_or_default();
        if serial.trim() == wanted {
            return Ok(format!("/dev/{}", disk.file_name().to_string_lossy()));
        }
    }
    Err(format!("drive {number} is not there"))
}

/// Mounts a file system so that nothing on it can run or be a device, and reading changes no time.
pub(crate) fn mount(device: &str, mount: &Mount) -> Outcome<()> {
    mount_at(FOLDER, device, (&mount.kind, &mount.options), MountFlags::NOEXEC)
}

/// Mounts a file system of a kind, with its options, at `folder` so that nothing on it can be a device or gain rights.
pub(crate) fn mount_at(folder: &str, device: &str, (kind, options): (&str, &str), more: MountFlags) -> Outcome<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME | more;
    let options = CString::new(options).map_err(|_| "the options hold a zero byte")?;
    rustix::mount::mount(device, folder, kind, flags, Some(options.as_c_str()))
        .map_err(|error| format!("the kernel does not mount it as {kind}: {error}"))
}

/// Unmounts it: afterwards all is on the drive and the journal is empty.
pub(crate) fn unmount() -> Outcome<()> {
    rustix::process::chdir("/").map_err(|error| format!("it cannot be left: {error}"))?;
    rustix::mount::unmount(FOLDER, UnmountFlags::empty()).map_err(|error| format!("it cannot be unmounted: {error}"))
}

/// Ends the machine; where that fails, the kernel does it because its first process ended.
pub(crate) fn end() {
    rustix::fs::sync();
    let _ = rustix::system::reboot(RebootCommand::PowerOff);
}
