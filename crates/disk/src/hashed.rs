//! The SHA-256 of a disk, made of what is read from it anyway.
//!
//! Several threads read the disk nearly in order. Bytes that come too early wait; zeros that nobody reads are known from
//! the extents. Nothing is read a second time, unless somebody never read it at all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use crate::error::Result;
use crate::source::{Extent, ExtentKind, Source};

/// Early bytes wait up to this sum; what is more is read again when its turn comes.
const MAX_WAITING: usize = 32 << 20;
const PIECE: usize = 1 << 20;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A disk that is hashed while it is read.
pub(crate) struct HashedDisk {
    disk: Arc<dyn Source>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    hash: Sha256,
    /// All bytes before this one are in the hash.
    next: u64,
    waiting: BTreeMap<u64, Vec<u8>>,
    waiting_bytes: usize,
}

impl HashedDisk {
    pub(crate) fn new(disk: Arc<dyn Source>) -> Self {
        Self { disk, state: Mutex::default() }
    }

    /// Returns the hash of the whole disk; reads what was not read until now.
    pub(crate) fn finish(&self) -> Result<[u8; 32]> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut buffer = vec![0; PIECE];
        while state.next < self.disk.len() {
            self.advance(&mut state)?;
            let left = self.disk.len() - state.next;
            let length = left.min(PIECE as u64) as usize;
            if length > 0 {
                let next = state.next;
                self.disk.read_at(&mut buffer[..length], next)?;
                state.take(&buffer[..length]);
            }
        }
        Ok(state.hash.clone().finalize().into())
    }

    /// Hashes what waits and the zeros between, as far as there is no gap of data.
    fn advance(&self, state: &mut State) -> Result<()> {
        while state.next < self.disk.len() {
            while let Some(first) = state.waiting.first_entry().filter(|first| *first.key() <= state.next) {
                let (start, bytes) = first.remove_entry();
                state.waiting_bytes -= bytes.len();
                let skip = (state.next - start).min(bytes.len() as u64) as usize;
                state.take(&bytes[skip..]);
            }
            if state.next == self.disk.len() {
                break;
            }
            let extent = self.disk.extent_at(state.next)?;
            if extent.kind == ExtentKind::Data {
                break;
            }
            let end = state.waiting.first_key_value().map_or(extent.end(), |(start, _)| extent.end().min(*start));
            while state.next < end {
                let length = (end - state.next).min(ZEROS.len() as u64) as usize;
                state.take(&ZEROS[..length]);
            }
        }
        Ok(())
    }

    fn saw(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.advance(&mut state)?;
        if offset <= state.next {
            let skip = (state.next - offset).min(bytes.len() as u64) as usize;
            state.take(&bytes[skip..]);
            return self.advance(&mut state);
        }
        if state.waiting_bytes + bytes.len() <= MAX_WAITING {
            state.waiting_bytes += bytes.len();
            if let Some(replaced) = state.waiting.insert(offset, bytes.to_vec()) {
                state.waiting_bytes -= replaced.len();
            }
        }
        Ok(())
    }
}

impl State {
    fn take(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.next += bytes.len() as u64;
    }
}

impl Source for HashedDisk {
    fn len(&self) -> u64 {
        self.disk.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.disk.read_at(buf, offset)?;
        self.saw(buf, offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        self.disk.extent_at(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Zero from 1000 to 5000, and from 9000 to the end.
    struct Holes(Vec<u8>);

    impl Source for Holes {
        fn len(&self) -> u64 {
            self.0.len() as u64
        }

        fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
            self.0.read_at(buf, offset)
        }

        fn extent_at(&self, offset: u64) -> Result<Extent> {
            let ends = [(1000, ExtentKind::Data), (5000, ExtentKind::Zero), (9000, ExtentKind::Data)];
            let last = (self.len(), ExtentKind::Zero);
            let (end, kind) = ends.into_iter().find(|(end, _)| offset < *end).unwrap_or(last);
            Ok(Extent { offset, length: end - offset, kind })
        }
    }

    #[test]
    fn any_order_of_reading_gives_the_same_hash() {
        let mut bytes: Vec<u8> = (0..20_000_u32).map(|i| (i % 251) as u8 | 1).collect();
        bytes[1000..5000].fill(0);
        bytes[9000..].fill(0);
        let wanted: [u8; 32] = Sha256::digest(&bytes).into();
        let orders: [&[(u64, usize)]; 5] = [
            &[],
            &[(0, 1000), (5000, 4000)],
            &[(8000, 1000), (5000, 3000), (0, 1000)],
            &[(500, 10_000), (0, 600), (0, 20_000)],
            &[(19_000, 1000), (4000, 2000)],
        ];
        for order in orders {
            let disk = HashedDisk::new(Arc::new(Holes(bytes.clone())));
            for (offset, length) in order {
                disk.read_at(&mut vec![0; *length], *offset).unwrap();
            }
            assert_eq!(disk.finish().unwrap(), wanted, "{order:?}");
        }
        let empty = HashedDisk::new(Arc::new(Vec::new()));
        assert_eq!(empty.finish().unwrap(), <[u8; 32]>::from(Sha256::digest([])));
    }
}
