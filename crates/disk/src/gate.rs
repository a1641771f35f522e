//! The gate: who decides whether a file that an image names may be opened.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::source::Source;

/// Opens what an image names: a backing file, a parent, an external data file, an extent.
pub trait Gate: Send + Sync {
    /// Opens the file called `name`, exactly as the image spells it, or refuses.
    fn open(&self, name: &str) -> Result<Arc<dyn Source>>;
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
