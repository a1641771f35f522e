//! Opening the disk inside a file, whatever its format: the one place that knows all readers.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::Format;
use crate::formats::{luks, ova, parallels, qcow1, qcow2, qed, vdi, vhd, vhdx, vmdk};
use crate::gate::Gate;
pub use crate::opened::Opened;
use crate::probe::probe;
use crate::source::Source;
use crate::wrap;

/// Opens the disk that `source` holds in `format`; every other file that it names is asked of `gate`.
///
/// The tables are checked as a whole, so the cost grows with the tables and not with the disk. A file that was cut
/// is refused here if its tables show it, and else when the missing bytes are read.
pub fn open(source: Arc<dyn Source>, format: Format, gate: &dyn Gate) -> Result<Opened> {
    match format {
        Format::Raw | Format::Iso => {
            Ok(Opened { disk: source, format, variant: String::new(), block_size: None, notes: Vec::new() })
        }
        Format::Qcow2 => qcow2::open(source, gate),
        Format::Vhd => vhd::open(source, gate),
        Format::Vdi => vdi::open(source, gate),
        Format::Vmdk => vmdk::open(source, gate),
        Format::Vhdx => vhdx::open(source, gate),
        Format::Qcow1 => qcow1::open(source, gate),
        Format::Qed => qed::open(source, gate),
        Format::Parallels => parallels::open(source, gate),
        Format::Luks => luks::open(source, gate),
        Format::Ova => open_in_archive(source, gate),
        Format::Gzip | Format::Xz | Format::Zstd | Format::Bzip2 | Format::Zip => {
            let content = wrap::seekable(source, format)?.ok_or_else(|| wrap::not_seekable(format))?;
            open_content(content, format, gate).map(|(_, opened)| opened)
        }
    }
}

/// Opens the disk of an appliance in its own format, which may be no archive again.
fn open_in_archive(source: Arc<dyn Source>, gate: &dyn Gate) -> Result<Opened> {
    let picked = ova::pick(source, gate)?;
    let format = probe(&*picked.file)?;
    picked.check(format)?;
    let inner = open(Arc::clone(&picked.file), format, gate)?;
    Ok(picked.opened(inner))
}

/// Opens the disk inside `content`, which was compressed as a whole in the format `wrapper`; returns its own format, too.
pub(crate) fn open_content(content: Arc<dyn Source>, wrapper: Format, gate: &dyn Gate) -> Result<(Format, Opened)> {
    let inner = probe(&*content)?;
    if wrap::is_wrapper(inner) {
        return Err(Error::refused(format!("the {wrapper} file holds a {inner} file: it is compressed twice")));
    }
    let opened = open(content, inner, gate)?;
    let variant = format!("{wrapper} of {inner} {}", opened.variant).trim_end().to_owned();
    Ok((inner, Opened { format: wrapper, variant, ..opened }))
}
