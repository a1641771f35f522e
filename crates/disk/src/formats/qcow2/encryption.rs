//! Encrypted qcow2 files: a LUKS version 1 header in clusters of the file, and data clusters that are encrypted where they lie.
//!
//! Tables are not encrypted. Sectors of 512 bytes are numbered by their place in the file, not in the disk.

use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::fields::{be64, check_inside, read_bytes};
use crate::formats::luks;
use crate::gate::Gate;
use crate::slice::Slice;
use crate::source::Source;

const NONE: u32 = 0;
const LEGACY_AES: u32 = 1;
/// The method whose header is a LUKS header.
pub(super) const LUKS: u32 = 2;

/// The header extension that tells where the LUKS header lies.
pub(super) const EXTENSION: u32 = 0x0537_be77;
const EXTENSION_LENGTH: u32 = 16;
/// Where a qcow2 header has the method.
const METHOD: Range<usize> = 32..36;

/// Refuses all methods but LUKS.
pub(super) fn check_encryption(method: u32) -> Result<()> {
    match method {
        NONE | LUKS => Ok(()),
        LEGACY_AES => Err(Error::unsupported("the qcow2 file is encrypted (AES), in the old way that QEMU gave up")
            .with_hint("decrypt it where its key is, with: qemu-img convert --object secret,...")),
        _ => Err(Error::unsupported(format!("the qcow2 file is encrypted by unknown method {method}"))),
    }
}

/// Returns where the LUKS header of `file`, which has clusters of `cluster_size` bytes, lies; `extension` is the place and
/// length of [`EXTENSION`].
pub(super) fn luks_header(file: &dyn Source, extension: Option<(u64, u32)>, cluster_size: u64) -> Result<Range<u64>> {
    let Some((at, EXTENSION_LENGTH)) = extension else {
        return Err(Error::corrupt(
            "the qcow2 file is encrypted (LUKS), and no header extension names the LUKS header",
        ));
    };
    let bytes = read_bytes(file, at, EXTENSION_LENGTH as usize, "the place of the LUKS header")?;
    let (offset, length) = (be64(&bytes, 0), be64(&bytes, 8));
    if !offset.is_multiple_of(cluster_size) {
        return Err(Error::corrupt(format!("the LUKS header lies at byte {offset}, which begins no cluster")));
    }
    check_inside("the LUKS header", offset, length, file.len())?;
    Ok(offset..offset + length)
}

/// Returns `file` as it is when every sector of it is decrypted by the key that its LUKS header at `luks` holds.
pub(super) fn decrypted(
    file: Arc<dyn Source>,
    luks: &Range<u64>,
    gate: &dyn Gate,
    notes: &mut Vec<String>,
) -> Result<Arc<dyn Source>> {
    let header = Slice::new(Arc::clone(&file), luks.start, luks.end - luks.start, "the LUKS header")?;
    let (data, note) = luks::decrypt(&header, file, gate)?;
    notes.push(note);
    Ok(data)
}

/// Says in the new qcow2 header `bytes` that the data are encrypted and that the LUKS header lies at `luks`.
pub(super) fn announce(bytes: &mut Vec<u8>, luks: &Range<u64>) {
    bytes[METHOD].copy_from_slice(&LUKS.to_be_bytes());
    bytes.extend(EXTENSION.to_be_bytes());
    bytes.extend(EXTENSION_LENGTH.to_be_bytes());
    bytes.extend(luks.start.to_be_bytes());
    bytes.extend((luks.end - luks.start).to_be_bytes());
}
