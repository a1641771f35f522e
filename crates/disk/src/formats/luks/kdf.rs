//! From a passphrase to a key, slowly: what it costs is known before, and whoever derives a key compares that with a limit.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use super::hash::Hash;
use crate::error::{Error, ErrorKind, Result};

/// No program asks for more.
const MAX_LANES: u32 = 4;

/// How a key is derived from a passphrase.
#[derive(Debug, Clone)]
pub(super) enum Kdf {
    Pbkdf2 { hash: Hash, iterations: u32, salt: Vec<u8> },
    Argon2 { algorithm: Algorithm, params: Params, salt: Vec<u8> },
}

impl Kdf {
    /// Takes PBKDF2 with `iterations` rounds; `what` names its place in errors.
    pub(super) fn pbkdf2(what: &str, hash: Hash, iterations: u32, salt: Vec<u8>) -> Result<Self> {
        check_iterations(what, iterations)?;
        Ok(Self::Pbkdf2 { hash, iterations, salt })
    }

    /// Takes Argon2 with `time` passes over `memory` KiB in `lanes`; `what` names its place in errors.
    pub(super) fn argon2(
        what: &str,
        algorithm: Algorithm,
        (time, memory, lanes): (u32, u32, u32),
        salt: Vec<u8>,
    ) -> Result<Self> {
        if lanes > MAX_LANES {
            return Err(Error::new(
                ErrorKind::TooLarge,
                format!("{what} asks for Argon2 in {lanes} lanes, allowed are {MAX_LANES}"),
            ));
        }
        let params = Params::new(memory, time, lanes, None)
            .map_err(|error| Error::corrupt(format!("{what} has bad Argon2 parameters: {error}")))?;
        if salt.len() < argon2::MIN_SALT_LEN {
            return Err(Error::corrupt(format!("{what} has a salt of {} bytes", salt.len())));
        }
        Ok(Self::Argon2 { algorithm, params, salt })
    }

    /// Returns about how many microseconds [`Kdf::derive`] takes for a key of `length` bytes.
    pub(super) fn cost(&self, length: usize) -> u64 {
        match self {
            Self::Pbkdf2 { hash, iterations, .. } => pbkdf2_cost(*hash, *iterations, length),
            Self::Argon2 { params, .. } => u64::from(params.t_cost()) * u64::from(params.m_cost()),
        }
    }

    /// Returns the bytes of memory that [`Kdf::derive`] takes.
    pub(super) fn memory(&self) -> u64 {
        match self {
            Self::Pbkdf2 { .. } => 0,
            Self::Argon2 { params, .. } => u64::from(params.m_cost()) << 10,
        }
    }

    /// Derives a key of `length` bytes.
    pub(super) fn derive(&self, passphrase: &[u8], length: usize) -> Result<Zeroizing<Vec<u8>>> {
        let mut key = Zeroizing::new(vec![0; length]);
        match self {
            Self::Pbkdf2 { hash, iterations, salt } => hash.pbkdf2(passphrase, salt, *iterations, &mut key),
            Self::Argon2 { algorithm, params, salt } => {
                let mut memory = memory(params.block_count())?;
                Argon2::new(*algorithm, Version::V0x13, params.clone())
                    .hash_password_into_with_memory(passphrase, salt, &mut key, &mut memory)
                    .map_err(|error| Error::unsupported(format!("Argon2 cannot use the passphrase: {error}")))?;
            }
        }
        Ok(key)
    }
}

/// What it asks for, in a phrase.
impl fmt::Display for Kdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pbkdf2 { iterations, .. } => write!(f, "{iterations} PBKDF2 rounds"),
            Self::Argon2 { params, .. } => {
                write!(f, "{} Argon2 passes over {} KiB of memory", params.t_cost(), params.m_cost())
            }
        }
    }
}

/// Takes memory of `blocks` KiB, or fails as a call instead of ending the process.
fn memory(blocks: usize) -> Result<Vec<Block>> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(blocks).map_err(|_| {
        Error::new(ErrorKind::TooLarge, format!("the key slot needs {blocks} KiB of memory, which are not free"))
    })?;
    memory.resize(blocks, Block::new());
    Ok(memory)
}

/// Returns how many microseconds PBKDF2 takes at most: half of one for a round with any hash, as measured for sha512.
pub(super) fn pbkdf2_cost(hash: Hash, iterations: u32, length: usize) -> u64 {
    u64::from(iterations) * length.div_ceil(hash.length()) as u64 / 2
}

/// Checks that `what` asks for any PBKDF2 rounds.
pub(super) fn check_iterations(what: &str, iterations: u32) -> Result<()> {
    if iterations > 0 {
        return Ok(());
    }
    Err(Error::corrupt(format!("{what} asks for no PBKDF2 rounds at all")))
}
