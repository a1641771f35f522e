//! The root disk of a server: what is checked about the base, and the overlay that takes the guest's writes.
//!
//! QEMU is told explicitly how the base is read, with every node read-only and no backing file below it, so that
//! neither the bytes of a base nor the header of an overlay can name a file for QEMU to open.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::OFlags;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;

use crate::{BaseFormat, Error, ErrorKind, Result, ServerSpec};

/// Name of the overlay in a server's directory.
pub(super) const OVERLAY: &str = "root.qcow2";

/// `qemu-img create` writes a few hundred KiB; more time than this means that the storage hangs.
const CREATE_LIMIT: Duration = Duration::from_secs(60);
const SECTOR: u64 = 512;

/// A base that may be given to QEMU.
#[derive(Debug)]
pub(super) struct Base {
    /// Absolute, without links, and UTF-8 as QEMU's JSON options need it.
    path: String,
    format: BaseFormat,
    /// Size of the disk that the guest sees.
    disk_bytes: u64,
}

impl Base {
    /// Checks the base of `spec`. Blocks for a few small reads.
    pub(super) fn open(spec: &ServerSpec) -> Result<Self> {
        let shown = spec.base.display();
        let unreadable = |source| Error::io(format!("read the base file `{shown}`"), source);
        let path = spec.base.canonicalize().map_err(unreadable)?;
        // Opening a named pipe would wait for its writer.
        let no_wait = OFlags::NONBLOCK.bits() as i32;
        let file = File::options().read(true).custom_flags(no_wait).open(&path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(Error::new(ErrorKind::Refused, format!("the base `{shown}` is not a regular file")));
        }
        let path = into_text(path)?;
        let disk_bytes = match spec.base_format {
            BaseFormat::Raw => metadata.len().next_multiple_of(SECTOR),
            BaseFormat::Qcow2 => qcow2_disk_bytes(&file, &path)?,
        };
        let base = Self { path, format: spec.base_format, disk_bytes };
        base.check_fits(spec.disk_bytes)?;
        Ok(base)
    }

    fn check_fits(&self, root_bytes: u64) -> Result<()> {
        if self.disk_bytes <= root_bytes {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the root disk of {root_bytes} bytes is smaller than its base of {} bytes",
            self.disk_bytes
        ))
        .with_hint("choose a flavor with a larger disk"))
    }

    /// Returns QEMU's name of the base's format.
    fn driver(&self) -> &'static str {
        match self.format {
            BaseFormat::Raw => "raw",
            BaseFormat::Qcow2 => "qcow2",
        }
    }

    /// Returns the `-blockdev` of the overlay `root` on this base, with paths relative to the server's directory.
    pub(super) fn blockdev(&self) -> Value {
        let mut backing = json!({
            "driver": self.driver(),
            "read-only": true,
            "file": {"driver": "file", "read-only": true, "filename": self.path},
        });
        if self.format == BaseFormat::Qcow2 {
            // Without this QEMU opens whatever the base's header names.
            backing["backing"] = Value::Null;
        }
        json!({
            "driver": "qcow2",
            "node-name": "root",
            "discard": "unmap",
            "file": {"driver": "file", "discard": "unmap", "filename": OVERLAY},
            "backing": backing,
        })
    }
}

fn into_text(path: PathBuf) -> Result<String> {
    path.into_os_string()
        .into_string()
        .map_err(|path| Error::invalid(format!("the path of the base file `{}` is not UTF-8", path.display())))
}

/// Reads the size from a qcow2 header and refuses one that names other files (QEMU `docs/interop/qcow2.rst`, Header).
fn qcow2_disk_bytes(mut file: &File, path: &str) -> Result<u64> {
    const EXTERNAL_DATA_FILE: u64 = 1 << 2;
    let refused = |why: &str| Error::new(ErrorKind::Refused, format!("the base `{path}` {why}"));
    let mut header = [0; 80];
    match file.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(refused("is too short for qcow2")),
        Err(error) => return Err(Error::io(format!("read the base file `{path}`"), error)),
    }
    let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| header[at + byte]));
    let version = word(4) >> 32;
    if header[..4] != *b"QFI\xfb" || !matches!(version, 2 | 3) {
        return Err(refused("is not a qcow2 file of version 2 or 3"));
    }
    if word(8) != 0 {
        return Err(refused("names a backing file, which is never opened").with_hint("flatten it first"));
    }
    // Version 2 has no feature bits: its header ends where they begin.
    if version == 3 && word(72) & EXTERNAL_DATA_FILE != 0 {
        return Err(refused("names an external data file, which is never opened").with_hint("flatten it first"));
    }
    Ok(word(24).checked_next_multiple_of(SECTOR).unwrap_or(u64::MAX))
}

/// Makes the overlay in `directory` unless it is there.
pub(super) async fn ensure_overlay(qemu_img: &Path, directory: &Path, base: &Base, root_bytes: u64) -> Result<()> {
    let io = |doing: &'static str| move |source| Error::io(format!("{doing} the server's root disk"), source);
    if tokio::fs::try_exists(directory.join(OVERLAY)).await.map_err(io("look for"))? {
        return Ok(());
    }
    // The name is this process's own: a qemu-img whose Molde was killed may still be writing its file.
    let unfinished = format!("{OVERLAY}.{}", std::process::id());
    let mut create = Command::new(qemu_img);
    create
        .args(["create", "-q", "-f", "qcow2", "-F", base.driver(), "-b", &base.path, &unfinished])
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

#[cfg(test)]
mod tests {
    use super::*;

    fn qcow2_header(version: u32, backing: u64, size: u64, features: u64) -> Vec<u8> {
        let mut header = vec![0; 104];
        header[..4].copy_from_slice(b"QFI\xfb");
        header[4..8].copy_from_slice(&version.to_be_bytes());
        header[8..16].copy_from_slice(&backing.to_be_bytes());
        header[24..32].copy_from_slice(&size.to_be_bytes());
        header[72..80].copy_from_slice(&features.to_be_bytes());
        header
    }

    fn check(header: &[u8], expect: std::result::Result<u64, &str>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), header).unwrap();
        match (qcow2_disk_bytes(&File::open(file.path()).unwrap(), "base"), expect) {
            (Ok(size), Ok(expected)) => assert_eq!(size, expected),
            (Err(error), Err(says)) => assert!(error.to_string().contains(says), "{error}"),
            (result, expect) => panic!("{result:?} instead of {expect:?}"),
        }
    }

    #[test]
    fn qcow2_headers() {
        check(&qcow2_header(3, 0, 4096, 0), Ok(4096));
        check(&qcow2_header(2, 0, 4097, 4), Ok(4608));
        check(&qcow2_header(3, 0, u64::MAX, 0), Ok(u64::MAX));
        check(&qcow2_header(3, 4096, 4096, 0), Err("names a backing file"));
        check(&qcow2_header(3, 0, 4096, 4), Err("names an external data file"));
        check(&qcow2_header(4, 0, 4096, 0), Err("version 2 or 3"));
        check(&qcow2_header(3, 0, 4096, 0)[..79], Err("too short"));
        check(&[0; 512], Err("not a qcow2 file"));
    }
}
