//! OVA, the archive of a virtual appliance: a tar of a descriptor (OVF), a manifest and disks, after DMTF DSP0243.

mod descriptor;
mod envelope;
mod hardware;
mod manifest;
mod package;
mod tar;
mod units;
mod write;
mod xml;

pub(crate) use package::pick;
pub use package::{appliance, verify_manifest};
pub(crate) use tar::is_header;
pub(crate) use write::{OPTIONS, write};
