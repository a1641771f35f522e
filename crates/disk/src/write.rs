//! The file that would hold a disk in a format: a [layout](Output::Layout) where the format allows it, else a stream.
//! The one place that knows all writers.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::Format;
use crate::formats::{luks, ova, qcow2, vdi, vhd, vhdx, vmdk};
use crate::options::{Known, WriteOptions};
use crate::output::Output;
use crate::source::Source;
use crate::wrap;

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
