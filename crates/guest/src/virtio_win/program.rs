//! Programs of Windows (PE): for which processor one is, and whether it is signed.
//!
//! Form: Microsoft's "PE Format". A driver that starts at boot is loaded before there is a catalogue of signatures to look
//! into, so it has to carry its own, and on 64 bits one that leads to Microsoft; else the start stops with 0xc0000428, also
//! on hardware that needs no such driver. The signature itself is not verified here: whoever supplied the file vouches for it.

use super::folders::Platform;
use crate::fields::{le16, le32, stands_at};

/// The directory of certificates.
const CERTIFICATES: usize = 4;

/// Checks that `file` is a program for `platform` that Windows would start at boot; an error says why not and what to do.
pub(super) fn check(file: &[u8], platform: Platform) -> Result<(), (String, &'static str)> {
    const FOLDERS: &str = "give the folder, or the disc, as the virtio-win project releases it";
    let header = le32(file, 0x3c) as usize;
    if !stands_at(file, 0, b"MZ") || !stands_at(file, header, b"PE\0\0") {
        return Err(("is no program of Windows".to_owned(), FOLDERS));
    }
    let machine = le16(file, header + 4);
    if machine != platform.machine() {
        let (is, wanted) = (machine, platform.machine());
        return Err((format!("is for another processor: its machine is {is:#06x}, and not {wanted:#06x}"), FOLDERS));
    }
    if platform != Platform::X86 && !is_signed(file, header) {
        let why = "carries no signature of Microsoft, so that a Windows of 64 bits would stop with 0xc0000428";
        return Err((
            why.to_owned(),
            "take a release of virtio-win whose drivers for this Windows are signed by Microsoft",
        ));
    }
    Ok(())
}

/// Returns whether its certificates, which are DER with names in ASCII, name Microsoft.
fn is_signed(file: &[u8], header: usize) -> bool {
    // The optional header of 64 bits; both processors have it.
    let optional = header + 24;
    if le16(file, optional) != 0x20b || le32(file, optional + 108) as usize <= CERTIFICATES {
        return false;
    }
    let entry = optional + 112 + CERTIFICATES * 8;
    // Unlike the other directories it is placed by an offset in the file.
    let (start, length) = (le32(file, entry) as usize, le32(file, entry + 4) as usize);
    let table = start.checked_add(length).and_then(|end| file.get(start..end)).unwrap_or_default();
    table.windows(9).any(|name| name == b"Microsoft")
}
