//! A header of rpm as its database keeps it: numbers big endian, without the magic that it has in a file.
//!
//! ```text
//! entries (4) | length of the data (4) | entries of tag, type, offset, count (4 each) | data
//! ```

use super::blob::Blob;
use crate::fields::be32;

/// Most entries and bytes of data, as rpm has it.
const ENTRIES_MAX: usize = 0xffff;
const DATA_MAX: usize = 0x0fff_ffff;
/// Longest text that is taken.
const TEXT_MAX: usize = 256;

const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const ARCH: u32 = 1022;

const INT32: u32 = 4;
const STRING: u32 = 6;

/// What names a package.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    epoch: Option<u32>,
    version: String,
    release: String,
    pub(super) arch: Option<String>,
}

impl Named {
    /// Returns the version as rpm compares it: with the epoch, where that is not zero, and the release.
    pub(super) fn version(&self) -> String {
        let epoch = self.epoch.filter(|epoch| *epoch != 0).map(|epoch| format!("{epoch}:"));
        format!("{}{}-{}", epoch.unwrap_or_default(), self.version, self.release)
    }
}

/// Reads what names a package.
pub(super) fn read(mut blob: Blob<'_>) -> Result<Named, String> {
    let sizes = blob.prefix(8)?;
    let (entries, data) = (be32(sizes, 0) as usize, be32(sizes, 4) as usize);
    if sizes.len() < 8 || !(1..=ENTRIES_MAX).contains(&entries) || data > DATA_MAX {
        return Err(format!("a header has {entries} entries and {data} bytes"));
    }
    let start = 8 + entries * 16;
    let index = blob.prefix(start)?.to_vec();
    let mut text = |tag| {
        let Some(at) = find(&index, tag, STRING).filter(|at| *at < data) else { return Ok(None) };
        let most = TEXT_MAX.min(data - at);
        let bytes = blob.prefix(start + at + most)?;
        let text = bytes.get(start + at..).unwrap_or_default().split(|byte| *byte == 0).next();
        Ok::<_, String>(text.map(|text| String::from_utf8_lossy(text).into_owned()))
    };
    let (name, version, release, arch) = (text(NAME)?, text(VERSION)?, text(RELEASE)?, text(ARCH)?);
    let epoch = match find(&index, EPOCH, INT32).filter(|at| *at < data) {
        Some(at) => blob.prefix(start + at + 4)?.get(start + at..).map(|bytes| be32(bytes, 0)),
        None => None,
    };
    let (Some(name), Some(version), Some(release)) = (name, version, release) else {
        return Err("a header names no package".to_owned());
    };
    Ok(Named { name, epoch, version, release, arch })
}

/// Returns the place of a tag in the data.
fn find(index: &[u8], tag: u32, kind: u32) -> Option<usize> {
    let entry = index.get(8..)?.chunks_exact(16).find(|entry| be32(entry, 0) == tag && be32(entry, 4) == kind)?;
    usize::try_from(be32(entry, 8)).ok().filter(|at| *at <= DATA_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(entries: u32, length: u32, index: &[[u32; 4]], data: &[u8]) -> Result<Named, String> {
        let numbers = [entries, length].into_iter().chain(index.iter().flatten().copied());
        let bytes = [numbers.flat_map(u32::to_be_bytes).collect(), data.to_vec()].concat();
        read(Blob::new(bytes, 0, 0, |_| Err("no page".to_owned())))
    }

    #[test]
    fn fields_are_found_by_their_tags() {
        let index = [
            [63, 7, 0, 16],
            [NAME, STRING, 0, 1],
            [VERSION, STRING, 5, 1],
            [RELEASE, STRING, 9, 1],
            [EPOCH, INT32, 12, 1],
        ];
        let data = b"bash\x005.2\x001\0\0\0\0\0\x02";
        let named = header(5, 17, &index, data).unwrap();
        assert_eq!((named.name.as_str(), named.version().as_str(), named.arch), ("bash", "2:5.2-1", None));
        let index = [[NAME, STRING, 0, 1], [VERSION, STRING, 5, 1], [RELEASE, STRING, 9, 1], [ARCH, STRING, 11, 1]];
        let named = header(4, 16, &index, b"bash\x005.2\x001\0i686").unwrap();
        assert_eq!((named.version().as_str(), named.arch.as_deref()), ("5.2-1", Some("i686")));
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let index = [[NAME, STRING, 0, 1], [VERSION, STRING, u32::MAX, 1], [RELEASE, STRING, 0x8000_0000, 1]];
        for (entries, length) in
            [(0x8000_0000, 4), (u32::MAX, u32::MAX), (0, 0), (3, 0x8000_0000), (0xffff, 0x0fff_ffff), (3, 4)]
        {
            assert!(header(entries, length, &index, b"abc\0").is_err(), "{entries} {length}");
        }
        assert!(read(Blob::new(vec![0; 3], 0, 0, |_| Err("no page".to_owned()))).is_err());
    }
}
