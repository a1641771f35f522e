//! A worker for tests: one that looks into disks, and with an argument one that a disk has taken over.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, ExitCode};
use std::time::Duration;
use std::{env, fs, io, thread};

use rustix::process::{Resource, Rlimit, setrlimit};

fn main() -> ExitCode {
    let crime = env::args().nth(1).unwrap_or_default();
    match crime.as_str() {
        // What the limit of a worker is lowers, so that a test need not wait for it.
        "spin" => setrlimit(Resource::Cpu, Rlimit { current: Some(1), maximum: Some(2) }).unwrap(),
        "absent" => return ExitCode::from(3),
        _ => {}
    }
    guest::run_worker_after(|| commit(&crime))
}

fn commit(crime: &str) {
    match crime {
        "" | "spare" => {}
        "panic" => panic!("a test \u{1b}[2J panics"),
        "spin" => spin(),
        "allocate" => allocate(),
        "recurse" => drop(black_box(recurse(1))),
        "wait" => thread::park(),
        "sleep" => thread::sleep(Duration::from_secs(60)),
        "open" => drop(File::open("/etc/passwd")),
        "list" => drop(fs::read_dir("/")),
        "remove" => drop(fs::remove_file("/tmp/molde-nothing")),
        "listen" => drop(TcpListener::bind("127.0.0.1:0")),
        "send" => drop(UdpSocket::bind("127.0.0.1:0")),
        "start" => drop(Command::new("/bin/true").spawn()),
        "thread" => drop(thread::Builder::new().spawn(|| ())),
        "print" => drop(io::stdout().lock().write_all(b"x\n")),
        "limit" => drop(setrlimit(Resource::Cpu, Rlimit { current: Some(1), maximum: Some(1) })),
        "babble" => drop(rustix::io::write(rustix::stdio::stdin(), &[9; 64])),
        // A read of two gigabytes of the disk.
        "greed" => drop(rustix::io::write(rustix::stdio::stdin(), &[4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 128])),
        // An answer that does not decode.
        "lie" => drop(rustix::io::write(rustix::stdio::stdin(), &[7, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0xff])),
        unknown => panic!("no crime is called {unknown}"),
    }
}

fn spin() {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn allocate() {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1_u8; 16 << 20]));
    }
}

fn recurse(depth: u64) -> u64 {
    let room = black_box([depth; 512]);
    if depth == black_box(u64::MAX) {
        return 0;
    }
    recurse(black_box(depth + 1)) + room[depth as usize % 512]
}
