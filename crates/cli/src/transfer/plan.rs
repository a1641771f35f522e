//! A local file cut into groups of chunks; what its file system knows to be a hole is never read.

use std::path::Path;
use std::sync::Arc;

use disk::FileSource;
use disk::source::{Extent, ExtentKind, Source};

use super::Group;
use super::pieces::{Chunk, Origin, Run};
use crate::error::{Failure, Result};

/// A local file as an origin of chunks.
#[derive(Clone)]
pub(crate) struct FileOrigin(Arc<dyn Source>);

impl FileOrigin {
    /// Opens a file.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let opened = FileSource::open(path);
        Ok(Self(Arc::new(
            opened.map_err(|error| Failure::new(format!("cannot read `{}`", path.display())).caused_by(&error))?,
        )))
    }

    /// Cuts the file into groups, each of at most `chunks` chunks that have to be read.
    pub(crate) fn groups(&self, chunk_size: u32, chunks: u64) -> impl Iterator<Item = Result<Group>> + use<> {
        Plan { source: Arc::clone(&self.0), chunk_size: chunk_size.into(), chunks, at: 0, extent: None }
    }
}

impl Origin for FileOrigin {
    fn plain(&self, chunk: Chunk, bytes: &mut [u8]) -> Result<()> {
        Ok(self.0.read_at(bytes, chunk.at)?)
    }

    fn frame(&self, _: Chunk) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }
}

struct Plan {
    source: Arc<dyn Source>,
    chunk_size: u64,
    chunks: u64,
    at: u64,
    /// The extent in which the last chunk began.
    extent: Option<Extent>,
}

impl Plan {
    fn group(&mut self) -> Result<Group> {
        let (mut group, mut chunks) = (Vec::new(), 0);
        while self.at < self.source.len() && chunks < self.chunks {
            let run = self.run()?;
            self.at += run.length();
            chunks += u64::from(matches!(run, Run::Chunk(_)));
            group.push(run);
        }
        Ok(group)
    }

    /// Returns the run at `at`, the border of a chunk: whole chunks that are a hole, or one chunk.
    fn run(&mut self) -> Result<Run> {
        let (at, end) = (self.at, self.source.len());
        let extent = match self.extent.filter(|extent| extent.end() > at) {
            Some(extent) => extent,
            None => *self.extent.insert(self.source.extent_at(at)?),
        };
        if extent.kind == ExtentKind::Zero {
            let stop = if extent.end() >= end { end } else { extent.end() / self.chunk_size * self.chunk_size };
            if stop > at {
                return Ok(Run::Zeros(stop - at));
            }
        }
        // A chunk is far below 4 GiB.
        let length = self.chunk_size.min(end - at) as u32;
        Ok(Run::Chunk(Chunk { at, length, packed: None }))
    }
}

impl Iterator for Plan {
    type Item = Result<Group>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.group();
        if group.is_err() {
            // Nothing follows a failure.
            self.at = self.source.len();
        }
        Some(group).filter(|group| group.as_ref().map_or(true, |group| !group.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn holes_are_not_read_and_groups_are_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let file = File::create(&path).unwrap();
        let (chunk_size, data) = (64 << 10, vec![1; 4096]);
        // A TiB with three pages of data: in one chunk, over a border, and at an odd end.
        let end = (1 << 40) + 12_345;
        file.set_len(end).unwrap();
        file.write_all_at(&data, 3 * chunk_size).unwrap();
        file.write_all_at(&data, 10 * chunk_size - 2048).unwrap();
        file.write_all_at(&data, end - 4096).unwrap();
        let origin = FileOrigin::open(&path).unwrap();
        let groups: Vec<Group> = origin.groups(chunk_size as u32, 2).collect::<Result<_>>().unwrap();
        let chunk = |at: u64, length: u64| Run::Chunk(Chunk { at, length: length as u32, packed: None });
        let whole = |number: u64| chunk(number * chunk_size, chunk_size);
        let last = end / chunk_size * chunk_size;
        assert_eq!(
            groups,
            [
                vec![Run::Zeros(3 * chunk_size), whole(3), Run::Zeros(5 * chunk_size), whole(9)],
                vec![whole(10), Run::Zeros(last - 11 * chunk_size), chunk(last, end - last)],
            ]
        );
        assert_eq!(groups.iter().flatten().map(Run::length).sum::<u64>(), end);
    }

    #[test]
    fn an_empty_file_has_no_groups() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(FileOrigin::open(file.path()).unwrap().groups(4096, 8).count(), 0);
    }
}
