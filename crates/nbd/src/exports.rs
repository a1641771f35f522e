//! What is served: disks by name, as a list or as whoever finds them when a client asks.

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

/// Finds the disk behind a name when a client asks for it.
pub trait Resolve: Send + Sync {
    /// Returns the exports that any client may know of: names and descriptions. None, unless told otherwise.
    fn list(&self) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Returns the export called `name`, which is empty where a client names none. May block; a connection asks some
    /// times while it agrees on an export, and keeps what it got as long as it lasts.
    fn find(&self, name: &str) -> Result<Export, Refusal>;
}

/// Why a client does not get an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is none of this name.
    Unknown,
    /// There may be one, and it is not for this client now; the sentence is told to it.
    Denied(String),
}

/// A list of disks; who asks for the empty name gets the first one.
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
}

impl Resolve for Exports {
    fn list(&self) -> Vec<(String, String)> {
        self.0.iter().map(|export| (export.name.clone(), export.description.clone())).collect()
    }

    fn find(&self, name: &str) -> Result<Export, Refusal> {
        let found = match name {
            "" => self.0.first(),
            name => self.0.iter().find(|export| export.name == name),
        };
        found.cloned().ok_or(Refusal::Unknown)
    }
}

impl<R: Resolve + ?Sized> Resolve for Arc<R> {
    fn list(&self) -> Vec<(String, String)> {
        (**self).list()
    }

    fn find(&self, name: &str) -> Result<Export, Refusal> {
        (**self).find(name)
    }
}
