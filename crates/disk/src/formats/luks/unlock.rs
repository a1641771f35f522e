//! Key slots, and finding the one that a passphrase opens.

use zeroize::Zeroizing;

use super::cipher::{Cipher, SECTOR};
use super::hash::Hash;
use super::kdf::{Kdf, pbkdf2_cost};
use super::stripes::{STRIPES, merge};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::{check_inside, read_bytes};
use crate::gate::Gate;
use crate::source::Source;

/// Trying all slots takes at most about this many microseconds.
const MAX_COST: u64 = if cfg!(fuzzing) { 20_000 } else { 60_000_000 };

/// A key slot in use: the key of the volume, encrypted by a key that is derived from a passphrase.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) number: u64,
    pub(super) kdf: Kdf,
    /// Where its key material lies.
    pub(super) offset: u64,
    /// What its key material is encrypted with.
    pub(super) cipher: Cipher,
    /// The hash of the stripes.
    pub(super) hash: Hash,
    /// Tells whether the key is right.
    pub(super) digest: KeyDigest,
}

/// PBKDF2 of the key of the volume.
#[derive(Debug, Clone)]
pub(super) struct KeyDigest {
    pub(super) hash: Hash,
    pub(super) iterations: u32,
    pub(super) salt: Vec<u8>,
    pub(super) value: Vec<u8>,
}

impl KeyDigest {
    fn matches(&self, key: &[u8]) -> bool {
        let mut value = vec![0; self.value.len()];
        self.hash.pbkdf2(key, &self.salt, self.iterations, &mut value);
        value == self.value
    }
}

/// Returns the bytes that the key material of a key of `key_length` bytes takes, in whole sectors.
pub(super) fn material_length(key_length: usize) -> usize {
    (key_length * STRIPES).next_multiple_of(SECTOR)
}

/// Checks that the key materials of keys of `key_length` bytes lie in `area` and not one over another.
pub(super) fn check_materials(slots: &[Slot], key_length: usize, area: &std::ops::Range<u64>, len: u64) -> Result<()> {
    let length = material_length(key_length) as u64;
    let mut order: Vec<_> = slots.iter().collect();
    order.sort_by_key(|slot| slot.offset);
    let mut free = area.start;
    for slot in order {
        let (number, offset) = (slot.number, slot.offset);
        let end = offset.saturating_add(length);
        if offset < free || end > area.end {
            return Err(Error::corrupt(format!(
                "the key material of LUKS slot {number} lies at byte {offset} and has {length} bytes, \
                 where bytes {free} to {} are free for it",
                area.end
            )));
        }
        check_inside(format_args!("the key material of LUKS slot {number}"), offset, length, len)?;
        free = end;
    }
    Ok(())
}

/// Asks `gate` for the passphrase and returns the key of the volume, of `key_length` bytes, from the first of `slots`
/// that it opens. The slots were checked by [`check_materials`].
pub(super) fn unlock(
    file: &dyn Source,
    slots: &[Slot],
    key_length: usize,
    gate: &dyn Gate,
) -> Result<Zeroizing<Vec<u8>>> {
    if slots.is_empty() {
        return Err(Error::unsupported("the LUKS header has no key slot in use, so nothing can decrypt the disk"));
    }
    let passphrase = gate.passphrase().ok_or_else(|| {
        Error::unsupported("the disk is encrypted by LUKS, and no passphrase was given")
            .with_hint("give the file with its passphrase: --passphrase-file FILE")
    })?;
    let affordable = affordable(slots);
    for slot in &slots[..affordable] {
        if let Some(key) = try_slot(file, slot, key_length, &passphrase)? {
            return Ok(key);
        }
    }
    if let Some(slot) = slots.get(affordable) {
        let number = slot.number;
        return Err(Error::new(ErrorKind::TooLarge, format!("trying the LUKS key slots up to {number} takes minutes"))
            .with_hint("add the passphrase to a slot with fewer rounds: cryptsetup luksChangeKey --iter-time"));
    }
    let tried = match slots.len() {
        1 => "the key slot in use".to_owned(),
        count => format!("any of the {count} key slots in use"),
    };
    Err(Error::refused(format!("the passphrase does not open {tried}")).with_hint(
        "every byte counts: with cryptsetup and QEMU, the line break at the end of a key file belongs to the passphrase",
    ))
}

/// Returns how many of `slots`, from the first on, can be tried within [`MAX_COST`].
fn affordable(slots: &[Slot]) -> usize {
    let mut left = MAX_COST;
    let within = slots.iter().take_while(|slot| {
        let digest = pbkdf2_cost(slot.digest.hash, slot.digest.iterations, slot.digest.value.len());
        let cost = slot.kdf.cost(slot.cipher.key_length()) + digest;
        let enough = cost <= left;
        left = left.saturating_sub(cost);
        enough
    });
    within.count()
}

fn try_slot(
    file: &dyn Source,
    slot: &Slot,
    key_length: usize,
    passphrase: &[u8],
) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let what = format!("the key material of LUKS slot {}", slot.number);
    let material = read_bytes(file, slot.offset, material_length(key_length), &what)?;
    let mut material = Zeroizing::new(material);
    let slot_key = slot.kdf.derive(passphrase, slot.cipher.key_length())?;
    slot.cipher.with_key(&slot_key, SECTOR).decrypt(&mut material, 0);
    let key = merge(slot.hash, &material, key_length);
    Ok(slot.digest.matches(&key).then_some(key))
}

#[cfg(test)]
mod tests {
    use argon2::Algorithm;

    use super::*;

    /// Any slot within the limits can be tried alone, and not many of the slowest.
    #[test]
    fn slow_slots_are_counted_together() {
        let slots = |hash, kdf: Kdf, iterations| {
            let digest = KeyDigest { hash, iterations, salt: Vec::new(), value: vec![0; 20] };
            let cipher = Cipher::named("aes-xts-plain64", 64).unwrap();
            vec![Slot { number: 0, kdf, offset: 0, cipher, hash, digest }; 32]
        };
        let pbkdf2 = |hash, iterations| Kdf::pbkdf2("x", hash, iterations, Vec::new()).unwrap();
        let argon2 = |time, memory| Kdf::argon2("x", Algorithm::Argon2id, (time, memory, 4), vec![0; 32]).unwrap();
        let most = 12_000_000;
        assert_eq!(affordable(&slots(Hash::Sha1, pbkdf2(Hash::Sha1, most), most)), 2);
        assert_eq!(affordable(&slots(Hash::Sha256, pbkdf2(Hash::Sha256, most), most)), 3);
        assert_eq!(affordable(&slots(Hash::Sha256, argon2(16, 1 << 20), 1000)), 3);
        // What cryptsetup makes by default, on a fast machine.
        assert_eq!(affordable(&slots(Hash::Sha256, argon2(4, 1 << 20), 200_000)), 13);
        assert_eq!(affordable(&slots(Hash::Sha256, pbkdf2(Hash::Sha256, 2_000_000), 200_000)), 28);
    }
}
