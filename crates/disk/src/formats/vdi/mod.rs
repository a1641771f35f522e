//! VDI, the disk of VirtualBox, after `Storage/VDICore.h` of VirtualBox and `block/vdi.c` of QEMU.

mod read;

pub(crate) use read::{SIGNATURE, open};

/// The options of the writer.
pub(crate) const OPTIONS: &[crate::options::Known] = &[];

pub(crate) fn write(
    _disk: std::sync::Arc<dyn crate::source::Source>,
    _options: &crate::options::WriteOptions,
) -> crate::error::Result<crate::write::Output> {
    Err(crate::error::Error::unsupported("files in format vdi are not written"))
}
