//! Files that are compressed as a whole: gzip, xz, zstd, bzip2, and a zip of one file.
//!
//! [`unpack()`] reads any of them from its beginning to its end; [`seekable`] gives the content as a source where the
//! container allows to unpack any part of it alone; [`write()`] makes such files.

mod bzip2;
mod container;
mod frames;
mod gzip;
mod input;
mod unpack;
mod write;
mod xz;
mod xz_blocks;
mod zip;
mod zstd;
mod zstd_frames;

use std::sync::Arc;

pub use unpack::{UnpackLimits, Unpacker, unpack};
pub(crate) use write::write;

use self::container::not_nested;
use crate::error::{Error, Result};
use crate::format::Format;
use crate::slice::Slice;
use crate::source::Source;

/// Returns whether files of `format` are compressed as a whole, with a file of any other format inside.
#[must_use]
pub fn is_wrapper(format: Format) -> bool {
    matches!(format, Format::Gzip | Format::Xz | Format::Zstd | Format::Bzip2 | Format::Zip)
}

/// Returns the content of `source`, which is compressed as a whole in `format`, if any part of it can be unpacked alone.
///
/// # Errors
/// Refused if the content is compressed once more.
pub fn seekable(source: Arc<dyn Source>, format: Format) -> Result<Option<Arc<dyn Source>>> {
    let content: Option<Arc<dyn Source>> = match format {
        Format::Zstd => zstd_frames::open(source)?,
        Format::Xz => xz_blocks::open(source)?,
        Format::Zip => {
            let member = zip::member(&*source)?;
            let length = member.data.end - member.data.start;
            match member.method {
                zip::Method::Stored => {
                    Some(Arc::new(Slice::new(source, member.data.start, length, "the file in the zip archive")?))
                }
                zip::Method::Deflated => None,
            }
        }
        _ => None,
    };
    if let Some(content) = &content {
        let mut head = vec![0; content.len().min(4096) as usize];
        content.read_at(&mut head, 0)?;
        not_nested(&head, format)?;
    }
    Ok(content)
}

/// Returns the error for a file of which no part can be unpacked alone.
pub(crate) fn not_seekable(format: Format) -> Error {
    Error::unsupported(format!("the {format} file can only be unpacked from its beginning to its end"))
        .with_hint("unpack it first, for example with: molde disk convert -O raw IN OUT")
}
