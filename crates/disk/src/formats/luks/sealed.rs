//! A file whose sectors are encrypted when they are asked for.

use super::cipher::{SECTOR, SectorCipher};
use crate::error::Result;
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};

/// A file with its end encrypted. All of the end is data, because a hole would not be zeros when it is decrypted.
pub(crate) struct Sealed<S> {
    file: S,
    start: u64,
    /// The byte of the file from which sectors are numbered.
    base: u64,
    cipher: SectorCipher,
}

impl<S: Source> Sealed<S> {
    /// Encrypts `file` from byte `start` on, of which whole sectors follow; sectors are numbered from byte `base`.
    pub(crate) fn new(file: S, start: u64, base: u64, cipher: SectorCipher) -> Self {
        Self { file, start, base, cipher }
    }

    /// Fills `buf` with whole encrypted sectors from byte `offset` of the file.
    fn read_sectors(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_at(buf, offset)?;
        self.cipher.encrypt(buf, (offset - self.base) / SECTOR as u64);
        Ok(())
    }

    /// Fills the beginning of `buf` from byte `offset`, which is encrypted; returns how many bytes were filled.
    fn read_encrypted(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let within = ((offset - self.base) % SECTOR as u64) as usize;
        if within == 0 && buf.len() >= SECTOR {
            let length = buf.len() / SECTOR * SECTOR;
            self.read_sectors(&mut buf[..length], offset)?;
            return Ok(length);
        }
        let mut sector = [0; SECTOR];
        self.read_sectors(&mut sector, offset - within as u64)?;
        let length = buf.len().min(SECTOR - within);
        buf[..length].copy_from_slice(&sector[within..within + length]);
        Ok(length)
    }
}

impl<S: Source> Source for Sealed<S> {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.len(), offset, buf.len())?;
        let mut done = self.start.saturating_sub(offset).min(buf.len() as u64) as usize;
        self.file.read_at(&mut buf[..done], offset)?;
        while done < buf.len() {
            done += self.read_encrypted(&mut buf[done..], offset + done as u64)?;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.len(), offset)?;
        if offset >= self.start {
            return Ok(Extent { offset, length: self.len() - offset, kind: ExtentKind::Data });
        }
        let extent = self.file.extent_at(offset)?;
        Ok(Extent { offset, length: extent.length.min(self.start - offset), kind: extent.kind })
    }
}
