//! The disk inside: sectors that are decrypted where they are read, by any number of threads.

use std::sync::Arc;

use super::cipher::{PIECE, SECTOR, SectorCipher};
use crate::error::Result;
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};

/// Encrypted sectors of a file, read as what they hold. Everything is data: a hole of the file is noise when decrypted.
pub(super) struct Payload {
    file: Arc<dyn Source>,
    start: u64,
    size: u64,
    cipher: SectorCipher,
    /// The number of the first sector.
    first: u64,
}

impl Payload {
    /// Takes the `size` bytes from `start` of `file`, which lie inside it and are whole sectors of at most 4096 bytes.
    pub(super) fn new(file: Arc<dyn Source>, start: u64, size: u64, cipher: SectorCipher, first: u64) -> Self {
        Self { file, start, size, cipher, first }
    }

    /// Reads whole sectors into `buf`.
    fn read_sectors(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_at(buf, self.start + offset)?;
        self.cipher.decrypt(buf, self.first.wrapping_add(offset / SECTOR as u64));
        Ok(())
    }

    /// Reads a part of the sector that holds `offset`.
    fn read_part(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let size = self.cipher.sector_size();
        let within = (offset % size as u64) as usize;
        let mut sector = [0; PIECE];
        self.read_sectors(&mut sector[..size], offset - within as u64)?;
        buf.copy_from_slice(&sector[within..within + buf.len()]);
        Ok(())
    }
}

impl Source for Payload {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.size, offset, buf.len())?;
        let size = self.cipher.sector_size() as u64;
        let head = ((offset.next_multiple_of(size) - offset) as usize).min(buf.len());
        let (head, rest) = buf.split_at_mut(head);
        let (sectors, tail) = rest.split_at_mut(rest.len() - rest.len() % size as usize);
        if !head.is_empty() {
            self.read_part(head, offset)?;
        }
        let offset = offset + head.len() as u64;
        if !sectors.is_empty() {
            self.read_sectors(sectors, offset)?;
        }
        if !tail.is_empty() {
            self.read_part(tail, offset + sectors.len() as u64)?;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.len(), offset)?;
        Ok(Extent { offset, length: self.len() - offset, kind: ExtentKind::Data })
    }
}
