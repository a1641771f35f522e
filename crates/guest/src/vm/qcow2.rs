//! The file that takes what the machine writes: an empty qcow2 before, read by the disk crate afterwards.
//!
//! Format: QEMU's `docs/interop/qcow2.rst`, version 3, clusters of 64 KiB, reference counts of 16 bits. The file names
//! no backing file: what is under it is said on the command line of QEMU alone.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use disk::error::{Error, ErrorKind, Result};
use disk::source::{ExtentKind, Source};
use disk::{Deny, FileSource, Format};

use super::volume::Volume;
use crate::write::Overlay;

const CLUSTER: u64 = 64 << 10;
/// Bytes of the disk for which one entry of the first table stands.
const ENTRY: u64 = CLUSTER / 8 * CLUSTER;
/// Largest disk: its tables are counted by one block of reference counts.
const SIZE_MAX: u64 = 64 << 40;
/// Bytes that are compared at once, and the least that is taken over.
const PIECE: u64 = 1 << 20;
const PAGE: usize = 4096;

/// Writes an empty file for a disk of `size` bytes.
pub(super) fn create(path: &Path, size: u64) -> Result<()> {
    if size > SIZE_MAX {
        return Err(Error::new(ErrorKind::TooLarge, "the file system is larger than 64 TiB"));
    }
    let entries = size.div_ceil(ENTRY).max(1);
    let clusters = 3 + (entries * 8).div_ceil(CLUSTER);
    // Header, table of the reference counts, their block, then the first table.
    let mut file = vec![0; (clusters * CLUSTER) as usize];
    file[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    let put32 = |file: &mut Vec<u8>, at: usize, value: u32| file[at..at + 4].copy_from_slice(&value.to_be_bytes());
    let put64 = |file: &mut Vec<u8>, at: usize, value: u64| file[at..at + 8].copy_from_slice(&value.to_be_bytes());
    put32(&mut file, 20, CLUSTER.trailing_zeros());
    put64(&mut file, 24, size);
    // At most 131,072.
    put32(&mut file, 36, entries as u32);
    put64(&mut file, 40, 3 * CLUSTER);
    put64(&mut file, 48, CLUSTER);
    put32(&mut file, 56, 1);
    put32(&mut file, 96, 4);
    put32(&mut file, 100, 104);
    put64(&mut file, CLUSTER as usize, 2 * CLUSTER);
    for cluster in 0..clusters as usize {
        file[2 * CLUSTER as usize + cluster * 2 + 1] = 1;
    }
    fs::write(path, file).map_err(|error| Error::io("write the file of the micro-VM's changes", error))
}

/// Writes to `overlay` what the file at `path` has and `volume` has not, at its places on the disk.
pub(super) fn read_back(volume: &Volume, path: &Path, overlay: &mut Overlay) -> Result<()> {
    let written = disk::open(Arc::new(FileSource::open(path)?), Format::Qcow2, &Deny)?.disk;
    let mut at = 0;
    while at < volume.len() {
        let extent = written.extent_at(at)?;
        let length = extent.length.min(PIECE - at % PIECE);
        // The machine has neither discards nor writes of zeros: what is no data was not written.
        if extent.kind == ExtentKind::Data {
            let length = length as usize;
            let (mut before, mut after) = (vec![0; length], vec![0; length]);
            volume.read_at(&mut before, at)?;
            written.read_at(&mut after, at)?;
            for (number, page) in after.chunks(PAGE).enumerate() {
                let skip = number * PAGE;
                if page != &before[skip..skip + page.len()] {
                    write(volume, overlay, at + skip as u64, page)?;
                }
            }
        }
        at += length.max(1);
    }
    Ok(())
}

fn write(volume: &Volume, overlay: &mut Overlay, offset: u64, mut bytes: &[u8]) -> Result<()> {
    for (place, count) in volume.place().parts(offset, bytes.len())? {
        let (now, rest) = bytes.split_at(count);
        overlay.write_at(now, place)?;
        bytes = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_a_disk_of_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        for size in [512, ENTRY + 512, 1 << 44] {
            create(&path, size).unwrap();
            let source = FileSource::open(&path).unwrap();
            let opened = disk::open(Arc::new(source), Format::Qcow2, &Deny).unwrap();
            assert_eq!(opened.disk.len(), size);
            assert_eq!(opened.disk.extent_at(0).unwrap().kind, ExtentKind::Zero);
        }
        assert!(create(&path, SIZE_MAX + 512).is_err());
    }
}
