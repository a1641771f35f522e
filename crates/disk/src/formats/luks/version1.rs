//! The header of LUKS version 1: 592 bytes, big-endian, with eight key slots.

use super::cipher::{Cipher, SECTOR};
use super::hash::Hash;
use super::kdf::{Kdf, check_iterations};
use super::stripes::STRIPES;
use super::unlock::{KeyDigest, Slot, check_materials};
use crate::error::{Error, Result};
use crate::fields::{be32, past_end, read_bytes};
use crate::source::Source;

/// Bytes of the header.
pub(super) const LENGTH: usize = 592;
pub(super) const SLOTS: usize = 8;
/// Where the slots begin in the header, and how long the entry of one is.
pub(super) const FIRST_SLOT: usize = 208;
pub(super) const SLOT_LENGTH: usize = 48;
pub(super) const ACTIVE: u32 = 0x00ac_71f3;
pub(super) const INACTIVE: u32 = 0x0000_dead;
pub(super) const SALT_LENGTH: usize = 32;
pub(super) const DIGEST_LENGTH: usize = 20;

/// A header that passed all checks.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) cipher: Cipher,
    /// Where the encrypted disk begins.
    pub(super) payload: u64,
    pub(super) slots: Vec<Slot>,
}

impl Header {
    /// Reads and checks the header at the beginning of `file`.
    pub(super) fn read(file: &dyn Source) -> Result<Self> {
        let bytes = read_bytes(file, 0, LENGTH, "the LUKS header")?;
        let key_length = be32(&bytes, 108) as usize;
        let name = format!("{}-{}", text(&bytes, 8, "the cipher")?, text(&bytes, 40, "the mode of the cipher")?);
        let cipher = Cipher::named(&name, key_length)?;
        let hash = Hash::named(text(&bytes, 72, "the hash")?)?;
        let payload = u64::from(be32(&bytes, 104)) * SECTOR as u64;
        if payload == 0 {
            return Err(Error::unsupported("the file is a detached LUKS header without the disk")
                .with_hint("put both into one file with: cryptsetup reencrypt, or qemu-img convert"));
        }
        if payload > file.len() {
            return Err(past_end("the LUKS header", 0, payload, file.len()));
        }
        let digest = KeyDigest {
            hash,
            iterations: be32(&bytes, 164),
            salt: bytes[132..132 + SALT_LENGTH].to_vec(),
            value: bytes[112..112 + DIGEST_LENGTH].to_vec(),
        };
        check_iterations("the digest of the LUKS key", digest.iterations)?;
        let mut slots = Vec::new();
        for number in 0..SLOTS {
            slots.extend(slot(&bytes, number, &cipher, &digest)?);
        }
        check_materials(&slots, key_length, &(LENGTH as u64..payload), file.len())?;
        Ok(Self { cipher, payload, slots })
    }
}

/// Returns key slot `number`, if it is in use.
fn slot(header: &[u8], number: usize, cipher: &Cipher, digest: &KeyDigest) -> Result<Option<Slot>> {
    let at = FIRST_SLOT + number * SLOT_LENGTH;
    match be32(header, at) {
        ACTIVE => {}
        INACTIVE => return Ok(None),
        state => return Err(Error::corrupt(format!("LUKS slot {number} has the state {state:#x} at byte {at}"))),
    }
    let stripes = be32(header, at + 44);
    if stripes as usize != STRIPES {
        return Err(Error::corrupt(format!(
            "LUKS slot {number} has {stripes} stripes at byte {}, allowed are {STRIPES}",
            at + 44
        )));
    }
    let salt = header[at + 8..at + 8 + SALT_LENGTH].to_vec();
    let kdf = Kdf::pbkdf2(&format!("LUKS slot {number}"), digest.hash, be32(header, at + 4), salt)?;
    let offset = u64::from(be32(header, at + 40)) * SECTOR as u64;
    Ok(Some(Slot {
        number: number as u64,
        kdf,
        offset,
        cipher: cipher.clone(),
        hash: digest.hash,
        digest: digest.clone(),
    }))
}

/// Returns the name of `what` in the 32 bytes at `at`, up to the first zero.
fn text<'a>(header: &'a [u8], at: usize, what: &str) -> Result<&'a str> {
    let field = header[at..at + 32].split(|byte| *byte == 0).next().unwrap_or_default();
    match std::str::from_utf8(field) {
        Ok(text) if text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.is_empty() => Ok(text),
        _ => Err(Error::corrupt(format!("the LUKS header has no name of {what} at byte {at}"))),
    }
}
