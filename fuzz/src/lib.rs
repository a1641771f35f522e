//! What every target of disk files does: open a file, look at its whole map, read some of its disk.

pub mod damaged;
#[cfg(fuzzing)]
pub mod guests;
pub mod seal;
pub mod sparse;
#[cfg(fuzzing)]
pub mod targets;

use std::sync::Arc;
use std::time::Duration;

use disk::source::Source;
use disk::{Format, Given, UnlockLimits, UnpackLimits};
use sparse::SparseFile;
use zeroize::Zeroizing;

/// Read of a disk at most.
const READ: u64 = 4 << 20;
/// Extents looked at, at most.
const EXTENTS: usize = 4096;

/// Opens `data`, a [`SparseFile`], as a file of `format`, and reads from the disk in it.
pub fn open_and_read(data: &[u8], format: Format) {
    let file: Arc<dyn Source> = Arc::new(SparseFile::decode(data));
    // A file may name itself as another part of its disk, and has a passphrase to try, which may not take long.
    let gate = Given::new()
        .with_file("part.vmdk", Arc::clone(&file))
        .with_passphrase(Zeroizing::new(b"molde".to_vec()))
        .with_unlock_limits(UnlockLimits { memory: 1 << 20, time: Duration::from_millis(20) });
    let _ = disk::probe(&*file);
    if format == Format::Ova {
        let _ = disk::appliance(Arc::clone(&file));
    }
    if let Ok(opened) = disk::open(file, format, &gate) {
        read(&*opened.disk);
    }
}

fn read(disk: &dyn Source) {
    let (mut offset, mut left) = (0, READ);
    let mut buffer = vec![0; 64 << 10];
    for _ in 0..EXTENTS {
        if offset >= disk.len() {
            break;
        }
        let Ok(extent) = disk.extent_at(offset) else { return };
        assert!(extent.offset == offset && extent.length > 0 && extent.end() <= disk.len());
        let length = extent.length.min(buffer.len() as u64).min(left) as usize;
        // Zeros are said to be zeros, so they are read as often as data.
        let done = disk.read_at(&mut buffer[..length], offset);
        if done.is_ok() && extent.kind == disk::ExtentKind::Zero {
            assert!(buffer[..length].iter().all(|byte| *byte == 0), "a zero extent is not zero");
        }
        left -= length as u64;
        offset = extent.end();
    }
}

/// Unpacks `data` as each of the formats that files are compressed in as a whole.
pub fn unpack(data: &[u8]) {
    let file: Arc<dyn Source> = Arc::new(data.to_vec());
    let Ok(format) = disk::probe(&*file) else { return };
    if !disk::is_wrapper(format) {
        return;
    }
    if let Ok(opened) = disk::open(Arc::clone(&file), format, &disk::Deny) {
        read(&*opened.disk);
    }
    let limits = UnpackLimits { output: 16 << 20, ..UnpackLimits::default() };
    let Ok(mut unpacker) = disk::unpack(file, format, limits) else { return };
    let mut buffer = vec![0; 64 << 10];
    while unpacker.fill(&mut buffer).is_ok_and(|length| length > 0) {}
}
