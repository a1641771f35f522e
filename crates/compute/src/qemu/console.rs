//! The serial log of a server: its tail, and the limit on what it may cost.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FallocateFlags, OFlags};

use super::command::CONSOLE;

/// Most bytes of one read.
const READ_MAX: usize = 4 << 20;
/// Most bytes that a log may take on the host's disk before its beginning is given back.
const KEPT_MAX: u64 = 32 << 20;
/// What is kept then.
const KEPT_MIN: u64 = 16 << 20;
/// `st_blocks` counts in these.
const BLOCK: u64 = 512;

/// Returns the last `last_bytes` bytes of the serial log in `directory`; none where the server never started.
pub(super) fn tail(directory: &Path, last_bytes: usize) -> io::Result<Vec<u8>> {
    match tail_of(&directory.join(CONSOLE), last_bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result,
    }
}

/// Returns the last `last_bytes` bytes of a file, at most [`READ_MAX`].
pub(super) fn tail_of(path: &Path, last_bytes: usize) -> io::Result<Vec<u8>> {
    let wanted = last_bytes.min(READ_MAX) as u64;
    let mut file = open(path, false)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(wanted)))?;
    let mut bytes = Vec::new();
    // The log may grow while it is read.
    file.take(wanted).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Gives the beginning of a long log back to the host's file system.
///
/// A guest can write to its serial port for ever, and QEMU has no limit for the file. The bytes become a hole, so that
/// QEMU goes on appending and positions do not move.
pub(super) fn trim(directory: &Path) -> io::Result<()> {
    let file = match open(&directory.join(CONSOLE), true) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let metadata = file.metadata()?;
    if metadata.blocks().saturating_mul(BLOCK) <= KEPT_MAX {
        return Ok(());
    }
    let given_back = metadata.len().saturating_sub(KEPT_MIN);
    match rustix::fs::fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, given_back) {
        // A file system without holes keeps the whole log.
        Err(rustix::io::Errno::OPNOTSUPP) | Ok(()) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn open(path: &Path, write: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(write).custom_flags(OFlags::NOFOLLOW.bits() as i32).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_log_gives_its_beginning_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(CONSOLE);
        let mut bytes = vec![b'x'; KEPT_MAX as usize + 4096];
        bytes.extend(b"the end");
        std::fs::write(&path, &bytes).unwrap();
        trim(directory.path()).unwrap();
        let metadata = path.metadata().unwrap();
        assert_eq!(metadata.len(), bytes.len() as u64);
        assert!(metadata.blocks() * BLOCK <= KEPT_MIN + (64 << 10), "{} blocks", metadata.blocks());
        assert_eq!(tail(directory.path(), 7).unwrap(), b"the end");
        assert_eq!(tail(directory.path(), usize::MAX).unwrap().len(), READ_MAX);
    }

    #[test]
    fn a_server_that_never_started_has_no_log() {
        let directory = tempfile::tempdir().unwrap();
        assert!(tail(directory.path(), 100).unwrap().is_empty());
        trim(directory.path()).unwrap();
    }
}
