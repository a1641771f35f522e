//! The reader of VMDK: one file with its descriptor inside, or a descriptor that names the files of a set.

use std::sync::Arc;

use super::descriptor::{Descriptor, is_descriptor};
use super::esx::{COW_DISK, SE_SPARSE};
use super::grains::{Memory, open_extent};
use super::header::{Header, one_of_several};
use super::{hosted, set};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::read_bytes;
use crate::format::Format;
use crate::gate::Gate;
use crate::opened::Opened;
use crate::source::Source;

/// A descriptor that stands alone has at most this many bytes.
const MAX_TEXT: u64 = 64 << 10;

/// Opens the VMDK file `file`.
pub(crate) fn open(file: Arc<dyn Source>, gate: &dyn Gate) -> Result<Opened> {
    let head = read_bytes(&*file, 0, file.len().min(MAX_TEXT) as usize, "the descriptor")?;
    if is_descriptor(&head) {
        if file.len() > MAX_TEXT {
            let len = file.len();
            return Err(Error::new(ErrorKind::TooLarge, format!("a VMDK descriptor of {len} bytes")));
        }
        return set::open(file, &Descriptor::parse(&head)?, gate);
    }
    if head.starts_with(COW_DISK) || head.starts_with(SE_SPARSE) {
        let kind = if head.starts_with(COW_DISK) { "COWD" } else { "seSparse" };
        return Err(Error::unsupported(format!("the file is one extent of a disk of an ESX server ({kind})"))
            .with_hint("give the descriptor file as the image and this file with it: --extent FILE"));
    }
    let header = Header::read(&*file)?;
    let Some(descriptor) = hosted::embedded(&*file, &header)? else { return Err(one_of_several()) };
    let variant = descriptor.check_embedded(header.size, header.compressed, gate)?.to_owned();
    let notes = if header.unclean { vec!["the file was not closed cleanly".to_owned()] } else { Vec::new() };
    let (grain, memory) = (header.grain, Memory::new(header.entries));
    let disk = open_extent(&file, hosted::extent(&*file, &header)?, memory)?;
    Ok(Opened { disk, format: Format::Vmdk, variant, block_size: Some(grain), notes })
}
