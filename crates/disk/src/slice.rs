//! A part of a source as a source of its own: the data before a footer, a member of an archive, an extent.

use std::sync::Arc;

use crate::error::Result;
use crate::fields::check_inside;
use crate::source::{Extent, Source, check_offset, check_range};

/// `length` bytes of a source from `start`.
pub(crate) struct Slice {
    source: Arc<dyn Source>,
    start: u64,
    length: u64,
}

impl Slice {
    /// Takes the part of `source` that is called `what` in errors; it must lie wholly inside.
    pub(crate) fn new(source: Arc<dyn Source>, start: u64, length: u64, what: &str) -> Result<Self> {
        check_inside(what, start, length, source.len())?;
        Ok(Self { source, start, length })
    }
}

impl Source for Slice {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(self.length, offset, buf.len())?;
        self.source.read_at(buf, self.start + offset)
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.length, offset)?;
        let extent = self.source.extent_at(self.start + offset)?;
        Ok(Extent { offset, length: extent.length.min(self.length - offset), kind: extent.kind })
    }
}
