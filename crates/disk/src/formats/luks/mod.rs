//! LUKS, versions 1 and 2: a header with key slots, and the disk encrypted by AES after it.
//!
//! After the "LUKS1 On-Disk Format Specification" 1.2.3 and the "LUKS2 On-Disk Format Specification" 1.1.1.
//!
//! ```text
//! passphrase -> key derivation -> key of a slot -> decrypts the key material of the slot -> stripes are merged
//!            -> key of the volume, if its digest is right -> decrypts the disk
//! ```

mod cipher;
mod create;
mod hash;
mod kdf;
mod metadata;
mod payload;
mod read;
mod sealed;
mod stripes;
mod unlock;
mod version1;
mod version2;
mod write;

pub(crate) use create::Head;
pub(crate) use read::{decrypt, open};
pub(crate) use sealed::Sealed;
pub(crate) use write::{ITER_TIME, OPTIONS, new_volume, write};
