//! The log of a VHDX file: a ring of entries, of which the newest whole sequence is replayed in memory.
//!
//! ```text
//! entry = header 64 | descriptors 32 each | to whole sectors of 4 KiB | a data sector for each data descriptor
//! ```
//! A sector of an entry tells by its signature what it is, and an entry has no others, so entries never overlap and
//! finding the sequence takes one pass. The file itself is not written.

use std::sync::Arc;

use uuid::Uuid;

use super::header::Header;
use super::overlay::{Overlay, SECTOR};
use super::structures::{REGION_TABLES, guid, sum};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::{check_inside, le32, le64, read_bytes};
use crate::source::Source;

/// A log that must be replayed is at most this long, which also bounds what is replayed; 1 MiB is usual.
const MAX_LENGTH: u64 = 64 << 20;
/// Descriptors to replay at most: eight times what fits into 1 MiB.
const MAX_DESCRIPTORS: usize = 1 << 18;
const SECTOR_LENGTH: usize = SECTOR as usize;
const HEADER_LENGTH: usize = 64;
const DESCRIPTOR_LENGTH: usize = 32;
const REPAIR: &str = "repair a copy of the file where it was made, for example: qemu-img check -r all IMAGE";

/// Returns the file as it is when its log was replayed (MS-VHDX 2.3.3), and how many entries that took.
pub(super) fn replay(file: Arc<dyn Source>, header: &Header) -> Result<(Arc<dyn Source>, usize)> {
    if header.log_guid.is_nil() {
        return Ok((file, 0));
    }
    let (offset, length) = (header.log.offset, header.log.length);
    if length > MAX_LENGTH {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("the log to replay has {length} bytes, at most {MAX_LENGTH} are read"),
        )
        .with_hint(REPAIR));
    }
    let log = Log { bytes: read_bytes(&*file, offset, length as usize, "the log")?, guid: header.log_guid };
    let sequence = log.active_sequence()?;
    let flushed = sequence.last().map_or(0, |head| head.flushed);
    if flushed > file.len() {
        return Err(Error::corrupt(format!("the log was written to a file of {flushed} bytes, it has {}", file.len()))
            .with_hint("the file was cut or is damaged: copy it again and compare checksums"));
    }
    if sequence.iter().map(|entry| entry.descriptors).sum::<usize>() > MAX_DESCRIPTORS {
        return Err(Error::new(ErrorKind::TooLarge, format!("a log of more than {MAX_DESCRIPTORS} descriptors"))
            .with_hint(REPAIR));
    }
    let mut overlay = Overlay::new(file);
    for entry in &sequence {
        log.apply(entry, header, &mut overlay)?;
    }
    Ok((Arc::new(overlay), sequence.len()))
}

/// The ring and the mark of its valid entries.
struct Log {
    bytes: Vec<u8>,
    guid: Uuid,
}

/// An entry that passed all checks.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Number of its first sector in the ring.
    at: usize,
    sectors: usize,
    sequence: u64,
    /// Number of the sector in which the oldest entry lies that is needed with this one.
    tail: usize,
    descriptors: usize,
    /// Bytes that the file had on the disk when the entry was written.
    flushed: u64,
}

impl Entry {
    /// How many sectors the header and the descriptors take.
    fn head_sectors(&self) -> usize {
        (HEADER_LENGTH + self.descriptors * DESCRIPTOR_LENGTH).div_ceil(SECTOR_LENGTH)
    }
}

impl Log {
    fn sectors(&self) -> usize {
        self.bytes.len() / SECTOR_LENGTH
    }

    /// Returns sector `number`, counted round the ring.
    fn sector(&self, number: usize) -> &[u8] {
        let at = number % self.sectors() * SECTOR_LENGTH;
        &self.bytes[at..at + SECTOR_LENGTH]
    }

    /// Returns descriptor `number` of the entry in sector `at`.
    fn descriptor(&self, at: usize, number: usize) -> &[u8] {
        let within = HEADER_LENGTH + number * DESCRIPTOR_LENGTH;
        let sector = self.sector(at + within / SECTOR_LENGTH);
        &sector[within % SECTOR_LENGTH..within % SECTOR_LENGTH + DESCRIPTOR_LENGTH]
    }

    /// Returns the entries to replay in order: of the sequences that hold all that their last entry needs, the newest.
    fn active_sequence(&self) -> Result<Vec<Entry>> {
        let entries: Vec<_> = (0..self.sectors()).map(|at| self.entry(at)).collect();
        let mut seen = vec![false; entries.len()];
        let mut active: Vec<Entry> = Vec::new();
        for first in 0..entries.len() {
            // Of a sequence that was seen already, the rest is neither newer nor more complete.
            if seen[first] {
                continue;
            }
            let mut sequence: Vec<Entry> = Vec::new();
            let mut at = first;
            while let Some(entry) = entries[at]
                && sequence.last().is_none_or(|last| Some(entry.sequence) == last.sequence.checked_add(1))
            {
                seen[at] = true;
                sequence.push(entry);
                at = (at + entry.sectors) % entries.len();
            }
            let Some(head) = sequence.last().copied() else { continue };
            let newer = active.last().is_none_or(|active| head.sequence > active.sequence);
            if let Some(tail) = sequence.iter().position(|entry| entry.at == head.tail)
                && newer
            {
                active = sequence.split_off(tail);
            }
        }
        if active.is_empty() {
            return Err(Error::corrupt(
                "the VHDX needs its log replayed, and the log holds no whole sequence of entries",
            )
            .with_hint(
                "to go on without its last changes, make a new file of it: qemu-img convert -O vhdx IMAGE OUT",
            ));
        }
        Ok(active)
    }

    /// Returns the entry that begins in sector `at`, if there is one and nothing is wrong with it.
    fn entry(&self, at: usize) -> Option<Entry> {
        let head = self.sector(at);
        let (length, tail) = (le32(head, 8) as usize, le32(head, 12) as usize);
        let aligned = length.is_multiple_of(SECTOR_LENGTH) && tail.is_multiple_of(SECTOR_LENGTH);
        if !head.starts_with(b"loge") || guid(head, 32) != self.guid || !aligned || length > self.bytes.len() {
            return None;
        }
        let entry = Entry {
            at,
            sectors: length / SECTOR_LENGTH,
            sequence: le64(head, 16),
            tail: tail / SECTOR_LENGTH,
            descriptors: le32(head, 24) as usize,
            flushed: le64(head, 48),
        };
        let fits = entry.descriptors <= length / DESCRIPTOR_LENGTH && entry.head_sectors() <= entry.sectors;
        (fits && entry.sequence > 0 && self.is_whole(&entry) && (cfg!(fuzzing) || self.sum(&entry) == le32(head, 4)))
            .then_some(entry)
    }

    /// Returns whether each descriptor is in order and each data sector belongs to one.
    fn is_whole(&self, entry: &Entry) -> bool {
        let mut next = entry.head_sectors();
        for number in 0..entry.descriptors {
            let descriptor = self.descriptor(entry.at, number);
            if le64(descriptor, 24) != entry.sequence || !le64(descriptor, 16).is_multiple_of(SECTOR) {
                return false;
            }
            match &descriptor[..4] {
                b"zero" if le64(descriptor, 8).is_multiple_of(SECTOR) => {}
                b"desc" if next < entry.sectors && is_data(self.sector(entry.at + next), entry.sequence) => next += 1,
                _ => return false,
            }
        }
        next == entry.sectors
    }

    fn sum(&self, entry: &Entry) -> u32 {
        let first = sum(self.sector(entry.at));
        (1..entry.sectors).fold(first, |crc, number| crc32c::crc32c_append(crc, self.sector(entry.at + number)))
    }

    /// Puts the changes of an entry over the file.
    fn apply(&self, entry: &Entry, header: &Header, overlay: &mut Overlay) -> Result<()> {
        let mut data = entry.at + entry.head_sectors();
        for number in 0..entry.descriptors {
            let descriptor = self.descriptor(entry.at, number);
            let start = le64(descriptor, 16);
            let is_zero = descriptor.starts_with(b"zero");
            let length = if is_zero { le64(descriptor, 8) } else { SECTOR };
            check_target(start, length, header, overlay.len())?;
            if is_zero {
                overlay.put_zeros(start, start + length);
                continue;
            }
            let mut bytes = self.sector(data).to_vec();
            bytes[..8].copy_from_slice(&descriptor[8..16]);
            bytes[SECTOR_LENGTH - 4..].copy_from_slice(&descriptor[4..8]);
            overlay.put_sector(start, bytes.into());
            data += 1;
        }
        Ok(())
    }
}

fn is_data(sector: &[u8], sequence: u64) -> bool {
    let stated = u64::from(le32(sector, 4)) << 32 | u64::from(le32(sector, SECTOR_LENGTH - 4));
    sector.starts_with(b"data") && stated == sequence
}

/// Checks that a change stays inside the file and off the headers and the log, which are not changed through the log.
/// The region tables are.
fn check_target(start: u64, length: u64, header: &Header, len: u64) -> Result<()> {
    check_inside("a change in the log", start, length, len).map_err(|error| error.with_hint(REPAIR))?;
    let log_end = header.log.offset + header.log.length;
    if start < REGION_TABLES[0] || (start < log_end && start + length > header.log.offset) {
        return Err(Error::corrupt(format!(
            "the log changes {length} bytes at byte {start} of the file, where the headers or the log itself lie"
        )));
    }
    Ok(())
}
