//! A new LUKS version 1 header: a new key of the volume, and one slot that a passphrase opens.

use std::time::{Duration, Instant};

use uuid::Uuid;
use zeroize::Zeroizing;

use super::cipher::{Cipher, SECTOR, SectorCipher};
use super::hash::Hash;
use super::stripes::{STRIPES, split};
use super::unlock::material_length;
use super::version1::{ACTIVE, DIGEST_LENGTH, FIRST_SLOT, INACTIVE, LENGTH, SALT_LENGTH, SLOT_LENGTH, SLOTS};
use crate::error::{Error, Result};

/// AES-XTS with two keys of 256 bits.
const KEY_LENGTH: usize = 64;
const HASH: Hash = Hash::Sha256;
/// Key materials begin at multiples of this many bytes, as QEMU and cryptsetup place them.
const ALIGNMENT: usize = 4096;
/// Where the encrypted disk begins: the next MiB after eight key materials, as cryptsetup places it.
const PAYLOAD: u64 = 2 << 20;
/// The least and the most PBKDF2 rounds, whatever the speed of this machine.
const ITERATIONS: std::ops::RangeInclusive<u64> = 1000..=10_000_000;

/// A new header, and the cipher that it is for.
pub(crate) struct NewVolume {
    pub(crate) head: Head,
    /// Encrypts the sectors of the disk.
    pub(crate) cipher: SectorCipher,
}

/// A header with its key materials, without the zeros that follow.
pub(crate) struct Head(Vec<u8>);

impl Head {
    /// Returns its length with all zeros, where the encrypted disk begins in a file of LUKS alone.
    pub(crate) fn length(&self) -> u64 {
        PAYLOAD
    }

    /// Fills `buf` from byte `offset` of the header and the zeros after it.
    pub(crate) fn fill(&self, buf: &mut [u8], offset: u64) {
        let head = self.0.get(offset as usize..).unwrap_or_default();
        let (known, zeros) = buf.split_at_mut(head.len().min(buf.len()));
        known.copy_from_slice(&head[..known.len()]);
        zeros.fill(0);
    }
}

impl NewVolume {
    /// Makes a key and a header whose first slot `passphrase` opens in about `time` on this machine.
    pub(crate) fn create(passphrase: &[u8], time: Duration) -> Result<Self> {
        let cipher = Cipher::named("aes-xts-plain64", KEY_LENGTH)?;
        let iterations = iterations_in(time);
        let mut key = Zeroizing::new([0; KEY_LENGTH]);
        random(&mut *key)?;
        let mut salts = [0; 2 * SALT_LENGTH];
        random(&mut salts)?;
        let (digest_salt, slot_salt) = salts.split_at(SALT_LENGTH);
        // The digest guards a key that nobody can guess, so an eighth of the rounds is enough, as in cryptsetup.
        let digest_iterations = (iterations / 8).max(1000);
        let mut digest = [0; DIGEST_LENGTH];
        HASH.pbkdf2(&*key, digest_salt, digest_iterations, &mut digest);

        let mut head = vec![0; LENGTH];
        head[..8].copy_from_slice(b"LUKS\xba\xbe\0\x01");
        for (at, name) in [(8, "aes"), (40, "xts-plain64"), (72, "sha256")] {
            head[at..at + name.len()].copy_from_slice(name.as_bytes());
        }
        set32(&mut head, 104, (PAYLOAD as usize / SECTOR) as u32);
        set32(&mut head, 108, KEY_LENGTH as u32);
        head[112..132].copy_from_slice(&digest);
        head[132..164].copy_from_slice(digest_salt);
        set32(&mut head, 164, digest_iterations);
        let uuid = Uuid::new_v4().to_string();
        head[168..168 + uuid.len()].copy_from_slice(uuid.as_bytes());
        let room = material_length(KEY_LENGTH).next_multiple_of(ALIGNMENT);
        for slot in 0..SLOTS {
            let at = FIRST_SLOT + slot * SLOT_LENGTH;
            set32(&mut head, at, if slot == 0 { ACTIVE } else { INACTIVE });
            set32(&mut head, at + 40, ((ALIGNMENT + slot * room) / SECTOR) as u32);
            set32(&mut head, at + 44, STRIPES as u32);
        }
        set32(&mut head, FIRST_SLOT + 4, iterations);
        head[FIRST_SLOT + 8..FIRST_SLOT + 8 + SALT_LENGTH].copy_from_slice(slot_salt);
        head.resize(ALIGNMENT, 0);
        head.extend(material(&cipher, &*key, passphrase, slot_salt, iterations)?);
        Ok(Self { head: Head(head), cipher: cipher.with_key(&*key, SECTOR) })
    }
}

/// Returns the encrypted stripes of `key`.
fn material(cipher: &Cipher, key: &[u8], passphrase: &[u8], salt: &[u8], iterations: u32) -> Result<Vec<u8>> {
    let mut material = vec![0; material_length(key.len())];
    random(&mut material)?;
    split(HASH, key, &mut material);
    let mut slot_key = Zeroizing::new([0; KEY_LENGTH]);
    HASH.pbkdf2(passphrase, salt, iterations, &mut *slot_key);
    cipher.with_key(&*slot_key, SECTOR).encrypt(&mut material, 0);
    Ok(material)
}

/// Measures how many PBKDF2 rounds this machine makes in `time`.
fn iterations_in(time: Duration) -> u32 {
    let mut iterations = 10_000;
    let taken = loop {
        let started = Instant::now();
        let mut key = Zeroizing::new([0; KEY_LENGTH]);
        HASH.pbkdf2(b"passphrase", b"salt", iterations, &mut *key);
        let taken = started.elapsed();
        if taken > time / 10 || taken > Duration::from_millis(50) || iterations > 1 << 20 {
            break taken;
        }
        iterations *= 2;
    };
    let rounds = u128::from(iterations) * time.as_nanos() / taken.as_nanos().max(1);
    let rounds = u64::try_from(rounds).unwrap_or(u64::MAX).clamp(*ITERATIONS.start(), *ITERATIONS.end());
    rounds as u32
}

fn set32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| Error::unsupported(format!("the system gives no random bytes: {error}")))
}
