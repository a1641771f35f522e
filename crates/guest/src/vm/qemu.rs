//! One run of QEMU: its folder, its command line, its limits, and what it leaves.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use agent::{ANSWER_MAX, Answer, DRIVE, Touched};
use disk::error::{Error, Result};
use disk::source::Source;
use nbd::{Address, Export, Exports, Limits, Server};
use rustix::process::{Pid, Resource, Rlimit};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::machine::{Machine, missing};
use super::qcow2;
use super::volume::Volume;
use crate::text::clean_to;

/// How folders of runs begin, and after which time one belongs to a run that was killed: the longest is far shorter.
const FOLDER: &str = "molde-vm-";
const ABANDONED: Duration = Duration::from_secs(4 * 60 * 60);
const SOCKET: &str = "volumes";
const KERNEL: &str = "kernel";
const INITRAMFS: &str = "initramfs";
const CONSOLE: &str = "console";
const ANSWER: &str = "answer";
const ERRORS: &str = "errors";

/// Memory of the machine without the job.
const MEMORY_MIB: usize = 256;
/// What programs of the guest get besides, with their temporary files.
const PROGRAMS_MIB: usize = 768;
/// Largest file that QEMU may write: what is taken over at most, and tables.
const FILE_MAX: u64 = 320 << 20;
/// How often it is looked whether the machine has ended.
const PAUSE: Duration = Duration::from_millis(10);
/// How much of a log an error shows.
const TAIL: u64 = 4096;
const TAIL_LINES: usize = 6;
const TOLD_MAX: usize = 600;

/// The end of a run that was no good one.
pub(super) enum Fault {
    /// It took longer than it may.
    Hung,
    /// It ended without an answer.
    Silent(Error),
    /// Anything else.
    Failed(Error),
}

/// What a good run leaves: the files of changes, as long as this is there.
pub(super) struct Written {
    pub(super) files: Vec<PathBuf>,
    /// What programs of the guest changed.
    pub(super) touched: Touched,
    _folder: TempDir,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl Fault {
    pub(super) fn into_error(self, start: &Start<'_>) -> Error {
        let seconds = start.time_limit().as_secs_f32();
        let told = if start.runs_programs { "the guest's programs have" } else { "the micro-VM has" };
        let twice = if start.runs_programs { "" } else { ", twice" };
        match self {
            Self::Hung => Error::refused(format!("{told} not ended within {seconds} s{twice}"))
                .with_hint("try again when the host has less to do"),
            Self::Silent(error) | Self::Failed(error) => error,
        }
    }
}

/// What a machine starts with.
pub(super) struct Start<'a> {
    pub(super) machine: &'a Machine,
    pub(super) initramfs: &'a [u8],
    /// Whether programs of the guest run in it, which takes memory and time.
    pub(super) runs_programs: bool,
}

impl Start<'_> {
    fn time_limit(&self) -> Duration {
        if self.runs_programs { self.machine.program_limit } else { self.machine.time_limit }
    }

    fn memory(&self) -> usize {
        let more = if self.runs_programs { PROGRAMS_MIB } else { 0 };
        MEMORY_MIB + more + (self.initramfs.len() >> 20) * 3
    }

    /// Runs the machine with `kernel` until it ends by itself, or kills it.
    pub(super) fn run(&self, kernel: &[u8], volumes: &[Arc<Volume>]) -> std::result::Result<Written, Fault> {
        let Self { machine, initramfs, .. } = self;
        let io = |doing: &'static str| move |error| Error::io(format!("{doing} of the micro-VM"), error);
        remove_abandoned(&std::env::temp_dir());
        // Its owner alone may enter it.
        let folder = tempfile::Builder::new().prefix(FOLDER).tempdir().map_err(io("make the folder"))?;
        let at = |name: &str| folder.path().join(name);
        fs::write(at(INITRAMFS), initramfs).map_err(io("write the initramfs"))?;
        fs::write(at(KERNEL), kernel).map_err(io("write the kernel"))?;
        let files: Vec<PathBuf> = (0..volumes.len()).map(|number| at(&changes(number))).collect();
        for (volume, file) in volumes.iter().zip(&files) {
            qcow2::create(file, volume.len())?;
        }
        let served = Served::start(&at(SOCKET), volumes)?;
        let log = File::create(at(ERRORS)).map_err(io("make the log"))?;
        let child = Command::new(&machine.qemu)
            .args(arguments(volumes.len(), self.memory()))
            .current_dir(folder.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => missing("QEMU"),
                _ => Error::io("start QEMU", error),
            })?;
        let ended = Running(child).wait(self.time_limit());
        drop(served);
        if !ended? {
            return Err(Fault::Hung);
        }
        let mut answer = Vec::new();
        if let Ok(file) = File::open(at(ANSWER)) {
            file.take(ANSWER_MAX as u64).read_to_end(&mut answer).map_err(io("read the answer"))?;
        }
        match Answer::parse(&answer) {
            Some(Answer::Done(touched)) => Ok(Written { files, touched, _folder: folder }),
            Some(Answer::Failed(why)) => {
                let kernel = tail(&at(CONSOLE)).map_or_else(String::new, |said| format!(" (its kernel: {said})"));
                Err(Error::refused(format!("{}{kernel}", clean_to(why.as_bytes(), TOLD_MAX))).into())
            }
            None => {
                let said =
                    tail(&at(ERRORS)).or_else(|| tail(&at(CONSOLE))).unwrap_or_else(|| "it said nothing".to_owned());
                Err(Fault::Silent(Error::refused(format!("the micro-VM ended without an answer: {said}"))))
            }
        }
    }
}

/// Removes the folders that runs left in `folder` when they were killed. Those of others cannot be removed, and stay.
fn remove_abandoned(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(FOLDER)) {
        let age = entry.metadata().and_then(|data| data.modified()).map(|time| time.elapsed().unwrap_or_default());
        if age.is_ok_and(|age| age > ABANDONED) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn changes(number: usize) -> String {
    format!("changes{number}")
}

fn arguments(volumes: usize, memory: usize) -> Vec<String> {
    let words = [
        "-nodefaults -no-user-config -display none -no-reboot -name molde-prepare",
        "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        // KVM is not asked for: where it is there and does not work, a guest hangs, and little would be gained.
        "-machine q35,vmport=off -accel tcg -cpu qemu64 -smp 1 -bios qboot.rom",
        &format!("-m {memory}M -kernel {KERNEL} -initrd {INITRAMFS}"),
        &format!("-chardev file,id=console,path={CONSOLE} -serial chardev:console"),
        &format!("-chardev file,id=answer,path={ANSWER} -serial chardev:answer"),
    ];
    let mut line: Vec<String> = words.iter().flat_map(|words| words.split(' ')).map(str::to_owned).collect();
    // A panic ends the machine.
    let kernel = "console=ttyS0 quiet panic=-1 nokaslr mitigations=off tsc=reliable no_timer_check cryptomgr.notests";
    line.extend(["-append".to_owned(), kernel.to_owned()]);
    let mut add = |option: &str, value: &Value| line.extend([option.to_owned(), value.to_string()]);
    for number in 0..volumes {
        let (base, drive) = (format!("base{number}"), format!("drive{number}"));
        let server = json!({"type": "unix", "path": SOCKET});
        let export = number.to_string();
        add(
            "-blockdev",
            &json!({"driver": "nbd", "node-name": base, "read-only": true, "server": server, "export": export}),
        );
        // Zeros that are written stay data: only so is told apart what was written and what was not.
        let file = json!({"driver": "file", "filename": changes(number)});
        let cache = json!({"no-flush": true});
        add(
            "-blockdev",
            &json!({
                "driver": "qcow2", "node-name": drive, "file": file, "backing": base, "cache": cache,
                "discard": "ignore", "detect-zeroes": "off",
            }),
        );
        let serial = format!("{DRIVE}{number}");
        add(
            "-device",
            &json!({
                "driver": "virtio-blk-pci", "drive": drive, "serial": serial, "discard": false, "write-zeroes": false,
            }),
        );
    }
    line
}

/// The volumes at a socket, until this is dropped.
struct Served {
    stop: nbd::Stop,
    thread: Option<thread::JoinHandle<io::Result<()>>>,
}

impl Served {
    fn start(socket: &Path, volumes: &[Arc<Volume>]) -> Result<Self> {
        let export = |(number, volume): (usize, &Arc<Volume>)| Export {
            name: number.to_string(),
            description: String::new(),
            disk: Arc::clone(volume) as Arc<dyn Source>,
        };
        let exports = Exports::new(volumes.iter().enumerate().map(export).collect());
        let exports = exports.map_err(|error| Error::refused(error.to_string()))?;
        let io = |error| Error::io("serve the volumes of the micro-VM", error);
        let server = Server::bind(&Address::Unix(socket.to_owned()), exports, Limits::default()).map_err(io)?;
        let stop = server.stopper();
        let thread = thread::Builder::new().name("vm volumes".to_owned()).spawn(|| server.serve()).map_err(io)?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.stop();
        // What it could not serve, the machine has told of.
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// A QEMU that ends with this.
struct Running(Child);

impl Running {
    /// Waits for the end, and returns whether it came in time.
    fn wait(mut self, limit: Duration) -> Result<bool> {
        self.limit(limit);
        let start = Instant::now();
        loop {
            if self.0.try_wait().map_err(|error| Error::io("wait for QEMU", error))?.is_some() {
                return Ok(true);
            }
            if start.elapsed() >= limit {
                return Ok(false);
            }
            thread::sleep(PAUSE);
        }
    }

    /// Sets limits of the kernel, which hold even when nobody is left to watch. One that cannot be set is not needed for
    /// the machine to work.
    fn limit(&self, time: Duration) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let limit = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
        // Translation and the machine itself may use two processors.
        let seconds = time.as_secs().saturating_mul(2).max(1);
        let _ = rustix::process::prlimit(pid, Resource::Cpu, limit(seconds));
        let _ = rustix::process::prlimit(pid, Resource::Fsize, limit(FILE_MAX));
        let _ = rustix::process::prlimit(pid, Resource::Core, limit(0));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Either fails only where it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the last lines of a log, made safe to show.
fn tail(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join(" / ");
    (!last.is_empty()).then(|| clean_to(last.as_bytes(), TOLD_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_runs_that_were_killed_go_and_all_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let old = std::time::SystemTime::now() - ABANDONED - Duration::from_secs(60);
        for (name, is_old) in [("molde-vm-old", true), ("molde-vm-new", false), ("other", true)] {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join(KERNEL), "kernel").unwrap();
            if is_old {
                File::open(&path).unwrap().set_modified(old).unwrap();
            }
        }
        remove_abandoned(folder.path());
        let mut left: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["molde-vm-new", "other"]);
    }
}
