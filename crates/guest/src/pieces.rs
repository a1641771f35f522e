//! Bytes that are read piece by piece, wherever they lie.

/// A file as its readers want it.
pub(crate) trait Pieces {
    /// Returns how long it says it is; that may be a lie.
    fn len(&self) -> u64;

    /// Reads from `offset` on: `most` bytes, or fewer where the file ends. An error is a sentence without its full stop.
    fn piece(&self, offset: u64, most: usize) -> Result<Vec<u8>, String>;

    /// Refuses when the time of the inspection is over; asked by who works long between two pieces.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

impl Pieces for &[u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn piece(&self, offset: u64, most: usize) -> Result<Vec<u8>, String> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(<[u8]>::len(self));
        let end = start.saturating_add(most).min(<[u8]>::len(self));
        Ok(self[start..end].to_vec())
    }
}
