//! The anti-forensic splitter: a key is stored as 4000 stripes of its own length, of which all are needed.

use zeroize::Zeroizing;

use super::hash::Hash;

/// Stripes of every key slot: the only number that any program writes.
pub(super) const STRIPES: usize = 4000;

/// Returns the key that `material`, [`STRIPES`] stripes of `key_length` bytes and what follows them, was made of.
pub(super) fn merge(hash: Hash, material: &[u8], key_length: usize) -> Zeroizing<Vec<u8>> {
    let mut key = fold(hash, &material[..(STRIPES - 1) * key_length], key_length);
    xor(&mut key, &material[(STRIPES - 1) * key_length..STRIPES * key_length]);
    key
}

/// Turns `material` into [`STRIPES`] stripes of `key`: all but the last hold random bytes already, and the last is set
/// to what makes them the key.
pub(super) fn split(hash: Hash, key: &[u8], material: &mut [u8]) {
    let (random, last) = material.split_at_mut((STRIPES - 1) * key.len());
    let mut stripe = fold(hash, random, key.len());
    xor(&mut stripe, key);
    last.copy_from_slice(&stripe);
}

/// Adds up stripes, with a diffusion after each.
fn fold(hash: Hash, stripes: &[u8], key_length: usize) -> Zeroizing<Vec<u8>> {
    let mut sum = Zeroizing::new(vec![0; key_length]);
    for stripe in stripes.chunks_exact(key_length) {
        xor(&mut sum, stripe);
        diffuse(hash, &mut sum);
    }
    sum
}

/// Replaces each piece of `bytes` that is one hash long by the hash of its number and itself; the last may be shorter.
fn diffuse(hash: Hash, bytes: &mut [u8]) {
    for (number, piece) in (0_u32..).zip(bytes.chunks_mut(hash.length())) {
        let hashed = Zeroizing::new(hash.of(&[&number.to_be_bytes(), piece]));
        piece.copy_from_slice(&hashed[..piece.len()]);
    }
}

fn xor(bytes: &mut [u8], other: &[u8]) {
    for (byte, other) in bytes.iter_mut().zip(other) {
        *byte ^= other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_split_is_merged_and_every_stripe_counts() {
        let key: Vec<u8> = (0..64).collect();
        for hash in [Hash::Sha1, Hash::Sha256, Hash::Sha512] {
            let mut material: Vec<u8> = (0..STRIPES * 64).map(|at| (at % 251) as u8).collect();
            split(hash, &key, &mut material);
            assert_eq!(*merge(hash, &material, 64), key);
            material[17] ^= 1;
            assert_ne!(*merge(hash, &material, 64), key);
        }
    }
}
