//! The writer of LUKS version 1: a layout whose every sector is encrypted when it is asked for.

use std::sync::Arc;
use std::time::Duration;

use super::cipher::SECTOR;
use super::create::{Head, NewVolume};
use super::sealed::Sealed;
use crate::error::{Error, Result};
use crate::options::{Known, WriteOptions};
use crate::output::Output;
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};

/// The option of every writer that encrypts.
pub(crate) const ITER_TIME: Known =
    ("iter-time", "milliseconds that the passphrase takes to be checked, 1 to 10000; 1000 if not said");

/// The options of the writer.
pub(crate) const OPTIONS: &[Known] = &[ITER_TIME];

/// Returns the LUKS file that holds `disk`, with a new key that the passphrase of `options` opens.
pub(crate) fn write(disk: Arc<dyn Source>, options: &WriteOptions) -> Result<Output> {
    let NewVolume { head, cipher } = new_volume(options)?;
    let start = head.length();
    Ok(Output::Layout(Arc::new(Sealed::new(Plain { head, disk }, start, start, cipher))))
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

/// The file before its disk is encrypted: the header, and the disk with zeros up to a whole sector.
struct Plain {
    head: Head,
    disk: Arc<dyn Source>,
}

impl Source for Plain {
    fn len(&self) -> u64 {
        self.head.length() + self.disk.len().next_multiple_of(SECTOR as u64)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.len(), offset, buf.len())?;
        let (head, buf) = buf.split_at_mut(self.head.length().saturating_sub(offset).min(buf.len() as u64) as usize);
        self.head.fill(head, offset);
        let offset = (offset + head.len() as u64).saturating_sub(self.head.length());
        let (data, padding) = buf.split_at_mut(self.disk.len().saturating_sub(offset).min(buf.len() as u64) as usize);
        if !data.is_empty() {
            self.disk.read_at(data, offset)?;
        }
        padding.fill(0);
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.len(), offset)?;
        Ok(Extent { offset, length: self.len() - offset, kind: ExtentKind::Data })
    }
}
