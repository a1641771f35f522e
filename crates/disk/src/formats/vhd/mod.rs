//! VHD, fixed and dynamic, after Microsoft's "Virtual Hard Disk Image Format Specification" 1.0.

mod footer;
mod read;

pub(crate) use footer::{COOKIE, LENGTH as FOOTER_LENGTH};
pub(crate) use read::open;

/// The options of the writer.
pub(crate) const OPTIONS: &[crate::options::Known] = &[];

pub(crate) fn write(
    _disk: std::sync::Arc<dyn crate::source::Source>,
    _options: &crate::options::WriteOptions,
) -> crate::error::Result<crate::write::Output> {
    Err(crate::error::Error::unsupported("files in format vhd are not written"))
}
