//! Bytes that are wiped when dropped and hidden when printed.

use std::fmt;

use zeroize::Zeroizing;

use crate::{Result, cipher};

/// A secret: zeroed in memory when it is dropped, and never shown by `Debug`.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes `bytes` over as a secret.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Makes a new secret of `length` random bytes.
    pub fn random(length: usize) -> Result<Self> {
        let mut bytes = Zeroizing::new(vec![0; length]);
        cipher::random(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Shows the bytes; the word makes each use easy to find.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes, hidden)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_bytes() {
        let secret = Secret::new(b"topsecret".to_vec());
        assert_eq!(format!("{secret:?}"), "Secret(9 bytes, hidden)");
        assert_eq!(secret.expose(), b"topsecret");
    }

    #[test]
    fn random_secrets_differ() {
        let (a, b) = (Secret::random(32).unwrap(), Secret::random(32).unwrap());
        assert_ne!(a.expose(), b.expose());
        assert_ne!(a.expose(), [0; 32]);
    }
}
