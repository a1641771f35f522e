//! The cipher: AES-256-GCM with a random nonce.
//!
//! Sealed bytes are `nonce (12) | ciphertext | tag (16)`. A random nonce is safe for 2^32 messages under
//! one key (NIST SP 800-38D, 8.3); chunks and manifests stay far below, since each has a key of its own.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::{Error, ErrorKind, Result};

/// Bytes of a key.
pub const KEY_LENGTH: usize = 32;
/// Bytes of the nonce that stands before the ciphertext.
pub const NONCE_LENGTH: usize = 12;
/// Bytes of the tag that stands after the ciphertext.
pub const TAG_LENGTH: usize = 16;
/// Bytes by which sealing lengthens a message.
pub const OVERHEAD: usize = NONCE_LENGTH + TAG_LENGTH;

/// Fills `buf` from the random source of the cipher library.
pub fn random(buf: &mut [u8]) -> Result<()> {
    aws_lc_rs::rand::fill(buf).map_err(|_| Error::new(ErrorKind::Io, "the random source of the system failed"))
}

/// Seals `plain` under `key`; `aad` is bound to the result without being part of it.
pub fn seal(key: &[u8; KEY_LENGTH], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
    let mut buf = Vec::with_capacity(plain.len() + OVERHEAD);
    buf.resize(NONCE_LENGTH, 0);
    buf.extend_from_slice(plain);
    seal_in_place(key, aad, &mut buf, NONCE_LENGTH)?;
    Ok(buf)
}

/// Seals `buf[start..]` where it stands: the nonce goes into the [`NONCE_LENGTH`] bytes before `start`,
/// the tag is appended. What comes before the nonce is left alone.
///
/// # Panics
/// When `start` is below [`NONCE_LENGTH`] or past the end of `buf`.
pub fn seal_in_place(key: &[u8; KEY_LENGTH], aad: &[u8], buf: &mut Vec<u8>, start: usize) -> Result<()> {
    let mut nonce = [0; NONCE_LENGTH];
    random(&mut nonce)?;
    buf[start - NONCE_LENGTH..start].copy_from_slice(&nonce);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = less_safe(key)?
        .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut buf[start..])
        .map_err(|_| Error::new(ErrorKind::Refused, "the message is too long to be sealed"))?;
    buf.extend_from_slice(tag.as_ref());
    Ok(())
}

/// Opens what [`seal`] made with the same key and `aad`.
pub fn open(key: &[u8; KEY_LENGTH], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
    let mut plain = vec![0; sealed.len().saturating_sub(OVERHEAD)];
    open_into(key, aad, sealed, &mut plain)?;
    Ok(plain)
}

/// Like [`open`], into `plain`, which must be [`OVERHEAD`] bytes shorter than `sealed`. When it fails,
/// `plain` holds nothing that may be used.
pub fn open_into(key: &[u8; KEY_LENGTH], aad: &[u8], sealed: &[u8], plain: &mut [u8]) -> Result<()> {
    if sealed.len().checked_sub(OVERHEAD) != Some(plain.len()) {
        return Err(Error::new(ErrorKind::Corrupt, "sealed bytes have the wrong length"));
    }
    let (nonce, rest) = sealed.split_at(NONCE_LENGTH);
    let (ciphertext, tag) = rest.split_at(plain.len());
    Nonce::try_assume_unique_for_key(nonce)
        .and_then(|nonce| less_safe_key(key)?.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, plain))
        .map_err(|_| Error::new(ErrorKind::Refused, "the key does not open these bytes, or they were changed"))
}

/// A key that never leaves this process and is gone with it, for what nobody reads afterwards.
pub struct ProcessKey(LessSafeKey);

impl ProcessKey {
    /// Makes a random key.
    pub fn new() -> Result<Self> {
        let mut key = zeroize::Zeroizing::new([0; KEY_LENGTH]);
        random(&mut *key)?;
        less_safe(&key).map(Self)
    }

    /// Seals `bytes` where they stand and returns the tag. The caller counts: no `nonce` may come twice.
    pub fn seal(&self, nonce: [u8; NONCE_LENGTH], bytes: &mut [u8]) -> Result<[u8; TAG_LENGTH]> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), bytes);
        let tag = tag.map_err(|_| Error::new(ErrorKind::Refused, "the message is too long to be sealed"))?;
        let mut bytes = [0; TAG_LENGTH];
        bytes.copy_from_slice(tag.as_ref());
        Ok(bytes)
    }

    /// Opens what was sealed with `nonce` into `plain`, which has the length of `sealed`. Returns whether it is that; if not,
    /// `plain` holds nothing that may be used.
    #[must_use]
    pub fn open(&self, nonce: [u8; NONCE_LENGTH], sealed: &[u8], tag: &[u8], plain: &mut [u8]) -> bool {
        let nonce = Nonce::assume_unique_for_key(nonce);
        plain.len() == sealed.len() && self.0.open_separate_gather(nonce, Aad::empty(), sealed, tag, plain).is_ok()
    }
}

impl std::fmt::Debug for ProcessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProcessKey(..)")
    }
}

fn less_safe_key(key: &[u8; KEY_LENGTH]) -> std::result::Result<LessSafeKey, aws_lc_rs::error::Unspecified> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new)
}

fn less_safe(key: &[u8; KEY_LENGTH]) -> Result<LessSafeKey> {
    less_safe_key(key).map_err(|_| Error::new(ErrorKind::Refused, "the cipher library refused the key"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];

    #[test]
    fn opens_what_it_sealed_and_nothing_else() {
        for plain in [&b""[..], b"x", &[9; 5000]] {
            let sealed = seal(&KEY, b"place", plain).unwrap();
            assert_eq!(sealed.len(), plain.len() + OVERHEAD);
            assert_eq!(open(&KEY, b"place", &sealed).unwrap(), plain);
            assert_eq!(open(&KEY, b"other", &sealed).unwrap_err().kind(), ErrorKind::Refused);
            assert_eq!(open(&[8; 32], b"place", &sealed).unwrap_err().kind(), ErrorKind::Refused);
        }
    }

    #[test]
    fn every_changed_bit_is_noticed() {
        let sealed = seal(&KEY, b"place", b"sixteen bytes...").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&KEY, b"place", &changed).is_err(), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert!(open(&KEY, b"place", &sealed[..length]).is_err(), "cut to {length}");
        }
    }

    #[test]
    fn a_key_of_the_process_opens_what_it_sealed_under_its_nonce() {
        let (key, other) = (ProcessKey::new().unwrap(), ProcessKey::new().unwrap());
        let mut bytes = *b"some bytes of a disk";
        let tag = key.seal([1; 12], &mut bytes).unwrap();
        let mut plain = [0; 20];
        assert!(key.open([1; 12], &bytes, &tag, &mut plain));
        assert_eq!(&plain, b"some bytes of a disk");
        assert!(!key.open([2; 12], &bytes, &tag, &mut plain));
        assert!(!other.open([1; 12], &bytes, &tag, &mut plain));
        assert!(!key.open([1; 12], &bytes[..19], &tag, &mut plain[..19]));
        assert!(!key.open([1; 12], &bytes, &tag[..15], &mut plain));
        bytes[7] ^= 1;
        assert!(!key.open([1; 12], &bytes, &tag, &mut plain));
    }

    #[test]
    fn nonces_differ() {
        assert_ne!(seal(&KEY, b"", b"same").unwrap(), seal(&KEY, b"", b"same").unwrap());
    }

    /// McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16: proves that the bytes are
    /// AES-256-GCM as the world knows it.
    #[test]
    fn opens_a_published_vector() {
        let key: [u8; 32] = hex::decode("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308")
            .unwrap()
            .try_into()
            .unwrap();
        let aad = hex::decode("feedfacedeadbeeffeedfacedeadbeefabaddad2").unwrap();
        let sealed = hex::decode(
            "cafebabefacedbaddecaf888\
             522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
             8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662\
             76fc6ece0f4e1768cddf8853bb2d551b",
        )
        .unwrap();
        let plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
                     1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
        assert_eq!(hex::encode(open(&key, &aad, &sealed).unwrap()), plain);
    }
}
