//! A worker that a disk has taken over gets nowhere, and its parent is told how it ended.

use std::fs;
use std::process::id;
use std::sync::Arc;
use std::time::{Duration, Instant};

use disk::error::{Error, ErrorKind, Result};
use disk::source::{Source, check_range};
use guest::{Sandbox, WORKER};

use super::workers;

fn blank() -> Arc<dyn Source> {
    let blank: Vec<u8> = vec![0; 4 << 20];
    Arc::new(blank)
}

/// Lets a worker commit a crime, and returns what its parent is told.
fn fault_of(crime: &str) -> Error {
    workers(crime).inspect(blank()).expect_err(crime)
}

#[track_caller]
fn expect(crime: &str, kind: ErrorKind, words: &str) {
    let error = fault_of(crime);
    assert!(error.kind() == kind && error.to_string().contains(words), "{crime}: {:?} {error}", error.kind());
    assert!(workers("spare").inspect(blank()).is_ok());
}

#[test]
fn calls_that_touch_anything_else_end_the_worker() {
    for crime in ["open", "list", "remove", "listen", "send", "start", "thread", "sleep", "limit"] {
        expect(crime, ErrorKind::Refused, "a system call that is forbidden");
    }
}

#[test]
fn only_the_socket_and_the_pipe_can_be_used() {
    expect("print", ErrorKind::Refused, "a system call that is forbidden");
}

#[test]
fn a_panic_is_told_with_its_place() {
    let told = fault_of("panic").to_string();
    assert!(told.contains("examples/worker.rs") && told.contains("a test \\u{1b}[2J panics"), "{told}");
    assert!(fault_of("panic").hint().is_some_and(|hint| hint.contains("report it")));
}

#[test]
fn memory_processor_and_stack_have_limits() {
    expect("allocate", ErrorKind::TooLarge, "more than 512 MiB of memory");
    expect("spin", ErrorKind::TooLarge, "seconds of a processor");
    expect("recurse", ErrorKind::Refused, "filled its stack");
}

#[test]
fn a_worker_that_does_nothing_is_waited_for_so_long() {
    let start = Instant::now();
    let error = workers("wait").with_patience(Duration::from_millis(300)).inspect(blank()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("did not end within 0.3 s"), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(300));
}

/// A disk that takes its time.
struct Slow(Duration);

impl Source for Slow {
    fn len(&self) -> u64 {
        1 << 20
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.len(), offset, buf.len())?;
        std::thread::sleep(self.0);
        buf.fill(0);
        Ok(())
    }
}

#[test]
fn the_time_of_the_disk_does_not_count() {
    let (patience, pause) = (Duration::from_secs(3), Duration::from_secs(4));
    assert!(workers("").with_patience(patience).inspect(Arc::new(Slow(pause))).is_ok());
}

#[test]
fn what_a_worker_may_not_say_ends_the_call() {
    expect("babble", ErrorKind::Refused, "a frame is unknown");
    expect("greed", ErrorKind::Refused, "read more than it may");
    expect("lie", ErrorKind::Refused, "cannot be understood");
}

#[test]
fn without_a_sandbox_there_is_no_look_or_a_note() {
    for sandbox in [Sandbox::of("/no/such/program", &[WORKER]), workers("absent")] {
        let error = sandbox.inspect(blank()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().contains("sandbox, which cannot be had"), "{error}");
        let report = sandbox.or_none().inspect(blank()).unwrap();
        assert!(report.notes.iter().any(|note| note.contains("without a sandbox")), "{:?}", report.notes);
    }
}

#[test]
fn nothing_is_left_of_a_worker() {
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let children = || fs::read_to_string(format!("/proc/self/task/{}/children", id())).unwrap_or_default();
    let before = open();
    for crime in ["", "panic", "open", "greed", "absent"] {
        let _ = workers(crime).inspect(blank());
    }
    assert_eq!(open(), before);
    assert_eq!(children(), "");
}
