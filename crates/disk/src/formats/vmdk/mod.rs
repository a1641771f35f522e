//! VMDK, the disk of VMware, after VMware's "Virtual Disk Format 5.0": one file with an embedded descriptor.

mod descriptor;
mod header;
mod read;

pub(crate) use descriptor::is_descriptor;
pub(crate) use header::{COW_DISK, MAGIC};
pub(crate) use read::open;

/// The options of the writer.
pub(crate) const OPTIONS: &[crate::options::Known] = &[];

pub(crate) fn write(
    _disk: std::sync::Arc<dyn crate::source::Source>,
    _options: &crate::options::WriteOptions,
) -> crate::error::Result<crate::write::Output> {
    Err(crate::error::Error::unsupported("files in format vmdk are not written"))
}
