//! The gate: who decides what an image is given beyond its own bytes.
//!
//! That is every file that it names, the passphrase that it asks for, and which of several disks is meant.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};
use crate::fields::read_bytes;
use crate::source::Source;

/// The name of a backing file has at most this many bytes, as in QEMU.
const MAX_NAME: u32 = 1023;

/// What the key of an encrypted disk may cost. Its header says what each key slot needs, and whoever made it may have
/// wanted it to be much; a slot that needs more is refused before anything is derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnlockLimits {
    /// Bytes of memory for one derivation.
    pub memory: u64,
    /// About how long all tries may take together.
    pub time: Duration,
}

/// So that opening a file stays below 256 MiB whatever it is wrapped in, and within the time that a person waits.
impl Default for UnlockLimits {
    fn default() -> Self {
        Self { memory: 128 << 20, time: Duration::from_secs(10) }
    }
}

/// Answers what an image asks for.
pub trait Gate: Send + Sync {
    /// Opens the file called `name`, exactly as the image spells it, or refuses: a backing file, a parent, an external
    /// data file, an extent.
    fn open(&self, name: &str) -> Result<Arc<dyn Source>>;

    /// Returns the passphrase for an encrypted image, if there is one.
    fn passphrase(&self) -> Option<Zeroizing<Vec<u8>>> {
        None
    }

    /// Returns what the key of an encrypted image may cost.
    fn unlock_limits(&self) -> UnlockLimits {
        UnlockLimits::default()
    }

    /// Returns the name of the file that is meant in an archive of several, if one was chosen.
    fn member(&self) -> Option<&str> {
        None
    }
}

/// The gate for files from outside: refuses everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Deny;

impl Gate for Deny {
    fn open(&self, name: &str) -> Result<Arc<dyn Source>> {
        Err(Error::refused(format!("{name:?} is not opened: an image must hold its whole disk itself"))
            .with_hint("make one file of it where all its files are, for example: qemu-img convert -O qcow2 IMAGE OUT"))
    }
}

/// Grants what the user gave together with the image: some files by their bare names, a passphrase, a choice.
#[derive(Default)]
pub struct Given {
    files: Vec<(String, Arc<dyn Source>)>,
    passphrase: Option<Zeroizing<Vec<u8>>>,
    unlock_limits: UnlockLimits,
    member: Option<String>,
}

impl Given {
    /// Grants nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file that the image may name as `name`, which is a bare name without a folder.
    #[must_use]
    pub fn with_file(mut self, name: impl Into<String>, file: Arc<dyn Source>) -> Self {
        self.files.push((name.into(), file));
        self
    }

    /// Adds the passphrase of an encrypted image.
    #[must_use]
    pub fn with_passphrase(mut self, passphrase: Zeroizing<Vec<u8>>) -> Self {
        self.passphrase = Some(passphrase);
        self
    }

    /// Lets the key of an encrypted image cost up to `limits`.
    #[must_use]
    pub fn with_unlock_limits(mut self, limits: UnlockLimits) -> Self {
        self.unlock_limits = limits;
        self
    }

    /// Chooses the file called `name` in an archive of several.
    #[must_use]
    pub fn with_member(mut self, name: impl Into<String>) -> Self {
        self.member = Some(name.into());
        self
    }
}

impl Gate for Given {
    fn open(&self, name: &str) -> Result<Arc<dyn Source>> {
        if let Some((_, file)) = self.files.iter().find(|(known, _)| known == name) {
            return Ok(Arc::clone(file));
        }
        if self.files.is_empty() {
            return Deny.open(name);
        }
        let names: Vec<_> = self.files.iter().map(|(name, _)| name.as_str()).collect();
        Err(Error::refused(format!("{name:?} is not one of the files that were given: {}", names.join(", ")))
            .with_hint("give every file of the disk under the name that the image has for it"))
    }

    fn passphrase(&self) -> Option<Zeroizing<Vec<u8>>> {
        self.passphrase.clone()
    }

    fn unlock_limits(&self) -> UnlockLimits {
        self.unlock_limits
    }

    fn member(&self) -> Option<&str> {
        self.member.as_deref()
    }
}

/// Asks `gate` for the file that an image names as its `role`; a refusal says the role too.
pub(crate) fn ask(gate: &dyn Gate, role: &str, name: &str) -> Result<Arc<dyn Source>> {
    gate.open(name).map_err(|error| match error.kind() {
        ErrorKind::Refused => {
            let refused = Error::refused(format!("the image names {role} {name:?}: {error}"));
            match error.hint() {
                Some(hint) => refused.with_hint(hint),
                None => refused,
            }
        }
        _ => error,
    })
}

/// Asks `gate` for the backing file whose name are the `length` bytes of `file` at `offset`; reading through it is not
/// supported even if it is granted.
pub(crate) fn refuse_backing_file(gate: &dyn Gate, file: &dyn Source, offset: u64, length: u32) -> Result<()> {
    if length > MAX_NAME {
        return Err(Error::corrupt(format!(
            "the name of the backing file is {length} bytes long, allowed are {MAX_NAME}"
        )));
    }
    let name = read_bytes(file, offset, length as usize, "the name of the backing file")?;
    let name = String::from_utf8_lossy(&name);
    ask(gate, "the backing file", &name)?;
    Err(Error::unsupported(format!("reading through the backing file {name:?} is not supported"))
        .with_hint("flatten the image with: qemu-img convert -O qcow2 IMAGE OUT"))
}
