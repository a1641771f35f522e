//! The key service: wraps secrets under master keys that never leave it.

use async_trait::async_trait;

use crate::{Result, Secret};

/// A key service, embedded or elsewhere.
///
/// `context` says what the secret is for (such as `content:<id>`). It is authenticated and not stored, so a
/// wrapped secret that was moved to another place does not unwrap there.
#[async_trait]
pub trait Kms: Send + Sync {
    /// Wraps `secret` for `context`; the result may be stored anywhere.
    async fn wrap(&self, context: &[u8], secret: &[u8]) -> Result<Vec<u8>>;

    /// Returns the secret that [`Kms::wrap`] wrapped for the same `context`.
    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Secret>;
}
