//! The writer of LUKS version 1: a layout whose every sector is encrypted when it is asked for.

use std::sync::Arc;
use std::time::Duration;

use super::cipher::SECTOR;
use super::create::{NewVolume, PAYLOAD};
use crate::error::{Error, Result};
use crate::options::{Known, WriteOptions};
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};
use crate::write::Output;

/// The options of the writer.
pub(crate) const OPTIONS: &[Known] =
    &[("iter-time", "milliseconds that the passphrase takes to be checked, 1 to 10000; 1000 if not said")];

/// Returns the LUKS file that holds `disk`, with a new key that the passphrase of `options` opens.
pub(crate) fn write(disk: Arc<dyn Source>, options: &WriteOptions) -> Result<Output> {
    Ok(Output::Layout(Arc::new(Layout { volume: new_volume(options)?, disk })))
}

/// Makes the key and the header that `options` ask for.
pub(crate) fn new_volume(options: &WriteOptions) -> Result<NewVolume> {
    let passphrase = options.passphrase().ok_or_else(|| {
        Error::unsupported("an encrypted disk needs a passphrase, and none was given")
            .with_hint("give one for the new file: --new-passphrase-file FILE")
    })?;
    let milliseconds = options.number("iter-time", 1000, 1..=10_000)?;
    NewVolume::create(passphrase, Duration::from_millis(milliseconds.into()))
}

/// The header, and the disk with zeros up to a whole sector. All of it is data: a hole would not be zeros inside.
struct Layout {
    volume: NewVolume,
    disk: Arc<dyn Source>,
}

impl Layout {
    /// Fills `buf` with whole encrypted sectors from byte `offset` of the disk.
    fn read_sectors(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let inside = self.disk.len().saturating_sub(offset).min(buf.len() as u64) as usize;
        let (data, padding) = buf.split_at_mut(inside);
        self.disk.read_at(data, offset)?;
        padding.fill(0);
        self.volume.cipher.encrypt(buf, offset / SECTOR as u64);
        Ok(())
    }

    /// Fills the beginning of `buf` from byte `offset` of the disk; returns how many bytes were filled.
    fn read_payload(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let within = (offset % SECTOR as u64) as usize;
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

impl Source for Layout {
    fn len(&self) -> u64 {
        PAYLOAD + self.disk.len().next_multiple_of(SECTOR as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.len(), offset, buf.len())?;
        let head = PAYLOAD.saturating_sub(offset).min(buf.len() as u64) as usize;
        self.volume.read_head(&mut buf[..head], offset);
        let mut done = head;
        while done < buf.len() {
            done += self.read_payload(&mut buf[done..], offset + done as u64 - PAYLOAD)?;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.len(), offset)?;
        Ok(Extent { offset, length: self.len() - offset, kind: ExtentKind::Data })
    }
}
