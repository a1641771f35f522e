//! A small VHDX image made by qemu-img, with a way to change it and to give it a log.

use std::sync::OnceLock;

use crate::common::{Folder, Numbers, open_bytes, read_all};
use disk::{ErrorKind, Format};

pub(super) const SECTOR: usize = 4096;
pub(super) const HEADERS: [usize; 2] = [64 << 10, 128 << 10];
pub(super) const REGIONS: [usize; 2] = [192 << 10, 256 << 10];
/// The mark of the entries in the logs that are made here.
pub(super) const LOG_GUID: [u8; 16] = *b"log of the tests";
/// Blocks of the disk, of 1 MiB each; none of them is zero.
pub(super) const BLOCKS: usize = 3;

/// An image as bytes.
#[derive(Clone)]
pub(super) struct Image(pub(super) Vec<u8>);

impl Image {
    pub(super) fn new() -> Self {
        static IMAGE: OnceLock<Image> = OnceLock::new();
        IMAGE.get_or_init(Self::make).clone()
    }

    fn make() -> Self {
        let folder = Folder::new();
        let mut numbers = Numbers::new(9);
        let bytes: Vec<u8> = (0..BLOCKS << 17).flat_map(|_| numbers.next().to_le_bytes()).collect();
        let raw = folder.write("raw", &bytes);
        Self(std::fs::read(folder.image("image", &raw, "vhdx", &["-o", "block_size=1M"])).unwrap())
    }

    pub(super) fn set(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// Sets bytes in both headers, or both region tables.
    pub(super) fn both(self, places: [usize; 2], within: usize, bytes: &[u8]) -> Self {
        self.set(places[0] + within, bytes).set(places[1] + within, bytes).summed()
    }

    /// Makes all sums of the header section right.
    pub(super) fn summed(mut self) -> Self {
        for (at, length) in HEADERS.map(|at| (at, SECTOR)).into_iter().chain(REGIONS.map(|at| (at, 64 << 10))) {
            let bytes = &mut self.0[at..at + length];
            bytes[4..8].fill(0);
            let sum = crc32c::crc32c(bytes);
            bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        }
        self
    }

    pub(super) fn le32(&self, at: usize) -> usize {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap()) as usize
    }

    pub(super) fn le64(&self, at: usize) -> usize {
        usize::try_from(u64::from_le_bytes(self.0[at..at + 8].try_into().unwrap())).unwrap()
    }

    /// Where the block allocation table lies, which is the first region.
    pub(super) fn bat(&self) -> usize {
        self.le64(REGIONS[0] + 32)
    }

    /// Where the metadata lie, which is the second region.
    pub(super) fn metadata(&self) -> usize {
        self.le64(REGIONS[0] + 64)
    }

    /// Where the entry of metadata item `number` lies, and the item itself: parameters, size, identity, sector sizes.
    pub(super) fn item(&self, number: usize) -> (usize, usize) {
        let entry = self.metadata() + 32 + number * 32;
        (entry, self.metadata() + self.le32(entry + 16))
    }

    /// Returns the image with a log that must be replayed: entries by the sector of the log in which they begin.
    pub(super) fn with_log(self, entries: &[(usize, Vec<u8>)]) -> Self {
        let mut image = self.both(HEADERS, 48, &LOG_GUID);
        let (log, length) = (image.le64(HEADERS[0] + 72), image.le32(HEADERS[0] + 68));
        for (first, entry) in entries {
            for (number, sector) in entry.chunks(SECTOR).enumerate() {
                let at = log + (first + number) * SECTOR % length;
                image.0[at..at + SECTOR].copy_from_slice(sector);
            }
        }
        image
    }

    pub(super) fn read(&self) -> disk::Result<Vec<u8>> {
        read_all(&*open_bytes(self.0.clone(), Format::Vhdx)?.disk, 1 << 20)
    }

    /// Checks that opening, or reading all of it, fails in this way.
    #[track_caller]
    pub(super) fn fails(&self, kind: ErrorKind, says: &str) {
        let error = self.read().expect_err(says);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(says), "{error:?} does not say {says:?}");
    }
}

/// What a log entry does to the file.
pub(super) enum Change {
    Data(usize, Vec<u8>),
    Zero(u64, u64),
}

/// Returns a log entry with sequence number `sequence` whose oldest needed entry begins in sector `tail` of the log.
pub(super) fn entry(sequence: u64, tail: usize, changes: &[Change]) -> Vec<u8> {
    let mut descriptors = Vec::new();
    let mut data = Vec::new();
    for change in changes {
        match change {
            Change::Data(offset, bytes) => {
                descriptors.extend(b"desc");
                descriptors.extend(&bytes[4092..]);
                descriptors.extend(&bytes[..8]);
                descriptors.extend((*offset as u64).to_le_bytes());
                data.extend(b"data");
                data.extend(((sequence >> 32) as u32).to_le_bytes());
                data.extend(&bytes[8..4092]);
                data.extend((sequence as u32).to_le_bytes());
            }
            Change::Zero(offset, length) => {
                descriptors.extend(b"zero\0\0\0\0");
                descriptors.extend(length.to_le_bytes());
                descriptors.extend(offset.to_le_bytes());
            }
        }
        descriptors.extend(sequence.to_le_bytes());
    }
    let head_length = (64 + descriptors.len()).next_multiple_of(SECTOR);
    let mut entry = b"loge\0\0\0\0".to_vec();
    entry.extend(((head_length + data.len()) as u32).to_le_bytes());
    entry.extend(((tail * SECTOR) as u32).to_le_bytes());
    entry.extend(sequence.to_le_bytes());
    entry.extend((changes.len() as u32).to_le_bytes());
    entry.extend([0; 4]);
    entry.extend(LOG_GUID);
    // Flushed and last file offset: the file is at least this long.
    entry.extend((4_u64 << 20).to_le_bytes());
    entry.extend((4_u64 << 20).to_le_bytes());
    entry.extend(descriptors);
    entry.resize(head_length, 0);
    entry.extend(data);
    summed(entry)
}

/// Makes the sum of a log entry right.
pub(super) fn summed(mut entry: Vec<u8>) -> Vec<u8> {
    entry[4..8].fill(0);
    let sum = crc32c::crc32c(&entry);
    entry[4..8].copy_from_slice(&sum.to_le_bytes());
    entry
}
