//! The visit: the guest's own tree is mounted, its programs run there in cages, and what they changed is listed.
//!
//! What Linux has beside a tree comes with it: `/dev` with the few devices that hold nothing, `/proc`, `/sys`, and `/run` and `/tmp`
//! in memory. When the programs have ended nothing of them goes on, and all is unmounted before anything counts.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use agent::{Branch, GIVEN, Touch, Touched, Visit};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, makedev};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::time::ClockId;

use crate::Outcome;
use crate::cage::CAGE;
use crate::machine::{self, FOLDER};
use crate::root::{Root, shown, told};

/// The agent, which the kernel started under this name.
const AGENT: &str = "/init";
/// Where a guest has its programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The devices that a program gets, by name and numbers (Linux, `Documentation/admin-guide/devices.txt`).
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 4] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];
/// Most paths that are remembered to tell later which are new and which are gone.
const PATHS_MAX: usize = 1_000_000;

/// Runs the programs; returns what they changed.
pub(crate) fn run(visit: Visit) -> Outcome<Touched> {
    let mut branches = Vec::new();
    for branch in &visit.tree {
        mount(branch).map_err(|why| format!("{}: {why}", branch.at))?;
        branches.push(device_of(&branch.at)?);
    }
    let root = Root::open(FOLDER)?;
    let before = list(&root, &branches, &mut |_| ())?;
    let start = rustix::time::clock_gettime(ClockId::Realtime).tv_sec;
    let around = surround(&root)?;
    give(&root, visit.files)?;
    for program in &visit.programs {
        let ended = run_program(program);
        end_all()?;
        ended.map_err(|why| format!("`{}` {why}", program.join(" ")))?;
    }
    for path in around.iter().rev() {
        unmount(path, UnmountFlags::DETACH)?;
    }
    let touched = compare(&root, &branches, before, start)?;
    drop(root);
    for branch in visit.tree.iter().rev() {
        unmount(&branch.at, UnmountFlags::empty())?;
    }
    Ok(touched)
}

fn mount(branch: &Branch) -> Outcome<()> {
    let device = machine::drive(branch.drive)?;
    let kind = (branch.kind.as_str(), branch.options.as_str());
    if branch.at == "/" {
        return machine::mount_at(FOLDER, &device, kind, MountFlags::empty());
    }
    let folder = Root::open(FOLDER)?.folder(branch.at.as_bytes(), OFlags::PATH).map_err(told)?;
    machine::mount_at(&of(&folder), &device, kind, MountFlags::empty())
}

/// A path to a folder that is open, which leads there alone.
fn of(folder: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", folder.as_raw_fd())
}

/// Returns the number by which a mounted file system is told from others.
fn device_of(path: &str) -> Outcome<u64> {
    let folder = Root::open(FOLDER)?.folder(path.as_bytes(), OFlags::PATH).map_err(told)?;
    rustix::fs::fstat(&folder).map(|found| found.st_dev).map_err(told)
}

/// Unmounts what is mounted at `path` of the tree, where nothing runs any more.
fn unmount(path: &str, flags: UnmountFlags) -> Outcome<()> {
    // A program may have laid a link on the way there.
    Root::open(FOLDER)?.folder(path.as_bytes(), OFlags::PATH).map_err(|error| format!("{path}: {}", told(error)))?;
    let path = format!("{FOLDER}{path}");
    let path = path.trim_end_matches('/');
    rustix::mount::unmount(path, flags | UnmountFlags::NOFOLLOW)
        .map_err(|error| format!("{path} cannot be unmounted: {error}"))
}

/// Mounts what Linux has beside a tree, where there are folders for it; returns where.
fn surround(root: &Root) -> Outcome<Vec<&'static str>> {
    const FIXED: MountFlags = MountFlags::RDONLY.union(MountFlags::NOEXEC);
    let mut around = Vec::new();
    for (path, kind, options, flags) in [
        ("/dev", "tmpfs", "", MountFlags::NOEXEC),
        ("/proc", "proc", "", FIXED),
        ("/sys", "sysfs", "", FIXED),
        ("/run", "tmpfs", "mode=755", MountFlags::empty()),
        ("/tmp", "tmpfs", "mode=1777", MountFlags::empty()),
    ] {
        let folder = match root.folder(path.as_bytes(), OFlags::PATH) {
            Ok(folder) => folder,
            // A guest from before there was one.
            Err(Errno::NOENT) if path == "/run" => continue,
            Err(error) => return Err(format!("{path}: {}", told(error))),
        };
        if path == "/dev" {
            // Devices are there, and nothing of it can be written once it is whole.
            rustix::mount::mount(kind, &*of(&folder), kind, MountFlags::NOSUID | flags, Some(c"mode=755,size=64k"))
                .map_err(|error| format!("/dev cannot be mounted: {error}"))?;
            make_devices().map_err(|error| format!("/dev cannot be filled: {}", told(error)))?;
        } else {
            machine::mount_at(&of(&folder), kind, (kind, options), flags)?;
        }
        around.push(path);
    }
    Ok(around)
}

fn make_devices() -> Result<(), Errno> {
    let path = format!("{FOLDER}/dev");
    let folder = rustix::fs::open(&*path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(&folder, name, FileType::CharacterDevice, mode, makedev(major, minor))?;
        rustix::fs::chmodat(&folder, name, mode, AtFlags::empty())?;
    }
    for (name, target) in LINKS {
        rustix::fs::symlinkat(target, &folder, name)?;
    }
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NOEXEC;
    rustix::mount::mount_remount(&*path, flags, c"")
}

/// Lays the files where programs find them.
fn give(root: &Root, files: Vec<(String, Vec<u8>)>) -> Outcome<()> {
    if files.is_empty() {
        return Ok(());
    }
    let (above, name) = GIVEN.rsplit_once('/').ok_or("the files have no folder")?;
    let above = root.folder(above.as_bytes(), OFlags::PATH).map_err(told)?;
    rustix::fs::mkdirat(&above, name, Mode::from_raw_mode(0o755)).map_err(told)?;
    let folder = root.folder(GIVEN.as_bytes(), OFlags::PATH).map_err(told)?;
    for (name, bytes) in files {
        // Held twice no longer than it takes.
        fs::write(format!("{}/{name}", of(&folder)), bytes).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(())
}

fn run_program(arguments: &[String]) -> Outcome<()> {
    // What it says goes where the kernel speaks, and from there to whoever asks why it failed.
    let console = || OpenOptions::new().write(true).open("/dev/console").map_or_else(|_| Stdio::null(), Stdio::from);
    let ended = Command::new(AGENT)
        .arg(CAGE)
        .args(arguments)
        .env_clear()
        .envs([("PATH", PATH), ("HOME", "/root"), ("LC_ALL", "C"), ("TERM", "dumb")])
        // dpkg and what it runs ask nobody.
        .envs([("DEBIAN_FRONTEND", "noninteractive"), ("DEBCONF_NONINTERACTIVE_SEEN", "true")])
        .stdin(Stdio::null())
        .stdout(console())
        .stderr(console())
        .status()
        .map_err(|error| format!("cannot be started: {error}"))?;
    if ended.success() { Ok(()) } else { Err(format!("did not end well: {ended}")) }
}

/// Ends all that a program left running. Who has no parent left is a child of the first process, so that none is left when that
/// has no child.
fn end_all() -> Outcome<()> {
    loop {
        let running = fs::read_dir("/proc").map_err(|error| format!("what runs cannot be listed: {error}"))?;
        let number = |name: std::ffi::OsString| name.to_str()?.parse().ok().and_then(Pid::from_raw);
        for pid in running.flatten().filter_map(|entry| number(entry.file_name())).filter(|pid| *pid != Pid::INIT) {
            // The kernel's own are not ended by it.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(Errno::CHILD) => return Ok(()),
                Err(error) => return Err(format!("what runs cannot be waited for: {error}")),
            }
        }
        std::thread::yield_now();
    }
}

/// A path of the tree.
struct Found<'a> {
    path: &'a [u8],
    is_folder: bool,
    changed: Moment,
}

/// When something was changed last, in seconds since 1970 and nanoseconds.
type Moment = (i64, u64);
/// The paths of a tree.
type Paths = BTreeMap<Vec<u8>, Moment>;

/// Lists the tree, as far as it lies on `branches`; returns the paths, or none where there are too many.
fn list(root: &Root, branches: &[u64], see: &mut dyn FnMut(&Found<'_>)) -> Outcome<Option<Paths>> {
    let mut paths = Paths::new();
    let mut pending = vec![Vec::new()];
    while let Some(folder) = pending.pop() {
        let cannot = |error| format!("{}/ cannot be listed: {}", shown(&folder), told(error));
        let opened = root.folder(&folder, OFlags::RDONLY).map_err(cannot)?;
        for entry in Dir::read_from(&opened).map_err(cannot)? {
            let entry = entry.map_err(cannot)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let found = rustix::fs::statat(&opened, name, AtFlags::SYMLINK_NOFOLLOW).map_err(cannot)?;
            // Subvolumes that are not mounted are not the tree's.
            if !branches.contains(&found.st_dev) {
                continue;
            }
            let path = [&folder[..], b"/", name].concat();
            let changed = (found.st_ctime, found.st_ctime_nsec);
            let is_folder = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
            see(&Found { path: &path, is_folder, changed });
            if is_folder {
                pending.push(path.clone());
            }
            if paths.len() <= PATHS_MAX {
                paths.insert(path, changed);
            }
        }
    }
    Ok((paths.len() <= PATHS_MAX).then_some(paths))
}

/// Returns what is new, gone, or was changed, by path; where there were too many paths to remember, what was changed since `start`.
fn compare(root: &Root, branches: &[u64], before: Option<Paths>, start: i64) -> Outcome<Touched> {
    let mut found: Vec<(Vec<u8>, Touch)> = Vec::new();
    let mut left = before;
    list(root, branches, &mut |entry| {
        let touch = match left.as_mut().map(|left| left.remove(entry.path)) {
            Some(None) => Some(Touch::Created),
            // A folder also changes with what is in it, which is named itself.
            _ if entry.is_folder => None,
            Some(Some(was)) => (was != entry.changed).then_some(Touch::Changed),
            None => (entry.changed.0 >= start).then_some(Touch::Changed),
        };
        found.extend(touch.map(|touch| (entry.path.to_vec(), touch)));
    })?;
    found.extend(left.into_iter().flatten().map(|(path, _)| (path, Touch::Deleted)));
    found.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    let mut touched = Touched::default();
    found.iter().for_each(|(path, touch)| touched.add(*touch, path));
    Ok(touched)
}
