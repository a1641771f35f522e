//! The descriptor of a new file: what kind of disk it is, its one extent, and what the virtual machine is told about it.

use libdeflater::Crc;

use super::descriptor::is_bare_name;
use super::header::SECTOR;
use crate::error::{Error, ErrorKind, Result};
use crate::options::WriteOptions;
use crate::stored::Stored;

/// The adapters that a descriptor knows; the first is what VMware gives a disk of which nothing is known.
const ADAPTERS: &[&str] = &["lsilogic", "buslogic", "pvscsi", "ide"];
/// Says that tools are installed and nobody knows which; VMware asks no questions then.
const UNKNOWN_TOOLS: u32 = i32::MAX as u32;

/// What is chosen about a descriptor.
pub(super) struct Description {
    adapter: &'static str,
    hardware: u32,
    name: String,
}

impl Description {
    /// Reads the options `adapter_type`, `hwversion` and `name`.
    pub(super) fn new(options: &WriteOptions) -> Result<Self> {
        let name = options.text("name").unwrap_or("disk.vmdk");
        if !is_bare_name(name) {
            return Err(Error::unsupported(format!("name={name}"))
                .with_hint("give the name of the file alone, without folder or quotes, at most 255 bytes"));
        }
        Ok(Self {
            adapter: options.choice("adapter_type", ADAPTERS)?,
            hardware: options.number("hwversion", 4, 1..=99)?,
            name: name.to_owned(),
        })
    }

    /// Returns the text for a disk of one file: SPARSE with its own tables, or FLAT.
    pub(super) fn text(&self, create_type: &str, kind: &str, sectors: u64, content: u32) -> String {
        let Self { adapter, hardware, name } = self;
        let offset = if kind == "FLAT" { " 0" } else { "" };
        let (cylinders, heads) = match *adapter {
            "ide" => (sectors.div_ceil(16 * 63).min(16383), 16),
            _ => (sectors.div_ceil(255 * 63).min(65535), 255),
        };
        format!(
            "# Disk DescriptorFile\n\
             version=1\n\
             encoding=\"UTF-8\"\n\
             CID={content:08x}\n\
             parentCID=ffffffff\n\
             createType=\"{create_type}\"\n\
             \n\
             # Extent description\n\
             RW {sectors} {kind} \"{name}\"{offset}\n\
             \n\
             # The Disk Data Base\n\
             #DDB\n\
             \n\
             ddb.virtualHWVersion = \"{hardware}\"\n\
             ddb.geometry.cylinders = \"{cylinders}\"\n\
             ddb.geometry.heads = \"{heads}\"\n\
             ddb.geometry.sectors = \"63\"\n\
             ddb.adapterType = \"{adapter}\"\n\
             ddb.toolsVersion = \"{UNKNOWN_TOOLS}\"\n"
        )
    }
}

/// Returns the descriptor to be written beside a file called `name` that holds a disk of `size` bytes as it is: VMDK
/// `monolithicFlat`. Of `options`, the adapter and the hardware version are looked at.
///
/// The descriptor is a file of its own, and it is the one that is opened as the disk.
pub fn flat_descriptor(size: u64, name: &str, options: &WriteOptions) -> Result<String> {
    let mut options = options.clone();
    options.set("name", name);
    let sectors = sectors(size)?;
    Ok(Description::new(&options)?.text("monolithicFlat", "FLAT", sectors, content_id(size, [])))
}

/// Returns the sectors of a disk, of which the last may be filled up.
pub(super) fn sectors(size: u64) -> Result<u64> {
    match size.div_ceil(SECTOR) {
        0 => Err(Error::unsupported("a VMDK cannot hold a disk of 0 bytes")),
        sectors if sectors < 1 << 53 => Ok(sectors),
        _ => Err(Error::new(ErrorKind::TooLarge, format!("a VMDK cannot hold a disk of {size} bytes"))),
    }
}

/// Returns the number by which a difference knows the disk it is from: made of what is known of the disk before its data
/// are read, so that the same disk has the same one. Never one of those that VMware gives a meaning.
pub(super) fn content_id(size: u64, runs: impl IntoIterator<Item = (u64, u64)>) -> u32 {
    let mut crc = Crc::new();
    crc.update(&size.to_le_bytes());
    for (unit, count) in runs {
        crc.update(&unit.to_le_bytes());
        crc.update(&count.to_le_bytes());
    }
    crc.sum() & 0x7fff_ffff
}

/// Returns the number of the disk of which `stored` are the grains.
pub(super) fn content_of(stored: &Stored) -> u32 {
    content_id(stored.disk().len(), stored.runs())
}
