//! Opening the disk inside a file, whatever its format: the one place that knows all readers.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::format::Format;
use crate::formats::{qcow2, vdi, vhd, vmdk};
use crate::gate::Gate;
pub use crate::opened::Opened;
use crate::source::Source;

/// Opens the disk that `source` holds in `format`; every other file that it names is asked of `gate`.
///
/// The tables are checked as a whole, so the cost grows with the tables and not with the disk. A file that was cut
/// is refused here if its tables show it, and else when the missing bytes are read.
pub fn open(source: Arc<dyn Source>, format: Format, gate: &dyn Gate) -> Result<Opened> {
    match format {
        Format::Raw => Ok(Opened { disk: source, format, variant: String::new(), block_size: None, notes: Vec::new() }),
        Format::Qcow2 => qcow2::open(source, gate),
        Format::Vhd => vhd::open(source, gate),
        Format::Vdi => vdi::open(source, gate),
        Format::Vmdk => vmdk::open(source, gate),
        other => Err(Error::unsupported(format!("files in format {other} are not read")).with_hint(way_out(other))),
    }
}

/// Returns what to do with a file whose format is only recognised.
fn way_out(format: Format) -> &'static str {
    match format {
        Format::Gzip => "unpack it first with: gunzip FILE",
        Format::Xz => "unpack it first with: unxz FILE",
        Format::Zstd => "unpack it first with: unzstd FILE",
        Format::Bzip2 => "unpack it first with: bunzip2 FILE",
        Format::Zip => "unpack it first with: unzip FILE",
        Format::Tar => "unpack it first with: tar -xf FILE; an OVA holds its disks as VMDK files",
        Format::Luks => "decrypt it where its key is",
        Format::Iso => "a disc is kept byte for byte: name its format as raw",
        _ => "convert it first with: qemu-img convert -O qcow2 FILE OUT",
    }
}
