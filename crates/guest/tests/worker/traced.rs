//! What the kernel sees of a worker: its system calls, as strace tells them, and its status.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, id};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use guest::{Choice, Sandbox};

use super::{equal, program, workers};

/// Returns the path of strace.
fn strace() -> String {
    let found = Command::new("sh").args(["-c", "command -v strace"]).output().unwrap();
    assert!(found.status.success(), "strace is missing: install the Debian package strace, for example with apt-get");
    String::from_utf8(found.stdout).unwrap().trim().to_owned()
}

#[test]
fn once_confined_a_worker_uses_memory_and_its_socket_alone() {
    let folder = tempfile::tempdir().unwrap();
    let disk = equal::disk(folder.path());
    let log = folder.path().join("trace");
    let words = ["-f", "-o", log.to_str().unwrap(), program().to_str().unwrap(), "spare"].map(str::to_owned);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let plan = Sandbox::of(strace(), &words).plan(disk, &Choice::default()).unwrap();
    assert!(!plan.changes.is_empty());
    let log = fs::read_to_string(log).unwrap();
    // Each line begins with the id of a process.
    let calls: Vec<&str> = log.lines().filter_map(|line| Some(line.split_once(' ')?.1.trim_start())).collect();
    let confined = calls.iter().position(|call| call.starts_with("seccomp(SECCOMP_SET_MODE_FILTER")).expect(&log);
    let (before, after) = calls.split_at(confined + 1);
    assert!(before.iter().all(|call| !call.starts_with("read(0,") && !call.starts_with("recv")), "{before:#?}");
    assert!(before[confined].ends_with("= 0"), "{}", before[confined]);
    let reads = after.iter().filter(|call| call.starts_with("read(0,")).count();
    assert!(reads > 10, "{after:#?}");
    let name = |call: &&str| call.split(['(', ' ']).next().unwrap_or_default().to_owned();
    let names: BTreeSet<String> = after.iter().map(name).filter(|name| !name.starts_with(['+', '-', '<'])).collect();
    let memory = ["brk", "madvise", "mmap", "mprotect", "mremap", "munmap"];
    let rest = ["clock_gettime", "exit_group", "futex", "getrandom", "read", "rt_sigaction", "sigaltstack", "write"];
    let strange: Vec<&String> =
        names.iter().filter(|name| !memory.iter().chain(&rest).any(|own| own == name)).collect();
    assert!(strange.is_empty(), "{strange:?} among {after:#?}");
    let is_elsewhere = |call: &&&str| {
        (call.starts_with("read(") && !call.starts_with("read(0,"))
            || (call.starts_with("write(") && !call.starts_with("write(0,"))
            || (call.starts_with("mmap(") && !call.contains("MAP_ANONYMOUS, -1, 0)"))
    };
    assert_eq!(after.iter().filter(is_elsewhere).collect::<Vec<_>>(), Vec::<&&str>::new());
}

/// Returns the status of the child of this process that was started with `word`, once it is confined.
fn status_of_child(word: &str) -> String {
    for _ in 0..600 {
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let text = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let status = text("status");
            let is_child = status.lines().any(|line| line == format!("PPid:\t{}", id()));
            if is_child && text("cmdline").ends_with(&format!("\0{word}\0")) && status.contains("Seccomp:\t2") {
                return status;
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("no child {word} with a filter of system calls was seen in 30 seconds");
}

#[test]
fn the_kernel_tells_that_a_worker_is_confined() {
    let waiting = thread::spawn(|| {
        let blank: Vec<u8> = vec![0; 512];
        workers("wait").with_patience(Duration::from_secs(5)).inspect(Arc::new(blank))
    });
    let status = status_of_child("wait");
    assert!(status.contains("NoNewPrivs:\t1\n") && status.contains("Threads:\t1\n"), "{status}");
    assert!(waiting.join().unwrap().is_err());
}
