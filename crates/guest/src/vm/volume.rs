//! One file system of the disk as a disk of its own.

use std::sync::{Arc, Mutex, PoisonError};

use disk::error::{Error, ErrorKind, Result};
use disk::source::{Source, check_range};

use crate::place::Place;

const SECTOR: u64 = 512;

/// The bytes of a file system, wherever they lie on the disk.
pub(super) struct Volume {
    disk: Arc<dyn Source>,
    place: Place,
    len: u64,
    failure: Mutex<Option<Error>>,
}

impl Volume {
    pub(super) fn new(disk: Arc<dyn Source>, place: Place) -> Self {
        // The machine has whole sectors only.
        let len = place.len / SECTOR * SECTOR;
        Self { disk, place, len, failure: Mutex::new(None) }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Takes the first failure of the disk itself, of which the machine heard as a failed read.
    pub(super) fn take_failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Source for Volume {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.len, offset, buf.len())?;
        let mut rest = buf;
        for (at, count) in self.place.parts(offset, rest.len())? {
            let (now, after) = rest.split_at_mut(count);
            self.disk.read_at(now, at).map_err(|error| {
                let told = Error::new(error.kind(), format!("cannot read {count} bytes of the disk at {at:#x}"));
                if error.kind() == ErrorKind::Io {
                    self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
                told
            })?;
            rest = after;
        }
        Ok(())
    }
}
