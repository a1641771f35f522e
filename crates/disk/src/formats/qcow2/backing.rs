//! The name and the format of a backing file, in the first cluster of a new qcow2 file.

use std::ops::Range;

use crate::backing::Backing;

/// The header extension that tells the format.
const FORMAT: u32 = 0xe279_2aca;
/// Where a qcow2 header has the place of the name, and its length.
const PLACE: Range<usize> = 8..16;
const LENGTH: Range<usize> = 16..20;
/// The kind and the length of the extension that ends them.
const END: [u8; 8] = [0; 8];

/// Says in the new qcow2 header `bytes` what is read where the file has nothing. The name stands after all extensions.
pub(super) fn announce(bytes: &mut Vec<u8>, backing: &Backing) {
    let format = backing.format().as_bytes();
    bytes.extend(FORMAT.to_be_bytes());
    bytes.extend((format.len() as u32).to_be_bytes());
    bytes.extend(format);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend(END);
    let place = bytes.len() as u64;
    bytes[PLACE].copy_from_slice(&place.to_be_bytes());
    bytes[LENGTH].copy_from_slice(&(backing.name().len() as u32).to_be_bytes());
    bytes.extend(backing.name());
}
