//! Parts that together form one disk, one after the other: the extents of a set, or a disk and what fills it up.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::source::{Extent, ExtentKind, Source, check_offset, check_range};

/// Several sources, one after the other.
#[derive(Default)]
pub(super) struct Chain {
    parts: Vec<Part>,
    len: u64,
}

struct Part {
    start: u64,
    end: u64,
    /// `None` is a part of zeros.
    source: Option<Arc<dyn Source>>,
}

impl Chain {
    /// Adds the first `length` bytes of `source`, which has at least so many, or of zeros.
    pub(super) fn push(&mut self, length: u64, source: Option<Arc<dyn Source>>) -> Result<()> {
        let too_large = || Error::new(ErrorKind::TooLarge, "the parts of the VMDK are too large together");
        let end = self.len.checked_add(length).filter(|end| *end < 1 << 62).ok_or_else(too_large)?;
        if length > 0 {
            self.parts.push(Part { start: self.len, end, source });
        }
        self.len = end;
        Ok(())
    }

    /// Returns the disk: the only part itself if it is one.
    pub(super) fn into_source(mut self) -> Arc<dyn Source> {
        let whole = matches!(self.parts.as_slice(), [Part { source: Some(source), .. }] if source.len() == self.len);
        match self.parts.pop_if(|_| whole) {
            Some(Part { source: Some(source), .. }) => source,
            _ => Arc::new(self),
        }
    }

    fn part(&self, offset: u64) -> Option<&Part> {
        self.parts.get(self.parts.partition_point(|part| part.end <= offset))
    }
}

impl Source for Chain {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, mut buf: &mut [u8], mut offset: u64) -> Result<()> {
        check_range(self.len, offset, buf.len())?;
        while let Some(part) = self.part(offset).filter(|_| !buf.is_empty()) {
            let length = (part.end - offset).min(buf.len() as u64) as usize;
            let (bytes, rest) = buf.split_at_mut(length);
            match &part.source {
                Some(source) => source.read_at(bytes, offset - part.start)?,
                None => bytes.fill(0),
            }
            offset += length as u64;
            buf = rest;
        }
        Ok(())
    }

    fn extent_at(&self, offset: u64) -> Result<Extent> {
        check_offset(self.len, offset)?;
        let (start, end, source) =
            self.part(offset).map_or((0, self.len, None), |part| (part.start, part.end, part.source.as_ref()));
        let Some(source) = source else {
            return Ok(Extent { offset, length: end - offset, kind: ExtentKind::Zero });
        };
        let extent = source.extent_at(offset - start)?;
        Ok(Extent { offset, length: extent.length.min(end - offset), kind: extent.kind })
    }
}
