//! AES over the sectors of a disk, in XTS or CBC mode, many blocks at once so that the processor overlaps them.

use std::fmt;

use aes::cipher::{Block, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use zeroize::Zeroizing;

use super::hash::Hash;
use crate::error::{Error, Result};

/// Sectors are numbered in units of this many bytes, whatever their own size.
pub(crate) const SECTOR: usize = 512;

/// The largest sector, and what is given to AES at once: processors with wide registers want 64 blocks or more.
pub(super) const PIECE: usize = 4096;
const BLOCKS: usize = PIECE / 16;

/// First vectors are made for this many pieces at once.
const PIECES: usize = 8;
const VECTORS: usize = PIECES * PIECE / SECTOR;

/// The block of every AES, whatever its key.
type AesBlock = Block<Aes256>;

/// Which cipher a header names, with the length of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cipher {
    chaining: Chaining,
    vector: VectorKind,
    key_length: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chaining {
    Xts,
    Cbc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VectorKind {
    /// The number of the sector, cut to 32 bits.
    Plain,
    /// The number of the sector.
    Plain64,
    /// The number of the sector, encrypted by the SHA-256 of the key.
    Essiv,
}

impl Cipher {
    /// Finds the cipher that is called `name`, such as `aes-xts-plain64`, for a key of `key_length` bytes.
    pub(super) fn named(name: &str, key_length: usize) -> Result<Self> {
        let (chaining, vector) = match name {
            "aes-xts-plain64" => (Chaining::Xts, VectorKind::Plain64),
            "aes-xts-plain" => (Chaining::Xts, VectorKind::Plain),
            "aes-cbc-plain64" => (Chaining::Cbc, VectorKind::Plain64),
            "aes-cbc-plain" => (Chaining::Cbc, VectorKind::Plain),
            "aes-cbc-essiv:sha256" => (Chaining::Cbc, VectorKind::Essiv),
            _ => {
                return Err(Error::unsupported(format!("the LUKS header uses the cipher {name:?}, which is not read"))
                    .with_hint("aes-xts-plain64, aes-cbc-plain64 and aes-cbc-essiv:sha256 are read"));
            }
        };
        let allowed: &[usize] = match chaining {
            Chaining::Xts => &[32, 48, 64],
            Chaining::Cbc => &[16, 24, 32],
        };
        if !allowed.contains(&key_length) {
            return Err(Error::corrupt(format!(
                "the LUKS header has a key of {key_length} bytes for the cipher {name}, allowed are {allowed:?}"
            )));
        }
        Ok(Self { chaining, vector, key_length })
    }

    /// Returns the bytes of its key.
    pub(super) fn key_length(&self) -> usize {
        self.key_length
    }

    /// Sets the key, which has the length that is meant, for sectors of `sector_size` bytes.
    pub(super) fn with_key(&self, key: &[u8], sector_size: usize) -> SectorCipher {
        let (data, vector) = match self.chaining {
            Chaining::Xts => key.split_at(key.len() / 2),
            Chaining::Cbc => (key, &[][..]),
        };
        SectorCipher {
            data: aes(data),
            tweak: (!vector.is_empty()).then(|| aes(vector)),
            essiv: (self.vector == VectorKind::Essiv).then(|| aes(&Zeroizing::new(Hash::Sha256.of(&[key])))),
            short: self.vector == VectorKind::Plain,
            sector_size,
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chaining = match self.chaining {
            Chaining::Xts => "xts",
            Chaining::Cbc => "cbc",
        };
        let vector = match self.vector {
            VectorKind::Plain => "plain",
            VectorKind::Plain64 => "plain64",
            VectorKind::Essiv => "essiv:sha256",
        };
        write!(f, "aes-{chaining}-{vector}")
    }
}

/// AES with a key of any length. Its keys are overwritten when it is dropped.
trait Aes: Send + Sync {
    fn encrypt(&self, blocks: &mut [AesBlock]);
    fn decrypt(&self, blocks: &mut [AesBlock]);
}

impl<C> Aes for C
where
    C: BlockCipherEncrypt + BlockCipherDecrypt + aes::cipher::BlockSizeUser<BlockSize = aes::cipher::consts::U16>,
    C: Send + Sync,
{
    fn encrypt(&self, blocks: &mut [AesBlock]) {
        self.encrypt_blocks(blocks);
    }

    fn decrypt(&self, blocks: &mut [AesBlock]) {
        self.decrypt_blocks(blocks);
    }
}

/// Makes the AES that the length of `key` asks for; it is 16, 24 or 32.
fn aes(key: &[u8]) -> Box<dyn Aes> {
    fn with<C: Aes + KeyInit + 'static>(key: &[u8]) -> Option<Box<dyn Aes>> {
        C::new_from_slice(key).ok().map(|cipher| Box::new(cipher) as Box<dyn Aes>)
    }
    with::<Aes256>(key)
        .or_else(|| with::<Aes192>(key))
        .or_else(|| with::<Aes128>(key))
        .unwrap_or_else(|| unreachable!("Cipher::named allows no key of {} bytes", key.len()))
}

/// A cipher with its key.
pub(crate) struct SectorCipher {
    data: Box<dyn Aes>,
    /// The second key of XTS; CBC has none.
    tweak: Option<Box<dyn Aes>>,
    /// Encrypts the numbers of sectors.
    essiv: Option<Box<dyn Aes>>,
    /// Numbers of sectors are cut to 32 bits.
    short: bool,
    sector_size: usize,
}

/// Which way.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Encrypt,
    Decrypt,
}

impl SectorCipher {
    /// Returns the bytes of a sector.
    pub(super) fn sector_size(&self) -> usize {
        self.sector_size
    }

    /// Encrypts whole sectors, of which the first one has the number `first`.
    pub(crate) fn encrypt(&self, sectors: &mut [u8], first: u64) {
        self.run(sectors, first, Way::Encrypt);
    }

    /// Decrypts whole sectors, of which the first one has the number `first`.
    pub(crate) fn decrypt(&self, sectors: &mut [u8], first: u64) {
        self.run(sectors, first, Way::Decrypt);
    }

    fn run(&self, sectors: &mut [u8], mut first: u64, way: Way) {
        debug_assert!(sectors.len().is_multiple_of(self.sector_size));
        let length = PIECES * PIECE;
        for batch in sectors.chunks_mut(length) {
            let mut vectors = [AesBlock::default(); VECTORS];
            let vectors = &mut vectors[..batch.len() / self.sector_size];
            self.fill_vectors(vectors, first);
            first = first.wrapping_add((length / SECTOR) as u64);
            for (piece, vectors) in batch.chunks_mut(PIECE).zip(vectors.chunks(PIECE / self.sector_size)) {
                let (blocks, _) = AesBlock::slice_as_chunks_mut(piece);
                if self.tweak.is_some() {
                    self.xts(blocks, vectors, way);
                    continue;
                }
                for (sector, vector) in blocks.chunks_mut(self.sector_size / 16).zip(vectors) {
                    match way {
                        Way::Encrypt => self.encrypt_cbc(sector, *vector),
                        Way::Decrypt => self.decrypt_cbc(sector, *vector),
                    }
                }
            }
        }
    }

    /// Makes what is mixed into the sectors from number `first` on.
    fn fill_vectors(&self, vectors: &mut [AesBlock], mut first: u64) {
        for vector in &mut *vectors {
            let number = if self.short { first & u64::from(u32::MAX) } else { first };
            first = first.wrapping_add((self.sector_size / SECTOR) as u64);
            vector[..8].copy_from_slice(&number.to_le_bytes());
        }
        for cipher in [&self.essiv, &self.tweak].into_iter().flatten() {
            cipher.encrypt(vectors);
        }
    }

    /// XTS after IEEE 1619: each block is masked before and after by its tweak, which doubles from block to block.
    fn xts(&self, blocks: &mut [AesBlock], vectors: &[AesBlock], way: Way) {
        let mut masks = [0; BLOCKS];
        for (masks, vector) in masks.chunks_mut(self.sector_size / 16).zip(vectors) {
            let mut tweak = u128::from_le_bytes(vector.0);
            for mask in masks {
                *mask = tweak;
                tweak = (tweak << 1) ^ ((tweak >> 127) * 0x87);
            }
        }
        mask(blocks, &masks);
        match way {
            Way::Encrypt => self.data.encrypt(blocks),
            Way::Decrypt => self.data.decrypt(blocks),
        }
        mask(blocks, &masks);
    }

    fn encrypt_cbc(&self, sector: &mut [AesBlock], vector: AesBlock) {
        let mut before = vector;
        for block in sector {
            xor(block, &before);
            self.data.encrypt(std::slice::from_mut(block));
            before = *block;
        }
    }

    fn decrypt_cbc(&self, sector: &mut [AesBlock], vector: AesBlock) {
        let mut encrypted = [AesBlock::default(); BLOCKS];
        encrypted[..sector.len()].copy_from_slice(sector);
        self.data.decrypt(sector);
        let mut before = vector;
        for (block, encrypted) in sector.iter_mut().zip(encrypted) {
            xor(block, &before);
            before = encrypted;
        }
    }
}

fn xor(block: &mut AesBlock, other: &AesBlock) {
    let sum = u128::from_ne_bytes(block.0) ^ u128::from_ne_bytes(other.0);
    block.0 = sum.to_ne_bytes();
}

fn mask(blocks: &mut [AesBlock], masks: &[u128; BLOCKS]) {
    for (block, mask) in blocks.iter_mut().zip(masks) {
        block.0 = (u128::from_le_bytes(block.0) ^ mask).to_le_bytes();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// Vectors 4 and 10 of IEEE 1619-2007: the first and the last two blocks of a sector.
    #[test]
    fn xts_is_that_of_the_standard() {
        let plain: Vec<u8> = (0..=255).chain(0..=255).collect();
        for (key, number, head, tail) in [
            (
                "2718281828459045235360287471352631415926535897932384626433832795",
                0,
                "27a7479befa1d476489f308cd4cfa6e2a96e4bbe3208ff25287dd3819616e89c",
                "eb4a427d1923ce3ff262735779a418f20a282df920147beabe421ee5319d0568",
            ),
            (
                "2718281828459045235360287471352662497757247093699959574966967627\
                 3141592653589793238462643383279502884197169399375105820974944592",
                0xff,
                "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b",
                "773dad38014bd2092fa755c824bb5e54c4f36ffda9fcea70b9c6e693e148c151",
            ),
        ] {
            let key = bytes(key);
            let cipher = Cipher::named("aes-xts-plain64", key.len()).unwrap().with_key(&key, SECTOR);
            let mut sector = plain.clone();
            cipher.encrypt(&mut sector, number);
            assert_eq!((&sector[..32], &sector[480..]), (&bytes(head)[..], &bytes(tail)[..]));
            cipher.decrypt(&mut sector, number);
            assert_eq!(sector, plain);
        }
    }

    #[test]
    fn plain_numbers_begin_again_after_32_bits() {
        let encrypted = |name: &str, number| {
            let mut sector = [7; SECTOR];
            Cipher::named(name, 32).unwrap().with_key(&[3; 32], SECTOR).encrypt(&mut sector, number);
            sector
        };
        for mode in ["aes-xts", "aes-cbc"] {
            let [plain, plain64] = [format!("{mode}-plain"), format!("{mode}-plain64")];
            assert_eq!(encrypted(&plain, (1 << 32) + 5), encrypted(&plain64, 5));
            assert_ne!(encrypted(&plain64, (1 << 32) + 5), encrypted(&plain64, 5));
        }
    }

    #[test]
    fn sectors_of_any_number_and_size_come_back() {
        let key: Vec<u8> = (0..64).collect();
        let plain: Vec<u8> = (0..130 * 4096_u32).map(|at| (at % 253) as u8).collect();
        for (name, length) in [
            ("aes-xts-plain64", 64),
            ("aes-xts-plain", 32),
            ("aes-cbc-essiv:sha256", 32),
            ("aes-cbc-plain64", 24),
            ("aes-cbc-plain", 16),
        ] {
            for sector_size in [512, 4096] {
                let named = Cipher::named(name, length).unwrap();
                assert_eq!(named.to_string(), name);
                let cipher = named.with_key(&key[..length], sector_size);
                let mut whole = plain.clone();
                cipher.encrypt(&mut whole, 9);
                let mut alone = plain[97 * 4096..98 * 4096].to_vec();
                cipher.encrypt(&mut alone, 9 + 97 * 8);
                assert!(alone == whole[97 * 4096..98 * 4096], "{name} {sector_size}");
                cipher.decrypt(&mut whole, 9);
                assert!(whole == plain, "{name} {sector_size}");
            }
        }
    }
}
