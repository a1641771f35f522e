//! What the tests share: a disk in memory, a server in a thread, and running the tools of QEMU.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::allow_attributes, reason = "`expect` fails where all parts are used")]

pub(crate) mod certificates;
pub(crate) mod raw;

use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;

use disk::{Error, Extent, ExtentKind, Source};
use nbd::{Address, Export, Exports, Limits, Resolve, Server, Stop, Tls};

/// A disk of which whole blocks of 64 KiB are data or not.
pub(crate) struct Holey {
    pub(crate) bytes: Vec<u8>,
    /// Reads of this byte fail.
    pub(crate) broken: Option<u64>,
}

const BLOCK: u64 = 64 << 10;

impl Source for Holey {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> disk::Result<()> {
        if let Some(broken) = self.broken
            && (offset..offset + buf.len() as u64).contains(&broken)
        {
            return Err(Error::io(format!("read byte {broken}"), std::io::Error::from_raw_os_error(5)));
        }
        self.bytes.read_at(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> disk::Result<Extent> {
        let end = ((offset / BLOCK + 1) * BLOCK).min(self.len());
        let start = (offset / BLOCK * BLOCK) as usize;
        let zero = self.bytes[start..end as usize].iter().all(|byte| *byte == 0);
        Ok(Extent { offset, length: end - offset, kind: if zero { ExtentKind::Zero } else { ExtentKind::Data } })
    }
}

/// 1 MiB of zeros, 3 MiB of sevens, 4 MiB of zeros, 8 MiB of every second block, and an odd end.
pub(crate) fn disk_with_holes() -> Holey {
    let mut bytes = vec![0; (16 << 20) + 512 * 77];
    bytes[1 << 20..4 << 20].fill(7);
    for (number, block) in bytes[8 << 20..16 << 20].chunks_mut(BLOCK as usize).enumerate().step_by(2) {
        block.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i * 31 + number) as u8 | 1);
    }
    bytes[16 << 20..].fill(9);
    Holey { bytes, broken: None }
}

/// A server that runs in a thread.
pub(crate) struct Running {
    pub(crate) address: Address,
    scheme: &'static str,
    stop: Stop,
    thread: JoinHandle<std::io::Result<()>>,
}

pub(crate) fn serve(address: &Address, exports: Vec<Export>, limits: Limits) -> Running {
    run(address, Exports::new(exports).unwrap(), None, limits)
}

pub(crate) fn run(address: &Address, exports: impl Resolve + 'static, tls: Option<Tls>, limits: Limits) -> Running {
    let mut server = Server::bind(address, exports, limits).unwrap();
    let scheme = if tls.is_some() { "nbds" } else { "nbd" };
    if let Some(tls) = tls {
        server = server.with_tls(tls);
    }
    let (address, stop) = (server.address().clone(), server.stopper());
    Running { address, scheme, stop, thread: std::thread::spawn(|| server.serve()) }
}

impl Running {
    pub(crate) fn uri(&self, export: &str) -> String {
        self.address.uri(export).replacen("nbd", self.scheme, 1)
    }

    /// Stops the server; returns when it has ended.
    pub(crate) fn stop(self) {
        self.stop.stop();
        self.thread.join().unwrap().unwrap();
    }
}

pub(crate) fn tcp() -> Address {
    Address::Tcp("127.0.0.1:0".parse().unwrap())
}

pub(crate) fn unix(folder: &Path) -> Address {
    Address::Unix(folder.join("nbd.sock"))
}

/// Runs a tool of QEMU or libnbd that must succeed.
pub(crate) fn tool(tool: &str, arguments: &[&str]) -> String {
    let (success, said) = try_tool(tool, arguments);
    assert!(success, "{tool} {arguments:?}: {said}");
    said
}

/// Runs a tool of QEMU or libnbd; returns whether it succeeds and what it says.
pub(crate) fn try_tool(tool: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(tool).args(arguments).output().unwrap_or_else(|error| {
        panic!("{tool} is needed by these tests (Debian packages qemu-utils and libnbd-bin): {error}")
    });
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}
