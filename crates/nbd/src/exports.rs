//! What is served: disks by name, of which the first is the one that a client gets who names none.

use std::fmt;
use std::sync::Arc;

use disk::Source;

use crate::protocol::STRING_MAX;

/// A disk that is served, read-only.
#[derive(Clone)]
pub struct Export {
    /// The name by which clients ask for it, of at most 4096 bytes; may be empty for the first one.
    pub name: String,
    /// A line for people who list the exports; may be empty, has at most 4096 bytes.
    pub description: String,
    /// The bytes.
    pub disk: Arc<dyn Source>,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("name", &self.name).field("size", &self.disk.len()).finish()
    }
}

/// The disks of a server.
#[derive(Debug, Clone)]
pub struct Exports(Vec<Export>);

/// A list of exports that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportsError(String);

impl fmt::Display for ExportsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ExportsError {}

impl Exports {
    /// Takes the disks of `list`; the first is the default. Names differ, and names and descriptions are strings as the
    /// protocol has them: at most 4096 bytes, without a zero byte.
    pub fn new(list: Vec<Export>) -> Result<Self, ExportsError> {
        if list.is_empty() {
            return Err(ExportsError("there is no disk to serve".to_owned()));
        }
        for (number, export) in list.iter().enumerate() {
            // Who names none gets the first.
            if export.name.is_empty() && number > 0 {
                return Err(ExportsError("only the first export can have an empty name".to_owned()));
            }
            for text in [&export.name, &export.description] {
                if text.len() > STRING_MAX || text.contains('\0') {
                    return Err(ExportsError(format!(
                        "{text:?} has more than {STRING_MAX} bytes or a zero byte in it, which the protocol forbids"
                    )));
                }
            }
            if list[..number].iter().any(|other| other.name == export.name) {
                return Err(ExportsError(format!("two exports are called {:?}", export.name)));
            }
        }
        Ok(Self(list))
    }

    /// Returns the exports in their order.
    pub fn iter(&self) -> impl Iterator<Item = &Export> {
        self.0.iter()
    }

    /// Finds the export called `name`; the empty name is that of the default.
    pub(crate) fn find(&self, name: &[u8]) -> Option<&Export> {
        match name {
            [] => self.0.first(),
            name => self.0.iter().find(|export| export.name.as_bytes() == name),
        }
    }
}
