//! The root disk of a server: the overlay that takes the guest's writes, over the base that is served by NBD.
//!
//! QEMU is told explicitly what lies below the overlay, so that its header, which a guest's QEMU can write, cannot name
//! anything for QEMU to open. The header names the base all the same, for people who look at the overlay with `qemu-img` in
//! the server's directory.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::{Base, Error, ErrorKind, Result};

/// Name of the overlay in a server's directory.
pub(super) const OVERLAY: &str = "root.qcow2";
/// Name of the link to the base's socket in a server's directory: the kernel takes about a hundred bytes for the path of a
/// socket, and the one of the socket itself may be longer.
const BASE_SOCKET: &str = "base.sock";

/// `qemu-img create` writes a few hundred KiB; more time than this means that the storage hangs.
const CREATE_LIMIT: Duration = Duration::from_secs(60);
/// How long requests of the guest wait for a base whose server is away, before the guest is paused: a year.
const RECONNECT_SECONDS: u32 = 365 * 24 * 3600;
const SECTOR: u64 = 512;

/// Returns the `-blockdev`s of `base` and of the overlay `root` on it, with paths relative to the server's directory.
pub(super) fn blockdevs(base: &Base) -> [Value; 2] {
    let base = json!({
        "driver": "nbd",
        "node-name": "base",
        "read-only": true,
        "server": {"type": "unix", "path": BASE_SOCKET},
        "export": base.export,
        "reconnect-delay": RECONNECT_SECONDS,
    });
    let root = json!({
        "driver": "qcow2",
        "node-name": "root",
        "discard": "unmap",
        "detect-zeroes": "unmap",
        "file": {"driver": "file", "discard": "unmap", "filename": OVERLAY},
        // By its name: options that stand here would be mixed with what the header says.
        "backing": "base",
    });
    [base, root]
}

/// Makes the link to the socket of `base` in `directory`, anew at each start.
pub(super) async fn link_base(directory: &Path, base: &Base) -> Result<()> {
    let io = |source| Error::io("link the socket of the server's base", source);
    let unfinished = directory.join(format!("{BASE_SOCKET}.new"));
    match tokio::fs::remove_file(&unfinished).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
        _ => {}
    }
    tokio::fs::symlink(&base.socket, &unfinished).await.map_err(io)?;
    tokio::fs::rename(unfinished, directory.join(BASE_SOCKET)).await.map_err(io)
}

/// Makes the overlay in `directory` unless it is there.
pub(super) async fn ensure_overlay(qemu_img: &Path, directory: &Path, base: &Base, root_bytes: u64) -> Result<()> {
    let io = |doing: &'static str| move |source| Error::io(format!("{doing} the server's root disk"), source);
    if tokio::fs::try_exists(directory.join(OVERLAY)).await.map_err(io("look for"))? {
        return Ok(());
    }
    // The name is this process's own: a qemu-img whose Molde was killed may still be writing its file.
    let unfinished = format!("{OVERLAY}.{}", std::process::id());
    let served = format!("nbd+unix:///{}?socket={BASE_SOCKET}", base.export);
    let mut create = Command::new(qemu_img);
    create
        // With `-u` the base is not opened: its size does not matter, as the overlay's is told.
        .args(["create", "-q", "-u", "-f", "qcow2", "-F", "raw", "-b", &served, &unfinished])
        .arg(root_bytes.next_multiple_of(SECTOR).to_string())
        .current_dir(directory)
        .env_clear()
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(CREATE_LIMIT, create.output()).await.map_err(|_| {
        Error::new(ErrorKind::Unresponsive, "qemu-img has not made the server's root disk in time")
            .with_hint("look for failing storage in the host's kernel log")
    })?;
    let output = output.map_err(io("run qemu-img for"))?;
    if !output.status.success() {
        let says = String::from_utf8_lossy(&output.stderr);
        let why = says.lines().next_back().unwrap_or("it says nothing").trim_start_matches("qemu-img: ");
        return Err(Error::new(ErrorKind::Failed, format!("qemu-img cannot make the server's root disk: {why}")));
    }
    // A crash before the rename leaves a file that nobody uses; after it, the overlay is whole.
    let unfinished = directory.join(unfinished);
    tokio::fs::File::open(&unfinished).await.map_err(io("open"))?.sync_all().await.map_err(io("flush"))?;
    tokio::fs::rename(&unfinished, directory.join(OVERLAY)).await.map_err(io("put in place"))
}
