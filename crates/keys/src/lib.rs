//! Who may read bytes: the key service and the cipher.
//!
//! A [`Kms`] wraps small secrets under master keys that never leave it; [`cipher`] seals bytes under the
//! secrets. What is sealed with which key is decided elsewhere (`chunks`, `service`).
#![forbid(unsafe_code)]

pub mod cipher;
mod error;
mod kms;
mod local;
mod secret;

pub use error::{Error, ErrorKind, Result};
pub use kms::Kms;
pub use local::LocalKms;
pub use secret::Secret;
