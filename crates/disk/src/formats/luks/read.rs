//! The reader of LUKS.

use std::sync::Arc;

use super::cipher::{Cipher, SECTOR};
use super::payload::Payload;
use super::unlock::{Slot, unlock};
use super::{version1, version2};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::{be16, read_bytes};
use crate::format::Format;
use crate::gate::Gate;
use crate::opened::Opened;
use crate::source::Source;

const MAGIC: &[u8] = b"LUKS\xba\xbe";

/// Opens the LUKS file `file` with the passphrase of `gate`.
///
/// # Errors
/// Without a passphrase `Unsupported`, with one that opens no key slot `Refused`.
pub(crate) fn open(file: Arc<dyn Source>, gate: &dyn Gate) -> Result<Opened> {
    match version(&*file)? {
        1 => open_version1(file, gate),
        2 => open_version2(file, gate),
        version => Err(Error::unsupported(format!("LUKS version {version} is not known"))),
    }
}

fn version(file: &dyn Source) -> Result<u16> {
    let head = read_bytes(file, 0, 8.min(file.len() as usize), "the LUKS header")?;
    if head.len() < 8 || !head.starts_with(MAGIC) {
        return Err(Error::new(ErrorKind::WrongFormat, "the file does not begin with a LUKS header"));
    }
    Ok(be16(&head, 6))
}

fn open_version1(file: Arc<dyn Source>, gate: &dyn Gate) -> Result<Opened> {
    let version1::Header { cipher, payload, slots } = version1::Header::read(&*file)?;
    let key = unlock(&*file, &slots, cipher.key_length(), gate)?;
    let size = (file.len() - payload) / SECTOR as u64 * SECTOR as u64;
    let disk = Payload::new(file, payload, size, cipher.with_key(&key, SECTOR), 0);
    Ok(opened(disk, "v1", vec![note(&cipher, SECTOR, &slots)]))
}

fn open_version2(file: Arc<dyn Source>, gate: &dyn Gate) -> Result<Opened> {
    let header = version2::Header::read(&*file)?;
    let volume = header.metadata.check(header.length, file.len())?;
    let key = unlock(&*file, &volume.slots, volume.cipher.key_length(), gate)?;
    let sector_size = volume.sector_size as usize;
    let mut notes = vec![note(&volume.cipher, sector_size, &volume.slots)];
    notes.extend(header.notes);
    let cipher = volume.cipher.with_key(&key, sector_size);
    Ok(opened(Payload::new(file, volume.payload, volume.size, cipher, volume.first), "v2", notes))
}

/// Returns `data` decrypted by the key that `header` holds, and a sentence about what protects it. Sectors are numbered
/// from the beginning of `data`. This is for formats that keep a header of version 1 inside their own files.
///
/// # Errors
/// As those of [`open`].
pub(crate) fn decrypt(
    header: &dyn Source,
    data: Arc<dyn Source>,
    gate: &dyn Gate,
) -> Result<(Arc<dyn Source>, String)> {
    let version = version(header)?;
    if version != 1 {
        return Err(Error::unsupported(format!("a LUKS header of version {version} inside of another format")));
    }
    let version1::Header { cipher, slots, .. } = version1::Header::read(header)?;
    let key = unlock(header, &slots, cipher.key_length(), gate)?;
    let size = data.len() / SECTOR as u64 * SECTOR as u64;
    let disk = Payload::new(data, 0, size, cipher.with_key(&key, SECTOR), 0);
    Ok((Arc::new(disk), note(&cipher, SECTOR, &slots)))
}

fn opened(disk: Payload, variant: &str, notes: Vec<String>) -> Opened {
    Opened { disk: Arc::new(disk), format: Format::Luks, variant: variant.to_owned(), block_size: None, notes }
}

/// Says what protects the disk.
fn note(cipher: &Cipher, sector_size: usize, slots: &[Slot]) -> String {
    let bits = cipher.key_length() * 8;
    let slots = match slots.len() {
        1 => "1 key slot".to_owned(),
        count => format!("{count} key slots"),
    };
    format!("encrypted by {cipher} with a key of {bits} bits in sectors of {sector_size} bytes; {slots} in use")
}
