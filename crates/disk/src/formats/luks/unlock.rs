//! Key slots, and finding the one that a passphrase opens within what the gate allows.

use std::time::Duration;

use zeroize::Zeroizing;

use super::cipher::{Cipher, SECTOR};
use super::hash::Hash;
use super::kdf::{Kdf, pbkdf2_cost};
use super::stripes::{STRIPES, merge};
use crate::error::{Error, ErrorKind, Result};
use crate::fields::{check_inside, read_bytes};
use crate::gate::{Gate, UnlockLimits};
use crate::source::Source;

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
    let (affordable, refusal) = affordable(slots, &gate.unlock_limits());
    for slot in affordable {
        if let Some(key) = try_slot(file, slot, key_length, &passphrase)? {
            return Ok(key);
        }
    }
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    let tried = match slots.len() {
        1 => "the key slot in use".to_owned(),
        count => format!("any of the {count} key slots in use"),
    };
    Err(Error::refused(format!("the passphrase does not open {tried}")).with_hint(
        "every byte counts: with cryptsetup and QEMU, the line break at the end of a key file belongs to the passphrase",
    ))
}

/// Returns those of `slots` that can be tried within `limits`, and why the first of the others cannot.
fn affordable<'a>(slots: &'a [Slot], limits: &UnlockLimits) -> (Vec<&'a Slot>, Option<Error>) {
    let (mut affordable, mut refusal, mut spent) = (Vec::new(), None, Duration::ZERO);
    for slot in slots {
        let time = spent + slot.time();
        if slot.kdf.memory() <= limits.memory && time <= limits.time {
            spent = time;
            affordable.push(slot);
        } else if refusal.is_none() {
            refusal = Some(slot.too_costly(time, limits));
        }
    }
    (affordable, refusal)
}

impl Slot {
    /// Returns about how long one try takes.
    fn time(&self) -> Duration {
        let digest = pbkdf2_cost(self.digest.hash, self.digest.iterations, self.digest.value.len());
        Duration::from_micros(self.kdf.cost(self.cipher.key_length()).saturating_add(digest))
    }

    /// Returns the refusal to try the slot, where that and the tries before it would take `time`.
    fn too_costly(&self, time: Duration, limits: &UnlockLimits) -> Error {
        let (memory, seconds) = (self.kdf.memory().div_ceil(1 << 20), time.as_secs() + 1);
        let (mut over, mut options) = (Vec::new(), Vec::new());
        if self.kdf.memory() > limits.memory {
            over.push(format!("{memory} MiB of memory"));
            options.push(format!("--unlock-memory {memory}M"));
        }
        if time > limits.time {
            over.push(format!("about {seconds} seconds"));
            options.push(format!("--unlock-seconds {seconds}"));
        }
        Error::new(
            ErrorKind::TooLarge,
            format!(
                "LUKS slot {} asks for {}, and {} PBKDF2 rounds for the digest; it was not tried, because that takes {}",
                self.number,
                self.kdf,
                self.digest.iterations,
                over.join(" and ")
            ),
        )
        .with_hint(format!("if you trust the file, allow it with: {}", options.join(" ")))
    }
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

    fn slots(hash: Hash, kdf: &Kdf, iterations: u32) -> Vec<Slot> {
        let digest = KeyDigest { hash, iterations, salt: Vec::new(), value: vec![0; 20] };
        let cipher = Cipher::named("aes-xts-plain64", 64).unwrap();
        (0..32)
            .map(|number| Slot {
                number,
                kdf: kdf.clone(),
                offset: 0,
                cipher: cipher.clone(),
                hash,
                digest: digest.clone(),
            })
            .collect()
    }

    fn pbkdf2(hash: Hash, iterations: u32) -> Kdf {
        Kdf::pbkdf2("x", hash, iterations, Vec::new()).unwrap()
    }

    fn argon2(time: u32, memory: u32) -> Kdf {
        Kdf::argon2("x", Algorithm::Argon2id, (time, memory, 4), vec![0; 32]).unwrap()
    }

    #[test]
    fn slow_slots_are_counted_together() {
        let count = |slots: &[Slot]| affordable(slots, &UnlockLimits::default()).0.len();
        assert_eq!(count(&slots(Hash::Sha1, &pbkdf2(Hash::Sha1, 1_000_000), 1000)), 4);
        assert_eq!(count(&slots(Hash::Sha256, &pbkdf2(Hash::Sha256, 1_000_000), 100_000)), 9);
        assert_eq!(count(&slots(Hash::Sha256, &argon2(4, 128 << 10), 1000)), 19);
        assert_eq!(count(&slots(Hash::Sha256, &argon2(4, 1 << 20), 1000)), 0);
        assert_eq!(count(&slots(Hash::Sha256, &argon2(u32::MAX, u32::MAX), u32::MAX)), 0);
    }

    /// A slot that costs too much stands in the way of no other, and what it needs is said so that it can be given.
    #[test]
    fn a_costly_slot_is_passed_over_and_named() {
        let mut slots = slots(Hash::Sha256, &argon2(12, 1 << 20), 1000);
        slots[1].kdf = pbkdf2(Hash::Sha256, 1000);
        let tried =
            |limits: &UnlockLimits| affordable(&slots, limits).0.iter().map(|slot| slot.number).collect::<Vec<_>>();
        assert_eq!(tried(&UnlockLimits::default()), [1]);
        let refusal = affordable(&slots, &UnlockLimits::default()).1.unwrap();
        assert_eq!(
            refusal.to_string(),
            "LUKS slot 0 asks for 12 Argon2 passes over 1048576 KiB of memory, and 1000 PBKDF2 rounds for the digest; \
             it was not tried, because that takes 1024 MiB of memory and about 13 seconds"
        );
        let hint = "if you trust the file, allow it with: --unlock-memory 1024M --unlock-seconds 13";
        assert_eq!(refusal.hint(), Some(hint));
        assert_eq!(tried(&UnlockLimits { memory: 1 << 30, time: Duration::from_secs(13) }), [0, 1]);
    }
}
