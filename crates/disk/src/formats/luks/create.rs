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
const MIN_ITERATIONS: u32 = 1000;
const MAX_ITERATIONS: u32 = 10_000_000;

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
        let mut head = header(iterations, digest_salt, slot_salt, &key);
        head.resize(ALIGNMENT, 0);
        head.extend(material(&cipher, &*key, passphrase, slot_salt, iterations)?);
        Ok(Self { head: Head(head), cipher: cipher.with_key(&*key, SECTOR) })
    }
}

/// Returns the header of a volume with `key`, whose first slot is in use.
fn header(iterations: u32, digest_salt: &[u8], slot_salt: &[u8], key: &[u8; KEY_LENGTH]) -> Vec<u8> {
    // The digest guards a key that nobody can guess, so an eighth of the rounds is enough, as in cryptsetup.
    let digest_iterations = (iterations / 8).max(MIN_ITERATIONS);
    let mut digest = [0; DIGEST_LENGTH];
    HASH.pbkdf2(key, digest_salt, digest_iterations, &mut digest);

    let mut header = vec![0; LENGTH];
    let mut set = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    let number = |value: usize| (value as u32).to_be_bytes();
    set(0, b"LUKS\xba\xbe\0\x01");
    set(8, b"aes");
    set(40, b"xts-plain64");
    set(72, b"sha256");
    set(104, &number(PAYLOAD as usize / SECTOR));
    set(108, &number(KEY_LENGTH));
    set(112, &digest);
    set(132, digest_salt);
    set(164, &digest_iterations.to_be_bytes());
    set(168, Uuid::new_v4().to_string().as_bytes());
    let room = material_length(KEY_LENGTH).next_multiple_of(ALIGNMENT);
    for slot in 0..SLOTS {
        let at = FIRST_SLOT + slot * SLOT_LENGTH;
        set(at, &INACTIVE.to_be_bytes());
        set(at + 40, &number((ALIGNMENT + slot * room) / SECTOR));
        set(at + 44, &number(STRIPES));
    }
    set(FIRST_SLOT, &ACTIVE.to_be_bytes());
    set(FIRST_SLOT + 4, &iterations.to_be_bytes());
    set(FIRST_SLOT + 8, slot_salt);
    header
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

/// Measures how many PBKDF2 rounds this machine makes in `time`; at least a million for a second.
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
    // A machine that is busy just now is no reason for a weak file.
    let least = u128::from(MIN_ITERATIONS) * time.as_millis().max(1);
    rounds.max(least).min(MAX_ITERATIONS.into()) as u32
}

fn random(bytes: &mut [u8]) -> Result<()> {
    getrandom::fill(bytes).map_err(|error| Error::unsupported(format!("the system gives no random bytes: {error}")))
}
