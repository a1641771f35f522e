//! Finding, signalling and waiting for the QEMU process of a server, whoever started it.
//!
//! QEMU writes its pid file itself (`-pidfile`) and holds a POSIX write lock on it until it ends. The kernel names the
//! holder of that lock (`F_GETLK`) and drops the lock when the process dies. So a pid file that a dead QEMU left
//! behind is never believed, even when its number belongs to another process by now. A pidfd pins the process found,
//! so that a signal cannot hit a later one with the same number.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use model::ServerId;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Flock, FlockType, Pid, PidfdFlags, Signal, fcntl_getlk, pidfd_open, pidfd_send_signal};
use tokio::time::Instant;

use crate::{Error, ErrorKind, Result};

/// Name of the pid file in a server's directory.
pub(super) const PID_FILE: &str = "pid";

/// Longest time for a killed process to be gone: the kernel frees its memory first.
const KILL_LIMIT: Duration = Duration::from_secs(20);
/// How often an ending process is looked at.
const END_POLL: Duration = Duration::from_millis(20);

/// A live QEMU process of one server.
pub(super) struct Process {
    pid: Pid,
    pidfd: OwnedFd,
}

impl Process {
    /// Returns the process that runs `id` in `directory`, if there is one.
    pub(super) fn find(directory: &Path, id: ServerId) -> Result<Option<Self>> {
        let doing = || format!("look for the process of server {id}");
        Self::find_locked(directory, id).map_err(|source| Error::io(doing(), source))
    }

    fn find_locked(directory: &Path, id: ServerId) -> io::Result<Option<Self>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let pid_file: File = match rustix::fs::open(directory.join(PID_FILE), flags, Mode::empty()) {
            Ok(fd) => fd.into(),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        let Some(pid) = lock_holder(&pid_file)? else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        // Between the two calls above the holder may have died and its number may have been given away. When the
        // same number still holds the lock now, the pidfd is the holder's.
        if lock_holder(&pid_file)? != Some(pid) || !is_qemu_of(pid, id) {
            return Ok(None);
        }
        Ok(Some(Self { pid, pidfd }))
    }

    /// Returns the process's number, for logs.
    pub(super) fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Sends a signal; a process that has ended already is fine.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(Error::io(format!("signal the QEMU process {}", self.pid()), errno.into())),
        }
    }

    /// Returns whether the process has ended.
    pub(super) fn has_ended(&self) -> bool {
        // A pidfd becomes readable when its process ends, whoever its parent is.
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        poll(&mut ended, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }

    /// Waits until the process has ended; returns whether it did within `limit`.
    pub(super) async fn ends_within(&self, limit: Duration) -> bool {
        let give_up = Instant::now() + limit;
        while !self.has_ended() {
            if Instant::now() >= give_up {
                return false;
            }
            tokio::time::sleep(END_POLL).await;
        }
        true
    }

    /// Kills the process and waits until it is gone.
    pub(super) async fn kill(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        if self.ends_within(KILL_LIMIT).await {
            return Ok(());
        }
        // Only a process stuck inside the kernel outlives SIGKILL, as a rule on a dead network file system.
        Err(Error::new(ErrorKind::Unresponsive, format!("the QEMU process {} does not die", self.pid()))
            .with_hint("look for failing storage in the host's kernel log"))
    }
}

fn lock_holder(pid_file: &File) -> io::Result<Option<Pid>> {
    Ok(fcntl_getlk(pid_file, &Flock::from(FlockType::WriteLock))?.and_then(|lock| lock.pid))
}

/// Returns whether the process was started with `-uuid` and this server's id.
fn is_qemu_of(pid: Pid, id: ServerId) -> bool {
    let Ok(command_line) = std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())) else { return false };
    let id = id.to_string();
    let arguments: Vec<&[u8]> = command_line.split(|&byte| byte == 0).collect();
    arguments.windows(2).any(|pair| pair[0] == b"-uuid" && pair[1] == id.as_bytes())
}
