//! What a worker takes from itself before it reads a byte: resources, the file system, the network, and system calls.

use std::env::consts::ARCH;
use std::process;

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetError, RulesetStatus, Scope};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use seccompiler::{BpfProgram, TargetArch, apply_filter, compile_from_json};
use serde_json::{Value, json};

/// Most memory that a worker addresses, its program and its stack among it. Both hives of a Windows may take 288 MiB.
pub(super) const MEMORY_MAX: u64 = 512 << 20;
/// Most seconds of a processor; what an examination allows itself is less.
pub(super) const SECONDS_MAX: u64 = 10;

const PROT_EXEC: u64 = 4;
const MAP_ANONYMOUS: u64 = 0x20;
const SIGABRT: u64 = 6;
/// Standard input, which is the socket to the parent, and standard error, a pipe for the last words.
const SOCKET: u64 = 0;
const LAST_WORDS: u64 = 2;

/// Confines this process for good, and returns whether the kernel has Landlock.
///
/// # Errors
///
/// A sentence when it cannot be confined; then nothing of a disk may be read here.
pub(super) fn confine() -> Result<bool, String> {
    for (resource, most) in [
        (Resource::As, MEMORY_MAX),
        (Resource::Cpu, SECONDS_MAX),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
        (Resource::Nproc, 0),
    ] {
        lower(resource, most)?;
    }
    // A second wall behind that of system calls: kernels before 5.13, and some containers, do not have it.
    let has_landlock = landlock().unwrap_or(false);
    // Landlock took a descriptor; from here on there is none to be had.
    lower(Resource::Nofile, 0)?;
    let filter = filter()?;
    apply_filter(&filter).map_err(|error| format!("the kernel refuses a filter of system calls ({error})"))?;
    Ok(has_landlock)
}

/// Lowers a limit to `most`, where it is not lower already.
fn lower(resource: Resource, most: u64) -> Result<(), String> {
    let now = getrlimit(resource);
    let most = [now.current, now.maximum].into_iter().flatten().fold(most, u64::min);
    // One second of a processor between the two, or the signal that tells which limit it was would not come.
    let last = if resource == Resource::Cpu { now.maximum.map_or(most + 1, |own| own.min(most + 1)) } else { most };
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(last) })
        .map_err(|error| format!("the limit {resource:?} cannot be set ({error})"))
}

/// Allows nothing of the file system, of the network and of other processes.
fn landlock() -> Result<bool, RulesetError> {
    // What the kernel does not know of it is left out.
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V6))?
        .handle_access(AccessNet::from_all(ABI::V6))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// Makes the filter of system calls; whatever it does not name ends the process.
///
/// No call that it allows makes a descriptor, and of those that are there, among them what a parent may have leaked, the
/// socket and the pipe can be used alone.
fn filter() -> Result<BpfProgram, String> {
    let is = |index: u8, value: u64| json!({"index": index, "type": "dword", "op": "eq", "val": value});
    let bits = |index: u8, mask: u64, value: u64| json!({"index": index, "type": "dword", "op": {"masked_eq": mask}, "val": value});
    let call = |name: &str, args: Vec<Value>| json!({"syscall": name, "args": args});
    let mut calls = vec![
        call("read", vec![is(0, SOCKET)]),
        call("write", vec![is(0, SOCKET)]),
        call("write", vec![is(0, LAST_WORDS)]),
        // Memory, none of which can be made a program.
        call("mmap", vec![bits(2, PROT_EXEC, 0), bits(3, MAP_ANONYMOUS, MAP_ANONYMOUS)]),
        call("mprotect", vec![bits(2, PROT_EXEC, 0)]),
        // How an allocation that failed ends the process.
        call("tgkill", vec![is(0, process::id().into()), is(2, SIGABRT)]),
    ];
    for name in [
        // Memory.
        "brk",
        "madvise",
        "mremap",
        "munmap",
        // Locks, the clock, and the keys of hash maps.
        "clock_gettime",
        "futex",
        "getrandom",
        "restart_syscall",
        "sched_yield",
        // Panics, and the end.
        "exit",
        "exit_group",
        "getpid",
        "gettid",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sigaltstack",
    ] {
        calls.push(json!({"syscall": name}));
    }
    let told = |error: String| format!("the filter of system calls cannot be made ({error})");
    let arch = TargetArch::try_from(ARCH).map_err(|error| told(error.to_string()))?;
    let filters = json!({"worker": {"mismatch_action": "kill_process", "match_action": "allow", "filter": calls}});
    let mut made = compile_from_json(filters.to_string().as_bytes(), arch).map_err(|error| told(error.to_string()))?;
    made.remove("worker").ok_or_else(|| told("nothing was made".to_owned()))
}
