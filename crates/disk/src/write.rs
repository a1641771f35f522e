//! The file that would hold a disk in a format: a [layout](Output::Layout) where the format allows it, else a stream.
//! The one place that knows all writers.

use std::io::Write;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::Format;
use crate::formats::{luks, ova, qcow2, vdi, vhd, vhdx, vmdk};
use crate::options::{Known, WriteOptions};
use crate::source::Source;
use crate::wrap;

/// Told how many bytes are done, and how many there are.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// A file that is not written yet.
pub enum Output {
    /// A file whose length is known and of which any range can be read alone.
    Layout(Arc<dyn Source>),
    /// A file that can only be made from its beginning to its end, because it is compressed.
    Stream(Box<dyn Stream>),
    /// A file that holds the bare disk, and a text beside it that says so: VMDK `monolithicFlat`.
    Flat(Arc<dyn Source>),
}

/// A compressed file that is made from its beginning to its end by all cores.
pub trait Stream: Send + Sync {
    /// Returns how many bytes at the beginning of the file are known only when all others were made; often 0.
    fn head_length(&self) -> u64 {
        0
    }

    /// Writes the file from byte [`Stream::head_length`] on to `out`, in order, and returns the bytes before that.
    /// Works in `threads` threads (0: as many as there are processors); `progress` is told about bytes of the disk.
    fn write(&self, threads: usize, progress: Progress<'_>, out: &mut dyn Write) -> Result<Vec<u8>>;
}

/// Options that every format has.
const COMMON: &[Known] = &[("wrap", "compress the whole file: none, gzip or zstd"), ("level", "how hard to compress")];

/// Returns the options that a format knows, each with a line about it.
#[must_use]
pub fn options_of(format: Format) -> Vec<(&'static str, &'static str)> {
    let own: &[Known] = match format {
        Format::Qcow2 => qcow2::OPTIONS,
        Format::Vhd => vhd::OPTIONS,
        Format::Vhdx => vhdx::OPTIONS,
        Format::Vmdk => vmdk::OPTIONS,
        Format::Vdi => vdi::OPTIONS,
        Format::Luks => luks::OPTIONS,
        Format::Ova => ova::OPTIONS,
        _ => &[],
    };
    let common = COMMON.iter().filter(|(name, _)| !own.iter().any(|(known, _)| known == name));
    own.iter().chain(common).copied().collect()
}

/// Returns the file that holds `disk` in `format`. The same disk and options give the same bytes, except for encrypted
/// files, whose keys are new each time. Only the extents of the disk are looked at here, not its data.
pub fn write(disk: Arc<dyn Source>, format: Format, options: &WriteOptions) -> Result<Output> {
    if !writable(format) {
        return Err(Error::unsupported(format!("files in format {format} are not written"))
            .with_hint("write raw, qcow2, vhd, vhdx, vdi, vmdk, ova or luks"));
    }
    options.check(format.as_str(), &options_of(format))?;
    let output = match format {
        Format::Qcow2 => qcow2::write(disk, options)?,
        Format::Vhd => vhd::write(disk, options)?,
        Format::Vhdx => vhdx::write(disk, options)?,
        Format::Vmdk => vmdk::write(disk, options)?,
        Format::Vdi => vdi::write(disk, options)?,
        Format::Luks => luks::write(disk, options)?,
        Format::Ova => ova::write(disk, options)?,
        _ => Output::Layout(disk),
    };
    wrap::write(output, options)
}

/// Returns the layout of `disk` in `format`: of [`write()`]'s answers the one of which any range can be read.
pub fn layout(disk: Arc<dyn Source>, format: Format, options: &WriteOptions) -> Result<Arc<dyn Source>> {
    match write(disk, format, options)? {
        Output::Layout(file) => Ok(file),
        Output::Stream(_) | Output::Flat(_) => Err(Error::unsupported(format!(
            "a {format} file with these options is not one whose bytes are known before"
        ))),
    }
}

/// Returns whether [`write()`] knows the format.
#[must_use]
pub fn writable(format: Format) -> bool {
    use Format::{Luks, Ova, Qcow2, Raw, Vdi, Vhd, Vhdx, Vmdk};
    matches!(format, Raw | Qcow2 | Vhd | Vhdx | Vmdk | Vdi | Luks | Ova)
}
