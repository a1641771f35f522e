//! What a superblock tells, whichever file system's it is.

use uuid::Uuid;

use crate::fields::uuid16;
use crate::report::FilesystemKind;

/// What a superblock tells.
#[derive(Debug)]
pub(crate) struct Recognised {
    pub(crate) kind: FilesystemKind,
    pub(crate) uuid: Option<String>,
    pub(crate) label: Option<String>,
    pub(crate) size: Option<u64>,
    pub(crate) used: Option<u64>,
}

impl Recognised {
    pub(super) fn new(kind: FilesystemKind) -> Self {
        Self { kind, uuid: None, label: None, size: None, used: None }
    }
}

/// Writes the UUID at `at` as Linux does; none where it is zero.
pub(super) fn uuid_text(bytes: &[u8], at: usize) -> Option<String> {
    let uuid = Uuid::from_bytes(uuid16(bytes, at));
    (!uuid.is_nil()).then(|| uuid.to_string())
}
